"""Word cases and files that cannot be told apart, or do not belong together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from limner.check.errors import InputError, InputWarning


def same_names(paths: Iterable[object]) -> InputError:
    """Word files that would be called the same however many folders lead their names."""
    listed = ", ".join(f"'{path}'" for path in paths)
    return InputError(
        f"{listed} would have the same name; expected names that differ in more than their suffix: "
        "rename one, or leave it out"
    )


def unpaired(partners: Mapping[Path, Sequence[Path]]) -> InputError:
    """Word predictions without exactly one reference of their own.

    Args:
        partners: for each such prediction, the references that suit it.
    """
    listed = "; ".join(
        f"'{path}' suits " + (", ".join(f"'{reference}'" for reference in found) or "no reference")
        for path, found in partners.items()
    )
    return InputError(
        f"predictions and references cannot be paired: {listed}; expected one reference for each prediction, of the "
        "same name or in a folder that its name begins with: rename them, or give one prediction and one reference"
    )


def without_prediction(paths: Iterable[Path]) -> InputWarning:
    """Word references that no prediction belongs to."""
    listed = ", ".join(f"'{path}'" for path in paths)
    return InputWarning(f"references without a prediction were left out: {listed}")


def no_shared_case(first: Sequence[str], second: Sequence[str]) -> InputError:
    """Word two tables of scores that have no case in common."""
    return InputError(
        f"scores to compare share no case: {', '.join(first) or 'none'} against {', '.join(second) or 'none'}; "
        "expected the same cases in both: evaluate both methods on the same scans"
    )


def unshared_cases(cases: Sequence[str]) -> InputWarning:
    """Word cases that only one of two tables of scores has."""
    return InputWarning(f"only one of the two tables has the cases {', '.join(cases)}; they were left out")


def no_scans(path: Path, suffixes: Iterable[str]) -> InputError:
    """Word a folder that holds nothing that could be a scan."""
    return InputError(
        f"folder '{path}' holds no scans; expected files ending in {', '.join(suffixes)}, or the slices of DICOM "
        "series: name the files, or another folder"
    )


def one_scan(scans: int, *, has_mask: bool, has_channels: bool) -> None:
    """Refuse options that belong to one scan when there are several.

    Raises:
        InputError: naming the option and the number of scans.
    """
    if scans > 1 and (has_mask or has_channels):
        option = "--mask" if has_mask else "--channel"
        raise InputError(f"{option} belongs to one scan but {scans} were given: run limner once for each of them")


def one_file(scans: Sequence[Path], out: Path) -> None:
    """Refuse a file as the place for the results of several scans, or of itself.

    Raises:
        InputError: naming the file.
    """
    if len(scans) > 1:
        raise InputError(
            f"output '{out}' is one file but {len(scans)} scans were given; expected a folder: choose another -o"
        )
    if out.resolve() == scans[0].resolve():
        raise InputError(f"output '{out}' is the scan itself; expected a new file: choose another -o")


def solid(shape: tuple[int, ...]) -> None:
    """Refuse an image that is no volume.

    Raises:
        InputError: with its shape.
    """
    if len(shape) != 3 or min(shape) < 2:
        raise InputError(f"the image has shape {shape}; expected three axes of two voxels or more: give a 3-D scan")


def has_background(share: float, least: float) -> None:
    """Refuse an image without an empty background, from which a brain cannot be told.

    Raises:
        InputError: with the share of the voxels that are background.
    """
    if share < least:
        raise InputError(
            f"{share:.1%} of the image has the value of its border; expected a skull-stripped scan, empty around the "
            "brain: strip it first, or say where the brain is with --mask"
        )


def like_sized(scale: float) -> None:
    """Refuse a scan that the prior fits only at `scale` times its size, when people differ by less.

    Raises:
        InputError: with the scale.
    """
    if not 1 / 3 < scale < 3:
        raise InputError(
            f"the prior fits the scan only at {scale:.2g} times its size; expected a third to three times: "
            "give a prior of what the scan shows with --prior, and check the scan's voxel size"
        )


def brain_found(volume: float, *, sizes: tuple[float, float]) -> None:
    """Refuse a head in which the brain that was found, in mm3, is smaller or larger than any: the sizes, in mm3.

    Raises:
        InputError: with the volume.
    """
    smallest, largest = sizes
    if not smallest < volume < largest:
        raise InputError(
            f"{volume / 1e6:.2f} litres of the image look like a brain; expected {smallest / 1e6:g} to "
            f"{largest / 1e6:g}: the scan may show something else, or only a part of a head; strip it, or say where "
            "the brain is with --mask"
        )


def channel_covers(share: float, case: str) -> None:
    """Refuse a channel that covers less than half of its image.

    Raises:
        InputError: with the share.
    """
    if share < 0.5:
        raise InputError(
            f"a channel of '{case}' covers {share:.0%} of its image; expected another image of the same person in the "
            "same place: see where both lie with `limner check`, and register them if they were moved"
        )


def large_brain(litres: float) -> InputWarning:
    """Word a foreground that is larger than any brain."""
    return InputWarning(
        f"the image shows {litres:.1f} litres, more than a brain: strip the scan first, "
        "or say where the brain is with --mask"
    )


def manifest(path: Path, reason: object) -> InputError:
    """Word a manifest that is missing or damaged; the reason says what it does or has."""
    return InputError(
        f"'{path}' {reason}; expected the manifest that `limner segment` writes to its output folder: "
        "name that folder, or segment the scans again"
    )


def table_suffix(path: Path, kinds: Sequence[str]) -> InputError:
    """Word a table whose name ends in no kind that is written."""
    return InputError(f"table '{path}' ends in '{path.suffix}'; expected {' or '.join(kinds)}: rename it")


def found_orientation(letters: str) -> InputWarning:
    """Word axes whose meaning was found by trying."""
    return InputWarning(
        f"the file does not say where its axes lead; they were found to lead {letters} by trying all ways. "
        "Left and right look nearly alike, so that they may be swapped: give --orientation if you know it"
    )
