"""Affinities in `.zarr` and HDF5: channels first, with their offsets and sign among the attributes.

`offsets` are the steps z, y, x from a voxel to its partner, for each channel; `sign` is "attractive" where high values
say that two voxels belong together, and "repulsive" where they say that a membrane lies between. Offsets are never
guessed.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from limner import check
from limner.files import hdf5, replacing, replacing_folder, zarrays
from limner.files.nanometres import affine_of, attributes
from limner.space import Affinities, Array, Grid

NAME = "volumes/affinities"
SUFFIXES = (".zarr", ".hdf", ".h5", ".hdf5")
ATTRACTIVE, REPULSIVE = "attractive", "repulsive"


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
    if "offsets" not in told:
        raise check.no_offsets(path)
    offsets = tuple(tuple(int(step) for step in offset) for offset in told["offsets"])
    check.numeric(data.dtype, path)
    data = data if data.dtype == np.uint8 else data.astype(np.float32)
    affine = affine_of(told, path)
    if affine is None:
        warnings.warn(check.no_affine(path), stacklevel=2)
    grid = Grid(data.shape[1:], np.eye(data.ndim) if affine is None else affine)
    return Affinities(_attractive(data, told.get("sign", ATTRACTIVE), path=path), offsets, grid)


def save_affinities(affinities: Affinities, path: str | Path) -> None:
    """Write affinities as they are, with all that it takes to read them.

    Raises:
        InputError: for an unknown suffix, or if the file cannot be written.
    """
    path = Path(path)
    offsets = [list(offset) for offset in affinities.offsets]
    told = {**attributes(affinities.grid), "offsets": offsets, "sign": ATTRACTIVE}
    if _known(path) == ".zarr":
        with replacing_folder(path) as temporary:
            zarrays.create(temporary, affinities.data, told=told)
    else:
        with replacing(path) as temporary:
            hdf5.create({NAME: (affinities.data, told)}, temporary)


def _known(path: Path) -> str:
    """Return the suffix of a format that can hold affinities."""
    for known in SUFFIXES:
        if path.name.lower().endswith(known):
            return known
    raise check.affinity_suffix(path, SUFFIXES)


def _attractive(data: Array, sign: Any, *, path: Path) -> Array:
    """Return affinities that are high where voxels belong together."""
    if sign not in (ATTRACTIVE, REPULSIVE):
        raise check.affinity_sign(path, sign)
    whole = data.dtype.type(255 if data.dtype == np.uint8 else 1)
    return data if sign == ATTRACTIVE else whole - data
