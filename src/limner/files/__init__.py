"""Volumes on disk: one file per format behind `open_volume` and `save_volume`, chosen by suffix. No torch."""

from __future__ import annotations

import secrets
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from limner import check
from limner.files import arrays, hdf5, mgh, nifti, tiff, zarrays
from limner.space import Array, Grid, Kind, Volume

__all__ = [
    "STORES",
    "SUFFIXES",
    "is_volume",
    "open_volume",
    "replacing",
    "replacing_folder",
    "save_volume",
    "stem",
    "suffix",
]


class Format(Protocol):
    """What each format's module has."""

    def read(self, path: Path, dtype: type | None) -> tuple[Array, Array | None, Any]:
        """Return data in `dtype` (None: as stored), affine if there is one, and header."""

    def write(self, volume: Volume, path: Path) -> None:
        """Write a volume whose data have the type they are to be stored in."""


FORMATS: dict[str, Format] = {
    ".nii.gz": nifti,
    ".nii": nifti,
    ".mgz": mgh,
    ".mgh": mgh,
    ".npz": arrays,
    ".npy": arrays,
    ".hdf": hdf5,
    ".h5": hdf5,
    ".hdf5": hdf5,
    ".tif": tiff,
    ".tiff": tiff,
    ".zarr": zarrays,
}
SUFFIXES = tuple(FORMATS)
#: Suffixes of formats that keep a volume in a folder.
STORES = (".zarr",)


def suffix(path: str | Path) -> str:
    """Return the suffix, in lower case, by which a file's format is known.

    Raises:
        InputError: if it is none of `SUFFIXES`.
    """
    name = Path(path).name.lower()
    for known in SUFFIXES:
        if name.endswith(known):
            return known
    raise check.unknown_suffix(Path(path), SUFFIXES)


def is_volume(path: str | Path) -> bool:
    """Tell whether a file's name has a suffix that can be opened."""
    return Path(path).name.lower().endswith(SUFFIXES)


def stem(path: str | Path) -> str:
    """Return a file's name without its suffix.

    Raises:
        InputError: if the suffix is none of `SUFFIXES`.
    """
    return Path(path).name[: -len(suffix(path))]


def open_volume(path: str | Path, *, kind: Kind = "image") -> Volume:
    """Read a volume: an image as float32, labels as int32, instances as uint64.

    Warns about what it tolerates: trailing axes of one voxel, axes that are not at right angles, a missing affine.

    Raises:
        InputError: for a file that is missing, damaged or of an unknown format; an image that is 4-D, not finite or
            constant; labels or instances that are not whole numbers; a singular affine.
    """
    path = Path(path)
    (check.existing_store if path.name.lower().endswith(STORES) else check.existing_file)(path)
    data, affine, header = FORMATS[suffix(path)].read(path, np.float32 if kind == "image" else None)
    data = _squeezed(data, path, affine=affine)
    if affine is None:
        warnings.warn(check.no_affine(path), stacklevel=2)
        affine = np.eye(data.ndim + 1)
    check.affine(affine, path, dimensions=data.ndim)
    grid = Grid(data.shape, affine)
    if grid.skew > nifti.RIGHT_ANGLE:
        warnings.warn(check.sheared(path, grid.skew), stacklevel=2)
    if kind == "image":
        check.finite(data, path)
        check.varied(data, path)
    elif kind == "instances":
        check.instance_ids(data, path)
        data = data.astype(np.uint64, copy=False)
    else:
        check.whole_numbers(data, path)
        data = data.astype(np.int32, copy=False)
    return Volume(data, grid, kind, header)


def save_volume(volume: Volume, path: str | Path) -> None:
    """Write a volume: an image as float32, labels in the smallest of uint8, int16 and int32 that holds them.

    Instances beyond 32 bits are written as uint64, and HDF5 has all ids in it; images of whole grey values up to 255
    are uint8 in the microscopes' formats.

    The file appears whole or not at all; one that stood there before is replaced only by a whole one. A volume that
    came from a file of the same family keeps that file's header, and its geometry to the bit if the grid is the same.

    Raises:
        InputError: for an unknown suffix, or if the file cannot be written.
    """
    path = Path(path)
    write = FORMATS[suffix(path)].write
    wide = volume.kind == "instances" and FORMATS[suffix(path)] is not mgh  # which has 32 bits at most
    stored = np.float32 if volume.kind == "image" else label_type(volume.data, wide=wide)
    with (replacing_folder if suffix(path) in STORES else replacing)(path) as temporary:
        write(replace(volume, data=volume.data.astype(stored, copy=False)), temporary)


def label_type(data: Array, *, wide: bool = False) -> type[np.integer[Any]]:
    """Return the smallest integer type that every viewer reads and that holds `data`; uint64 if `wide` ids need it."""
    low, high = data.min(), data.max()
    for candidate in (np.uint8, np.int16):
        info = np.iinfo(candidate)
        if info.min <= low and high <= info.max:
            return candidate
    if wide and high > np.iinfo(np.int32).max:
        return np.uint64
    check.whole_numbers(data, "volume")
    return np.int32


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path` to write to, which takes its place if nothing went wrong and goes otherwise.

    Raises:
        InputError: for what the disk refuses; nothing is left behind, and what stood at `path` stays.
    """
    # The suffix comes last, in lower case, because libraries go by it.
    temporary = path.with_name(f".{secrets.token_hex(4)}-{path.name.lower()}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise check.unwritable(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path` to fill, which takes its place if nothing went wrong and goes otherwise.

    Raises:
        InputError: for what the disk refuses; nothing is left behind, and what stood at `path` stays.
    """
    temporary = path.with_name(f".{secrets.token_hex(4)}-{path.name}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        _replace(path, temporary)
    except OSError as error:
        raise check.unwritable(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace(path: Path, folder: Path) -> None:
    """Move `folder` to `path`; a folder that stood there comes back if that fails, and is deleted if not."""
    former = folder.with_name(f"{folder.name}-former")
    if path.exists():
        path.replace(former)
    try:
        folder.replace(path)
    except OSError:
        if former.exists():
            former.replace(path)
        raise
    shutil.rmtree(former, ignore_errors=True)


def _squeezed(data: Array, path: Path, *, affine: Array | None) -> Array:
    """Return data without trailing axes of one voxel beyond the third, and with the axes that the affine speaks of."""
    shape = data.shape
    while data.ndim > 3 and data.shape[-1] == 1:
        data = data[..., 0]
    if data.shape != shape:
        warnings.warn(check.squeezed(path, shape, kept=data.shape), stacklevel=3)
    if data.ndim == 2 and affine is not None and len(affine) == 4:
        data = data[..., np.newaxis]
    check.three_dimensional(data.shape, path)
    return data
