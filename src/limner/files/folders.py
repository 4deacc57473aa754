"""Which scans a folder holds: volumes, a BIDS dataset, DICOM series, pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from limner import check
from limner.files import PICTURES, SUFFIXES, bids, dicom, is_volume, store_of


def scans_in(folder: Path) -> list[Path]:
    """Return the scans in a folder, sorted.

    A Zarr or N5 store is a scan itself. A BIDS dataset has those that `bids.scans` finds; another folder the volumes
    directly inside it; failing that, it is a DICOM series itself, or the series are in folders below; failing that, it
    has pictures. Hidden files are no scans: a process that was killed may have left a half-written one.

    Raises:
        InputError: for a folder that holds none, or is none.
    """
    check.local(folder)
    if not folder.is_dir():
        raise check.no_scans(folder, SUFFIXES)
    if store_of(folder):
        return [folder]
    if bids.is_dataset(folder):
        return bids.scans(folder)
    files = sorted(path for path in folder.iterdir() if is_volume(path) and not path.name.startswith("."))
    pictures = [path for path in files if path.name.lower().endswith(PICTURES)]
    volumes = [path for path in files if path not in pictures and not dicom.is_dicom(path)]
    found = volumes or sorted(_series(folder)) or pictures
    if not found:
        raise check.no_scans(folder, SUFFIXES)
    return found


def _series(folder: Path) -> Iterator[Path]:
    """Yield the folders, this one and those below, that hold DICOM files."""
    for name, folders, files in os.walk(folder):
        folders[:] = [each for each in folders if not each.startswith(".")]
        paths = (Path(name) / file for file in files if file != "DICOMDIR" and not file.startswith("."))
        if any(dicom.is_dicom(path) for path in paths):
            yield Path(name)
