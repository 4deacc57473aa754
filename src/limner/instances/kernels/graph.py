"""Which fragments touch, how sure the voxels between them are, and who merges with whom."""

from __future__ import annotations

import heapq
from typing import Any

import numba
import numpy as np

from limner.instances.kernels.forest import find
from limner.instances.kernels.pairs import FREE, grown, pair, place

#: Voxels that are compared at once: few of them lie at a border.
BLOCK = 32
#: Steps from 0 to 1 in which affinities are added. Sums of so many bits are exact, and so the same in any order and in
#: any blocks, until there are 2 ** 29 of them; a float32 above one half has no more.
FINE = np.float64(2**24)


@numba.njit(cache=True, nogil=True)
def _border(here: Any, there: Any, x: int) -> int:
    """Return the first place from `x` on where two rows (X,) hold two fragments; X if there is none."""
    while x < len(here):
        if x + BLOCK <= len(here):
            found = 0
            for at in range(x, x + BLOCK):
                if here[at] != there[at] and here[at] > 0 and there[at] > 0:
                    found += 1
            if not found:
                x += BLOCK
                continue
        for at in range(x, min(x + BLOCK, len(here))):
            if here[at] != there[at] and here[at] > 0 and there[at] > 0:
                return at
        x += BLOCK
    return len(here)


@numba.njit(cache=True, nogil=True)
def touching(fragments: Any, values: Any, offsets: Any, start: int, stop: int, statistics: Any) -> Any:
    """Collect what lies between fragments, for voxels of sections `start` to `stop` and their partners.

    Args:
        fragments: (Z, Y, X) int32; 0 touches nothing.
        values: (C, Z, Y, X) affinities.
        offsets: (C, 3).
        start: first section.
        stop: one past the last.
        statistics: (E, W), whose size is a guess and whose values are not read. W = 2: number and sum of the
            affinities; otherwise how many lie in each of W equal steps from 0 to 1.

    Returns:
        (E,) pairs of fragments in the order in which they were met, and their (E, W) statistics.
    """
    C, Z, Y, X = values.shape
    W = statistics.shape[1]
    keys, entries, count = np.full(1024, FREE, np.uint64), np.empty(1024, np.int32), 0
    found = np.empty(len(statistics), np.uint64)
    whole = np.float32(255 if values.itemsize == 1 else 1)
    for c in range(C):
        dz, dy, dx = offsets[c, 0], offsets[c, 1], offsets[c, 2]
        for z in range(max(start, -dz), min(stop, Z - dz)):
            for y in range(max(0, -dy), min(Y, Y - dy)):
                first, last = max(0, -dx), min(X, X - dx)
                here, there = fragments[z, y, first:last], fragments[z + dz, y + dy, first + dx : last + dx]
                former, entry = FREE, 0
                x = _border(here, there, 0)
                while x < len(here):
                    key = pair(here[x], there[x])
                    if key != former:
                        at = place(keys, key)
                        if keys[at] == FREE:
                            keys[at], entries[at] = key, count
                            if count == len(found):
                                found = np.concatenate((found, found))
                                statistics = np.concatenate((statistics, statistics))
                            found[count], statistics[count] = key, 0
                            count += 1
                        former, entry = key, entries[at]
                        if 2 * count > len(keys):
                            keys, entries = grown(keys, entries)
                    value = values[c, z, y, first + x] / whole
                    if W == 2:
                        statistics[entry, 0] += 1
                        statistics[entry, 1] += np.rint(value * FINE) / FINE
                    else:
                        statistics[entry, int(value * (W - 1) + np.float32(0.5))] += 1
                    x = _border(here, there, x + 1)
    return found[:count].copy(), statistics[:count].copy()


@numba.njit(cache=True, nogil=True)
def score(statistic: Any, quantile: float) -> Any:
    """Return the mean of a statistic (W,) of two numbers, or the quantile of a histogram, from 0 to 1."""
    W = len(statistic)
    if W == 2:
        return statistic[1] / statistic[0]
    wanted, step = quantile * statistic.sum(), 0
    passed = float(statistic[0])
    while passed < wanted and step < W - 1:
        step += 1
        passed += statistic[step]
    return step / (W - 1)


@numba.njit(cache=True, nogil=True)
def _chain(chains: Any, lengths: Any, following: Any, half: Any, node: Any) -> None:
    """Put half an edge first in the chain of a node."""
    following[half] = chains[node]
    chains[node] = half
    lengths[node] += 1


@numba.njit(cache=True, nogil=True)
def merge(ends: Any, statistics: Any, nodes: int, quantile: float, threshold: float) -> Any:
    """Merge the two nodes whose edge scores highest, again and again, while it exceeds the threshold.

    Parallel edges become one, and their statistics are added. Of equal scores the edge stored first goes first.

    Args:
        ends: (E, 2) int32.
        statistics: (E, W), changed in place.
        nodes: how many there are.
        quantile: of a histogram.
        threshold: from 0 to 1.

    Returns:
        (M, 2) int32 nodes that were merged, one of each side, and the (M,) scores, in order.
    """
    E = len(ends)
    parents, chains, lengths = (
        np.arange(nodes).astype(np.int32),
        np.full(nodes, -1, np.int32),
        np.zeros(nodes, np.int32),
    )
    following, versions = np.empty(2 * E, np.int32), np.zeros(E, np.int32)
    size = 1024
    while size < 3 * E:
        size *= 2
    keys, edges, filled = np.full(size, FREE, np.uint64), np.empty(size, np.int32), E
    heap = [(-np.inf, np.int32(0), np.int32(0)) for _ in range(0)]
    for edge in range(E):
        at = place(keys, pair(ends[edge, 0], ends[edge, 1]))
        keys[at], edges[at] = pair(ends[edge, 0], ends[edge, 1]), edge
        for side in range(2):
            _chain(chains, lengths, following, 2 * edge + side, ends[edge, side])
        value = score(statistics[edge], quantile)
        if value > threshold:
            heap.append((-value, np.int32(edge), np.int32(0)))
    heapq.heapify(heap)
    merged, scores, count = np.empty((nodes, 2), np.int32), np.empty(nodes, np.float64), 0
    while heap:
        negative, best, version = heapq.heappop(heap)
        if version != versions[best]:
            continue
        kept, gone = find(parents, ends[best, 0]), find(parents, ends[best, 1])
        merged[count], scores[count] = ends[best], -negative
        count += 1
        if lengths[gone] > lengths[kept]:
            kept, gone = gone, kept
        parents[gone] = kept
        half = chains[gone]
        while half >= 0:
            upcoming, moving = following[half], half // 2
            other = find(parents, ends[moving, 1 - half % 2])
            if other == kept:
                versions[moving] = -1
            elif versions[moving] >= 0:
                key = pair(kept, other)
                at = place(keys, key)
                if keys[at] == FREE:
                    keys[at], edges[at] = key, moving
                    filled += 1
                    _chain(chains, lengths, following, half, kept)
                    if 2 * filled > len(keys):
                        keys, edges = grown(keys, edges)
                else:
                    twin = edges[at]
                    statistics[twin] += statistics[moving]
                    versions[moving] = -1
                    versions[twin] += 1
                    value = score(statistics[twin], quantile)
                    if value > threshold:
                        heapq.heappush(heap, (-value, twin, versions[twin]))
            half = upcoming
    return merged[:count].copy(), scores[:count].copy()
