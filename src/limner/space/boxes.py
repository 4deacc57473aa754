"""Half-open boxes of voxels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Box:
    """The voxels from `start` up to, not including, `stop`; either may lie outside the array.

    Args:
        start: first voxel along each axis.
        stop: one past the last voxel along each axis; raised to `start` where it is less, which empties the box.
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]

    def __post_init__(self) -> None:
        """Store plain integers, with stop no less than start."""
        start = tuple(int(first) for first in self.start)
        stop = tuple(max(first, int(last)) for first, last in zip(start, self.stop, strict=True))
        object.__setattr__(self, "start", start)
        object.__setattr__(self, "stop", stop)

    @classmethod
    def whole(cls, shape: Iterable[int]) -> Box:
        """Return the box of a whole array."""
        stop = tuple(shape)
        return cls((0,) * len(stop), stop)

    @classmethod
    def around(cls, mask: NDArray[np.bool_]) -> Box:
        """Return the smallest box that holds every true voxel of `mask` (*S); empty if there is none."""
        start, stop = [], []
        for axis in range(mask.ndim):
            others = tuple(other for other in range(mask.ndim) if other != axis)
            hit = np.flatnonzero(mask.any(axis=others))
            start.append(hit[0] if hit.size else 0)
            stop.append(hit[-1] + 1 if hit.size else 0)
        return cls(tuple(start), tuple(stop))

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along each axis."""
        return tuple(last - first for first, last in zip(self.start, self.stop, strict=True))

    @property
    def size(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    @property
    def slices(self) -> tuple[slice, ...]:
        """Index of the box in an array; clip the box first if it may lie outside."""
        return tuple(slice(first, last) for first, last in zip(self.start, self.stop, strict=True))

    def grown(self, margin: int) -> Box:
        """Return the box with `margin` voxels more on every side (fewer if negative)."""
        return Box(tuple(first - margin for first in self.start), tuple(last + margin for last in self.stop))

    def moved(self, steps: Sequence[int]) -> Box:
        """Return the box moved by `steps` voxels along each axis."""
        start, stop = (tuple(map(sum, zip(end, steps, strict=True))) for end in (self.start, self.stop))
        return Box(start, stop)

    def intersected(self, other: Box) -> Box:
        """Return the voxels in both boxes."""
        start = tuple(map(max, self.start, other.start))
        return Box(start, tuple(map(min, self.stop, other.stop)))

    def clipped(self, shape: Iterable[int]) -> Box:
        """Return the part inside an array of `shape`."""
        return self.intersected(Box.whole(shape))


@dataclass(frozen=True)
class Block:
    """A piece of a volume that is worked on by itself.

    Args:
        read: the voxels that it takes to know.
        write: the voxels that it tells, inside `read`; those of all blocks fill the volume without overlap.
    """

    read: Box
    write: Box

    @property
    def name(self) -> str:
        """Where it writes, fit for a file's name."""
        return "-".join(map(str, self.write.start))

    @property
    def inner(self) -> tuple[slice, ...]:
        """Index of what it tells in what it reads."""
        away = tuple(-first for first in self.read.start)
        return self.write.moved(away).slices


def blocks(shape: Sequence[int], size: Sequence[int], *, context: int = 0) -> list[Block]:
    """Return the blocks that fill a volume of `shape`, in order.

    Args:
        shape: of the volume.
        size: voxels along each axis that a block writes; less at the far ends.
        context: voxels that it reads beyond, on every side, as far as the volume goes.
    """
    starts = itertools.product(*(range(0, extent, step) for extent, step in zip(shape, size, strict=True)))
    stops = ((start, tuple(map(sum, zip(start, size, strict=True)))) for start in starts)
    writes = [Box(start, stop).clipped(shape) for start, stop in stops]
    return [Block(write.grown(context).clipped(shape), write) for write in writes]
