"""Voxels that climb, each to a deeper one near by, until there is none: which of them end at the same place."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from limner.instances.kernels.forest import join

#: Where a voxel goes that belongs to nothing.
NOWHERE = -1


@numba.njit(cache=True, nogil=True)
def _inside(z: Any, y: Any, x: Any, shape: Any) -> bool:
    """Tell whether a place lies in an array."""
    inside: bool = 0 <= z < shape[0] and 0 <= y < shape[1] and 0 <= x < shape[2]
    return inside


@numba.njit(cache=True, nogil=True)
def _beside(depth: Any, z: Any, y: Any, x: Any, steps: Any) -> Any:
    """Return the deepest neighbour of a voxel, the first of them; -1 if none is deeper."""
    deepest, best = depth[z, y, x], -1
    for step in range(len(steps)):
        a, b, c = z + steps[step, 0], y + steps[step, 1], x + steps[step, 2]
        if _inside(a, b, c, depth.shape) and depth[a, b, c] > deepest:
            deepest, best = depth[a, b, c], (a * depth.shape[1] + b) * depth.shape[2] + c
    return best


@numba.njit(cache=True, nogil=True)
def _around(depth: Any, z: Any, y: Any, x: Any, radius: Any, steps: Any, seen: Any, queue: Any) -> Any:
    """Return the first deeper voxel on ways inside, and within a box around; -1 if there is none.

    Args:
        depth: (Z, Y, X), positive inside.
        z: of the voxel where the ways begin.
        y: of it.
        x: of it.
        radius: (3,) voxels of the box before and behind it.
        steps: (M, 3) of the ways.
        seen: int32, as large as the box. Its first voxel tells how often it was used before, and no way may pass there:
            it lies one voxel beyond the box.
        queue: (N, 3) room for the voxels of the box.
    """
    own = depth[z, y, x]
    seen[0, 0, 0] += 1
    turn = seen[0, 0, 0]
    queue[0, 0], queue[0, 1], queue[0, 2] = 0, 0, 0
    seen[1 + radius[0], 1 + radius[1], 1 + radius[2]] = turn
    head, tail = 0, 1
    while head < tail:
        away = queue[head]
        for step in range(len(steps)):
            dz, dy, dx = away[0] + steps[step, 0], away[1] + steps[step, 1], away[2] + steps[step, 2]
            near = abs(dz) <= radius[0] and abs(dy) <= radius[1] and abs(dx) <= radius[2]
            a, b, c = z + dz, y + dy, x + dx
            if near and _inside(a, b, c, depth.shape) and depth[a, b, c] > 0:
                if depth[a, b, c] > own:
                    return (a * depth.shape[1] + b) * depth.shape[2] + c
                i, j, k = 1 + radius[0] + dz, 1 + radius[1] + dy, 1 + radius[2] + dx
                if seen[i, j, k] != turn:
                    seen[i, j, k] = turn
                    queue[tail, 0], queue[tail, 1], queue[tail, 2] = dz, dy, dx
                    tail += 1
        head += 1
    return -1


@numba.njit(cache=True, nogil=True)
def climb(depth: Any, cap: Any, steps: Any, radius: Any, box: Any, targets: Any) -> None:
    """Fill a box of `targets` with the voxel to which each goes: itself from the deepest place around, or `NOWHERE`.

    Args:
        depth: (Z, Y, X) float32, 0 in membranes, which go nowhere.
        cap: where depths end: what is as deep stays.
        steps: (M, 3) to the direct neighbours.
        radius: (3,) voxels within which a deeper place is looked for.
        box: (2, 3) its first voxel, and one past its last.
        targets: (Z, Y, X) int32, numbers of voxels.
    """
    Y, X = depth.shape[1:]
    seen = np.zeros((2 * radius[0] + 2, 2 * radius[1] + 2, 2 * radius[2] + 2), np.int32)
    queue = np.empty((seen.size, 3), np.int64)
    for z in range(box[0, 0], box[1, 0]):
        for y in range(box[0, 1], box[1, 1]):
            for x in range(box[0, 2], box[1, 2]):
                own, voxel = depth[z, y, x], (z * Y + y) * X + x
                if own <= 0:
                    targets[z, y, x] = NOWHERE
                    continue
                target = voxel
                if own < cap:
                    target = _beside(depth, z, y, x, steps)
                    if target < 0:
                        target = _around(depth, z, y, x, radius, steps, seen, queue)
                targets[z, y, x] = target if target >= 0 else voxel


@numba.njit(cache=True, nogil=True)
def gather(depth: Any, targets: Any, steps: Any, inner: Any, sections: Any, parents: Any) -> Any:
    """Join the voxels of some sections of a box with where they go, and deepest places that touch with one another.

    Args:
        depth: (Z, Y, X).
        targets: (Z, Y, X), filled in the box and one voxel beyond its ends.
        steps: (M, 3) to the direct neighbours.
        inner: (2, 3) first voxel of the box, and one past its last.
        sections: (2,) the first one that is joined, and one past the last; no other is touched.
        parents: of the box's voxels, changed in place.

    Returns:
        (P, 2) int32 voxels of the box that belong together, of which the second lies in other sections; for one beyond
        the box its number in all of (Z, Y, X) is taken from -1.
    """
    z0, y0, x0 = inner[0]
    z1, y1, x1 = inner[1]
    (_, Y, X), count = depth.shape, 0
    left = np.empty((1024, 2), np.int32)
    for z in range(sections[0], sections[1]):
        for y in range(y0, y1):
            for x in range(x0, x1):
                voxel, target = (z * Y + y) * X + x, np.int64(targets[z, y, x])
                if target == NOWHERE:
                    continue
                local = ((z - z0) * (y1 - y0) + y - y0) * (x1 - x0) + x - x0
                for step in range(len(steps) if target == voxel else 1):
                    a, b, c = target // (Y * X), target // X % Y, target % X
                    if target == voxel:
                        a, b, c = z + steps[step, 0], y + steps[step, 1], x + steps[step, 2]
                        later = steps[step, 0] + steps[step, 1] + steps[step, 2] > 0 and _inside(a, b, c, depth.shape)
                        if not later or depth[a, b, c] != depth[z, y, x]:
                            continue
                        if targets[a, b, c] != (a * Y + b) * X + c:
                            continue
                    inside = z0 <= a < z1 and y0 <= b < y1 and x0 <= c < x1
                    other = ((a - z0) * (y1 - y0) + b - y0) * (x1 - x0) + c - x0
                    if inside and sections[0] <= a < sections[1]:
                        join(parents, local, other)
                    else:
                        if count == len(left):
                            left = np.concatenate((left, left))
                        left[count, 0], left[count, 1] = local, other if inside else -1 - ((a * Y + b) * X + c)
                        count += 1
    return left[:count].copy()
