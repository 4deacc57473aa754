"""Bring label maps together: affinely by the centres of their structures, and then by bending them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from limner import check
from limner.priors.alignment import Labelled, bent, blurred, moved
from limner.priors.deformation import SPACING as VELOCITIES
from limner.priors.deformation import Smooth, Warp, Warps, flow
from limner.priors.label_maps import LabelMap, common_grid, shared
from limner.space import Array

#: Structures with fewer voxels than this in some map have no reliable centre.
SMALLEST = 50
#: With fewer centres than this, the extent of all labels together helps to fix the affine map.
ENOUGH = 8
#: Blur in mm of the average that the maps are bent to, round by round, and the spacing of its voxels.
BLURS = (4.0, 2.0, 1.0, 0.0)
SPACING = 2.0
#: Steps of the optimiser in each round, at most, for each map.
ROUNDS = 12
#: How people may differ: enough for what is one structure to come to lie on itself.
LOOSE = (Smooth(16.0, 3.0), Smooth(7.0, 2.0))
#: Voxels of a map that are looked at, and edge in mm of the cubes that count as one against the stiffness.
POINTS, APART = 100_000, 3.0
#: How far around the labels, in voxels of a map, the background is looked at too.
AROUND = 4
#: Share of wrong labels that a map is thought to have.
WRONG = 0.01


def aligned_maps(maps: Sequence[LabelMap], present: NDArray[Any]) -> list[LabelMap]:
    """Return the maps with affine transforms to their common space, from the centres of shared structures.

    Args:
        maps: at least one.
        present: (maps, L) voxels of each row.
    """
    if len(maps) == 1:
        return list(maps)
    shared = 1 + np.flatnonzero((present[:, 1:] >= SMALLEST).all(0))
    check.alignable(len(shared), [one.name for one in maps], smallest=SMALLEST)
    points = np.stack([_landmarks(one, shared) for one in maps])
    turned = [_turned(cloud, points[0]) for cloud in points]
    points = np.stack([moved(turn, cloud) for turn, cloud in zip(turned, points, strict=True)])
    transforms = _procrustes(points)
    return [replace(one, transform=after @ turn) for one, after, turn in zip(maps, transforms, turned, strict=True)]


def _landmarks(one: LabelMap, shared: NDArray[Any]) -> Array:
    """Return the centres of the shared rows in mm, (N, 3); where they are few, also six points of the whole extent."""
    from scipy import ndimage

    everywhere = np.broadcast_to(1, one.rows.shape)
    points = one.grid.world(ndimage.center_of_mass(everywhere, one.rows, shared))
    if len(shared) >= ENOUGH:
        return points
    inside = one.grid.world(np.argwhere(one.rows > 0))
    middle, extent = inside.mean(0), np.diag(inside.std(0))
    return np.concatenate([points, middle + extent, middle - extent])


def _turned(points: Array, reference: Array) -> Array:
    """Return the turn of the axes (4, 4), none unless a file had lost them, that brings points near to others."""
    from scipy.optimize import linear_sum_assignment

    linear = _fitted(points, reference)[:3, :3]
    rows, columns = linear_sum_assignment(-np.abs(linear))
    turn = np.eye(4)
    turn[:3, :3] = 0
    turn[rows, columns] = np.sign(linear[rows, columns])
    return turn


def _procrustes(points: Array, rounds: int = 50) -> list[Array]:
    """Return affine maps that bring point sets (M, N, 3) to their common mean, and whose mean inverse is the identity.

    Each round fits every set to the mean and then carries the mean back by the average of the inverse maps, so that the
    common space has the average shape, size, position and tilt of the sets.
    """
    mean = points.mean(0)
    for _ in range(rounds):
        transforms = [_fitted(cloud, mean) for cloud in points]
        mean = np.mean([moved(transform, cloud) for transform, cloud in zip(transforms, points, strict=True)], axis=0)
        mean = moved(np.mean([np.linalg.inv(transform) for transform in transforms], axis=0), mean)
    return [_fitted(cloud, mean) for cloud in points]


def _fitted(source: Array, target: Array) -> Array:
    """Return the affine map (4, 4) that brings points (N, 3) nearest to others, in least squares."""
    homogeneous = np.c_[source, np.ones(len(source))]
    transform = np.eye(4)
    transform[:3] = np.linalg.lstsq(homogeneous, target, rcond=None)[0].T
    return transform


def bent_maps(
    maps: Sequence[LabelMap], *, labels: int, progress: Callable[[str], None] = lambda _: None
) -> tuple[list[LabelMap], Warps]:
    """Return the maps with warps to an average that is sharp because they were bent to it, and how they differ.

    Round by round the average is less blurred; every map is bent to where it explains the map best, and the average is
    made again, with the mean velocity taken away, so that it prefers nobody's shape.

    Args:
        maps: aligned, at least one.
        labels: number of rows.
        progress: told each round.

    Source: our own; unbiased averages as in Joshi et al. 2004, by the likelihood of labels instead of images.
    """
    grid = common_grid(maps, SPACING)
    if len(maps) == 1:
        return list(maps), Warps.over(grid)
    rng = np.random.default_rng(0)
    seen = [_seen(one, rng) for one in maps]
    warps = Warps.over(grid, LOOSE, spacing=2 * VELOCITIES)
    found = np.zeros((len(maps), warps.size))
    together = list(maps)
    velocities = torch.zeros(len(maps), 3, *warps.grid.shape)
    for number, sd in enumerate(BLURS):
        average = blurred(torch.from_numpy(shared(together, grid, labels=labels)), sd / SPACING)
        for index, (one, evidence) in enumerate(zip(maps, seen, strict=True)):
            progress(f"bending the maps, round {number + 1} of {len(BLURS)}, {index + 1} of {len(maps)}")
            found[index], _ = bent(
                average,
                grid,
                evidence=evidence,
                transform=one.transform,
                warps=warps,
                start=found[index],
                rounds=ROUNDS,
            )
            velocities[index] = warps.velocity(torch.from_numpy(found[index]).float())
        centred = velocities - velocities.mean(0)
        together = [
            replace(one, warp=Warp(warps.grid, flow(-velocity))) for one, velocity in zip(maps, centred, strict=True)
        ]
    return together, Warps.learned(warps.grid, centred)


def _seen(one: LabelMap, rng: np.random.Generator) -> Labelled:
    """Return some voxels of a map's labels and near around them."""
    from scipy.ndimage import maximum_filter

    rows = np.pad(one.rows, AROUND)
    near = np.flatnonzero(maximum_filter(rows > 0, 2 * AROUND + 1))
    voxels = np.sort(rng.choice(near, min(POINTS, len(near)), replace=False))
    points = one.grid.world(np.stack(np.unravel_index(voxels, rows.shape), -1) - AROUND)
    independent = len(near) * one.grid.voxel_volume / APART**3
    weights = torch.full((len(voxels),), independent / len(voxels))
    return Labelled(points, rows.ravel()[voxels].astype(np.int64), WRONG, weights)
