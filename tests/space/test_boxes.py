from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.space import Box
from space.strategies import boxes

SHAPE = (6, 6, 6)


def inside(box: Box) -> set[tuple[int, ...]]:
    """The slow twin: every voxel of a box."""
    return {tuple(np.add(box.start, offset)) for offset in np.ndindex(box.shape)}


@given(boxes())
def test_size_and_shape_count_the_voxels(box: Box) -> None:
    assert box.size == len(inside(box)) == np.prod(box.shape)


@given(boxes(), boxes())
def test_intersection_is_that_of_the_voxels(one: Box, other: Box) -> None:
    assert inside(one.intersected(other)) == inside(one) & inside(other)
    assert one.intersected(one) == one


@given(boxes())
def test_clipping_keeps_what_an_array_has(box: Box) -> None:
    clipped = box.clipped(SHAPE)
    assert inside(clipped) == inside(box) & set(np.ndindex(SHAPE))
    assert np.zeros(SHAPE)[clipped.slices].shape == clipped.shape or clipped.size == 0


@given(boxes(), st.integers(0, 4))
def test_growing_and_shrinking_undo_each_other(box: Box, margin: int) -> None:
    assert box.grown(margin).grown(-margin) == box
    assert box.grown(margin).shape == tuple(size + 2 * margin for size in box.shape)


def test_shrinking_below_nothing_leaves_nothing() -> None:
    assert Box((2, 2), (4, 4)).grown(-3).size == 0


@given(boxes().map(lambda box: box.clipped(SHAPE)).filter(lambda box: box.size > 0))
def test_around_finds_the_box_again(box: Box) -> None:
    mask = np.zeros(SHAPE, bool)
    mask[box.slices] = True
    assert Box.around(mask) == box


def test_around_is_tight_on_scattered_voxels() -> None:
    mask = np.zeros((5, 6), bool)
    mask[1, 4] = mask[3, 2] = True
    assert Box.around(mask) == Box((1, 2), (4, 5))


def test_around_nothing_is_empty() -> None:
    assert Box.around(np.zeros((3, 4), bool)).size == 0


def test_boxes_are_values() -> None:
    assert len({Box((0, 1), (2, 3)), Box(np.array([0, 1]), np.array([2, 3])), Box.whole((2, 3))}) == 2
    with pytest.raises(AttributeError, match="cannot assign"):
        Box((0,), (1,)).start = (1,)
