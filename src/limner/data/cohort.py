"""Which scans there are, what belongs to them, and whose they are."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from limner import check
from limner.data.batch import IGNORE
from limner.files import bids, existing, stem
from limner.files.folders import scans_in
from limner.files.names import LABELS_ENDING, case_names

MASK_ENDING, UNCERTAINTY_ENDING = "_mask", "_uncertainty"
SPLITS = ("train", "validation", "test")
COLUMNS = (
    *("image", "image_2", "labels", "mask", "present", "case", "person", "split", "orientation"),
    *("slice", "spacing", "rank"),
)
LENGTH = re.compile(r"\d*\.?\d+(e-?\d+)?")
FURTHER_IMAGE = re.compile(r"image_\d+")
TABLES = (".csv", ".tsv")


@dataclass(frozen=True)
class Case:
    """One scan of a cohort, on disk.

    Args:
        name: unique in its cohort.
        images: one for each channel, the first deciding the grid; none for a label map alone.
        labels: a label map, if there is one.
        mask: non-zero where the brain is, if a file says so.
        person: whose scan it is; all of a person's are in one split.
        split: one of SPLITS, if anybody said which.
        orientation: where the axes lead, such as "LIA", if the file does not say.
        present: for each target, whether it is in the image: 1, 0 or IGNORE.
        dataset: the root of the BIDS dataset that it was found in, if it was.
        slice: which entry of the arrays in its files it is, if it is not all of them.
        spacing: of its voxels along each axis, mm, where it is a slice and somebody said.
        rank: where only a share of the labels is used, those of people of a lower rank are used first.
    """

    name: str
    images: tuple[Path, ...]
    labels: Path | None = None
    mask: Path | None = None
    person: str = ""
    split: str | None = None
    orientation: str | None = None
    present: tuple[int, ...] = ()
    dataset: Path | None = None
    slice: int | None = None
    spacing: tuple[float, ...] = ()
    rank: int = 0

    def __post_init__(self) -> None:
        """Take a scan of nobody known for that of a person of its own."""
        object.__setattr__(self, "person", self.person or self.name)


def find_cases(sources: Sequence[Path]) -> tuple[Case, ...]:
    """Return the scans that paths lead to, in their order.

    Args:
        sources: files; DICOM folders; other folders, of what is directly inside; roots of BIDS datasets; tables.

    Raises:
        InputError: as `read_cohort` for a table; for a folder without scans, or two scans of one name.
    """
    cohort = [case for source in sources for case in _cases(source)]
    names = iter(case_names([case.images[0] for case in cohort if not case.name]))
    cohort = [case if case.name else replace(case, name=next(names)) for case in cohort]
    check.cases_differ([case.name for case in cohort])
    return tuple(cohort)


def _cases(source: Path) -> Sequence[Case]:
    """Return the scans that a path leads to, without names if nobody gave them any."""
    if source.suffix.lower() in TABLES and not source.is_dir():
        cohort = read_cohort(source)
        if loose := next((case for case in cohort if case.slice is not None), None):
            raise check.loose_slice(loose.name)
        return cohort
    if not source.is_dir():
        return [Case("", (source,))]
    dataset = source if bids.is_dataset(source) else None
    # What an earlier run left beside a scan is none.
    return [Case("", case.images, dataset=dataset) for case in _in_folder(source)]


def read_cohort(source: Path, *, labels: Path | None = None) -> tuple[Case, ...]:
    """Return the scans of a folder or a table.

    In a folder, NAME_labels and NAME_mask belong to the scan NAME. A table (CSV or TSV) has the columns image and, if
    wanted, image_2 and so on, labels, mask, present (1, 0 or -1 for each target, apart by spaces), case, person, split
    (train, validation or test), orientation, slice (of the arrays in its .npy files, counted from 0), spacing (of a
    slice's voxels, mm along each axis) and rank (whose labels are used first, where only a share is); paths start from
    the table's folder.

    Args:
        source: a folder of volumes, or a table.
        labels: a folder of label maps called NAME or NAME_labels, for scans that have none yet.

    Raises:
        InputError: for a folder without scans; a table without images, or with a column or value that means nothing;
            a file that is missing; two cases of one name; a person in two splits; scans of different numbers of
            images or targets; label maps none of which belongs to a scan.
    """
    cohort = _in_folder(source) if source.is_dir() else _in_table(source)
    if labels is not None:
        cohort = _labelled(cohort, labels)
    check.cases_differ([case.name for case in cohort])
    check.alike("images", {case.name: len(case.images) for case in cohort})
    check.alike("targets", {case.name: len(case.present) for case in cohort})
    splits: dict[str, set[str]] = {}
    for case in cohort:
        splits.setdefault(case.person, set()).add(case.split or "none")
    for person, found in splits.items():
        check.one_split(person, sorted(found))
    return cohort


def read_maps(source: Path) -> tuple[Case, ...]:
    """Return the label maps in a folder as cases without images.

    Raises:
        InputError: for a folder without volumes.
    """
    paths = scans_in(source)
    return tuple(Case(name, (), labels=path) for name, path in zip(case_names(paths), paths, strict=True))


def split(cohort: Sequence[Case], *, validation: float, seed: int) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """Return the scans to train on, and those to validate on.

    Where no scan says which split it is in, people are drawn for validation.

    Args:
        cohort: all scans.
        validation: share of the people drawn; at least one of them, unless it is 0.
        seed: of the draw.

    Raises:
        InputError: if either has no scans, unless none were wanted for validation.
    """
    people = sorted({case.person for case in cohort})
    if any(case.split for case in cohort):
        chosen = {case.person: case.split or "train" for case in cohort}
    else:
        count = max(1, round(validation * len(people))) if validation else 0
        drawn = np.random.default_rng(seed).permutation(people)[:count].tolist()
        chosen = {person: "validation" if person in drawn else "train" for person in people}
    parts = [tuple(case for case in cohort if chosen[case.person] == part) for part in SPLITS[:2]]
    check.split_has_scans("training", len(parts[0]), people=len(people))
    if validation:
        check.split_has_scans("validation", len(parts[1]), people=len(people))
    return parts[0], parts[1]


def revealed(
    cohort: Sequence[Case], share: float | None, *, people: int | None = None, seed: int = 0
) -> tuple[Case, ...]:
    """Return the cases, with labels for a share of those that have any, and not of the others.

    Whole people are taken, those of the lowest rank first and by lot among equals, until they have the share. The empty
    masks of images that are known to show nothing do not count.

    Args:
        cohort: to learn from.
        share: of the cases with labels, above 0; all without it.
        people: at most so many of them, whatever the share.
        seed: of the draw.

    Raises:
        InputError: if nobody is labelled.
    """
    owned: dict[str, list[Case]] = {}
    for case in cohort:
        if case.labels and (not case.present or any(case.present)):
            owned.setdefault(case.person, []).append(case)
    # The billionth keeps a share of what divides evenly from needing one more.
    wanted = (1.0 if share is None else share) * sum(map(len, owned.values())) * (1 - 1e-9)
    if not wanted:
        raise check.labels_nobody(share or 1.0, len({case.person for case in cohort}))
    drawn = np.random.default_rng(seed).permutation(sorted(owned)).tolist()
    chosen: set[str] = set()
    count = 0
    for person in sorted(drawn, key=lambda one: min(case.rank for case in owned[one]))[:people]:
        if count >= wanted:
            break
        chosen.add(person)
        count += len(owned[person])
    return tuple(case if case.person in chosen else replace(case, labels=None) for case in cohort)


def _in_folder(folder: Path) -> tuple[Case, ...]:
    """Return the scans in a folder, with their labels and masks."""
    paths = scans_in(folder)
    by_stem = {stem(path): path for path in paths}
    companions = {
        name: ending
        for name in by_stem
        for ending in (LABELS_ENDING, MASK_ENDING, UNCERTAINTY_ENDING)
        if name.endswith(ending) and name.removesuffix(ending) in by_stem
    }
    images = [path for path in paths if stem(path) not in companions]
    return tuple(
        Case(name, (path,), by_stem.get(stem(path) + LABELS_ENDING), by_stem.get(stem(path) + MASK_ENDING))
        for name, path in zip(case_names(images), images, strict=True)
    )


def _labelled(cohort: Sequence[Case], folder: Path) -> tuple[Case, ...]:
    """Return the cases with label maps from a folder, found by name.

    Raises:
        InputError: if none belongs to a case.
    """
    maps = {stem(path).removesuffix(LABELS_ENDING).casefold(): path for path in scans_in(folder)}
    owners = {case.name: {case.name.casefold(), stem(case.images[0]).casefold()} & maps.keys() for case in cohort}
    if not any(owners.values()):
        raise check.labels_of_nobody(list(maps.values()), folder)
    spare = maps.keys() - set().union(*owners.values())
    if spare:
        warnings.warn(check.spare_labels(sorted(maps[name] for name in spare)), stacklevel=3)
    return tuple(
        replace(case, labels=case.labels or next((maps[name] for name in owners[case.name]), None)) for case in cohort
    )


def _in_table(path: Path) -> tuple[Case, ...]:
    """Return the scans that a table names.

    Raises:
        InputError: for a column or a value that means nothing, and for files that are missing.
    """
    rows = _rows(path)
    images = [path.parent / row["image"] for row in rows]
    found: set[Path] = set()  # thousands of slices may lie in one file
    for line, (row, image) in enumerate(zip(rows, images, strict=True), start=2):
        if not row["image"]:
            raise check.table_line(path, line, reason="no image is named; expected a file: name it, or drop the line")
        _existing(path, line, image=image, found=found)
    names = case_names(images) if not all(row.get("case") for row in rows) else ["" for _ in rows]
    return tuple(
        _case(row, path, line=line, name=row.get("case") or name, found=found)
        for line, (row, name) in enumerate(zip(rows, names, strict=True), start=2)
    )


def _rows(path: Path) -> list[dict[str, str]]:
    """Return the lines of a table by its columns, in lower case."""
    check.existing_file(path)
    try:
        # utf-8-sig: spreadsheets put a byte order mark first.
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise check.unreadable(path, error) from error
    header = lines[0] if lines else ""
    reader = csv.DictReader(lines, delimiter=max("\t,;", key=header.count), restval="")
    columns = [name.strip().lower() for name in reader.fieldnames or ()]
    check.image_column(path, columns)
    for name in columns:
        if name not in COLUMNS and not FURTHER_IMAGE.fullmatch(name):
            raise check.unknown_column(path, name, known=COLUMNS)
    reader.fieldnames = columns
    rows = [{name: (value or "").strip() for name, value in row.items() if name} for row in reader]
    check.table_has_scans(path, len(rows))
    return rows


def _case(row: Mapping[str, str], path: Path, *, line: int, name: str, found: set[Path]) -> Case:
    """Return the case that a line of a table describes."""
    files = {
        column: _existing(path, line, image=path.parent / value, found=found)
        for column, value in row.items()
        if value and (column in ("image", "labels", "mask") or FURTHER_IMAGE.fullmatch(column))
    }
    part = row.get("split", "").lower() or None
    if part and part not in SPLITS:
        reason = f"split '{part}' is none; expected one of {', '.join(SPLITS)}: correct it"
        raise check.table_line(path, line, reason=reason)
    return Case(
        name,
        tuple(files[column] for column in files if column.startswith("image")),
        labels=files.get("labels"),
        mask=files.get("mask"),
        person=row.get("person", ""),
        split=part,
        orientation=row.get("orientation") or None,
        present=_present(row.get("present", ""), path, line=line),
        slice=_number(row.get("slice", ""), "slice", path=path, line=line),
        spacing=_spacing(row, path, line=line),
        rank=_number(row.get("rank", ""), "rank", path=path, line=line) or 0,
    )


def _number(text: str, column: str, *, path: Path, line: int) -> int | None:
    """Return a whole number that a table gives, if it does.

    Raises:
        InputError: for anything else.
    """
    if text and not text.isdecimal():
        reason = f"{column} '{text}' is no number; expected 0, 1, 2 and so on: correct it"
        raise check.table_line(path, line, reason=reason)
    return int(text) if text else None


def _spacing(row: Mapping[str, str], path: Path, *, line: int) -> tuple[float, ...]:
    """Return the voxel sizes in mm that a table gives a slice, if it does.

    Raises:
        InputError: for anything but numbers above 0, and for files that say their own.
    """
    text = row.get("spacing", "")
    if text and not row.get("slice"):
        reason = "spacing is given to a file that says its own; expected it of slices alone: empty it"
        raise check.table_line(path, line, reason=reason)
    words = text.replace(",", " ").split()
    if not all(LENGTH.fullmatch(word) and float(word) > 0 for word in words):
        reason = f"spacing '{text}' is none; expected mm above 0 along each axis, apart by spaces: correct it"
        raise check.table_line(path, line, reason=reason)
    return tuple(map(float, words))


def _existing(path: Path, line: int, *, image: Path, found: set[Path]) -> Path:
    """Return a file that a table names, and remember that it was found.

    Raises:
        InputError: if it is none, saying in which line.
    """
    if image not in found:
        try:
            existing(image)
        except check.InputError as error:
            raise check.table_line(path, line, reason=str(error)) from error
        found.add(image)
    return image


def _present(text: str, path: Path, *, line: int) -> tuple[int, ...]:
    """Return what a table says of each target.

    Raises:
        InputError: for anything but 1, 0 and IGNORE.
    """
    words = text.replace(",", " ").split()
    if not {"1", "0", str(IGNORE)}.issuperset(words):
        reason = (
            f"present '{text}' says nothing; expected 1, 0 or {IGNORE} for each target, apart by spaces: correct it"
        )
        raise check.table_line(path, line, reason=reason)
    return tuple(map(int, words))
