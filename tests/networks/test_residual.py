from __future__ import annotations

import pytest
import torch

from limner.networks.options import ResidualOptions
from limner.networks.residual import ResidualUNet


def made(dimensions: int = 3, **options: object) -> ResidualUNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ResidualOptions(**({"features": (8, 12, 16)} | options)).made(1, 2, dimensions=dimensions)


def reaches(network: ResidualUNet, *, size: int, place: int) -> list[int]:
    """How far along each axis the voxels are that a score has a gradient to."""
    image = torch.randn(1, 1, *[size] * network.dimensions, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(network.double()(image)[(0, 0, *[place] * network.dimensions)], image)
    return (gradient[0, 0].nonzero() - place).abs().amax(0).tolist()


@pytest.mark.parametrize(
    ("options", "contexts"),
    [
        ({"pools": (2, 2)}, (23, 23)),
        ({"pools": ((1, 2), (1, 2))}, (10, 23)),
        ({"pools": ((1, 2), 2), "kernels": ((1, 3), (1, 3), 3)}, (5, 23)),
    ],
)
def test_the_context_bounds_how_far_a_voxel_sees(options: dict[str, object], contexts: tuple[int, ...]) -> None:
    network = made(2, **options)
    assert network.contexts == contexts
    assert network.context == max(contexts)
    seen = [reaches(network, size=64, place=32 + shift) for shift in range(4)]
    farthest = [max(axis) for axis in zip(*seen, strict=True)]
    assert all(found <= allowed for found, allowed in zip(farthest, contexts, strict=True))
    assert all(found > allowed // 2 for found, allowed in zip(farthest, contexts, strict=True))


def test_what_comes_out_has_the_variance_of_what_goes_in() -> None:
    """However deep it is, or nothing would be learned without normalisation."""
    network = made(3, features=(12, 16, 20, 24))
    image = torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first = network.down[0](image)
        last = first
        for block in network.down[1:]:
            last = block(torch.nn.functional.max_pool3d(last, 2))
    assert 0.5 < first.std() < 2
    assert 0.4 < last.std() < 2.5


def test_a_brighter_image_is_the_same_to_it() -> None:
    """Kernels have mean 0, away from the borders, where zeros begin."""
    network, image = made(2), torch.randn(1, 1, 96, 96, generator=torch.Generator().manual_seed(0))
    network.down[0].beside = None
    with torch.no_grad():
        first = [network.down[0].first(one)[..., 2:-2, 2:-2] for one in (image, image + 5)]
    torch.testing.assert_close(*first, atol=1e-4, rtol=0)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_sizes_are_kept(dimensions: int) -> None:
    network = made(dimensions, pools=(2, (1, *[2] * (dimensions - 1))))
    assert network.stride == 4
    assert network(torch.zeros(1, 1, *[8] * dimensions)).shape == (1, 2, *[8] * dimensions)
