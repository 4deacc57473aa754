"""Look at a file without segmenting it: where its voxels are, what values they have, which labels."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from limner import check
from limner.files import open_volume
from limner.space import Grid, LabelTable, Volume

#: A file of whole numbers with at most this many different values is taken for a label map.
MOST_LABELS = 400
#: Voxels of at most this many mm are told in nm.
SMALL = 1e-3


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
    values = np.unique(volume.data)
    if len(values) > MOST_LABELS or (values % 1).any() or values[0] < 0 or not _map_like(volume):
        return Finding(_geometry(volume.grid), _intensities(volume))
    labels = open_volume(path, kind="labels")
    found, counts = np.unique(table.rows(labels.data, path), return_counts=True)
    named = [f"{table.names[row]} {count}" for row, count in zip(found.tolist(), counts.tolist(), strict=True) if row]
    return Finding(_geometry(labels.grid), f"{len(named)} labels (voxels): {', '.join(named)}")


def _map_like(volume: Volume) -> bool:
    """Tell whether most neighbouring voxels are equal, as in label maps, beyond the background."""
    inside = volume.data[1:][volume.data[1:] > 0]
    before = volume.data[:-1][volume.data[1:] > 0]
    return bool(inside.size) and float((inside == before).mean()) > 0.5


def _geometry(grid: Grid) -> str:
    """Return the shape, voxel sizes and orientation in words."""
    unit, factor = ("mm", 1) if grid.voxel_sizes.max() > SMALL else ("nm", 1e6)
    sizes = " x ".join(f"{size:.4g}" for size in grid.voxel_sizes * factor)
    return f"{' x '.join(map(str, grid.shape))} voxels of {sizes} {unit}, axes lead {grid.orientation}"


def _intensities(volume: Volume) -> str:
    """Return the range and the empty share of an image in words."""
    low, middle, high = np.percentile(volume.data, (0, 50, 100))
    values = volume.data[volume.data != volume.data.flat[0]]
    part = values.size * volume.grid.voxel_volume / 1e6
    return f"{low:.4g} to {high:.4g}, median {middle:.4g}; {part:.2f} litres differ from the first voxel's value"
