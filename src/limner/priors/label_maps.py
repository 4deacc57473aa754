"""Label maps brought to one space, and their average there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limner.priors.deformation import Warp
from limner.priors.sparse import STILL
from limner.space import Array, Box, Grid

#: Background kept around the labels, in mm.
MARGIN = 8.0
#: Planes of an average that are made at once.
PLANES = 4


@dataclass(frozen=True, eq=False)
class LabelMap:
    """A label map cropped to what is labelled.

    Args:
        name: of the file, for messages.
        rows: (*S) rows of the table.
        grid: (*S) where they lie.
        transform: (4, 4) from its world to the common space, mm.
        warp: from where a place lies there to where it lies after `transform`, if the map was bent.
    """

    name: str
    rows: NDArray[Any]
    grid: Grid
    transform: Array
    warp: Warp | None = None

    @property
    def to_common(self) -> Array:
        """(4, 4) from voxel indices to the common space."""
        return np.asarray(self.transform @ self.grid.affine)


def common_grid(maps: Sequence[LabelMap], spacing: float) -> Grid:
    """Return an axis-aligned RAS grid around all maps in the common space."""
    clouds = (_places(one) for one in maps)
    lows, highs = zip(*((points.min(0), points.max(0)) for points in clouds), strict=True)
    low, high = np.min(lows, axis=0) - MARGIN, np.max(highs, axis=0) + MARGIN
    affine = np.diag([spacing] * 3 + [1.0])
    affine[:3, 3] = low
    return Grid(tuple(np.ceil((high - low) / spacing).astype(int) + 1), affine)


def _places(one: LabelMap) -> Array:
    """Return where a map's labelled voxels lie in the common space, (N, 3) mm, before any bending."""
    return Grid(one.rows.shape, one.to_common).world(np.argwhere(one.rows > 0))


def averages(
    maps: Sequence[LabelMap], grid: Grid, *, labels: int, sd: float
) -> Iterator[tuple[int, Box, NDArray[np.float32]]]:
    """Yield rows but the first, slab by slab: the box, and the mean over the maps there, blurred by `sd` mm.

    Source: our own.
    """
    from scipy import ndimage

    voxels = sd / float(grid.voxel_sizes[0])
    reach = int(np.ceil(4 * voxels))
    for box in _slabs(grid.shape, planes=max(PLANES, 2 * reach)):
        around = box.grown(reach)
        shares = shared(maps, grid.cropped(around), labels=labels)
        inner = tuple(slice(reach, reach + size) for size in box.shape)
        for row in range(1, labels):
            if shares[row].any():
                yield row, box, ndimage.gaussian_filter(shares[row], voxels, mode="constant")[inner]


def _slabs(shape: tuple[int, ...], *, planes: int) -> Iterator[Box]:
    """Yield the boxes that a grid consists of, each of some planes."""
    for begin in range(0, shape[0], planes):
        yield Box((begin, 0, 0), (min(begin + planes, shape[0]), *shape[1:]))


def shared(maps: Sequence[LabelMap], grid: Grid, *, labels: int) -> NDArray[np.float32]:
    """Return the share of each row at each voxel of the grid, linearly interpolated, (L, *S).

    Outside all maps is background.

    Source: our own.
    """
    from limner.priors import kernels

    kernels.share_threads()
    shares = np.zeros((labels, *grid.shape), np.float32)
    for one in maps:
        matrix = np.linalg.inv(one.to_common) @ grid.affine
        kernels.gather(one.rows, matrix[:3], one.warp.on(grid) if one.warp else STILL, 1 / len(maps), shares)
    shares[0] += 1 - shares.sum(0)
    return shares
