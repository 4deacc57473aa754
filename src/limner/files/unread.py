"""Volumes whose voxels stay on disk until a part of them is asked for, where the format lets them: Zarr, N5 and HDF5.

Of other formats all is read when they are opened.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from limner import check
from limner.files import existing, hdf5, n5, open_volume, stored_volume, suffix, zarrays
from limner.files.nanometres import affine_of
from limner.space import Array, Grid, Kind

HANDLES: dict[str, Any] = {".ome.zarr": zarrays.handle, ".zarr": zarrays.handle, ".n5": n5.handle}
HANDLES |= dict.fromkeys((".hdf", ".h5", ".hdf5"), hdf5.handle)


@dataclass(frozen=True, eq=False)
class UnreadVolume:
    """A volume of which a part is read at a time.

    Args:
        path: of the file.
        array: (X, Y, Z) or (Z, Y, X), on disk or in memory.
        grid: of the same shape.
        kind: what it is.
    """

    path: Path
    array: Any
    grid: Grid
    kind: Kind

    @classmethod
    def opened(cls, path: Path, *, kind: Kind = "image") -> UnreadVolume:
        """Look into a file; two axes become three, the last of one voxel.

        Images may hold whatever they do. Labels are checked to be whole numbers, which in a store their type says.

        Raises:
            InputError: as `open_volume` does.
        """
        existing(path)
        known = HANDLES.get(suffix(path))
        if known:
            array, told = known(path, hdf5.RAW if kind == "image" else hdf5.LABELS)
            if array.ndim == 3 and (kind == "image" or array.dtype.kind in "bui"):
                check.three_dimensional(array.shape, path)
                return cls(path, array, Grid(array.shape, _affine(told, path)), kind)
        volume = stored_volume(path) if kind == "image" else open_volume(path, kind=kind)
        grid = volume.grid.thick()
        return cls(path, volume.data.reshape(grid.shape), grid, kind)

    @property
    def in_memory(self) -> bool:
        """Whether all of it was read."""
        return isinstance(self.array, np.ndarray)

    def read(self, slices: tuple[slice, ...]) -> Array:
        """Return the part of the voxels in a box.

        Raises:
            InputError: if a chunk cannot be decoded.
        """
        return zarrays.region(self.array, slices, path=self.path)


def _affine(told: dict[str, Any], path: Path) -> Array:
    """Return the affine (4, 4) in mm that a file's attributes mean, after a warning if they mean none."""
    affine = affine_of(told, path)
    if affine is None:
        warnings.warn(check.no_affine(path), stacklevel=4)
        return np.eye(4)
    return affine
