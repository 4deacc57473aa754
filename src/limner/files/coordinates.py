"""Where voxels lie for formats that count in whole voxels from the world's origin, along its axes, in nm."""

from __future__ import annotations

import warnings

import numpy as np

from limner import check
from limner.files.nanometres import nanometres
from limner.space import Box, Grid

#: Parts of a voxel that nobody would miss.
NOTHING = 1e-3


def counted(grid: Grid, suffix: str) -> tuple[Box, list[float]]:
    """Return the box (3-D) that voxels fill, counted from that at the origin, and their sizes in nm.

    Warns if axes are not those of the world, or if voxels lie between those that are counted; then where they lie is
    lost, or rounded.

    Args:
        grid: whose axes follow z, y, x of the world.
        suffix: of the format, for messages.
    """
    sizes = nanometres(grid.voxel_sizes)
    aslant = np.abs(grid.affine[2::-1, :3] / grid.voxel_sizes - np.eye(3)).max()
    if aslant > NOTHING:
        warnings.warn(check.directions_lost(suffix), stacklevel=4)
        return Box.whole(grid.shape), sizes
    exact = np.array(nanometres(grid.affine[2::-1, 3])) / sizes
    start = np.rint(exact)
    moved = float(np.abs(exact - start).max())
    if moved > NOTHING:
        warnings.warn(check.moved_to_voxels(suffix, moved), stacklevel=4)
    first = tuple(start.astype(int).tolist())
    return Box(first, tuple(np.add(first, grid.shape).tolist())), sizes
