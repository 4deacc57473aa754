"""Disjoint sets of voxels: each points to another of its set, and the last to itself."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def find(parents: Any, node: Any) -> Any:
    """Return the root of a node's set, and halve the way there."""
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = parents[node]
    return node


@numba.njit(cache=True, nogil=True)
def join(parents: Any, first: Any, second: Any) -> None:
    """Make one set of two; its root is the smaller one, so that no node ever points to a later one."""
    first, second = find(parents, first), find(parents, second)
    if first < second:
        parents[second] = first
    else:
        parents[first] = second


@numba.njit(cache=True, nogil=True)
def number(parents: Any) -> int:
    """Turn sets made by `join` into labels 1, 2, ... in the order of their first nodes, in place; return how many."""
    count = 0
    for node in range(len(parents)):
        if parents[node] == node:
            count += 1
            parents[node] = count
        else:
            # An earlier node: it has its label by now.
            parents[node] = parents[parents[node]]
    return count


@numba.njit(cache=True, nogil=True)
def connect(values: Any, limit: Any, offset: Any, parents: Any, start: int, stop: int) -> None:
    """Join voxels of sections `start` to `stop` with their partners at `offset` (3,) where values exceed `limit`."""
    Z, Y, X = values.shape
    dz, dy, dx = offset[0], offset[1], offset[2]
    for z in range(max(start, 0, -dz), min(stop, Z, Z - dz)):
        for y in range(max(0, -dy), min(Y, Y - dy)):
            first, last = max(0, -dx), min(X, X - dx)
            voxel = (z * Y + y) * X + first
            shift = (dz * Y + dy) * X + dx
            row = values[z, y, first:last]
            former, other = -1, -1
            for x in range(len(row)):
                if row[x] > limit:
                    here, there = parents[voxel + x], parents[voxel + x + shift]
                    if here == voxel + x and there < here:
                        # Alone, or first of its set: a later one may follow an earlier one at once.
                        parents[here] = there
                    elif here != there and (here != former or there != other):
                        # Side by side, most pairs are those of the voxel before.
                        join(parents, here, there)
                        former, other = here, there


@numba.njit(cache=True, nogil=True)
def join_all(parents: Any, first: Any, second: Any) -> None:
    """Join each node of `first` (M,) with that of `second` (M,)."""
    for pair in range(len(first)):
        join(parents, first[pair], second[pair])


@numba.njit(cache=True, nogil=True)
def sizes(labels: Any, count: int) -> Any:
    """Return the voxels of each label from 0 to `count`, (count + 1,)."""
    found = np.zeros(count + 1, np.int64)
    for voxel in range(len(labels)):
        found[labels[voxel]] += 1
    return found


@numba.njit(cache=True, nogil=True)
def firsts(labels: Any, count: int) -> Any:
    """Return the first voxel of each label from 1 to `count`, (count,); they are in the order of these."""
    found, known = np.empty(count, np.int64), 0
    for voxel in range(len(labels)):
        if labels[voxel] > known:
            found[known] = voxel
            known += 1
    return found


@numba.njit(cache=True, nogil=True)
def rename(labels: Any, names: Any) -> None:
    """Replace each label by its entry in `names` (L,), in place."""
    for voxel in range(len(labels)):
        labels[voxel] = names[labels[voxel]]
