"""The published network, layer by layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from limner.networks.unet import UNet


def test_the_published_network_has_the_published_parameters() -> None:
    assert sum(parameter.numel() for parameter in UNet(1, 14).parameters()) == 90_652


def test_the_published_network_has_the_published_layers() -> None:
    network = UNet(1, 14)
    convolutions = {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Conv3d)}
    assert {name: (one.in_channels, one.out_channels) for name, one in convolutions.items()} == {
        "down.0": (1, 4),
        "down.1": (4, 8),
        "down.2": (8, 16),
        "down.3": (16, 32),
        "down.4": (32, 32),
        "up.3": (64, 16),
        "up.2": (32, 8),
        "up.1": (16, 4),
        "up.0": (8, 14),
        "head": (14, 14),
    }
    assert {one.kernel_size for one in convolutions.values()} == {(3, 3, 3)}
    assert {one.padding for one in convolutions.values()} == {(1, 1, 1)}


def test_scores_are_those_of_the_network_written_out() -> None:
    network, image = UNet(2, 5, features=(3, 4, 6), dimensions=2), torch.randn(2, 2, 8, 12)
    pool, rise = nn.MaxPool2d(2), nn.Upsample(scale_factor=2)
    fine = network.down[0](image).relu()
    middle = network.down[1](pool(fine)).relu()
    coarse = network.down[2](pool(middle)).relu()
    middle = network.up[1](torch.cat([rise(coarse), middle], 1)).relu()
    fine = network.up[0](torch.cat([rise(middle), fine], 1)).relu()
    torch.testing.assert_close(network(image), network.head(fine))


@pytest.mark.parametrize("features", [(3, 4), (2, 3, 4), (2, 2, 3, 4, 5)])
@pytest.mark.parametrize("head", [1, 3])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_there_is_a_score_for_each_class_and_voxel(features: tuple[int, ...], head: int, dimensions: int) -> None:
    network = UNet(2, 3, features=features, head=head, dimensions=dimensions)
    assert network.stride == 2 ** (len(features) - 1)
    sizes = (2 * network.stride, *[network.stride] * (dimensions - 1))
    assert network(torch.randn(2, 2, *sizes)).shape == (2, 3, *sizes)


def test_the_image_is_left_as_it_was() -> None:
    image = torch.randn(1, 1, 16, 16)
    before = image.clone()
    UNet(1, 2, dimensions=2)(image)
    assert torch.equal(image, before)
