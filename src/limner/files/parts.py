"""Images on disk of which a part is read at a time: in Zarr stores and HDF5."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from limner import check
from limner.files import existing, hdf5, suffix, zarrays
from limner.files.nanometres import affine_of
from limner.files.unread import HANDLES
from limner.space import Array, Box, Grid

#: Suffixes of formats of which a part can be read.
SUFFIXES = tuple(HANDLES)

Slices: TypeAlias = tuple[slice, ...]
Region: TypeAlias = Callable[[Slices], Array]


@dataclass(frozen=True, eq=False)
class StoredImage:
    """An image on disk of which a part is read at a time.

    Args:
        path: of the file or store.
        grid: of all of it, (*S).
        region: returns what lies in a part of it, as stored.
    """

    path: Path
    grid: Grid
    region: Region

    @classmethod
    def opened(cls, path: Path) -> StoredImage:
        """Look into a file or store, after a warning if it does not say where its voxels are.

        Raises:
            InputError: for one that is missing, damaged, or of a format that is only read as a whole; an image that
                has other axes than two or three, or none along one of them.
        """
        shape, told, region = _looked_into(path)
        check.three_dimensional(shape, path)
        affine = affine_of(told, path)
        if affine is None:
            warnings.warn(check.no_affine(path), stacklevel=3)
            affine = np.eye(len(shape) + 1)
        check.affine(affine, path, dimensions=len(shape))
        return cls(path, Grid(shape, affine), region)

    def read(self, box: Box) -> Array:
        """Return what lies in a box, (*box) float32.

        Raises:
            InputError: if a chunk cannot be decoded.
        """
        return self.region(box.slices).astype(np.float32, copy=False)


def stored_shape(path: Path) -> tuple[int, ...]:
    """Return the shape of an image, unread.

    Raises:
        InputError: for a file or store that is missing, damaged, or of a format that is only read as a whole.
    """
    return _looked_into(path)[0]


def _looked_into(path: Path) -> tuple[tuple[int, ...], Mapping[str, Any], Region]:
    """Return the shape of an image, its attributes, and what reads a part of it."""
    existing(path)
    known = HANDLES.get(suffix(path))
    if known is None:
        raise check.only_whole(path, SUFFIXES)
    array, told = known(path, hdf5.RAW)
    return array.shape, told, partial(zarrays.region, array, path=path)
