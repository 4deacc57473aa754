"""Affinities in `.zarr` and HDF5: channels first, with their offsets and sign among the attributes.

`offsets` are the steps z, y, x from a voxel to its partner, for each channel; `sign` is "attractive" where high values
say that two voxels belong together, and "repulsive" where they say that a membrane lies between. Offsets are never
guessed.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from limner import check
from limner.files import hdf5, replacing, replacing_folder, zarrays
from limner.files.nanometres import affine_of, attributes
from limner.space import Affinities, Array, Box, Grid, Offsets

NAME = "volumes/affinities"
SUFFIXES = (".zarr", ".hdf", ".h5", ".hdf5")
ATTRACTIVE, REPULSIVE = "attractive", "repulsive"


@dataclass(frozen=True, eq=False)
class StoredAffinities:
    """Affinities on disk, of which a part is read at a time.

    Args:
        path: of the store or file.
        array: in it, (C, *S), unread.
        offsets: (C, D) voxels.
        grid: of the shape S.
        sign: of what is stored.
    """

    path: Path
    array: Any
    offsets: tuple[tuple[int, ...], ...]
    grid: Grid
    sign: str

    @classmethod
    def opened(cls, path: Path) -> StoredAffinities:
        """Look into a store.

        Raises:
            InputError: as `open_affinities` does.
        """
        check.existing_store(path)
        array, told = zarrays.handle(path, NAME)
        return cls._described(path, array, told=told)

    @classmethod
    def in_file(cls, path: Path) -> StoredAffinities:
        """Look into an HDF5 file, which stays open.

        Raises:
            InputError: as `open_affinities` does.
        """
        _known(path)
        check.existing_file(path)
        array, told = hdf5.handle(path, NAME, dimensions=(3, 4))
        return cls._described(path, array, told=told)

    @classmethod
    def _described(cls, path: Path, array: Any, *, told: Mapping[str, Any]) -> StoredAffinities:
        """Return an unread array as what its attributes say that it is.

        Raises:
            InputError: as `open_affinities` does.
        """
        offsets, grid = _known_offsets(told, path), _grid(told, array.shape[1:], path=path)
        check.channels(array.shape, offsets)
        check.three_dimensional(grid.shape, path)
        sign = told.get("sign", ATTRACTIVE)
        return cls(path, array, offsets, grid, check.affinity_sign(path, sign, known=(ATTRACTIVE, REPULSIVE)))

    def read(self, box: Box, channels: Sequence[int] | None = None) -> Array:
        """Return the affinities of a box in some channels, or all, (C, *box); high where voxels belong together.

        Raises:
            InputError: if a chunk cannot be decoded.
        """
        chosen = range(len(self.offsets)) if channels is None else channels
        parts = [zarrays.region(self.array, (channel, *box.slices), path=self.path) for channel in chosen]
        return _attractive(_shares(np.stack(parts)), self.sign)


def open_affinities(path: str | Path) -> Affinities:
    """Read affinities: uint8 as they are, others as float32; repulsive ones come as attractive.

    Raises:
        InputError: for a file that is missing, damaged or of another format, an array without offsets, or with a sign
            that is none, or a shape that does not go with them.
    """
    path = Path(path)
    store = _known(path) == ".zarr"
    (check.existing_store if store else check.existing_file)(path)
    data, told = zarrays.opened(path, NAME) if store else hdf5.opened(path, NAME, dimensions=(3, 4))
    offsets, grid = _known_offsets(told, path), _grid(told, data.shape[1:], path=path)
    sign = check.affinity_sign(path, told.get("sign", ATTRACTIVE), known=(ATTRACTIVE, REPULSIVE))
    return Affinities(_attractive(_shares(data), sign), offsets, grid)


def save_affinities(affinities: Affinities, path: str | Path) -> None:
    """Write affinities as they are, with all that it takes to read them.

    Raises:
        InputError: for an unknown suffix, or if the file cannot be written.
    """
    path = Path(path)
    told = told_of(affinities.grid, affinities.offsets)
    if _known(path) == ".zarr":
        with replacing_folder(path) as temporary:
            zarrays.create(temporary, affinities.data, told=told)
    else:
        with replacing(path) as temporary:
            hdf5.create({NAME: (affinities.data, told)}, temporary)


def told_of(grid: Grid, offsets: Offsets) -> dict[str, Any]:
    """Return the attributes of a store of attractive affinities, (C, *S), with `offsets` (C, D)."""
    return {**attributes(grid), "offsets": [list(offset) for offset in offsets], "sign": ATTRACTIVE}


def _known(path: Path) -> str:
    """Return the suffix of a format that can hold affinities."""
    for known in SUFFIXES:
        if path.name.lower().endswith(known):
            return known
    raise check.affinity_suffix(path, SUFFIXES)


def _known_offsets(told: Mapping[str, Any], path: Path) -> tuple[tuple[int, ...], ...]:
    """Return the offsets that a file states.

    Raises:
        InputError: if it states none.
    """
    if "offsets" not in told:
        raise check.no_offsets(path)
    return tuple(tuple(int(step) for step in offset) for offset in told["offsets"])


def _grid(told: Mapping[str, Any], shape: tuple[int, ...], *, path: Path) -> Grid:
    """Return where the voxels are, after a warning if a file does not say."""
    affine = affine_of(told, path)
    if affine is None:
        warnings.warn(check.no_affine(path), stacklevel=3)
    return Grid(shape, np.eye(len(shape) + 1) if affine is None else affine)


def _shares(data: Array) -> Array:
    """Return stored numbers as uint8 or float32."""
    return data if data.dtype == np.uint8 else data.astype(np.float32)


def _attractive(data: Array, sign: str) -> Array:
    """Return affinities that are high where voxels belong together."""
    whole = data.dtype.type(255 if data.dtype == np.uint8 else 1)
    return data if sign == ATTRACTIVE else whole - data
