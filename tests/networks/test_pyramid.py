"""A network that may begin below the finest level."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from limner.networks.pyramid import PyramidUNet

FEATURES = (4, 6, 8, 8)
LINEAR = {2: "bilinear", 3: "trilinear"}


def made(level: int, *, dimensions: int = 3, trained: bool = True) -> PyramidUNet:
    """A network whose weights are the same at each level; `trained` ones are nowhere zero."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = PyramidUNet(2, 5, features=FEATURES, dimensions=dimensions, level=level)
        if trained:
            for parameter in network.parameters():
                nn.init.normal_(parameter, std=0.3)
    return network


def drawn(dimensions: int, *, size: int = 16) -> Tensor:
    return torch.randn(2, 2, *[size] * dimensions, generator=torch.Generator().manual_seed(1))


def halved(image: Tensor) -> Tensor:
    """Every 2 voxels along each axis averaged."""
    pool = {4: nn.AvgPool2d, 5: nn.AvgPool3d}[image.ndim]
    return pool(2)(image)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_fine_level_that_has_learned_nothing_changes_nothing(dimensions: int) -> None:
    """What a coarse stage learned is not lost when the fine level joins in."""
    coarse, fine = made(1, dimensions=dimensions, trained=False), made(0, dimensions=dimensions, trained=False)
    nn.init.normal_(coarse.head[1].weight)
    fine.load_state_dict(coarse.state_dict())
    image = drawn(dimensions)
    expected = nn.functional.interpolate(coarse(halved(image)), scale_factor=2, mode=LINEAR[dimensions])
    torch.testing.assert_close(fine(image), expected)
    assert expected.std() > 0.1


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_there_is_a_score_for_each_class_and_voxel(level: int, dimensions: int) -> None:
    network = made(level, dimensions=dimensions)
    assert network.stride == (8, 4)[level]
    sizes = (2 * network.stride, *[network.stride] * (dimensions - 1))
    assert network(torch.randn(2, 2, *sizes)).shape == (2, 5, *sizes)


def test_levels_have_the_same_parameters() -> None:
    shapes = [{name: value.shape for name, value in made(level).state_dict().items()} for level in (0, 1)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("level", [0, 1])
def test_every_level_in_use_has_its_say(level: int) -> None:
    network = made(level)
    network(drawn(3)).square().sum().backward()
    silent = {name for name, one in network.named_parameters() if one.grad is None or not one.grad.any()}
    finest = {f"{name}.0.{kind}" for name in ("stem", "down", "up", "mix", "head") for kind in ("weight", "bias")}
    assert silent == (finest if level else set())


def test_scores_begin_small() -> None:
    """So that all classes are about equally likely, as far as the prior lets them."""
    network = made(0, trained=False)
    assert 0.01 < float(network(drawn(3)).detach().std()) < 0.5


def test_the_image_is_left_as_it_was() -> None:
    image = drawn(2)
    before = image.clone()
    made(0, dimensions=2)(image)
    assert torch.equal(image, before)
