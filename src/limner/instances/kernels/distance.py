"""Squared distance to the background, exact, one axis after the other.

Source: Felzenszwalb and Huttenlocher, Theory of Computing 8 (2012): the lower envelope of parabolas.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

#: Lines that are brought into order together: as many floats as a cache line holds.
TILE = 16


@numba.njit(cache=True, nogil=True)
def along_rows(mask: Any, spacing: Any, squared: Any) -> None:
    """Fill `squared` (N, X) with the squared distance within each row to where `mask` (N, X) is false."""
    for row in range(mask.shape[0]):
        far = np.float32(np.inf)
        for x in range(mask.shape[1]):
            far = far + spacing if mask[row, x] else np.float32(0)
            squared[row, x] = far
        far = np.float32(np.inf)
        for x in range(mask.shape[1] - 1, -1, -1):
            far = far + spacing if mask[row, x] else np.float32(0)
            nearest = min(far, squared[row, x])
            squared[row, x] = nearest * nearest


@numba.njit(cache=True, nogil=True)
def _lower(line: Any, weight: Any, sites: Any, borders: Any) -> None:
    """Replace `line` (N,) by the lower envelope of the parabolas that stand on its finite values, in place.

    `weight` is the spacing squared; `sites` (N,) and `borders` (N + 1,) are room to work in, `line` has 2 N values.
    """
    N = len(line) // 2
    count = 0
    for place in range(N):
        line[N + place] = line[place]
        if line[place] == np.inf:
            continue
        height = line[place] + weight * place * place
        border = -np.inf
        while count:
            site = sites[count - 1]
            border = (height - line[site] - weight * site * site) / (2 * weight * (place - site))
            if border > borders[count - 1]:
                break
            count -= 1
            border = -np.inf
        sites[count], borders[count] = place, border
        count += 1
    if count:
        borders[count] = np.inf
        nearest = 0
        for place in range(N):
            while borders[nearest + 1] < place:
                nearest += 1
            away = place - sites[nearest]
            line[place] = line[N + sites[nearest]] + weight * away * away


@numba.njit(cache=True, nogil=True)
def along_middle(squared: Any, spacing: Any, start: int, stop: int) -> None:
    """Let `squared` (A, N, B) know of what lies along its middle axis, in place, for columns `start` to `stop` of B."""
    A, N, _ = squared.shape
    lines = np.empty((TILE, 2 * N), np.float32)
    sites, borders = np.empty(N, np.int64), np.empty(N + 1, np.float64)
    weight = np.float64(spacing) ** 2
    for a in range(A):
        for first in range(start, stop, TILE):
            width = min(TILE, stop - first)
            for place in range(N):
                for column in range(width):
                    lines[column, place] = squared[a, place, first + column]
            for column in range(width):
                _lower(lines[column], weight, sites, borders)
            for place in range(N):
                for column in range(width):
                    squared[a, place, first + column] = lines[column, place]
