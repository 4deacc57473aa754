"""Loops over voxels as machine code. Imported where they are used, because numba takes half a second to import.

Source: our own.
"""

from __future__ import annotations

import functools
from typing import Any

import numba
import numpy as np
import torch

from limner.priors.sparse import WHOLE


@functools.cache
def share_threads() -> None:
    """Let numba use as many threads as torch does.

    Its first parallel loop would start one per core, whatever the user allowed, and set torch's number to that: beside
    other programs, where threads wait for one another, an alignment took fifty times as long.
    """
    threads = torch.get_num_threads()
    numba.set_num_threads(min(threads, numba.get_num_threads()))
    torch.set_num_threads(threads)


@numba.njit(cache=True)
def _position(matrix: Any, x: Any, y: Any, z: Any) -> Any:
    """Return where the affine `matrix` (3, 4) takes a voxel, (3,)."""
    position = np.empty(3)
    for axis in range(3):
        position[axis] = matrix[axis, 0] * x + matrix[axis, 1] * y + matrix[axis, 2] * z + matrix[axis, 3]
    return position


@numba.njit(cache=True)
def _accumulate(rows: Any, weights: Any, position: Any, group_of: Any, totals: Any) -> None:
    """Interpolate the weights (M, X, Y, Z) of each group at `position` into `totals` (G,); the border continues."""
    totals[:] = 0
    corner, fraction, place = np.empty(3, np.int64), np.empty(3), np.empty(3, np.int64)
    for axis in range(3):
        last = rows.shape[axis + 1] - 1
        clipped = min(max(position[axis], 0.0), float(last))
        corner[axis] = min(int(clipped), max(last - 1, 0))
        fraction[axis] = clipped - corner[axis]
    for bits in range(8):
        share = 1.0 / WHOLE
        for axis in range(3):
            step = (bits >> axis) & 1
            share *= fraction[axis] if step else 1 - fraction[axis]
            place[axis] = min(corner[axis] + step, rows.shape[axis + 1] - 1)
        if share > 0:
            for rank in range(rows.shape[0]):
                weight = weights[rank, place[0], place[1], place[2]]
                if weight == 0:
                    break
                totals[group_of[rows[rank, place[0], place[1], place[2]]]] += share * weight


@numba.njit(cache=True, parallel=True)
def sample(rows: Any, weights: Any, matrix: Any, group_of: Any, out: Any) -> None:
    """Fill `out` (G, *S) with the groups' probabilities on the grid from which `matrix` leads to that of `rows`."""
    for x in numba.prange(out.shape[1]):
        totals = np.empty(out.shape[0])
        for y in range(out.shape[2]):
            for z in range(out.shape[3]):
                position = _position(matrix, x, y, z)
                _accumulate(rows, weights, position, group_of, totals)
                out[:, x, y, z] = totals


@numba.njit(cache=True)
def _likeliest(totals: Any, members: Any, centres: Any, position: Any) -> int:
    """Return the member with the largest total; if all are zero, the one whose centre is nearest to `position`."""
    best, score = -1, -np.inf
    for row in range(len(members)):
        if members[row]:
            # A total is positive and a negated distance is not, so that any probability beats every distance.
            value = totals[row] if totals[row] > 0 else -((centres[row] - position) ** 2).sum()
            if value > score:
                best, score = row, value
    return best


@numba.njit(cache=True, parallel=True)
def identify(rows: Any, weights: Any, matrix: Any, classes: Any, class_of: Any, centres: Any, out: Any) -> None:
    """Fill `out` (*S) with the likeliest row at each voxel among those of the voxel's class."""
    every = np.arange(len(class_of))
    for x in numba.prange(classes.shape[0]):
        totals = np.empty(len(class_of))
        for y in range(classes.shape[1]):
            for z in range(classes.shape[2]):
                position = _position(matrix, x, y, z)
                _accumulate(rows, weights, position, every, totals)
                out[x, y, z] = _likeliest(totals, class_of == classes[x, y, z], centres, position)


@numba.njit(cache=True, parallel=True, fastmath=True)
def explain(maps: Any, indices: Any, likelihood: Any, values: Any, slopes: Any) -> None:
    """Fill `values` (N,) with maps (X, Y, Z, P) at `indices` (N, 3) weighed by `likelihood` (N, P) and summed over P.

    Interpolated linearly, the border continued; `slopes` (N, 3) are the derivatives by the index.
    """
    for point in numba.prange(len(indices)):
        corner, fraction = np.empty(3, np.int64), np.empty(3)
        for axis in range(3):
            last = maps.shape[axis] - 1
            clipped = min(max(indices[point, axis], 0.0), float(last))
            corner[axis] = min(int(clipped), max(last - 1, 0))
            fraction[axis] = clipped - corner[axis]
        values[point] = 0
        slopes[point] = 0
        x, y, z = fraction
        for bits in range(8):
            i, j, k = bits >> 2, (bits >> 1) & 1, bits & 1
            row = maps[min(corner[0] + i, maps.shape[0] - 1), min(corner[1] + j, maps.shape[1] - 1)]
            row = row[min(corner[2] + k, maps.shape[2] - 1)]
            weighed = np.float32(0)
            for part in range(len(row)):
                weighed += row[part] * likelihood[point, part]
            # Shares of this corner along each axis, and how they change along it.
            a, b, c = x if i else 1 - x, y if j else 1 - y, z if k else 1 - z
            values[point] += a * b * c * weighed
            slopes[point, 0] += (2 * i - 1) * b * c * weighed
            slopes[point, 1] += (2 * j - 1) * a * c * weighed
            slopes[point, 2] += (2 * k - 1) * a * b * weighed
        for axis in range(3):
            if not 0 <= indices[point, axis] <= maps.shape[axis] - 1:
                slopes[point, axis] = 0
