"""What the integers of a label map mean: names, colours, and which are tied together."""

from __future__ import annotations

import colorsys
import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limner import check

BACKGROUND = "background"
REST = "rest"
#: Class of a voxel, or presence of a target in an image, that nobody annotated.
IGNORE = -1
# Label maps are also stored as float32, which holds every whole number up to here and no further.
LARGEST_ID = 2**24
LEFT = re.compile(r"(?<![a-z])(left|lh|l)(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class Label:
    """One integer of a label map.

    Args:
        id: the integer in the file.
        name: unique in its table.
        colour: red, green, blue, 0 to 255.
        structure: what it is scored as; left and right share one.
        tissue: what it looks like; structures of equal tissue share their intensities.
    """

    id: int
    name: str
    colour: tuple[int, int, int]
    structure: str
    tissue: str


@dataclass(frozen=True)
class LabelTable:
    """Labels, sorted by id, and the structures that tie them. Row 0 is the background, id 0.

    Args:
        labels: one per id; sorted here, and given a background if they lack it.
        structures: the classes in their order; background is put first and "rest" last, and a class
            without a label is left out.

    Raises:
        InputError: for an id out of range, or an id or name given twice.
    """

    labels: tuple[Label, ...]
    structures: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Sort, complete and check the labels and the order of structures."""
        labels = sorted(self.labels, key=lambda label: label.id)
        if not labels or labels[0].id != 0:
            labels.insert(0, Label(0, BACKGROUND, (0, 0, 0), BACKGROUND, BACKGROUND))
        labels[0] = replace(labels[0], structure=BACKGROUND, tissue=BACKGROUND)
        _check_unique(labels, "given")
        used = {label.structure for label in labels}
        named = [name for name in self.structures if name in used] + [label.structure for label in labels]
        middle = [name for name in dict.fromkeys(named) if name not in (BACKGROUND, REST)]
        order = [BACKGROUND, *middle, *({REST} & used)]
        object.__setattr__(self, "labels", tuple(labels))
        object.__setattr__(self, "structures", tuple(order))

    @classmethod
    def freesurfer(cls) -> LabelTable:
        """Return FreeSurfer's labels, tied into the twelve structures that are usually scored, background and rest."""
        folder = resources.files("limner.space") / "tables"
        scheme = {row["structure"]: row["members"].split() for row in _rows(folder / "twelve.tsv")}
        structure = {int(member): name for name, members in scheme.items() for member in members}
        labels = _labels(folder / "freesurfer.tsv")
        return cls(tuple(replace(label, structure=structure.get(label.id, REST)) for label in labels), tuple(scheme))

    @classmethod
    def read(cls, path: str | Path) -> LabelTable:
        """Read a CSV or TSV table with the columns id, name and, if wanted, red, green, blue, structure, tissue.

        Without a structure each label is its own; without a tissue each structure is its own.

        Raises:
            InputError: for a file that is missing or is no such table.
        """
        path = Path(path)
        check.existing_file(path)
        labels = _labels(path)
        return cls(labels, tuple(label.structure for label in labels))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> LabelTable:
        """Return the table that `as_dict` described.

        Raises:
            InputError: if the content is of another form.
        """
        try:
            labels = tuple(
                Label(int(row["id"]), row["name"], _colour(row["colour"]), row["structure"], row["tissue"])
                for row in content["labels"]
            )
            structures = tuple(content["structures"])
        except (KeyError, TypeError, ValueError) as error:
            raise check.table("stored", f"has a missing or wrong field ({error!r})") from error
        return cls(labels, structures)

    def as_dict(self) -> dict[str, Any]:
        """Return the table as JSON-ready lists and dictionaries."""
        labels = [{**vars(label), "colour": list(label.colour)} for label in self.labels]
        return {"labels": labels, "structures": list(self.structures)}

    def __len__(self) -> int:
        """Return the number of labels, background included."""
        return len(self.labels)

    def __contains__(self, label: object) -> bool:
        """Tell whether the table has this id."""
        return label in self._row_of

    def __getitem__(self, label: int) -> Label:
        """Return the label with this id.

        Raises:
            InputError: if the table has none.
        """
        if label not in self._row_of:
            raise check.unknown_id(label, len(self))
        return self.labels[self._row_of[label]]

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each row."""
        return tuple(label.name for label in self.labels)

    @cached_property
    def ids(self) -> NDArray[np.int32]:
        """Id of each row, ascending, (L,)."""
        return np.array([label.id for label in self.labels], dtype=np.int32)

    @cached_property
    def structure_of(self) -> NDArray[np.int64]:
        """Index into `structures` of each row, (L,)."""
        return np.array([self.structures.index(label.structure) for label in self.labels])

    @cached_property
    def tissues(self) -> tuple[str, ...]:
        """Kinds of tissue, background's first, then in the order of the ids."""
        return tuple(dict.fromkeys(label.tissue for label in self.labels))

    @cached_property
    def tissue_of(self) -> NDArray[np.int64]:
        """Index into `tissues` of each row, (L,)."""
        return np.array([self.tissues.index(label.tissue) for label in self.labels])

    def rows(self, ids: NDArray[np.integer[Any]], name: object = "label map") -> NDArray[np.int32]:
        """Return the row of each voxel's id, (*S) to (*S).

        Raises:
            InputError: listing each unknown id and its number of voxels, for the file or case `name`.
        """
        indices = ids.astype(np.intp)
        # What lies outside the lookup is brought to its last two entries, which say unknown.
        np.clip(indices, -1, len(self._lookup) - 2, out=indices)
        rows = self._lookup[indices]
        unknown = rows < 0
        if unknown.any():
            found, counts = np.unique(ids[unknown], return_counts=True)
            raise check.unknown_labels(dict(zip(found.tolist(), counts.tolist(), strict=True)), name)
        return rows

    def folded(self, ids: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
        """Return ids (*S) with those that the table does not know as background."""
        return np.where(np.isin(ids, self.ids), ids, 0)

    def structure_id(self, structure: str) -> int:
        """Return the id that a merged structure keeps: its left member's, else its lowest.

        Raises:
            InputError: if the table has no such structure.
        """
        members = [label for label in self.labels if label.structure == structure]
        if not members:
            raise check.unknown_structure(structure, self.structures)
        left = [label for label in members if LEFT.search(label.name)] if structure not in (BACKGROUND, REST) else []
        return (left or members)[0].id

    def merged(self) -> LabelTable:
        """Return the table of structures: one label each, with the id and colour of its left member."""
        heads = [(structure, self[self.structure_id(structure)]) for structure in self.structures]
        return LabelTable(tuple(replace(head, name=structure) for structure, head in heads), self.structures)

    def by_tissue(self) -> LabelTable:
        """Return the table whose structures are tissues, those tied to the background being one each."""
        labels = [
            replace(label, structure=label.tissue)
            if label.structure != BACKGROUND
            else replace(label, tissue=label.name if label.id else label.tissue)
            for label in self.labels
        ]
        return LabelTable(tuple(labels), tuple(dict.fromkeys(label.structure for label in labels)))

    def subset(self, ids: Iterable[int]) -> LabelTable:
        """Return the table of `ids` and the background alone.

        Raises:
            InputError: for an id that the table does not have.
        """
        kept = {0, *(int(label) for label in ids)}
        return LabelTable(tuple(self[label] for label in kept), self.structures)

    @cached_property
    def _row_of(self) -> dict[int, int]:
        return {label.id: row for row, label in enumerate(self.labels)}

    @cached_property
    def _lookup(self) -> NDArray[np.int32]:
        """Row of each id from 0 to the largest, -1 where there is none; then -1 for ids above, and for ids below."""
        lookup = np.full(int(self.ids[-1]) + 3, -1, dtype=np.int32)
        lookup[self.ids] = np.arange(len(self))
        return lookup


def _check_unique(labels: Iterable[Label], table: object) -> None:
    """Refuse ids out of range, and ids or names given twice."""
    names: dict[int, str] = {}
    ids: dict[str, int] = {}
    for label in labels:
        if not 0 <= label.id <= LARGEST_ID:
            raise check.table(table, f"has id {label.id}, outside 0 to {LARGEST_ID}")
        if label.id in names:
            raise check.table(table, f"has id {label.id} twice, as '{names[label.id]}' and '{label.name}'")
        if label.name in ids:
            raise check.table(table, f"has the name '{label.name}' twice, for ids {ids[label.name]} and {label.id}")
        names[label.id], ids[label.name] = label.name, label.id


def _rows(path: Traversable) -> list[dict[str, str]]:
    """Return the rows of a delimited text file as dictionaries, keys in lower case."""
    try:
        # utf-8-sig: spreadsheets put a byte order mark first.
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise check.table(path, "is not a text file") from error
    header = lines[0] if lines else ""
    delimiter = max("\t,;", key=header.count)
    rows = csv.DictReader(lines, delimiter=delimiter, restval="")
    return [{key.strip().lower(): (value or "").strip() for key, value in row.items() if key} for row in rows]


def _labels(path: Traversable) -> tuple[Label, ...]:
    """Return the labels of a table, in its order."""
    rows = _rows(path)
    if not rows or not {"id", "name"} <= rows[0].keys():
        raise check.table(path, f"has the columns {', '.join(rows[0]) if rows else 'none'}")
    labels = tuple(_label(row, path, line=line) for line, row in enumerate(rows, start=2))
    _check_unique(labels, path)
    return labels


def _label(row: Mapping[str, str], path: Traversable, *, line: int) -> Label:
    """Return the label that a row describes."""
    try:
        label = int(row["id"])
        given = [row.get(channel, "") for channel in ("red", "green", "blue")]
        colour = _colour(given) if all(given) else _default_colour(label)
    except ValueError as error:
        raise check.table(path, f"has in line {line} a wrong id or colour ({error})") from error
    name = row["name"] or str(label)
    structure = row.get("structure") or name
    return Label(label, name, colour, structure, row.get("tissue") or structure)


def _colour(channels: Sequence[Any]) -> tuple[int, int, int]:
    """Return three channels as integers.

    Raises:
        ValueError: if they are not three numbers from 0 to 255.
    """
    red, green, blue = (int(channel) for channel in channels)
    if not all(0 <= channel <= 255 for channel in (red, green, blue)):
        raise ValueError(f"colour {(red, green, blue)} is outside 0 to 255")
    return red, green, blue


def _default_colour(label: int) -> tuple[int, int, int]:
    """Return a colour far from those of neighbouring ids: hues a golden section apart."""
    if label == 0:
        return 0, 0, 0
    red, green, blue = colorsys.hsv_to_rgb(label * 0.618034 % 1, 0.7, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)
