"""Word what a format cannot hold, does not say, or says wrongly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from limner.check.errors import InputError, InputWarning
from limner.check.files import DAMAGED

#: Bytes that one byte of a compressed file stands for at most.
PACKED = 1100


def enough_bytes(path: Path, promised: int, *, packed: bool) -> None:
    """Refuse a file whose header promises more voxels than it can hold, before memory is asked for them.

    Args:
        path: of the file.
        promised: bytes.
        packed: whether it may be compressed.

    Raises:
        InputError: with both sizes.
    """
    held = path.stat().st_size
    if promised > held * (PACKED if packed else 1):
        raise InputError(
            f"'{path}' cannot be read (its header promises {promised} bytes of voxels but the file has {held}); "
            f"expected a complete image file: {DAMAGED}"
        )


def one_value(path: Path, kinds: Sequence[str]) -> None:
    """Refuse a file with several values per voxel, such as vectors, colours or time points.

    Raises:
        InputError: naming what kinds of axes it has beside those of space.
    """
    if kinds:
        raise InputError(
            f"'{path}' holds several values per voxel ({', '.join(kinds)}); expected one real number per voxel: "
            "save one of its volumes as a file of its own"
        )


def colourless(path: Path, *, alike: bool) -> None:
    """Refuse a picture with colours.

    Raises:
        InputError: naming it.
    """
    if not alike:
        raise InputError(f"'{path}' shows colours; expected one real number per voxel: convert it to grey values")


def one_page(path: Path, pages: int) -> None:
    """Refuse a volume of several pages for a picture that has room for one only.

    Raises:
        InputError: with how many there are.
    """
    if pages > 1:
        raise InputError(
            f"'{path}' has room for one slice but the volume has {pages}; expected a 2-D image: "
            "write .tif, or a format of volumes such as .nii.gz"
        )


def no_directions(path: Path, sizes: Sequence[float]) -> InputWarning:
    """Word an NRRD header that tells the sizes of voxels, in mm, but not where their axes lead."""
    told = " x ".join(f"{size:.4g}" for size in sizes)
    return InputWarning(
        f"'{path}' has no space directions; voxels of {told} mm along the axes right, front, up (RAS) were assumed"
    )


def no_space(path: Path) -> InputWarning:
    """Word an NRRD header that does not say what its directions are told in."""
    return InputWarning(f"'{path}' does not name its space; left, back, up (LPS) was assumed")


def only_read(path: Path, known: Iterable[str]) -> InputError:
    """Word a file to be written in a format that is only read."""
    return InputError(
        f"'{path}' is of a format that is read but not written; expected one of {', '.join(known)}: choose another"
    )


def not_stored(path: Path, dtype: np.dtype[np.generic], *, known: Iterable[str]) -> InputError:
    """Word voxels for which a format has no type of numbers."""
    return InputError(
        f"'{path}' cannot hold these voxels of type {dtype}: its format has {', '.join(known)}; "
        "expected one that holds every value: choose another format, such as .nii.gz"
    )


def rounded(path: Path, dtype: np.dtype[np.generic], *, error: float) -> InputWarning:
    """Word voxels that a format holds less exactly than they are."""
    return InputWarning(f"'{path}' holds float32 but the voxels are {dtype}; they were rounded by up to {error:.2g}")


def fields_lost(path: Path, names: Iterable[str]) -> InputWarning:
    """Word what a header told, and a file of another format does not."""
    return InputWarning(f"'{path}' keeps the voxels and where they lie, but not these fields: {', '.join(names)}")


def another_file(source: Path, target: Path) -> None:
    """Refuse to write a file over the one that is read.

    Raises:
        InputError: naming it.
    """
    if source.resolve() == target.resolve():
        raise InputError(f"output '{target}' is the input itself; expected a new file: choose another name")


def overlap(share: float, source: Path, *, like: Path) -> None:
    """Refuse to bring a volume to a grid that it does not reach.

    Raises:
        InputError: naming both.
    """
    if not share:
        raise InputError(
            f"'{source}' and '{like}' have no place in common; expected images of the same person in the same space: "
            "see where both lie with `limner check`"
        )


def forms_disagree(path: Path, distance: float) -> InputWarning:
    """Word a NIfTI header whose qform and sform place the image by a distance in mm apart."""
    return InputWarning(
        f"the qform and sform of '{path}' disagree by {distance:.3g} mm at a corner; the sform was believed"
    )


def no_images(folder: Path, files: int) -> InputError:
    """Word a folder without DICOM images, but with so many DICOM files."""
    found = f"{files} DICOM files but no images" if files else "no DICOM images"
    return InputError(
        f"folder '{folder}' holds {found}; expected the slices of a series: name another folder, or files"
    )


def several_series(folder: Path, told: Mapping[str, str]) -> InputError:
    """Word a folder with several DICOM series.

    Args:
        folder: that holds them.
        told: what each is called, by its key.
    """
    listed = "; ".join(f"'{folder}#{key}' ({words})" for key, words in told.items())
    return InputError(f"folder '{folder}' holds {len(told)} series; expected one: choose among {listed}")


def unknown_series(folder: Path, key: str, *, told: Mapping[str, str]) -> InputError:
    """Word a series that a folder does not hold; `told` as for `several_series`."""
    listed = "; ".join(f"'{folder}#{each}' ({words})" for each, words in told.items())
    return InputError(f"folder '{folder}' holds no series {key}; expected one of {listed}: correct the number")


def images_left_out(folder: Path, paths: Sequence[Path]) -> InputWarning:
    """Word DICOM files that are no images, or damaged."""
    listed = ", ".join(f"'{path.name}'" for path in paths[:3]) + ", ..." * (len(paths) > 3)
    return InputWarning(f"'{folder}' holds DICOM files that are no images, or damaged, and were left out: {listed}")


def images_placed(path: Path, placed: int, *, of: int) -> None:
    """Refuse a DICOM series of which some images do not say where they lie.

    Raises:
        InputError: with how many do.
    """
    if placed < of:
        raise InputError(
            f"only {placed} of the {of} images of '{path}' say where they lie; expected position, directions and "
            "voxel size in each: export the series again, or give its images one by one"
        )


def apart(path: Path, together: int, *, of: int) -> None:
    """Refuse a DICOM series with several images at one place.

    Raises:
        InputError: with how many there are.
    """
    if together:
        raise InputError(
            f"{together} of the {of} images of '{path}' lie where another one does; expected one image at each place: "
            "export one time point, echo or reconstruction to a folder of its own"
        )


def slice_missing(path: Path, names: tuple[str, str], *, gap: float, usual: float) -> InputError:
    """Word a gap in a series: between which files, how wide, and how wide the others are, in mm."""
    count = max(1, round(gap / usual) - 1)
    missing = "a slice is missing" if count == 1 else f"{count} slices are missing"
    return InputError(
        f"{missing} from '{path}': '{names[0]}' and '{names[1]}' lie {gap:.4g} mm apart, the others {usual:.4g}; "
        "expected slices at equal distances: copy or export the series again"
    )


def uneven_slices(path: Path, distance: float) -> InputWarning:
    """Word slices that lie up to a distance in mm from where equal distances would put them."""
    return InputWarning(f"'{path}' has slices at unequal distances, up to {distance:.2g} mm off; taken as equal")


def long_directions(path: Path, excess: float) -> InputWarning:
    """Word direction cosines whose length is not 1."""
    return InputWarning(f"'{path}' has directions whose length is off 1 by {excess:.1g}; they were made as long as 1")
