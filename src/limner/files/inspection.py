"""Look at a file without segmenting it: where its voxels are, what values they have, which labels."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from limner import check
from limner.files import open_volume
from limner.files.conversion import looks_like_labels
from limner.space import LabelTable, Volume


@dataclass(frozen=True)
class Finding:
    """What is known of a file after a look at it.

    Args:
        geometry: shape, voxel sizes and orientation in words.
        contents: intensities or labels in words.
        notes: what was tolerated in reading it.
        error: why it cannot be used, if it cannot.
    """

    geometry: str = ""
    contents: str = ""
    notes: tuple[str, ...] = ()
    error: str | None = None

    def lines(self) -> list[tuple[str, str]]:
        """Return what there is to say, each with its heading."""
        told = [("geometry", self.geometry), ("contents", self.contents), *(("note", note) for note in self.notes)]
        return [(heading, words) for heading, words in [*told, ("error", self.error or "")] if words]


def inspected(path: Path, table: LabelTable) -> Finding:
    """Return what a file holds; errors are found, not raised."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", check.InputWarning)
        try:
            finding = _described(open_volume(path), path, table=table)
        except check.InputError as error:
            finding = Finding(error=str(error))
    notes = tuple(dict.fromkeys(str(one.message) for one in heard if issubclass(one.category, check.InputWarning)))
    return Finding(finding.geometry, finding.contents, notes, finding.error)


def _described(volume: Volume, path: Path, *, table: LabelTable) -> Finding:
    """Return the description of a volume, as labels where its values are few whole numbers."""
    if not looks_like_labels(volume):
        return Finding(str(volume.grid), _intensities(volume))
    labels = open_volume(path, kind="labels")
    found, counts = np.unique(table.rows(labels.data, path), return_counts=True)
    named = [f"{table.names[row]} {count}" for row, count in zip(found.tolist(), counts.tolist(), strict=True) if row]
    return Finding(str(labels.grid), f"{len(named)} labels (voxels): {', '.join(named)}")


def _intensities(volume: Volume) -> str:
    """Return the range and the empty share of an image in words."""
    low, middle, high = np.percentile(volume.data, (0, 50, 100))
    values = volume.data[volume.data != volume.data.flat[0]]
    part = values.size * volume.grid.voxel_volume / 1e6
    return f"{low:.4g} to {high:.4g}, median {middle:.4g}; {part:.2f} litres differ from the first voxel's value"
