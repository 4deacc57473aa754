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
    """Return where the affine `matrix` (3, 4) takes a place, (3,)."""
    position = np.empty(3)
    for axis in range(3):
        position[axis] = matrix[axis, 0] * x + matrix[axis, 1] * y + matrix[axis, 2] * z + matrix[axis, 3]
    return position


@numba.njit(cache=True)
def _cell(position: Any, shape: Any, corner: Any, fraction: Any) -> None:
    """Fill `corner` (3,) and `fraction` (3,) with the first of the 8 voxels around a place, and how far beyond it lies.

    The border continues.
    """
    for axis in range(3):
        last = shape[axis] - 1
        clipped = min(max(position[axis], 0.0), float(last))
        corner[axis] = min(int(clipped), max(last - 1, 0))
        fraction[axis] = clipped - corner[axis]


@numba.njit(cache=True)
def _move(position: Any, bend: Any, corner: Any, fraction: Any) -> None:
    """Add to `position` (3,) what the second of `bend` is there, a field (*C, 3) to whose voxels the first leads."""
    to_field, field = bend
    _cell(_position(to_field, position[0], position[1], position[2]), field.shape, corner, fraction)
    for bits in range(8):
        i, j, k = bits >> 2, (bits >> 1) & 1, bits & 1
        share = fraction[0] if i else 1 - fraction[0]
        share *= fraction[1] if j else 1 - fraction[1]
        share *= fraction[2] if k else 1 - fraction[2]
        if share > 0:
            for axis in range(3):
                position[axis] += share * field[corner[0] + i, corner[1] + j, corner[2] + k, axis]


@numba.njit(cache=True)
def _accumulate(rows: Any, weights: Any, position: Any, group_of: Any, totals: Any) -> None:
    """Interpolate the weights (M, X, Y, Z) of each group at `position` into `totals` (G,); the border continues."""
    totals[:] = 0
    corner, fraction, place = np.empty(3, np.int64), np.empty(3), np.empty(3, np.int64)
    _cell(position, rows.shape[1:], corner, fraction)
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
def sample(rows: Any, weights: Any, matrix: Any, bend: Any, group_of: Any, out: Any) -> None:
    """Fill `out` (G, *S) with the groups' probabilities on the grid from which `matrix` leads to that of `rows`.

    There, places are moved by `bend`: a matrix (3, 4) to the voxels of a field, and the field (*C, 3).
    """
    for x in numba.prange(out.shape[1]):
        totals, corner, fraction = np.empty(out.shape[0]), np.empty(3, np.int64), np.empty(3)
        for y in range(out.shape[2]):
            for z in range(out.shape[3]):
                position = _position(matrix, x, y, z)
                _move(position, bend, corner, fraction)
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
def identify(
    rows: Any, weights: Any, matrix: Any, bend: Any, classes: Any, class_of: Any, centres: Any, out: Any
) -> None:
    """Fill `out` (*S) with the likeliest row at each voxel among those of the voxel's class; places as for `sample`."""
    every = np.arange(len(class_of))
    for x in numba.prange(classes.shape[0]):
        totals, corner, fraction = np.empty(len(class_of)), np.empty(3, np.int64), np.empty(3)
        for y in range(classes.shape[1]):
            for z in range(classes.shape[2]):
                position = _position(matrix, x, y, z)
                _move(position, bend, corner, fraction)
                _accumulate(rows, weights, position, every, totals)
                out[x, y, z] = _likeliest(totals, class_of == classes[x, y, z], centres, position)


@numba.njit(cache=True, parallel=True)
def gather(rows: Any, matrix: Any, bend: Any, weight: float, out: Any) -> None:
    """Add to `out` (L, *S) the `weight` of the 8 voxels of `rows` around each place, shared linearly; none outside.

    The places of S are moved by `bend`, as for `sample`, and then brought by `matrix` to the voxels of `rows`.
    """
    for y in numba.prange(out.shape[2]):
        start, corner, fraction = np.empty(3), np.empty(3, np.int64), np.empty(3)
        for x in range(out.shape[1]):
            for z in range(out.shape[3]):
                start[0], start[1], start[2] = x, y, z
                _move(start, bend, corner, fraction)
                position = _position(matrix, start[0], start[1], start[2])
                for bits in range(8):
                    share, inside = weight, True
                    for axis in range(3):
                        low, step = np.floor(position[axis]), (bits >> axis) & 1
                        corner[axis] = int(low) + step
                        share *= position[axis] - low if step else 1 - (position[axis] - low)
                        inside = inside and 0 <= corner[axis] < rows.shape[axis]
                    if inside:
                        out[rows[corner[0], corner[1], corner[2]], x, y, z] += share


@numba.njit(cache=True)
def _blend(corners: Any, fraction: Any, slope: Any) -> float:
    """Return what 8 voxels' values (8,) interpolate to, and fill `slope` (3,) with its derivatives by the index."""
    x, y, z = fraction
    value = 0.0
    slope[:] = 0
    for bits in range(8):
        i, j, k = bits >> 2, (bits >> 1) & 1, bits & 1
        # Shares of this corner along each axis, and how they change along it.
        a, b, c = x if i else 1 - x, y if j else 1 - y, z if k else 1 - z
        value += a * b * c * corners[bits]
        slope[0] += (2 * i - 1) * b * c * corners[bits]
        slope[1] += (2 * j - 1) * a * c * corners[bits]
        slope[2] += (2 * k - 1) * a * b * corners[bits]
    return value


@numba.njit(cache=True)
def _voxel(maps: Any, corner: Any, bits: int) -> Any:
    """Return the values (P,) of one of the 8 voxels around a place; the border continues."""
    i, j, k = bits >> 2, (bits >> 1) & 1, bits & 1
    plane = maps[min(corner[0] + i, maps.shape[0] - 1), min(corner[1] + j, maps.shape[1] - 1)]
    return plane[min(corner[2] + k, maps.shape[2] - 1)]


@numba.njit(cache=True)
def _stop(index: Any, shape: Any, slope: Any) -> None:
    """Set to zero the derivatives (3,) along axes on which a place lies outside, where the border continues."""
    for axis in range(3):
        if not 0 <= index[axis] <= shape[axis] - 1:
            slope[axis] = 0


@numba.njit(cache=True, parallel=True, fastmath=True)
def explain(maps: Any, indices: Any, likelihood: Any, values: Any, slopes: Any) -> None:
    """Fill `values` (N,) with maps (X, Y, Z, P) at `indices` (N, 3) weighed by `likelihood` (N, P) and summed over P.

    Interpolated linearly, the border continued; `slopes` (N, 3) are the derivatives by the index.
    """
    for point in numba.prange(len(indices)):
        corner, fraction, corners = np.empty(3, np.int64), np.empty(3), np.empty(8)
        _cell(indices[point], maps.shape, corner, fraction)
        for bits in range(8):
            row, weighed = _voxel(maps, corner, bits), np.float32(0)
            for part in range(len(row)):
                weighed += row[part] * likelihood[point, part]
            corners[bits] = weighed
        values[point] = _blend(corners, fraction, slopes[point])
        _stop(indices[point], maps.shape, slopes[point])


@numba.njit(cache=True, parallel=True, fastmath=True)
def explain_rows(maps: Any, indices: Any, rows: Any, values: Any, slopes: Any) -> None:
    """Fill `values` (N,) with the map of each point's row (N,), and `slopes` (N, 3), as `explain` does."""
    for point in numba.prange(len(indices)):
        corner, fraction, corners = np.empty(3, np.int64), np.empty(3), np.empty(8)
        _cell(indices[point], maps.shape, corner, fraction)
        for bits in range(8):
            corners[bits] = _voxel(maps, corner, bits)[rows[point]]
        values[point] = _blend(corners, fraction, slopes[point])
        _stop(indices[point], maps.shape, slopes[point])
