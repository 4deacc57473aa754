"""How far networks see: as far as they say, and no further."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from limner.networks import layers
from limner.networks.options import NetworkOptions
from limner.networks.pyramid import PyramidUNet
from limner.networks.unet import UNet

NETWORKS: dict[str, Callable[..., UNet | PyramidUNet]] = {
    "unet": lambda **more: UNet(1, 2, **more),
    "unet, small head": lambda **more: UNet(1, 2, head=1, **more),
    "unet, large head": lambda **more: UNet(1, 2, head=5, **more),
    "pyramid": lambda **more: PyramidUNet(1, 2, **more),
    "pyramid from level 1": lambda **more: PyramidUNet(1, 2, level=1, **more),
}

pytestmark = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())


def reaches(network: UNet | PyramidUNet, *, dimensions: int, offset: int) -> list[int]:
    """How far the voxels that one voxel's score has a gradient to are from it: the farthest on each side, each axis."""
    half = (network.context // network.stride + 2) * network.stride
    image = torch.ones(1, 1, *[2 * half] * dimensions, dtype=torch.float64, requires_grad=True)
    place = half + offset
    score = network(image)[(0, 0, *[place] * dimensions)]
    (gradient,) = torch.autograd.grad(score, image)
    seen = gradient[0, 0].nonzero() - place
    return [*(-seen.amin(0)).tolist(), *seen.amax(0).tolist()]


@pytest.fixture
def _all_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every voxel of a pool count, as each may be its largest."""
    for dimensions, mean in layers.MEAN.items():
        monkeypatch.setitem(layers.MAXIMUM, dimensions, mean)


def positive(network: nn.Module) -> None:
    """Make all weights positive, so that no unit is silent and nothing cancels."""
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.05)


@pytest.mark.usefixtures("_all_counts")
@pytest.mark.parametrize(("dimensions", "levels"), [(2, 3), (2, 4), (2, 5), (3, 3)])
def test_the_context_is_how_far_a_voxel_sees(
    network: Callable[..., UNet | PyramidUNet], dimensions: int, levels: int
) -> None:
    made = network(features=(1,) * levels, dimensions=dimensions).double()
    positive(made)
    farthest = [max(reaches(made, dimensions=dimensions, offset=offset)) for offset in range(made.stride)]
    assert max(farthest) == made.context


def test_what_lies_beyond_the_context_changes_nothing(network: Callable[..., UNet | PyramidUNet]) -> None:
    made = network(features=(4, 6, 8), dimensions=2).double()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(0))
    image, other = torch.randn(2, 1, 1, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for row, column in ((32, 32), (33, 30), (35, 27)):
        near = torch.zeros(64, 64, dtype=torch.bool)
        around = (slice(place - made.context, place + made.context + 1) for place in (row, column))
        near[tuple(around)] = True
        scores: list[Tensor] = [made(one)[0, :, row, column] for one in (image, torch.where(near, image, other))]
        torch.testing.assert_close(*scores, rtol=1e-12, atol=0)
    assert not torch.equal(made(other)[0, :, 32, 32], made(image)[0, :, 32, 32])


@pytest.mark.parametrize("dimensions", [2, 3])
def test_options_make_the_network_they_name(network: Callable[..., UNet | PyramidUNet], dimensions: int) -> None:
    made = network(features=(2, 3, 4), dimensions=dimensions)
    options = NetworkOptions(kind="unet" if isinstance(made, UNet) else "pyramid", features=(2, 3, 4))
    again = options.made(1, 2, dimensions=dimensions, level=getattr(made, "level", 0))
    assert type(again) is type(made)
    assert again.stride == made.stride
