"""Volumes on disk: one file per format behind `open_volume` and `save_volume`, chosen by suffix. No torch."""

from __future__ import annotations

import os
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
from limner.files import (
    arrays,
    dicom,
    hdf5,
    metaimage,
    mgh,
    n5,
    nifti,
    nrrd,
    ome,
    pictures,
    precomputed,
    storing,
    tiff,
    webknossos,
    zarrays,
)
from limner.space import Array, Grid, Kind, Volume

__all__ = [
    "PICTURES",
    "STORES",
    "SUFFIXES",
    "existing",
    "is_store",
    "is_volume",
    "open_volume",
    "put",
    "replacing",
    "replacing_folder",
    "result_suffix",
    "save_volume",
    "stem",
    "store_of",
    "stored_volume",
    "suffix",
]


class Reader(Protocol):
    """What the module of a format that is only read has."""

    def read(self, path: Path, dtype: type | None) -> tuple[Array, Array | None, Any]:
        """Return data in `dtype` (None: as stored), affine if there is one, and header."""


class Writer(Protocol):
    """What the module of a format that is written has."""

    def write(self, volume: Volume, path: Path) -> None:
        """Write a volume whose data have the type they are to be stored in."""


class Format(Reader, Writer, Protocol):
    """What the module of a format has that is both."""


#: What is written; which types of numbers each stores is in `storing`.
FORMATS: dict[str, Format] = {
    ".nii.gz": nifti,
    ".nii": nifti,
    ".mgz": mgh,
    ".mgh": mgh,
    ".npz": arrays,
    ".npy": arrays,
    ".nrrd": nrrd,
    ".mha": metaimage,
    ".hdf": hdf5,
    ".h5": hdf5,
    ".hdf5": hdf5,
    ".ome.zarr": ome,  # before .zarr, with which it ends
    ".zarr": zarrays,
    ".tiff": tiff,
    ".tif": tiff,
    ".png": pictures,
}
#: What is read, beside that.
READ_ONLY: dict[str, Reader] = {
    ".nhdr": nrrd,
    ".mhd": metaimage,
    ".dcm": dicom,
    ".jpg": pictures,
    ".jpeg": pictures,
    ".n5": n5,
}
#: What is written, and read by others.
WRITE_ONLY: dict[str, Writer] = {".precomputed": precomputed, ".webknossos": webknossos}
WRITERS: dict[str, Writer] = {**FORMATS, **WRITE_ONLY}
READERS: dict[str, Reader] = {**FORMATS, **READ_ONLY}
#: What reads the ids of formats whose files may hold an image and ids of the same place.
IDS = dict.fromkeys((".hdf", ".h5", ".hdf5"), hdf5.read_ids)
IDS |= {".ome.zarr": zarrays.read_ids, ".zarr": zarrays.read_ids, ".n5": n5.read_ids}
SUFFIXES = tuple(READERS)
#: Suffixes of files that seldom say where they lie, and of which there may be some in a folder of scans.
PICTURES = tuple(ending for ending, known in READERS.items() if known in (pictures, tiff))
#: Suffixes of formats that keep a volume in a folder.
STORES = (".ome.zarr", ".zarr", ".n5", *WRITE_ONLY)
#: Of results whose scan has another.
FALLBACK = ".nii.gz"


def suffix(path: str | Path) -> str:
    """Return the suffix, in lower case, by which a file's format is known; of a folder or a series in one, ".dcm".

    That of an array or group inside a store is the store's.

    Raises:
        InputError: if it is none of `SUFFIXES`, nor of a format that is only written.
    """
    store = store_of(path)
    name = Path(store or path).name.lower()
    for known in (*SUFFIXES, *WRITE_ONLY):
        if name.endswith(known):
            return known
    if dicom.is_series(Path(path)):
        return ".dcm"
    raise check.unknown_suffix(Path(path), SUFFIXES)


def result_suffix(path: str | Path) -> str:
    """Return the suffix of results of a scan: its own, or NIfTI's if that format is only read, or for pictures.

    Raises:
        InputError: if the scan's is none of `SUFFIXES`.
    """
    own = suffix(path)
    return own if own in FORMATS and own not in PICTURES else FALLBACK


def is_volume(path: str | Path) -> bool:
    """Tell whether a file's name has a suffix that can be opened."""
    return Path(path).name.lower().endswith(SUFFIXES)


def is_store(path: str | Path) -> bool:
    """Tell whether a folder is meant that is a volume, not one of volumes."""
    return Path(path).name.lower().endswith(STORES)


def store_of(path: str | Path) -> Path | None:
    """Return the store that a path names or leads into; None of one that leads elsewhere, or to a file there."""
    if is_store(path):
        return Path(path)
    return next((store for store in Path(path).parents if is_store(store)), None) if Path(path).is_dir() else None


def stem(path: str | Path) -> str:
    """Return a file's name without its suffix.

    Raises:
        InputError: if the suffix is none of `SUFFIXES`.
    """
    # normpath, because a folder may be called "." or "..".
    name, ending = Path(os.path.normpath(Path(path).absolute())).name, suffix(path)
    return name[: -len(ending)] if name.lower().endswith(ending) else name.replace("#", "_")


def open_volume(path: str | Path, *, kind: Kind = "image") -> Volume:
    """Read a volume: an image as float32, labels as int32, instances as uint64.

    Of DICOM, `path` is the folder of a series; or of several, with the number of one of them: FOLDER#3.

    Warns about what it tolerates: trailing axes of one voxel, axes that are not at right angles, a missing affine.

    Raises:
        InputError: for a file that is missing, damaged or of an unknown format; an image that is 4-D, not finite or
            constant; labels or instances that are not whole numbers; a singular affine.
    """
    path = Path(path)
    volume = _opened(path, np.float32 if kind == "image" else None, kind=kind)
    if kind == "image":
        check.finite(volume.data, path)
        check.varied(volume.data, path)
        return volume
    (check.instance_ids if kind == "instances" else check.whole_numbers)(volume.data, path)
    dtype = np.uint64 if kind == "instances" else np.int32
    return replace(volume, data=volume.data.astype(dtype, copy=False), kind=kind)


def stored_volume(path: str | Path, *, kind: Kind = "image") -> Volume:
    """Read a volume whatever its values are, in the type that they are stored in, as an image.

    Args:
        path: of the file.
        kind: which of both, where a file holds an image and ids.

    Raises:
        InputError: for a file that is missing, damaged, 4-D or of an unknown format; a singular affine.
    """
    return _opened(Path(path), None, kind=kind)


def _opened(path: Path, dtype: type | None, *, kind: Kind) -> Volume:
    """Read a volume as an image, in `dtype` (None: as stored), and warn of what is tolerated."""
    existing(path)
    ending = suffix(path)
    if ending in WRITE_ONLY:
        raise check.only_written(path, SUFFIXES)
    read = READERS[ending].read
    if kind != "image":
        read = IDS.get(ending, read)
    try:
        data, affine, header = read(path, dtype)
    except check.InputError:
        raise
    except Exception as error:
        # On a damaged header libraries stumble anywhere.
        raise check.unreadable(path, error) from error
    data = _squeezed(data, path, affine=affine)
    if affine is None:
        warnings.warn(check.no_affine(path), stacklevel=3)
        affine = np.eye(data.ndim + 1)
    check.affine(affine, path, dimensions=data.ndim)
    grid = Grid(data.shape, affine)
    if grid.skew > nifti.RIGHT_ANGLE:
        warnings.warn(check.sheared(path, grid.skew), stacklevel=3)
    return Volume(data, grid, "image", header)


def existing(path: Path) -> None:
    """Refuse a path that leads to no file, no store, no folder that may hold a series, and no series in one.

    Raises:
        InputError: saying what is there.
    """
    if store_of(path):
        check.existing_store(path)
    elif not dicom.is_series(path):
        check.existing_file(path)


def save_volume(volume: Volume, path: str | Path, *, as_stored: bool = False) -> None:
    """Write a volume: an image as float32, labels in the smallest of uint8, int16 and int32 that holds them.

    Instances beyond 32 bits are written as uint64, and HDF5 has all ids in it; images of whole grey values up to 255
    are uint8 in the microscopes' formats.

    The file appears whole or not at all; one that stood there before is replaced only by a whole one. A volume that
    came from a file of the same family keeps that file's header, and its geometry to the bit if the grid is the same.

    Args:
        volume: to write.
        path: its suffix chooses the format.
        as_stored: keep the type of the data, if the format has it.

    Raises:
        InputError: for an unknown suffix, a format that is only read or has no such numbers, or if the file cannot be
            written.
    """
    path = Path(path)
    check.local(path)
    ending = suffix(path)
    if as_stored:
        data = storing.kept(volume.data, ending, path=path)
    else:
        data = storing.stored(volume.data, ending, kind=volume.kind, path=path)
    with (replacing_folder if is_store(path) else replacing)(path) as temporary:
        WRITERS[ending].write(replace(volume, data=data), temporary)


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
        put(temporary, path)
    except OSError as error:
        raise check.unwritable(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def put(folder: Path, path: Path) -> None:
    """Move `folder` to `path`; a folder that stood there comes back if that fails, and is deleted if not.

    Raises:
        OSError: if the disk refuses.
    """
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
        warnings.warn(check.squeezed(path, shape, kept=data.shape), stacklevel=4)
    if data.ndim == 2 and affine is not None and len(affine) == 4:
        data = data[..., np.newaxis]
    check.three_dimensional(data.shape, path)
    return data
