"""Sparse maps against dense ones: every voxel's probabilities written out, and interpolated by scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from limner.priors.sparse import DEPTH, WHOLE, SparseMaps
from limner.space import Array, Box

LABELS = 9
SEEDS = st.integers(0, 2**32 - 1)
SHAPES = st.lists(st.integers(1, 6), min_size=3, max_size=3).map(tuple)


def drawn_dense(seed: int, shape: tuple[int, ...], *, likely: int = DEPTH) -> NDArray[np.float32]:
    """Probabilities (LABELS, *S) of which at most `likely` are above zero at a voxel."""
    rng = np.random.default_rng(seed)
    values = rng.gamma(0.5, size=(LABELS, *shape))
    ranks = rng.permuted(np.broadcast_to(np.arange(LABELS).reshape(-1, 1, 1, 1), values.shape), axis=0)
    values *= ranks < rng.integers(1, likely + 1, shape)
    return (values / values.sum(0)).astype(np.float32)


def gathered(dense: NDArray[np.float32], *, boxed: bool = True) -> SparseMaps:
    """What is kept of dense maps, each given in the box that it fills or whole."""
    boxes = [Box.around(one > 0) if boxed else Box.whole(one.shape) for one in dense]
    maps = ((row, boxes[row], dense[row][boxes[row].slices]) for row in range(1, len(dense)))
    return SparseMaps.gathered(maps, dense.shape[1:], labels=len(dense))


def written_out(maps: SparseMaps) -> NDArray[np.float64]:
    """The slow twin: one dense map for each label."""
    return np.stack([np.where(maps.rows == row, maps.weights / WHOLE, 0).sum(0) for row in range(LABELS)])


def drawn_matrix(seed: int) -> Array:
    """An affine map of voxel indices (4, 4) that turns, scales, shears and leads past the borders."""
    rng = np.random.default_rng(seed)
    matrix = np.eye(4)
    matrix[:3] += rng.normal(scale=0.4, size=(3, 4))
    matrix[:3, 3] += rng.uniform(-3, 3, 3)
    return matrix


def interpolated(dense: Array, matrix: Array, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Dense maps at the voxels of another grid, the border continued."""
    places = np.einsum("ij,j...->i...", matrix[:3, :3], np.indices(shape)) + matrix[:3, 3].reshape(3, 1, 1, 1)
    return np.stack([ndimage.map_coordinates(one, places, order=1, mode="nearest") for one in dense])


@given(SEEDS, SHAPES)
def test_weights_are_whole_numbers_that_sum_to_one(seed: int, shape: tuple[int, ...]) -> None:
    maps = gathered(drawn_dense(seed, shape, likely=LABELS))
    np.testing.assert_array_equal(maps.weights.sum(0, dtype=int), WHOLE)
    assert maps.shape == shape
    assert (np.diff(maps.weights[1:].astype(int), axis=0) <= 0).all()


@given(SEEDS, SHAPES)
def test_a_few_likely_labels_are_kept_to_rounding(seed: int, shape: tuple[int, ...]) -> None:
    dense = drawn_dense(seed, shape)
    error = abs(written_out(gathered(dense)) - dense)
    np.testing.assert_array_less(np.sort(error, axis=0)[:-1], 0.51 / WHOLE)
    # The likeliest label takes up what rounding the others leaves.
    np.testing.assert_array_less(error, 0.51 * (DEPTH - 1) / WHOLE)


@given(SEEDS)
def test_of_many_labels_the_likeliest_are_kept_in_proportion(seed: int) -> None:
    dense = drawn_dense(seed, (3, 4, 2), likely=LABELS)
    kept = np.where(dense >= np.sort(dense, axis=0)[-DEPTH], dense, 0)
    np.testing.assert_allclose(written_out(gathered(dense)), kept / kept.sum(0), atol=0.51 * (DEPTH - 1) / WHOLE)


@given(SEEDS, SHAPES)
def test_maps_in_boxes_are_those_of_the_whole(seed: int, shape: tuple[int, ...]) -> None:
    dense = drawn_dense(seed, shape, likely=LABELS)
    boxed, whole = gathered(dense), gathered(dense, boxed=False)
    np.testing.assert_array_equal(boxed.rows, whole.rows)
    np.testing.assert_array_equal(boxed.weights, whole.weights)


@given(SEEDS, SHAPES)
def test_ragged_arrays_give_back_every_bit(seed: int, shape: tuple[int, ...]) -> None:
    maps = gathered(drawn_dense(seed, shape, likely=LABELS))
    again = SparseMaps.from_ragged(maps.ragged())
    np.testing.assert_array_equal(again.weights, maps.weights)
    np.testing.assert_array_equal(again.rows, np.where(maps.weights, maps.rows, 0))
    assert (again.rows.dtype, again.weights.dtype) == (maps.rows.dtype, maps.weights.dtype)
    assert sum(array.size for array in maps.ragged().values()) == np.prod(shape) + 2 * np.count_nonzero(maps.weights)


@pytest.mark.parametrize(("labels", "dtype"), [(256, np.uint8), (257, np.uint16)])
def test_rows_take_the_smallest_type_that_holds_them(labels: int, dtype: type) -> None:
    one = np.ones((1, 1, 1), np.float32)
    maps = SparseMaps.gathered([(labels - 1, Box.whole(one.shape), one)], one.shape, labels=labels)
    assert maps.rows.dtype == dtype
    assert maps.rows[0] == labels - 1


@given(SEEDS, SHAPES, SHAPES)
@settings(max_examples=50)
def test_sampling_is_linear_interpolation(seed: int, shape: tuple[int, ...], target: tuple[int, ...]) -> None:
    maps, matrix = gathered(drawn_dense(seed, shape, likely=LABELS)), drawn_matrix(seed)
    group_of = np.random.default_rng(seed).integers(0, 4, LABELS)
    found = maps.sampled(matrix, target, group_of=group_of, groups=4)
    every = interpolated(written_out(maps), matrix, target)
    expected = [every[group_of == group].sum(0) for group in range(4)]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)


def test_the_own_grid_gives_what_is_stored() -> None:
    maps = gathered(drawn_dense(3, (4, 5, 6)))
    found = maps.sampled(np.eye(4), maps.shape, group_of=np.arange(LABELS), groups=LABELS)
    np.testing.assert_allclose(found, written_out(maps), atol=1e-7)


def drawn_classes(seed: int, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """The class of each voxel and of each label."""
    rng = np.random.default_rng(seed)
    class_of = np.r_[0, 1, 2, rng.integers(0, 3, LABELS - 3)]
    return rng.integers(0, 3, shape), class_of


@given(SEEDS, SHAPES, SHAPES)
@settings(max_examples=50)
def test_labels_are_the_likeliest_of_their_class(seed: int, shape: tuple[int, ...], target: tuple[int, ...]) -> None:
    maps, matrix = gathered(drawn_dense(seed, shape, likely=3)), drawn_matrix(seed)
    classes, class_of = drawn_classes(seed, target)
    centres = maps.centres(LABELS)
    rows = maps.identified(matrix, classes, class_of=class_of, centres=centres)
    np.testing.assert_array_equal(class_of[rows], classes)
    totals = interpolated(written_out(maps), matrix, target)
    totals[totals < 1e-9] = 0
    allowed = class_of.reshape(-1, 1, 1, 1) == classes
    best = np.where(allowed, totals, 0).max(0)
    taken = np.take_along_axis(totals, rows[None], 0)[0]
    np.testing.assert_allclose(taken[best > 1e-6], best[best > 1e-6], atol=1e-6)
    places = np.einsum("ij,j...->i...", matrix[:3, :3], np.indices(target)) + matrix[:3, 3].reshape(3, 1, 1, 1)
    distance = np.linalg.norm(places[None] - centres.reshape(LABELS, 3, 1, 1, 1), axis=1)
    nearest = np.where(allowed, distance, np.inf).min(0)
    chosen = np.take_along_axis(distance, rows[None], 0)[0]
    np.testing.assert_allclose(chosen[best == 0], nearest[best == 0], rtol=1e-9)


def test_a_class_that_is_nowhere_likely_takes_its_nearest_label() -> None:
    dense = np.zeros((LABELS, 9, 1, 1), np.float32)
    dense[1, 0], dense[2, 8], dense[0, 1:8] = 1, 1, 1
    maps = gathered(dense)
    rows = maps.identified(
        np.eye(4), np.ones((9, 1, 1), int), class_of=np.array([0, 1, 1, *[2] * 6]), centres=maps.centres(LABELS)
    )
    np.testing.assert_array_equal(rows.ravel()[[0, 1, 2, 3, 5, 6, 7, 8]], [1, 1, 1, 1, 2, 2, 2, 2])


@given(SEEDS, SHAPES)
def test_centres_are_centres_of_mass(seed: int, shape: tuple[int, ...]) -> None:
    maps = gathered(drawn_dense(seed, shape))
    for centre, one in zip(maps.centres(LABELS), written_out(maps), strict=True):
        expected = ndimage.center_of_mass(one) if one.any() else [1e9] * 3
        np.testing.assert_allclose(centre, expected, atol=1e-9)
