"""Tiles against the whole, and against sums written out voxel by voxel."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from limner.inference.tiling import Window, tiled
from limner.space import Box

WINDOWS: tuple[Window, ...] = ("crop", "box", "gaussian")
shapes = st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple)


def drawn(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def weight(window: Window, place: int, start: int, *, tile: int, context: int) -> float:
    """A voxel's weight along one axis in the box whose tile begins at `start`; 0 where it does not read."""
    if window == "crop":
        return float(start <= place < start + tile)
    if not start - context <= place < start + tile + context:
        return 0.0
    sd = (tile + 2 * context) / 8
    return 1.0 if window == "box" else math.exp(-0.5 * ((place - (start + (tile - 1) / 2)) / sd) ** 2)


@given(shape=shapes, tile=st.integers(1, 4), context=st.integers(0, 3), window=st.sampled_from(WINDOWS))
@settings(max_examples=60)
def test_blending_is_the_sum_over_boxes(shape: tuple[int, ...], tile: int, context: int, window: Window) -> None:
    patches: list[tuple[tuple[int, ...], Tensor]] = []

    def predict(box: Box) -> Tensor:
        # No two boxes say the same of a voxel.
        patches.append((box.start, drawn(2, *box.shape) + len(patches)))
        return patches[-1][1]

    found = tiled(predict, shape, tile=tile, context=context, window=window)
    corners = list(itertools.product(*(range(0, size, tile) for size in shape)))
    for voxel in itertools.product(*map(range, shape)):
        total, windows = torch.zeros(2), 0.0
        for corner, (start, patch) in zip(corners, patches, strict=True):
            weights = [weight(window, *axis, tile=tile, context=context) for axis in zip(voxel, corner, strict=True)]
            if math.prod(weights):
                inner = tuple(place - first for place, first in zip(voxel, start, strict=True))
                total += math.prod(weights) * patch[:, *inner]
                windows += math.prod(weights)
        torch.testing.assert_close(found[:, *voxel], total / windows, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(23, 17), (13, 9, 15)])
def test_tiles_equal_the_whole_where_context_covers_the_receptive_field(shape: tuple[int, ...]) -> None:
    convolution = (torch.nn.functional.conv2d, torch.nn.functional.conv3d)[len(shape) - 2]
    image, kernels = drawn(1, 2, *shape), [drawn(2, 2, *[3] * len(shape)) - 0.5 for _ in range(2)]

    def network(patch: Tensor) -> Tensor:
        for kernel in kernels:
            patch = convolution(patch, kernel, padding=1).relu()
        return patch[0]

    def predict(box: Box) -> Tensor:
        return network(image[..., *box.slices])

    whole = network(image)
    torch.testing.assert_close(tiled(predict, shape, tile=4, context=2, window="crop"), whole)
    blind = tiled(predict, shape, tile=4, context=1, window="crop")
    assert (blind - whole).abs().max() > 1e-3
    smooth = tiled(predict, shape, tile=4, context=4, window="gaussian")
    assert (smooth - whole).abs().mean() < 0.2 * (blind - whole).abs().mean()


@given(shape=shapes, tile=st.integers(1, 9), context=st.integers(0, 3))
def test_tiles_write_every_voxel_once(shape: tuple[int, ...], tile: int, context: int) -> None:
    def predict(box: Box) -> Tensor:
        assert box.clipped(shape) == box
        return torch.ones(1, *box.shape)

    assert torch.equal(tiled(predict, shape, tile=tile, context=context, window="crop"), torch.ones(1, *shape))


@pytest.mark.parametrize("window", WINDOWS)
def test_what_looks_at_no_neighbour_is_not_changed(window: Window) -> None:
    image = drawn(1, 11, 8)
    found = tiled(lambda box: image[:, *box.slices], (11, 8), tile=3, context=2, window=window)
    torch.testing.assert_close(found, image)
