"""Coarser scales against loops over windows, whatever the parts they are made in, and wherever voxels begin."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.files.pyramids import SIDE, fill, levels, parts, reduced
from limner.files.sources import Source
from limner.space import Array, Box, Grid, Kind, Volume

CUBES = st.tuples(*[st.integers(1, 5)] * 3)
STEPS = st.tuples(*[st.integers(1, 2)] * 3)


def by_windows(data: Array, steps: tuple[int, ...], *, kind: Kind, ahead: tuple[int, ...]) -> Array:
    """Slow twin: each window by itself, of those voxels that there are."""
    shape = [-(-(size + before) // step) for size, before, step in zip(data.shape, ahead, steps, strict=True)]
    found = np.empty(shape, data.dtype)
    for index in np.ndindex(*shape):
        firsts = [place * step - before for place, step, before in zip(index, steps, ahead, strict=True)]
        window = data[tuple(slice(max(0, first), first + step) for first, step in zip(firsts, steps, strict=True))]
        values, counts = np.unique(window, return_counts=True)
        found[index] = np.rint(window.astype(np.float64).mean()) if kind == "image" else values[counts.argmax()]
    return found


class Memory:
    """A level that is written into memory."""

    def __init__(self, box: Box, block: tuple[int, ...]) -> None:
        self.box, self.block = box, block
        self.data = np.full(box.shape, 255, np.uint8)
        self.written = np.zeros(box.shape, int)

    def _inside(self, box: Box) -> tuple[slice, ...]:
        return box.moved([-first for first in self.box.start]).slices

    def write(self, box: Box, data: Array) -> None:
        self.data[self._inside(box)] = data
        self.written[self._inside(box)] += 1

    def read(self, box: Box) -> Array:
        return self.data[self._inside(box)]


@settings(max_examples=60)
@given(CUBES, STEPS, st.tuples(*[st.integers(0, 1)] * 3), st.sampled_from(["image", "labels", "instances"]), st.data())
def test_windows(
    shape: tuple[int, ...], steps: tuple[int, ...], ahead: tuple[int, ...], kind: Kind, data: st.DataObject
) -> None:
    ahead = tuple(min(before, step - 1) for before, step in zip(ahead, steps, strict=True))
    values = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 4, shape).astype(np.uint64)
    # Ids that floating point cannot tell apart.
    values += np.uint64(0 if kind == "image" else 2**63)
    found = reduced(values, steps, kind=kind, ahead=ahead)
    np.testing.assert_array_equal(found, by_windows(values, steps, kind=kind, ahead=ahead))
    assert found.dtype == np.uint64


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4", "f8"])
def test_means_keep_their_type(dtype: str) -> None:
    data = np.arange(16).reshape(4, 2, 2).astype(dtype)
    found = reduced(data, (2, 2, 2), kind="image")
    assert found.dtype == dtype
    # The mean of 0 to 7 is 3.5: whole numbers are rounded half to even.
    np.testing.assert_array_equal(found.ravel(), [3.5, 11.5] if dtype[0] == "f" else [4, 12])


@settings(max_examples=25)
@given(
    st.tuples(*[st.integers(-3, 3)] * 3),
    st.tuples(st.integers(1, 7), st.integers(1, 80), st.integers(60, 150)),
    st.tuples(*[st.sampled_from([64, 100, 256])] * 3),
    st.sampled_from([None, (0, 0, 0), (5, -3, 2)]),
)
def test_whatever_the_parts_a_pyramid_is_the_same(
    start: tuple[int, ...], shape: tuple[int, ...], block: tuple[int, ...], origin: tuple[int, ...] | None
) -> None:
    data = np.random.default_rng(0).integers(0, 3, shape).astype(np.uint8)
    source = Source.of(Volume(data, Grid(shape, np.eye(4)), "instances"))
    pyramid = levels(Box(start, tuple(np.add(start, shape).tolist())), (1, 1, 1))
    targets = [Memory(level.box, block) for level in pyramid]
    done: list[tuple[int, int]] = []
    fill(source, targets, pyramid=pyramid, origin=origin, watch=lambda *counts: done.append(counts))
    assert all((target.written == 1).all() for target in targets)
    assert done == [(number, len(done)) for number in range(1, len(done) + 1)]
    np.testing.assert_array_equal(targets[0].data, data)
    for (finer, coarser), level in zip(itertools.pairwise(targets), pyramid[1:], strict=True):
        ahead = tuple(first % step for first, step in zip(finer.box.start, level.steps, strict=True))
        np.testing.assert_array_equal(coarser.data, reduced(finer.data, level.steps, kind="instances", ahead=ahead))


def test_thick_sections_are_halved_last() -> None:
    pyramid = levels(Box.whole((50, 2000, 2000)), (40, 4, 4))
    assert [level.factors for level in pyramid] == [
        (1, 1, 1),
        (1, 2, 2),
        (1, 4, 4),
        (1, 8, 8),
        (2, 16, 16),
        (4, 32, 32),
    ]
    assert pyramid[-1].box.shape == (13, 63, 63)


def test_a_single_section_and_a_single_voxel() -> None:
    assert [level.box.shape for level in levels(Box.whole((1, 200, 200)), (1, 9, 9))] == [
        (1, 200, 200),
        (1, 100, 100),
        (1, 50, 50),
    ]
    assert len(levels(Box.whole((1, 1, 1)), (1, 1, 1))) == 1
    assert [level.box.shape for level in levels(Box.whole((70, 3)), (5, 1))] == [(70, 3), (70, 2), (70, 1), (35, 1)]


def test_a_level_is_never_read_as_a_whole() -> None:
    """What is asked of the source and of each level stays as small as a part, or a piece of one."""
    shape = (270, 140, 140)
    asked: list[int] = []

    class Watched(Memory):
        def read(self, box: Box) -> Array:
            asked.append(box.size)
            return super().read(box)

    def part(slices: tuple[slice, ...]) -> Array:
        asked.append(math.prod(each.stop - each.start for each in slices))
        return np.zeros([each.stop - each.start for each in slices], np.uint8)

    source = Source(Grid(shape, np.eye(4)), "image", np.dtype(np.uint8), part)
    pyramid = levels(Box.whole(shape), (1, 1, 1))
    fill(source, [Watched(level.box, (64, 64, 64)) for level in pyramid], pyramid=pyramid)
    assert max(asked) <= SIDE[3] ** 3


@given(CUBES, st.tuples(*[st.integers(-4, 4)] * 3), CUBES, st.tuples(*[st.integers(-4, 4)] * 3))
def test_parts_fill_a_box(
    shape: tuple[int, ...], start: tuple[int, ...], size: tuple[int, ...], origin: tuple[int, ...]
) -> None:
    box = Box(start, tuple(np.add(start, shape).tolist()))
    found = list(parts(box, size, origin=origin))
    assert sum(part.size for part in found) == box.size
    for part in found:
        firsts = zip(part.start, part.stop, origin, size, strict=True)
        assert all((begin - point) // step == (end - 1 - point) // step for begin, end, point, step in firsts)


@pytest.mark.parametrize("orientation", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1)])
def test_upright_voxels_keep_their_places(orientation: tuple[int, ...], signs: tuple[int, ...]) -> None:
    affine = np.zeros((4, 4))
    affine[orientation, range(3)] = np.multiply((1, 2, 3), signs)
    affine[:, 3] = 5, 6, 7, 1
    grid = Grid((3, 4, 5), affine)
    data = np.arange(60).reshape(grid.shape)
    source = Source.of(Volume(data, grid, "image")).upright()
    assert source.grid.orientation == "SAR"
    for index in np.ndindex(*source.grid.shape):
        there = np.rint(grid.indices(source.grid.world(index))).astype(int)
        assert source.read(tuple(slice(place, place + 1) for place in index)).item() == data[tuple(there)]
    np.testing.assert_array_equal(
        source.read((slice(0, 2), slice(1, 3), slice(1, None))), source.read((slice(None),) * 3)[:2, 1:3, 1:]
    )
