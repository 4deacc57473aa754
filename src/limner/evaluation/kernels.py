"""Loops over voxels as machine code: which pairs of labels share voxels, and where labels meet.

Source: our own.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

MIXER = np.uint64(0x9E3779B97F4A7C15)
TURNER = np.uint64(0xC2B2AE3D27D4EB4F)


@numba.njit(cache=True, nogil=True)
def _place(table: Any, first: Any, second: Any) -> Any:
    """Return where a pair is in a table (T, 4) of a power of two places, or the free one where it belongs.

    Columns are the two labels and two counts, of which the first is 0 where a place is free.
    """
    last = np.uint64(len(table) - 1)
    mixed = (first * MIXER) ^ (second * TURNER)
    at = (mixed ^ (mixed >> np.uint64(32))) & last
    while table[at, 2] and (table[at, 0] != first or table[at, 1] != second):
        at = (at + np.uint64(1)) & last
    return at


@numba.njit(cache=True, nogil=True)
def _grown(table: Any) -> Any:
    """Return the table with four times as many places."""
    wider = np.zeros((4 * len(table), 4), np.uint64)
    for old in range(len(table)):
        if table[old, 2]:
            wider[_place(wider, table[old, 0], table[old, 1])] = table[old]
    return wider


@numba.njit(cache=True, nogil=True)
def count_pairs(one: Any, other: Any, ignored: Any) -> Any:
    """Count the voxels of each pair of labels.

    Args:
        one: (N,) integers from 0 on.
        other: (N,) likewise.
        ignored: (N,) bool, or empty: voxels that do not count.

    Returns:
        (P, 4) uint64: label of `one`, label of `other`, voxels, and 0; each pair once.
    """
    table = np.zeros((4096, 4), np.uint64)
    filled, start = 0, 0
    while start < len(one):
        # Neighbours mostly share both labels: count a whole run at once.
        stop = start + 1
        while stop < len(one) and one[stop] == one[start] and other[stop] == other[start]:
            stop += 1
        number = stop - start
        if len(ignored):
            for voxel in range(start, stop):
                number -= ignored[voxel]
        if number:
            first, second = np.uint64(one[start]), np.uint64(other[start])
            at = _place(table, first, second)
            if not table[at, 2]:
                table[at, 0], table[at, 1] = first, second
                filled += 1
            table[at, 2] += np.uint64(number)
            if 2 * filled > len(table):
                table = _grown(table)
        start = stop
    return table[table[:, 2] > 0]


@numba.njit(cache=True, nogil=True)
def near_border(labels: Any, reach: Any, spacing: Any, start: int, stop: int, out: Any) -> None:
    """Mark in `out` the voxels within `reach` of another label in their section, for sections `start` to `stop`.

    Distances run between the centres of pixels, from one to the nearest that has a face neighbour of another label.

    Args:
        labels: (Z, Y, X).
        reach: in units of `spacing`.
        spacing: (2,) along y and x.
        start: first section.
        stop: one past the last.
        out: (Z, Y, X) bool, all false.
    """
    _, Y, X = labels.shape
    tall, wide = int(reach / spacing[0] + 1e-6), int(reach / spacing[1] + 1e-6)
    limit = reach * reach * (1 + 1e-9)
    for z in range(start, stop):
        section = labels[z]
        for y in range(Y):
            for x in range(X):
                label = section[y, x]
                alike = y == 0 or section[y - 1, x] == label
                alike = alike and (y == Y - 1 or section[y + 1, x] == label)
                alike = alike and (x == 0 or section[y, x - 1] == label)
                alike = alike and (x == X - 1 or section[y, x + 1] == label)
                if alike:
                    continue
                for row in range(max(0, y - tall), min(Y, y + tall + 1)):
                    for column in range(max(0, x - wide), min(X, x + wide + 1)):
                        away = ((row - y) * spacing[0]) ** 2 + ((column - x) * spacing[1]) ** 2
                        if away <= limit:
                            out[z, row, column] = True


@numba.njit(cache=True, nogil=True)
def seams(truth: Any, segments: Any, steps: Any) -> Any:
    """Count the faces at which one segment covers two objects, along z and in the section.

    Args:
        truth: (Z, Y, X) objects, 0 for none.
        segments: (Z, Y, X) segments, 0 for none.
        steps: (3, 3): one step along each axis.

    Returns:
        (P, 4) uint64: lower object, higher object, all faces, and those along z.
    """
    Z, Y, X = truth.shape
    table, filled = np.zeros((1024, 4), np.uint64), 0
    for axis in range(3):
        dz, dy, dx = steps[axis, 0], steps[axis, 1], steps[axis, 2]
        for z in range(Z - dz):
            for y in range(Y - dy):
                here, there = truth[z, y, : X - dx], truth[z + dz, y + dy, dx:]
                mine, yours = segments[z, y, : X - dx], segments[z + dz, y + dy, dx:]
                for x in range(len(here)):
                    if here[x] == there[x] or here[x] == 0 or there[x] == 0 or mine[x] != yours[x] or mine[x] == 0:
                        continue
                    low, high = np.uint64(min(here[x], there[x])), np.uint64(max(here[x], there[x]))
                    at = _place(table, low, high)
                    if not table[at, 2]:
                        table[at, 0], table[at, 1] = low, high
                        filled += 1
                    table[at, 2] += np.uint64(1)
                    table[at, 3] += np.uint64(axis == 0)
                    if 2 * filled > len(table):
                        table = _grown(table)
    return table[table[:, 2] > 0]
