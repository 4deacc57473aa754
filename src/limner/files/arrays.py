"""Bare numpy arrays, `.npy` and `.npz`."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile

from limner import check
from limner.space import Array, Volume

IMAGE = "vol_data"
AFFINE = "affine"
# How .npy and .npz files begin; whatever else is given to it, numpy takes for a pickle.
MAGIC = (b"\x93NUMPY", b"PK")


def read(path: Path, dtype: type | None) -> tuple[Array, Array | None, None]:
    """Return data (*S) in `dtype` (None: as stored), the affine (D+1, D+1) in mm if there is one, and no header.

    Raises:
        InputError: if the file is damaged, holds Python objects, or several arrays none of which is `vol_data`.
    """
    try:
        with path.open("rb") as file:
            if not file.read(8).startswith(MAGIC):
                raise check.unreadable(path, "it is no numpy file")
            file.seek(0)
            content = np.load(file, allow_pickle=False)
            data, affine = _members(content, path) if isinstance(content, NpzFile) else (content, None)
    except check.InputError:
        raise
    except Exception as error:
        # Numpy has no error of its own for this.
        raise check.pickled(path) if "Object arrays" in str(error) else check.unreadable(path, error) from error
    check.numeric(data.dtype, path)
    return data if dtype is None else data.astype(dtype, copy=False), affine, None


def _members(content: NpzFile, path: Path) -> tuple[Array, Array | None]:
    """Return the image and, if stored, the affine of an archive.

    Raises:
        InputError: if it is not evident which array is the image.
    """
    names = [name for name in content.files if name != AFFINE]
    if IMAGE not in names and len(names) != 1:
        raise check.ambiguous_arrays(path, names, key=IMAGE)
    data = content[IMAGE if IMAGE in names else names[0]]
    return data, np.asarray(content[AFFINE], np.float64) if AFFINE in content.files else None


def write(volume: Volume, path: Path) -> None:
    """Write the array, in `.npz` with its affine; `.npy` has no place for one.

    Raises:
        OSError: if the disk refuses.
    """
    with path.open("wb") as file:
        if path.suffix == ".npz":
            np.savez_compressed(file, vol_data=volume.data, affine=volume.grid.affine)
        else:
            warnings.warn(check.affine_lost(path), stacklevel=3)
            np.save(file, volume.data, allow_pickle=False)
