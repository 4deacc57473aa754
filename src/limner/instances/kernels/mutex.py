"""Edges between voxels in the order of their strength, and sets that may not become one.

Source: Wolf et al., ECCV 2018, algorithm 1.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from limner.instances.kernels.forest import find
from limner.instances.kernels.pairs import FREE, pair, place

#: Bits of a float that are not looked at when edges are sorted for the first time, and how many steps that leaves.
SHIFT = 12
STEPS = (0x3F800000 >> SHIFT) + 1


@numba.njit(cache=True, nogil=True)
def spread(values: Any, repulsive: bool, offset: Any, strides: Any, first: Any, cursors: Any, order: Any) -> None:
    """Put each edge of a channel where the cursor of its weakness stands, and move that on; only count if no `order`.

    Edges without any strength are left out.

    Args:
        values: (Z, Y, X) affinities.
        repulsive: whether they repel where they are low.
        offset: (3,) from a voxel to its partner.
        strides: (3,): an edge counts where its lower end along each axis is at a multiple.
        first: number of the edge at the first voxel.
        cursors: (K,) int64, strongest first.
        order: (N,) uint32 numbers of edges, or empty.
    """
    Z, Y, X = values.shape
    weakness = np.empty(X, np.float32)
    steps = weakness.view(np.uint32)
    low, high = max(0, -offset[2]), min(X, X - offset[2])
    for z in range(max(0, -offset[0]), min(Z, Z - offset[0]), strides[0]):
        for y in range(max(0, -offset[1]), min(Y, Y - offset[1]), strides[1]):
            for x in range(X):
                value = values[z, y, x] / np.float32(255) if values.itemsize == 1 else values[z, y, x]
                weakness[x] = np.float32(1) - (np.float32(1) - value if repulsive else value)
            for x in range(low, high, strides[2]):
                # The upper bits of a positive float sort as the float does, and are finest where edges are strongest.
                step = (
                    np.int64(weakness[x] * 255 + np.float32(0.5))
                    if len(cursors) == 256
                    else np.int64(steps[x] >> SHIFT)
                )
                if weakness[x] < 1:
                    if len(order):
                        order[cursors[step]] = first + (z * Y + y) * X + x
                    cursors[step] += 1


@numba.njit(cache=True, nogil=True)
def refine(values: Any, repulsive: Any, order: Any, start: Any, stops: Any) -> None:
    """Bring edges of nearly equal strength into order, strongest first, then by their numbers; in place.

    Args:
        values: (C, N) float32.
        repulsive: (C,) bool.
        order: (M,) uint32.
        start: where the first run of nearly equal ones begins.
        stops: (K,) where each run ends.
    """
    N = values.shape[1]
    room = stops[0] - start
    for step in range(1, len(stops)):
        room = max(room, stops[step] - stops[step - 1])
    strengths, sorting = np.empty(room, np.float32), np.empty(room, np.uint64)
    bits = strengths.view(np.uint32)
    for stop in stops:
        count = stop - start
        for rank in range(count):
            channel = order[start + rank] // N
            value = values[channel, order[start + rank] - channel * N]
            strengths[rank] = np.float32(1) - value if repulsive[channel] else value
        if count > 1 and strengths[:count].min() < strengths[:count].max():
            for rank in range(count):
                # Bits of positive floats sort as the floats do.
                upper = np.uint64(0xFFFFFFFF) - np.uint64(bits[rank])
                sorting[rank] = (upper << np.uint64(32)) | np.uint64(order[start + rank])
            sorting[:count].sort()
            for rank in range(count):
                order[start + rank] = sorting[rank] & np.uint64(0xFFFFFFFF)
        start = stop


@numba.njit(cache=True, nogil=True)
def _renewed(keys: Any, parents: Any) -> Any:
    """Return a table of the pairs that are still pairs of roots, with room for as many more, and their number."""
    living = 0
    for key in keys:
        if key != FREE and _lives(key, parents):
            living += 1
    size = 1024
    while size < 4 * living:
        size *= 2
    fresh = np.full(size, FREE, np.uint64)
    for key in keys:
        if key != FREE and _lives(key, parents):
            fresh[place(fresh, key)] = key
    return fresh, living


@numba.njit(cache=True, nogil=True)
def _lives(key: Any, parents: Any) -> Any:
    """Tell whether both of a pair are roots."""
    low, high = key >> np.uint64(32), key & np.uint64(0xFFFFFFFF)
    return parents[low] == low and parents[high] == high


@numba.njit(cache=True, nogil=True)
def settle(order: Any, N: int, steps: Any, repulsive: Any, parents: Any) -> None:
    """Let edges join sets, or keep them apart for good, strongest first; `parents` (N,) int32 is changed in place.

    Args:
        order: (M,) uint32: channel times N plus voxel.
        N: voxels.
        steps: (C,) from a voxel to its partner.
        repulsive: (C,) bool.
        parents: (N,) int32, each its own root.
    """
    keys, filled = np.full(1024, FREE, np.uint64), 0
    chains, lengths = np.full(N, -1, np.int32), np.zeros(N, np.int32)
    partners, following, used, free = np.empty(1024, np.int32), np.empty(1024, np.int32), 0, -1
    for edge in order:
        channel = edge // np.uint32(N)
        voxel = np.int64(edge) - channel * N
        kept, gone = find(parents, voxel), find(parents, voxel + steps[channel])
        if kept == gone:
            continue
        apart = chains[kept] >= 0 and chains[gone] >= 0 and keys[place(keys, pair(kept, gone))] != FREE
        if apart:
            continue
        if repulsive[channel]:
            key = pair(kept, gone)
            keys[place(keys, key)] = key
            filled += 1
            for one, other in ((kept, gone), (gone, kept)):
                cell = free
                if cell >= 0:
                    free = following[cell]
                else:
                    if used == len(partners):
                        partners = np.concatenate((partners, partners))
                        following = np.concatenate((following, following))
                    cell = used
                    used += 1
                partners[cell], following[cell], chains[one] = other, chains[one], cell
                lengths[one] += 1
        else:
            if lengths[gone] > lengths[kept]:
                kept, gone = gone, kept
            parents[gone] = kept
            cell = chains[gone]
            while cell >= 0:
                upcoming, other = following[cell], find(parents, partners[cell])
                key = pair(kept, other)
                at = place(keys, key)
                if keys[at] == FREE:
                    keys[at] = key
                    filled += 1
                    following[cell], chains[kept] = chains[kept], cell
                    lengths[kept] += 1
                else:
                    following[cell], free = free, cell
                cell = upcoming
                if 2 * filled > len(keys):
                    keys, filled = _renewed(keys, parents)
        if 2 * filled > len(keys):
            keys, filled = _renewed(keys, parents)


@numba.njit(cache=True, nogil=True)
def label(parents: Any, labels: Any) -> int:
    """Fill `labels` (N,) with 1, 2, ... by sets in the order of their first voxels; return how many there are."""
    count = 0
    for voxel in range(len(parents)):
        root = find(parents, voxel)
        if labels[root] == 0:
            count += 1
            labels[root] = count
        labels[voxel] = labels[root]
    return count
