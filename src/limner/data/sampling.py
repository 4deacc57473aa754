"""Which scans, and which pieces of them, make up a step: pure functions of seed and position, so nothing is saved."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from limner.space import Array, Box

#: Keep the draws of one seed apart.
ORDER, PLACE = 0, 1


def positions(step: int, *, batch: int, rank: int = 0, ranks: int = 1) -> range:
    """Return the places of a process's scans of one step in the endless row of scans.

    All processes together take what one process would with a batch as large as theirs together.

    Args:
        step: counted from 0.
        batch: scans a process takes.
        rank: number of the process.
        ranks: processes.
    """
    first = (step * ranks + rank) * batch
    return range(first, first + batch)


def case_at(position: int, *, cases: int, seed: int) -> int:
    """Return which of the cases stands at a position of the endless row: one permutation of all after another."""
    epoch, place = divmod(position, cases)
    return int(np.random.default_rng((seed, ORDER, epoch)).permutation(cases)[place])


def crop_at(position: int, mask: Array, *, crop: Sequence[int], seed: int) -> Box:
    """Return the piece of a scan that is looked at, at a position of the endless row.

    It is drawn around a voxel of the mask, and lies inside the scan; along axes that are shorter, it is all of them.

    Args:
        position: in the row.
        mask: (*S) bool.
        crop: voxels wanted along each axis.
        seed: of the draw.
    """
    rng = np.random.default_rng((seed, PLACE, position))
    shape = np.array(mask.shape)
    inside = np.flatnonzero(mask)
    centre = np.array(np.unravel_index(inside[rng.integers(len(inside))], mask.shape))
    size = np.minimum(crop, shape)
    start = np.clip(centre - size // 2, 0, shape - size)
    return Box(tuple(start), tuple(start + size))


def common_shape(shapes: Sequence[Sequence[int]], stride: int) -> tuple[int, ...]:
    """Return the smallest shape whose sizes are multiples of the stride and hold every one of the shapes."""
    largest = np.max(shapes, axis=0)
    return tuple((-(-largest // stride) * stride).tolist())
