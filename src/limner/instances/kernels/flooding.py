"""Water that rises from seeds over 255 levels."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

#: A voxel of this level is a wall, or has its label; levels are below.
CLOSED = np.uint8(255)
#: Voxels in a piece of a queue. Next to one another in memory, they are looked at before their turn comes.
PIECE = 1024


@numba.njit(cache=True, nogil=True)
def _queue(voxel: Any, level: Any, queues: Any, pieces: Any, links: Any) -> None:
    """Put a voxel last in the queue of its level.

    Args:
        voxel: which.
        level: below 255.
        queues: (256, 4): piece and place of the first voxel, piece and place behind the last; in the last row, how many
            pieces are in use, and the first of those that are free again, or -1.
        pieces: (P, PIECE) voxels.
        links: (P,) the piece that comes next.
    """
    queue, state = queues[level], queues[255]
    if queue[2] < 0 or queue[3] == PIECE:
        fresh = state[1]
        if fresh >= 0:
            state[1] = links[fresh]
        else:
            fresh = state[0]
            state[0] += 1
        if queue[2] < 0:
            queue[0], queue[1] = fresh, 0
        else:
            links[queue[2]] = fresh
        queue[2], queue[3] = fresh, 0
    pieces[queue[2], queue[3]] = voxel
    queue[3] += 1


@numba.njit(cache=True, nogil=True)
def flood(levels: Any, labels: Any, steps: Any) -> None:
    """Give each voxel of `labels` that has none the one from which water reaches it first, in place.

    Of voxels at one level the one reached first passes its label on first, seeds in the order in which they are stored.

    Args:
        levels: (N,) uint8, closed around the volume and on walls; everything reached is closed.
        labels: (N,) int32, 0 where there is none.
        steps: (M,) from a voxel to its neighbours.
    """
    # Every voxel waits at most once, and each queue has a piece that is begun and one that is not full. What is not
    # used takes no memory.
    room = len(labels) // PIECE + 2 * 255
    queues, pieces, links = np.full((256, 4), -1, np.int64), np.empty((room, PIECE), np.int32), np.empty(room, np.int64)
    state = queues[255]
    state[0] = 0
    for voxel in range(len(labels)):
        if labels[voxel] > 0 and levels[voxel] != CLOSED:
            for step in steps:
                if levels[voxel + step] != CLOSED and labels[voxel + step] == 0:
                    _queue(voxel, levels[voxel], queues, pieces, links)
                    break
    for voxel in range(len(labels)):
        if labels[voxel] > 0:
            levels[voxel] = CLOSED
    for level in range(255):
        queue = queues[level]
        # What is reached below the water is full at once, so that no lower queue fills again.
        while queue[0] != queue[2] or queue[1] < queue[3]:
            if queue[1] == PIECE:
                done = queue[0]
                queue[0], queue[1] = links[done], 0
                links[done], state[1] = state[1], done
            here = np.int64(pieces[queue[0], queue[1]])
            queue[1] += 1
            for step in steps:
                height = levels[here + step]
                if height != CLOSED:
                    levels[here + step] = CLOSED
                    labels[here + step] = labels[here]
                    _queue(here + step, max(level, np.int64(height)), queues, pieces, links)


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
