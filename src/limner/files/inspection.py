"""Look at a file without segmenting it: where its voxels are, what values they have, which labels."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from limner import check
from limner.files import open_volume, stored_volume, storing, suffix
from limner.files.kinds import kind_of
from limner.files.oddities import image_oddities, label_oddities
from limner.space import LabelTable, Volume

#: Columns of the table of many findings, before what else is measured.
COLUMNS = ("file", "kind", "shape", "voxel_mm", "orientation", "stored", "lowest", "median", "highest", "litres")
LAST_COLUMNS = ("labels", "memory_gb", "minutes", "notes", "error")


@dataclass(frozen=True)
class Finding:
    """What is known of a file after a look at it.

    Args:
        geometry: shape, voxel sizes and orientation in words.
        contents: intensities or labels in words.
        notes: what is odd about it, and what was tolerated in reading it.
        error: why it cannot be used, if it cannot.
        facts: the same by columns of a table.
        image: the volume, if it is one that could be segmented.
    """

    geometry: str = ""
    contents: str = ""
    notes: tuple[str, ...] = ()
    error: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    image: Volume | None = field(default=None, repr=False, compare=False)

    def lines(self) -> list[tuple[str, str]]:
        """Return what there is to say, each with its heading."""
        told = [("geometry", self.geometry), ("contents", self.contents), *(("note", note) for note in self.notes)]
        return [(heading, words) for heading, words in [*told, ("error", self.error or "")] if words]

    def row(self, path: Path) -> dict[str, Any]:
        """Return what there is to say as a row of a table with `COLUMNS` and `LAST_COLUMNS`."""
        row = dict.fromkeys((*COLUMNS, *LAST_COLUMNS), "") | {"file": str(path)} | dict(self.facts)
        return row | {"notes": "; ".join(self.notes), "error": self.error or ""}


def inspected(path: Path, table: LabelTable) -> Finding:
    """Return what a file holds; errors are found, not raised."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", check.InputWarning)
        try:
            finding = _described(stored_volume(path), path, table=table)
        except check.InputError as error:
            finding = Finding(error=str(error))
    told = [str(one.message) for one in heard if issubclass(one.category, check.InputWarning)]
    return replace(finding, notes=tuple(dict.fromkeys([*told, *finding.notes])))


def _described(stored: Volume, path: Path, *, table: LabelTable) -> Finding:
    """Return the description of a volume, as labels where its values are few whole numbers.

    In microscopes' formats those are instances.

    Raises:
        InputError: for labels that the table does not know; an image that is not finite or constant.
    """
    grid = stored.grid
    facts = {
        "shape": " ".join(map(str, grid.shape)),
        "voxel_mm": " ".join(f"{size:.4g}" for size in grid.voxel_sizes),
        "orientation": grid.orientation,
        "stored": stored.data.dtype.name,
    }
    kind = kind_of(stored)
    if kind == "instances" or (kind == "labels" and suffix(path) in storing.MICROSCOPES):
        count = np.count_nonzero(np.unique(stored.data))
        return Finding(str(grid), f"{count} instances", facts=facts | {"kind": "instances"})
    if kind == "labels":
        return _label_map(stored, path, table=table, facts=facts)
    image = open_volume(path)
    low, middle, high = (float(value) for value in np.percentile(image.data, (0, 50, 100)))
    words = f"{low:.4g} to {high:.4g}, median {middle:.4g}"
    facts |= {"kind": "image"}
    if suffix(path) not in storing.MICROSCOPES:
        litres = np.count_nonzero(image.data != image.data.flat[0]) * grid.voxel_volume / 1e6
        words += f"; {litres:.2f} litres differ from the first voxel's value"
        facts |= {"litres": f"{litres:.3f}"}
    facts |= {"lowest": f"{low:.6g}", "median": f"{middle:.6g}", "highest": f"{high:.6g}"}
    return Finding(str(grid), words, tuple(image_oddities(image)), facts=facts, image=image)


def _label_map(stored: Volume, path: Path, *, table: LabelTable, facts: dict[str, Any]) -> Finding:
    """Return the description of a label map.

    Raises:
        InputError: for labels that the table does not know, unless it is a mask of 0 and 255.
    """
    notes = tuple(label_oddities(stored, table))
    labels = stored.data.astype(np.int32)
    if set(np.unique(labels).tolist()) == {0, 255}:
        named = [f"255 {np.count_nonzero(labels)}"]
    else:
        found, counts = np.unique(table.rows(labels, path), return_counts=True)
        named = [
            f"{table.names[row]} {count}" for row, count in zip(found.tolist(), counts.tolist(), strict=True) if row
        ]
    facts = facts | {"kind": "labels", "labels": "; ".join(named)}
    return Finding(str(stored.grid), f"{len(named)} labels (voxels): {', '.join(named)}", notes, facts=facts)
