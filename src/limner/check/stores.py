"""Word what is wrong with stores of many files, with what is to be written there, and with places elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from limner.check.errors import InputError, InputWarning

#: How places begin that are not on this machine. Of `//`, paths leave one stroke.
REMOTE = re.compile(r"(?<![a-z0-9])(s3a?|gs|gcs|https?|ftps?|az|abfss?|wasbs?|hdfs|ssh|sftp):/", re.IGNORECASE)


def local(path: Path | str) -> None:
    """Refuse an address of an object store or a server; told is only how it begins, since it may hold a secret.

    Raises:
        InputError: with how it begins.
    """
    found = REMOTE.search(str(path))
    if found:
        scheme = found[1].lower()
        raise InputError(
            f"an address that begins with {scheme}:// was given; expected a path on this machine, since limner asks no "
            "store and has no credentials: copy the data here first, or mount the store as a folder"
        )


def outside(target: Path, source: Path, *, store: bool) -> None:
    """Refuse to write where what is read would be lost with what stood there, or into the store that is read.

    Args:
        target: what is to be written.
        source: what is read.
        store: whether that is, or lies in, a store.

    Raises:
        InputError: naming both.
    """
    there, here = target.resolve(), source.resolve()
    if there in here.parents or (store and here in there.parents):
        raise InputError(
            f"output '{target}' and input '{source}' lie in one another; expected another place: rename it"
        )


def only_written(path: Path, known: Iterable[str]) -> InputError:
    """Word a file to be read in a format that is only written."""
    return InputError(
        f"'{path}' is of a format that is written but not read; expected one of {', '.join(known)}: give the volume "
        "that it was made from"
    )


def no_unit(path: Path) -> InputWarning:
    """Word an OME image whose scale has no unit."""
    return InputWarning(f"'{path}' does not say in which unit its scale is; micrometres were assumed")


def one_of(path: Path, names: Sequence[str], *, what: str) -> None:
    """Refuse a store with several images or labels, or none, where one is meant.

    Raises:
        InputError: naming them.
    """
    if len(names) != 1:
        listed = ", ".join(f"'{path}/{name}'" for name in names) or "none"
        raise InputError(f"'{path}' holds {len(names)} {what}; expected one: choose among {listed}")


def without_tensorstore(path: Path) -> InputError:
    """Word an N5 volume where the library is missing that reads it."""
    return InputError(
        f"'{path}' is read by tensorstore, which is not installed; expected it: run `pip install 'limner[n5]'`"
    )


def directions_lost(suffix: str) -> InputWarning:
    """Word a format whose axes are those of the world, for a volume whose axes lead elsewhere."""
    return InputWarning(
        f"{suffix} keeps the voxels and their sizes, but not where they lie: axes that lead aslant have no place in it"
    )


def moved_to_voxels(suffix: str, distance: float) -> InputWarning:
    """Word a format that counts in whole voxels, by how far the volume was moved in parts of one."""
    return InputWarning(
        f"{suffix} counts positions in whole voxels; the volume was moved to the nearest, {distance:.2g} of one away"
    )


def moved_to_zero(suffix: str, voxels: Sequence[int]) -> InputWarning:
    """Word a format without negative positions, by how far the volume was moved, (3,) voxels along x, y, z."""
    return InputWarning(
        f"{suffix} has no positions below 0; the volume was moved by {list(voxels)} voxels along x, y, z"
    )


def labels_beside(target: Path, *, fits: bool, known: Iterable[str]) -> None:
    """Refuse labels beside an image in a format that has no place for them.

    Raises:
        InputError: with the formats that have.
    """
    if not fits:
        raise InputError(
            f"--labels goes with an image that is written as {' or '.join(known)}, but '{target}' is to be made; "
            "expected one of them: convert the labels to a file of their own"
        )


def only_ome(target: Path) -> InputError:
    """Word a version of OME-Zarr asked for where something else is written."""
    return InputError(f"--ome goes with .ome.zarr, but '{target}' is to be made; expected that suffix: leave it out")
