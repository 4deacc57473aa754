"""Pyramids: a volume in coarser and coarser voxels, images by the mean, ids by the most frequent.

Each level is made from the one before, part by part, so that no memory need hold one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from limner.files.sources import Source
from limner.space import Array, Box, Kind
from limner.space.resample import most_frequent

#: Voxels along each axis of the coarsest level, at most: a chunk.
LEAST = 64
#: Voxels along each axis that are looked at together where a coarser level is made, by the number of axes.
SIDE = {2: 1024, 3: 128}
#: An axis is halved unless its voxels are this many times as long as the shortest.
THICK = 2.0

#: Is told how many parts are written, and of how many.
Watch: TypeAlias = Callable[[int, int], object]


def unwatched(_done: int, _total: int) -> None:
    """Tell nobody how far it has come."""


@dataclass(frozen=True)
class Level:
    """One level of a pyramid.

    Args:
        factors: (D,) finest voxels along each axis of one of its voxels.
        steps: (D,) the same, in voxels of the level before.
        box: of its voxels, counted from where a voxel of every level begins.
    """

    factors: tuple[int, ...]
    steps: tuple[int, ...]
    box: Box


class Target(Protocol):
    """Where a level is written."""

    @property
    def block(self) -> tuple[int, ...]:
        """Voxels along each axis of the parts that are written one by one."""

    def write(self, box: Box, data: Array) -> None:
        """Write one of these parts, or what there is of it at the ends."""

    def read(self, box: Box) -> Array:
        """Return voxels that were written."""


def levels(box: Box, sizes: Sequence[float]) -> list[Level]:
    """Return the levels of a pyramid over the voxels of a box, the finest first.

    From one to the next, axes are halved whose voxels are less than twice as long as the shortest, until all fits into
    a chunk: sections of 40 nm with pixels of 4 nm stay apart until pixels, too, are some 30 nm.

    Args:
        box: of the finest voxels; those of coarser levels begin where its coordinates are multiples of their factors.
        sizes: (D,) of the finest voxels, in any unit.
    """
    one = (1,) * len(sizes)
    found = [Level(one, one, box)]
    while max(found[-1].box.shape) > LEAST:
        last = found[-1]
        lengths = np.multiply(sizes, last.factors)
        shortest = min(length for length, extent in zip(lengths, last.box.shape, strict=True) if extent > 1)
        steps = tuple(
            2 if extent > 1 and length < THICK * shortest * (1 - 1e-6) else 1
            for length, extent in zip(lengths, last.box.shape, strict=True)
        )
        start = tuple(first // step for first, step in zip(last.box.start, steps, strict=True))
        stop = tuple(-(-end // step) for end, step in zip(last.box.stop, steps, strict=True))
        factors = tuple(np.multiply(last.factors, steps).tolist())
        found.append(Level(factors, steps, Box(start, stop)))
    return found


def fill(
    source: Source,
    targets: Sequence[Target],
    *,
    pyramid: Sequence[Level],
    origin: Sequence[int] | None = None,
    done: int = 0,
    watch: Watch = unwatched,
) -> None:
    """Write all levels of a pyramid.

    Args:
        source: the finest voxels, which fill the box of the first level.
        targets: where each level is written.
        pyramid: its levels.
        origin: (D,) where a part begins; that is the beginning of each level's box unless given.
        done: levels that are written already.
        watch: called after each part.
    """
    jobs = list(zip(pyramid, targets, strict=True))
    planes = [_planes(level.box, target.block, origin=origin) for level, target in jobs[done:]]
    total, number = sum(math.prod(map(len, each)) for each in planes), itertools.count(1)
    for index, (level, target) in enumerate(jobs[done:], start=done):
        before = jobs[index - 1] if index else None
        for part in parts(level.box, target.block, origin=origin):
            if before:
                data = _coarser(part, level, source=source, before=before)
            else:
                data = source.read(part.moved([-first for first in level.box.start]).slices)
            target.write(part, data)
            watch(next(number), total)


def _coarser(part: Box, level: Level, *, source: Source, before: tuple[Level, Target]) -> Array:
    """Return voxels of a level (*part) that stand for those of the level before."""
    finer, target = before
    found = np.empty(part.shape, source.dtype)
    D = len(part.shape)
    for inner in parts(part, [SIDE[D] // step for step in level.steps], origin=(0,) * D):
        start = tuple(np.multiply(inner.start, level.steps).tolist())
        wanted = Box(start, tuple(np.multiply(inner.stop, level.steps).tolist())).intersected(finer.box)
        ahead = np.subtract(wanted.start, start).tolist()
        there = inner.moved([-first for first in part.start])
        found[there.slices] = reduced(target.read(wanted), level.steps, ahead=ahead, kind=source.kind)
    return found


def parts(box: Box, size: Sequence[int], *, origin: Sequence[int] | None = None) -> Iterator[Box]:
    """Yield the parts of a box between planes `size` voxels apart, of which one each goes through `origin`.

    Unless given, that is the beginning of the box.
    """
    for corner in itertools.product(*_planes(box, size, origin=origin)):
        yield Box(corner, tuple(np.add(corner, size).tolist())).intersected(box)


def _planes(box: Box, size: Sequence[int], *, origin: Sequence[int] | None) -> list[range]:
    """Return where parts begin along each axis; the first may lie before the box."""
    points = box.start if origin is None else origin
    along = zip(box.start, box.stop, points, size, strict=True)
    return [range(point + (start - point) // step * step, stop, step) for start, stop, point, step in along]


def reduced(data: Array, steps: Sequence[int], *, kind: Kind, ahead: Sequence[int] | None = None) -> Array:
    """Return voxels that each stand for `steps` voxels along each axis, those at the ends for fewer, in their type.

    Args:
        data: (*S).
        steps: (D,).
        kind: of images the mean is taken, whole numbers rounded half to even; else the most frequent, the lowest of
            equals.
        ahead: (D,) voxels of the first ones that lie before the data; none unless given.
    """
    missing = ahead or [0] * data.ndim
    ends = [(before, -(before + size) % step) for before, size, step in zip(missing, data.shape, steps, strict=True)]
    # Copies of the outermost change neither the mean of the two there may be along an axis, nor which is most frequent.
    whole = np.pad(data, ends, mode="edge") if any(map(any, ends)) else data
    corners = itertools.product(*map(range, steps))
    shares = [
        whole[tuple(slice(first, None, step) for first, step in zip(corner, steps, strict=True))] for corner in corners
    ]
    return _mean(shares) if kind == "image" else _mode(shares)


def _mean(shares: Sequence[Array]) -> Array:
    """Return the mean of arrays of one shape, in their type."""
    dtype = shares[0].dtype
    total = np.zeros(shares[0].shape, np.float32 if dtype.itemsize < 4 or dtype == np.float32 else np.float64)
    for share in shares:
        total += share
    total /= len(shares)
    return (total if dtype.kind == "f" else np.rint(total)).astype(dtype)


def _mode(shares: Sequence[Array]) -> Array:
    """Return the most frequent of the values that arrays of one shape have at each place, the lowest of equals."""
    found = np.array(shares[0])
    differing = np.zeros(found.shape, np.bool_)
    for share in shares[1:]:
        differing |= share != found
    found[differing] = most_frequent(np.stack([share[differing] for share in shares]))
    return found
