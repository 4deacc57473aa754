from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.space import Array, Grid, Volume, averaged, resampled
from space.strategies import images


def blocks(data: Array, factor: int) -> Array:
    """The values that make up each block of `factor` voxels along each axis, (*S, factor**3)."""
    shape = [part for size in data.shape for part in (size // factor, factor)]
    return data.reshape(shape).transpose(0, 2, 4, 1, 3, 5).reshape(*shape[::2], -1)


def coarser(grid: Grid, factor: int) -> Grid:
    """A grid each of whose voxels is a block of another's."""
    affine = grid.affine @ np.diag([factor, factor, factor, 1.0])
    affine[:3, 3] = grid.world([(factor - 1) / 2] * 3)
    return Grid(tuple(size // factor for size in grid.shape), affine)


@settings(max_examples=20)
@given(st.integers(2, 4), st.integers(0, 99), st.sampled_from([2, 5, 9]))
def test_blocks_have_their_mean_and_their_most_frequent_label(factor: int, seed: int, labels: int) -> None:
    rng = np.random.default_rng(seed)
    grid = Grid((2 * factor, 3 * factor, factor), np.array([[0, 0, 2, 5], [-1.5, 0, 0, 4], [0, 1, 0, 3], [0, 0, 0, 1]]))
    image = Volume(rng.random(grid.shape, dtype=np.float32), grid, "image")
    found = averaged(image, coarser(grid, factor))
    np.testing.assert_allclose(found.data, blocks(image.data, factor).mean(-1), rtol=1e-5)
    label_map = Volume(rng.integers(0, labels, grid.shape), grid, "labels")
    found = averaged(label_map, coarser(grid, factor))
    expected = [np.bincount(block).argmax() for block in blocks(label_map.data, factor).reshape(-1, factor**3)]
    np.testing.assert_array_equal(found.data.ravel(), expected)
    assert found.data.dtype == label_map.data.dtype


@settings(max_examples=20)
@given(images(), st.floats(0.3, 1.0))
def test_where_a_grid_is_no_coarser_it_is_resampled(volume: Volume, factor: float) -> None:
    finer = Grid((4, 5, 6), volume.grid.affine @ np.diag([factor, factor, factor, 1]))
    np.testing.assert_array_equal(averaged(volume, finer).data, resampled(volume, finer).data)


def test_only_the_coarser_axes_are_averaged() -> None:
    volume = Volume(np.arange(24.0).reshape(2, 3, 4), Grid((2, 3, 4), np.eye(4)), "image")
    affine = np.diag([1.0, 1, 2, 1])
    affine[2, 3] = 0.5
    found = averaged(volume, Grid((2, 3, 2), affine))
    np.testing.assert_allclose(found.data, volume.data.reshape(2, 3, 2, 2).mean(-1))


def test_the_lowest_of_labels_equally_frequent() -> None:
    volume = Volume(np.array([[[4, 2, 2, 4]]]), Grid((1, 1, 4), np.eye(4)), "labels")
    affine = np.diag([1.0, 1, 4, 1])
    affine[2, 3] = 1.5
    assert averaged(volume, Grid((1, 1, 1), affine)).data.item() == 2


def test_ids_are_never_averaged() -> None:
    volume = Volume(np.array([[[2**63 + 1] * 3 + [7]]], np.uint64), Grid((1, 1, 4), np.eye(4)), "instances")
    affine = np.diag([1.0, 1, 4, 1])
    affine[2, 3] = 1.5
    assert averaged(volume, Grid((1, 1, 1), affine)).data.item() == 2**63 + 1


def test_a_slightly_larger_voxel_is_looked_at_once() -> None:
    volume = Volume(np.random.default_rng(0).random((5, 5, 5)), Grid((5, 5, 5), np.eye(4)), "image")
    grid = Grid((4, 4, 4), np.diag([1.04, 1.04, 1.04, 1]))
    assert averaged(volume, grid).data == pytest.approx(resampled(volume, grid).data)
