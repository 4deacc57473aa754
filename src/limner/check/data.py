"""Word cohorts of scans that cannot be read, or that cannot be split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from limner.check.errors import InputError, InputWarning
from limner.check.recipes import unknown_name


def unknown_column(path: Path, name: str, *, known: Iterable[str]) -> InputError:
    """Word a column that a table of scans does not have, with the nearest that it may have."""
    return InputError(f"table '{path}': {unknown_name('column', name, known=known)}")


def image_column(path: Path, columns: Sequence[str]) -> None:
    """Refuse a table of scans that names no images.

    Raises:
        InputError: with the columns that it has.
    """
    if "image" not in columns:
        found = ", ".join(columns) or "none"
        raise InputError(f"table '{path}' has the columns {found}; expected one called image: name the scans in it")


def table_has_scans(path: Path, rows: int) -> None:
    """Refuse a table of scans that ends after its header.

    Raises:
        InputError: naming the table.
    """
    if not rows:
        raise InputError(f"table '{path}' names no scans; expected one in each line after the first: add them")


def table_line(path: Path, line: int, *, reason: str) -> InputError:
    """Word a line of a table of scans that cannot be used.

    Args:
        path: of the table.
        line: counted from 1.
        reason: what is wrong, what is expected and what to do.
    """
    return InputError(f"table '{path}', line {line}: {reason}")


def cases_differ(names: Sequence[str]) -> None:
    """Refuse two cases of one name.

    Raises:
        InputError: with the name.
    """
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise InputError(
            f"two cases are called '{twice}'; expected a name for each: correct the column case, or rename a file"
        )


def one_split(person: str, splits: Sequence[str]) -> None:
    """Refuse a person whose scans are in several splits: what is learned would be tested on itself.

    Raises:
        InputError: naming the person and the splits.
    """
    if len(splits) > 1:
        raise InputError(
            f"person '{person}' is in the splits {' and '.join(splits)}; expected all scans of a person in one: "
            "move them to the same split"
        )


def split_has_scans(split: str, scans: int, *, people: int) -> None:
    """Refuse a split without scans.

    Raises:
        InputError: naming the split, and how many people there are in all.
    """
    if not scans:
        raise InputError(
            f"no scans are left for {split} of the {people} people in all; expected at least one: "
            "correct the column split, or the share kept for validation"
        )


def alike(kind: str, counts: dict[str, int]) -> None:
    """Refuse cases that have different numbers of something.

    Args:
        kind: what is counted, such as "images".
        counts: for each case.

    Raises:
        InputError: naming two cases that differ.
    """
    (first, expected), *others = counts.items()
    for case, count in others:
        if count != expected:
            raise InputError(
                f"'{case}' has {count} {kind} but '{first}' has {expected}; expected as many for every scan: "
                "complete the table, or leave a scan out"
            )


def crop_axes(crop: Sequence[int], shape: Sequence[int], *, case: str) -> None:
    """Refuse a crop of other axes than the scan has.

    Raises:
        InputError: with both.
    """
    if len(crop) != len(shape):
        raise InputError(
            f"crop {tuple(crop)} has {len(crop)} axes but '{case}' has {len(shape)}, shape {tuple(shape)}; expected "
            "one size for each axis: correct the crop"
        )


def labels_of_nobody(paths: Sequence[Path], folder: Path) -> InputError:
    """Word a folder of label maps, none of which belongs to a scan."""
    listed = ", ".join(f"'{path.name}'" for path in paths[:3]) + ", ..." * (len(paths) > 3)
    return InputError(
        f"none of the label maps in '{folder}' has the name of a scan: {listed}; expected NAME or NAME_labels for the "
        "scan NAME: rename them, or give a table with the columns image and labels"
    )


def spare_labels(paths: Iterable[Path]) -> InputWarning:
    """Word label maps that no scan belongs to."""
    listed = ", ".join(f"'{path}'" for path in paths)
    return InputWarning(f"label maps without a scan were left out: {listed}")


def flat_insides(path: Path, *, ids: str, flat: bool) -> None:
    """Refuse insides of cells that are not to be looked at section by section.

    Raises:
        InputError: naming the volume.
    """
    if ids == "insides" and not flat:
        raise InputError(
            f"piece of '{path}' has ids = 'insides' but is not flat; expected sections by themselves, in which what is "
            "connected is one cell: set flat to true, or give ids of instances"
        )


def sections_there(path: Path, sections: tuple[int, ...], *, available: int) -> None:
    """Refuse a piece of a volume that has no such sections.

    Raises:
        InputError: with those it has.
    """
    start, stop = sections
    if not 0 <= start < stop <= available:
        raise InputError(
            f"piece of '{path}' has sections {[start, stop]}; expected the first and one past the last within "
            f"[0, {available}], which image and labels share: correct them"
        )


def some_labelled(voxels: int, *, case: str) -> None:
    """Refuse a piece of a volume nothing of which is labelled.

    Raises:
        InputError: naming the piece.
    """
    if voxels == 0:
        raise InputError(
            f"piece '{case}' has no labelled voxel: all ids are 0; expected ids of instances: choose other sections, "
            "or set zero to 'membrane'"
        )


def sliceable(path: Path, *, suffix: str) -> None:
    """Refuse a file of another kind whose slices were asked for.

    Raises:
        InputError: with the suffix that it needs.
    """
    if path.suffix.lower() != suffix:
        raise InputError(
            f"'{path}' cannot be read slice by slice; expected an array in a {suffix} file for the column slice: "
            "convert it with `limner convert`, or leave the column empty"
        )


def has_slice(path: Path, number: int, *, slices: int) -> None:
    """Refuse a slice that a stack does not have.

    Raises:
        InputError: with how many it has.
    """
    if not 0 <= number < slices:
        raise InputError(f"'{path}' has no slice {number}; expected 0 to {slices - 1}: correct the column slice")


def spacing_of_axes(spacing: Sequence[float], shape: Sequence[int], *, case: str) -> None:
    """Refuse voxel sizes that are more or fewer than a slice has axes.

    Raises:
        InputError: with both numbers.
    """
    if spacing and len(spacing) != len(shape):
        raise InputError(
            f"'{case}' has {len(shape)} axes but a spacing of {len(spacing)} numbers; expected one each, mm: correct "
            "the column spacing"
        )


def same_size(found: Sequence[int], expected: Sequence[int], *, case: str, kind: str) -> None:
    """Refuse a mask or labels of another size than the image that they belong to.

    Raises:
        InputError: with both sizes.
    """
    if tuple(found) != tuple(expected):
        raise InputError(
            f"{kind} of '{case}' has shape {tuple(found)} but its image has {tuple(expected)}; expected the same: "
            "correct the table, or make the stacks alike"
        )


def loose_slice(case: str) -> InputError:
    """Word a slice of a stack where whole files are needed."""
    return InputError(
        f"'{case}' is a slice of a stack; expected a file of its own, as its labels are written beside it: save the "
        "slice as a file, or evaluate by `limner study`"
    )
