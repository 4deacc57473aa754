"""Water that rises from seeds over 255 levels."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

#: A voxel of this level is a wall, or has its label; levels are below.
CLOSED = np.uint8(255)


@numba.njit(cache=True, nogil=True)
def _queue(voxel: Any, level: Any, ends: Any, following: Any) -> None:
    """Put a voxel last in the queue of its level; `ends` (255, 2) are the first and last of each, or -1."""
    following[voxel, 1] = -1
    if ends[level, 0] < 0:
        ends[level, 0] = voxel
    else:
        following[ends[level, 1], 1] = voxel
    ends[level, 1] = voxel


@numba.njit(cache=True, nogil=True)
def flood(levels: Any, labels: Any, steps: Any) -> None:
    """Give each voxel of `labels` that has none the one from which water reaches it first, in place.

    Of voxels at one level the one reached first passes its label on first, seeds in the order in which they are stored.

    Args:
        levels: (N,) uint8, closed around the volume and on walls; everything reached is closed.
        labels: (N, 2) int32, the label or 0, and room for the queues: both are wanted together.
        steps: (6,) from a voxel to its neighbours; 0 where there is none.
    """
    ends = np.full((255, 2), -1, np.int32)
    for voxel in range(len(labels)):
        if labels[voxel, 0] > 0 and levels[voxel] != CLOSED:
            for step in steps:
                if levels[voxel + step] != CLOSED and labels[voxel + step, 0] == 0:
                    _queue(voxel, levels[voxel], ends, labels)
                    break
    for voxel in range(len(labels)):
        if labels[voxel, 0] > 0:
            levels[voxel] = CLOSED
    level = 0
    while level < len(ends):
        voxel = int(ends[level, 0])
        if voxel < 0:
            level += 1
            continue
        ends[level, 0] = labels[voxel, 1]
        label = labels[voxel, 0]
        for step in steps:
            neighbour = voxel + step
            height = levels[neighbour]
            if height != CLOSED:
                levels[neighbour] = CLOSED
                labels[neighbour, 0] = label
                # Below the water, a basin is full at once.
                _queue(neighbour, max(level, int(height)), ends, labels)


@numba.njit(cache=True, nogil=True)
def inside(values: Any, offsets: Any, start: int, stop: int, out: Any) -> None:
    """Fill sections `start` to `stop` of `out` (Z, Y, X) uint8 with the lowest, in 255ths, of the edges at each voxel.

    An edge counts at both its ends; a voxel without any has 255.

    Args:
        values: (C, Z, Y, X) affinities.
        offsets: (C, 3).
        start: first section.
        stop: one past the last.
        out: filled.
    """
    C, Z, Y, X = values.shape
    scale = np.float32(1 if values.itemsize == 1 else 255)
    for z in range(start, stop):
        for y in range(Y):
            out[z, y] = 255
            for c in range(C):
                dz, dy, dx = offsets[c, 0], offsets[c, 1], offsets[c, 2]
                if 0 <= z + dz < Z and 0 <= y + dy < Y:
                    for x in range(max(0, -dx), min(X, X - dx)):
                        out[z, y, x] = min(out[z, y, x], np.uint8(values[c, z, y, x] * scale + np.float32(0.5)))
                # The same edges from their other ends.
                if 0 <= z - dz < Z and 0 <= y - dy < Y:
                    for x in range(max(0, dx), min(X, X + dx)):
                        value = values[c, z - dz, y - dy, x - dx]
                        out[z, y, x] = min(out[z, y, x], np.uint8(value * scale + np.float32(0.5)))
