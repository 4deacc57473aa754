"""Which types of numbers each format stores, and which of them given voxels take."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from limner import check
from limner.space import Array, Kind

#: From the one that every viewer reads to those that few do.
ALL = ("u1", "i2", "i4", "f4", "f8", "i1", "u2", "u4", "i8", "u8")
#: By suffix; a format that is not among them is only read.
TYPES: dict[str, tuple[str, ...]] = {
    ".nii.gz": ALL,
    ".nii": ALL,
    ".mgz": ("u1", "i2", "i4", "f4"),
    ".mgh": ("u1", "i2", "i4", "f4"),
    ".npz": ALL,
    ".npy": ALL,
    ".nrrd": ALL,
    ".mha": ALL,
    ".hdf": ALL,
    ".h5": ALL,
    ".hdf5": ALL,
    ".ome.zarr": ALL,
    ".zarr": ALL,
    ".tiff": ALL,
    ".tif": ALL,
    ".png": ("u1", "u2"),
    ".precomputed": ("u1", "i1", "u2", "i2", "u4", "i4", "f4", "u8"),
    ".webknossos": ALL,
}
#: Formats of microscopes, whose grey values up to 255 take a byte.
MICROSCOPES = (".hdf", ".h5", ".hdf5", ".ome.zarr", ".zarr", ".n5", ".tiff", ".tif", ".precomputed", ".webknossos")
#: Of whole numbers, and of real ones, as results are written.
USUAL = {"labels": ("u1", "i2", "i4"), "instances": ("u1", "i2", "i4", "u8"), "image": ("f4",)}


def stored(data: Array, ending: str, *, kind: Kind, path: Path) -> Array:
    """Return voxels in the type that results are stored in.

    Args:
        data: (*S).
        ending: the format's suffix.
        kind: labels take the smallest of uint8, int16 and int32 that holds them, instances beyond uint64; images are
            float32, or uint8 where a microscope's format gets whole grey values.
        path: of the file.

    Raises:
        InputError: if the format is only read, or holds no such numbers; if labels need more than 32 bits.
    """
    known = _known(ending, path)
    if kind == "labels":
        check.whole_numbers(data, path)
    wanted = [each for each in USUAL[kind] if each in known]
    if kind == "image":
        found = "u1" if ending in MICROSCOPES and _holds("u1", data) else next(iter(wanted), None)
    else:
        whole = [each for each in known if each not in wanted and each[0] != "f"]
        found = next((each for each in (*wanted, *whole) if _holds(each, data)), None)
    if found is None:
        raise check.not_stored(path, data.dtype, known=_names(known))
    return data.astype(found, copy=False)


def kept(data: Array, ending: str, *, path: Path) -> Array:
    """Return voxels in their own type, or if the format has no such, in the smallest that holds their values.

    Warns if none does and real numbers are rounded to float32.

    Raises:
        InputError: if the format is only read, or its numbers cannot come near these.
    """
    known = _known(ending, path)
    own = "u1" if data.dtype.kind == "b" else data.dtype.newbyteorder("=").str[1:]
    found = own if own in known else next((each for each in known if _holds(each, data)), None)
    if found is None and "f4" in known and data.dtype.kind == "f":
        found = "f4"
        rounded = np.abs(data - data.astype(np.float32)).max()
        warnings.warn(check.rounded(path, data.dtype, error=float(rounded)), stacklevel=3)
    if found is None:
        raise check.not_stored(path, data.dtype, known=_names(known))
    return data.astype(found, copy=False)


def streamed(dtype: np.dtype[Any], ending: str, *, kind: Kind, path: Path) -> np.dtype[Any]:
    """Return the type for voxels of which not all have been seen: their own, or if the format has no such, a wider one.

    Labels may take int32 and instances uint64, since more than they hold is refused where they are read.

    Raises:
        InputError: if the format has neither.
    """
    known = _known(ending, path)
    own = "u1" if dtype.kind == "b" else dtype.newbyteorder("=").str[1:]
    ids = {"labels": "i4", "instances": "u8"}
    wider = [each for each in known if np.can_cast(dtype, each)]
    if kind in ids and (dtype.kind == "f" or not wider):
        own = ids[kind]
    found = own if own in known else next(iter(wider), None)
    if found is None:
        raise check.not_stored(path, dtype, known=_names(known))
    return np.dtype(found)


def _known(ending: str, path: Path) -> tuple[str, ...]:
    """Return the types of a format.

    Raises:
        InputError: if it is only read.
    """
    if ending not in TYPES:
        raise check.only_read(path, TYPES)
    return TYPES[ending]


def _names(types: tuple[str, ...]) -> list[str]:
    """Return types as numpy calls them."""
    return [np.dtype(each).name for each in types]


def _holds(stored_type: str, data: Array) -> bool:
    """Tell whether a type holds every value of `data` exactly."""
    dtype: np.dtype[Any] = np.dtype(stored_type)
    if dtype.kind in "ui":
        info = np.iinfo(dtype)
        fits = bool(info.min <= data.min() and data.max() <= info.max)
        return fits and (data.dtype.kind in "bui" or bool((np.rint(data) == data).all()))
    if data.dtype.kind in "iu":
        # Compared as floating point, ids that ran together would look the same.
        exact = 2 ** (np.finfo(dtype).nmant + 1)
        return bool(-exact <= data.min() and data.max() <= exact)
    with np.errstate(over="ignore"):
        return bool((data.astype(dtype) == data).all())
