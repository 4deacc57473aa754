"""Word what is wrong with a file, or was tolerated in it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limner.check.errors import InputError, InputWarning
from limner.check.stores import local

DAMAGED = "the file is probably damaged or cut short: copy or export it again"
REMEDIES = {
    errno.ENOSPC: "free some space, or write to another disk",
    errno.EFBIG: "the disk or the system allows no file of that size: write to another disk, or raise the limit",
    errno.EDQUOT: "free some space, or write to another disk",
    errno.EACCES: "ask for permission there, or choose another folder",
    errno.EPERM: "ask for permission there, or choose another folder",
    errno.EROFS: "ask for permission there, or choose another folder",
    errno.ENOENT: "create its folder first",
    errno.EEXIST: "a file stands in the way of a folder: choose another path",
    errno.ENOTDIR: "its parent is a file: name a folder instead",
    errno.EISDIR: "it is a folder: name a file inside it",
}


def existing_file(path: Path) -> None:
    """Refuse a path that is missing, a folder, an empty file, or elsewhere.

    Raises:
        InputError: naming the path and which of them it is.
    """
    local(path)
    if path.is_dir():
        raise InputError(f"'{path}' is a folder; expected a file: name a file inside it")
    if not path.exists():
        raise InputError(f"'{path}' does not exist; expected a file: check the path")
    if path.stat().st_size == 0:
        raise InputError(f"'{path}' is empty (0 bytes); expected a file with contents: copy or export it again")


def existing_store(path: Path) -> None:
    """Refuse a path that is missing, a file or an empty folder where a folder of chunks is meant, or elsewhere.

    Raises:
        InputError: naming the path and which of them it is.
    """
    local(path)
    if not path.exists():
        raise InputError(f"'{path}' does not exist; expected a folder of chunks: check the path")
    if not path.is_dir() or not any(path.iterdir()):
        found = "an empty folder" if path.is_dir() else "a file"
        raise InputError(f"'{path}' is {found}; expected a folder of chunks: copy or export it again")


def unknown_suffix(path: Path, known: Iterable[str]) -> InputError:
    """Word a file name whose suffix belongs to no format."""
    suffix = "".join(path.suffixes[-2:]) or "no suffix"
    return InputError(
        f"'{path}' has {suffix}; expected one of {', '.join(known)}: convert the file, or correct its name"
    )


def not_gzip(path: Path) -> InputError:
    """Word a compressed file's name on a file that is not compressed."""
    return InputError(
        f"'{path}' is named as a gzip file but is not one; expected gzip data: "
        "drop the 'gz' from its name if it is an uncompressed image, otherwise copy or export it again"
    )


def unreadable(path: Path, reason: object) -> InputError:
    """Word a file that its format's reader gave up on."""
    remedy = REMEDIES[errno.EACCES] if isinstance(reason, PermissionError) else DAMAGED
    words = " ".join(str(reason).split())
    return InputError(f"'{path}' cannot be read ({words}); expected a complete image file: {remedy}")


def unwritable(path: Path, error: OSError) -> InputError:
    """Word a file that could not be written; whatever stood there before is still there."""
    remedy = REMEDIES.get(error.errno or 0, "check the disk and the path")
    # Not the error's own words: HDF5 adds addresses and sizes.
    reason = os.strerror(error.errno) if error.errno else error
    return InputError(f"'{path}' cannot be written ({reason}), and nothing was changed there: {remedy}")


def pickled(path: Path) -> InputError:
    """Word an array file that holds Python objects, which are never loaded."""
    return InputError(
        f"'{path}' holds pickled Python objects; expected plain numbers: "
        "they are never loaded, because loading could run code; save the array again with a numeric dtype"
    )


def ambiguous_arrays(path: Path, found: Sequence[str], *, key: str) -> InputError:
    """Word an `.npz` file in which the image is not evident."""
    names = ", ".join(f"'{name}'" for name in found) or "none"
    return InputError(
        f"'{path}' holds the arrays {names}; expected '{key}', or one array only: save the image as '{key}'"
    )


def several_stacks(path: Path, count: int) -> InputError:
    """Word a TIFF file whose pages make no single stack."""
    return InputError(
        f"'{path}' holds {count} series of pages; expected one stack of pages of one size: export one of them"
    )


def unknown_unit(path: Path, unit: str, *, known: Iterable[str]) -> InputError:
    """Word a unit of length that is none."""
    return InputError(
        f"'{path}' has a resolution in '{unit}'; expected one of {', '.join(known)}: correct the file's attributes"
    )


def resolution(sizes: NDArray[np.float64], offset: NDArray[np.float64], *, path: Path) -> None:
    """Refuse voxel sizes (D,) that are not positive, or an offset that has not as many numbers.

    Raises:
        InputError: with what the file says.
    """
    if sizes.ndim != 1 or not (np.isfinite(sizes).all() and (sizes > 0).all()) or offset.shape != sizes.shape:
        raise InputError(
            f"'{path}' has resolution {sizes.tolist()} and offset {offset.tolist()}; expected one positive size "
            "and one number per axis: correct the file's attributes"
        )


def squeezed(path: Path, shape: tuple[int, ...], *, kept: tuple[int, ...]) -> InputWarning:
    """Word trailing axes of one voxel that were dropped."""
    return InputWarning(f"'{path}' has shape {shape}; its axes of one voxel were dropped, which leaves {kept}")


def no_affine(path: Path) -> InputWarning:
    """Word an array that does not say where it lies."""
    return InputWarning(f"'{path}' has no affine; voxels of 1 mm along the axes right, front, up (RAS) were assumed")


def no_orientation(path: Path) -> InputWarning:
    """Word a NIfTI header without sform and qform."""
    return InputWarning(
        f"'{path}' has neither sform nor qform; axes left, front, up (LAS) about the centre were assumed"
    )


def other_unit(path: Path, unit: str) -> InputWarning:
    """Word a NIfTI header that does not count in millimetres."""
    return InputWarning(f"'{path}' says its unit is the {unit}; its numbers were taken as mm, as most programs do")


def long_quaternion(path: Path) -> InputWarning:
    """Word a NIfTI header whose qform is no exact rotation."""
    return InputWarning(f"'{path}' has a qform quaternion longer than 1; the nearest rotation was taken")


def sheared(path: Path, cosine: float) -> InputWarning:
    """Word axes that are not at right angles, by the largest cosine between two of them."""
    return InputWarning(
        f"'{path}' has axes that are {np.degrees(np.arcsin(cosine)):.2g} degrees off a right angle; they were kept"
    )


def affine_lost(path: Path) -> InputWarning:
    """Word a format that cannot say where the array lies."""
    return InputWarning(f"'{path}' keeps the voxels but not the affine; write '.npz' or '.nii.gz' to keep both")
