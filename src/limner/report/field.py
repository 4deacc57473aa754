"""The part of a scan that is worth showing, turned the way pictures are read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limner import check
from limner.report.case import CaseReport
from limner.space import Array, Box, Grid, LabelTable, Volume, reoriented

# Pictures are read to the right and down. Axes that lead to the patient's left, back and feet are read just so in the
# radiological convention: axial slices from the feet, coronal ones from the front, sagittal ones facing left.
FACING = "LPI"
MARGIN = 5.0
"""mm around what is labelled."""
SMALLEST = 80.0
"""mm that are shown at least, as far as the scan has them: a small lesion alone says nothing of where it is."""

HEADROOM = 0.12
"""Share of the intensities' range that is left above, so that labels can be seen on what is bright."""


@dataclass(frozen=True, eq=False)
class Field:
    """The layers of a scan, cropped alike; axes lead left, back and down.

    Args:
        grid: of the crop, Z voxels thick if the scan has depth and 1 if not.
        image: (X, Y, Z), if there is a scan.
        labels: (X, Y, Z) rows of the label table.
        reference: (X, Y, Z) rows of the label table.
        uncertainty: (X, Y, Z) nats.
        errors: (X, Y, Z), 1 where labels and reference are of different structures.
    """

    grid: Grid
    image: Array | None
    labels: NDArray[np.int32] | None
    reference: NDArray[np.int32] | None
    uncertainty: Array | None
    errors: Array | None

    @cached_property
    def window(self) -> tuple[float, float]:
        """Intensities shown as black and as white: few lie outside, air aside, and bright ones still show colours."""
        if self.image is None:
            return 0.0, 1.0
        values = self.image[::2, ::2, ::2]
        inside = values[values > values.min()]
        low, high = np.percentile(inside if inside.size else values, [0.5, 99.7])
        return float(low), float(high + HEADROOM * (high - low))

    @cached_property
    def _voxels(self) -> NDArray[np.int64]:
        """Number of voxels of each row of the table, up to the last that the labels have."""
        return np.bincount(np.array([], dtype=int) if self.labels is None else self.labels.ravel())

    def volumes(self, table: LabelTable) -> NDArray[np.float64]:
        """Return the volume of each row of the table in mm3, (L,); 0 of the background, most of which is not shown."""
        volumes = np.zeros(len(table))
        volumes[: len(self._voxels)] = self._voxels * self.grid.voxel_volume
        volumes[0] = 0
        return volumes


def field_of(case: CaseReport, table: LabelTable) -> Field | None:
    """Return the field around what is labelled in a scan, or all of it if nothing is; None if there is no volume.

    Raises:
        InputError: if the volumes lie on different grids, or have labels that the table does not know.
    """
    given = {name: getattr(case, name) for name in ("labels", "image", "reference", "uncertainty")}
    layers = {name: _turned(volume) for name, volume in given.items() if volume is not None}
    if not layers:
        return None
    first = next(iter(layers))
    grid = layers[first].grid
    for name, volume in layers.items():
        check.same_grid(volume.grid, grid, case=case.name, names=(name, first))
    box = _shown([layers[name] for name in ("labels", "reference") if name in layers], grid)
    data: dict[str, Any] = {name: volume.data[box.slices] for name, volume in layers.items()}
    for name in {"labels", "reference"} & layers.keys():
        data[name] = table.rows(data[name], f"{name} of '{case.name}'")
    errors = None
    if {"labels", "reference"} <= layers.keys():
        # Left or right is no matter here: structures are what is scored.
        labels, reference = (table.structure_of[data[name]] for name in ("labels", "reference"))
        errors = (labels != reference).astype(np.float32)
    return Field(grid.cropped(box), **{name: data.get(name) for name in given}, errors=errors)


def _turned(volume: Volume) -> Volume:
    """Return the volume with its axes leading as in a field, a flat one as a single slice 1 mm thick."""
    if volume.grid.dimensions == 2:
        affine = np.eye(4)
        affine[np.ix_([0, 1, 3], [0, 1, 3])] = volume.grid.affine
        grid = Grid((*volume.grid.shape, 1), affine)
        volume = replace(volume, data=volume.data[..., np.newaxis], grid=grid)
    return reoriented(volume, FACING)


def _shown(maps: list[Volume], grid: Grid) -> Box:
    """Return the box around all labels, with a margin and not too small; the whole grid if there are none."""
    mask = np.zeros(grid.shape, dtype=bool)
    for labels in maps:
        mask |= labels.data != 0
    box = Box.around(mask)
    if not box.size:
        return Box.whole(grid.shape)
    lack = np.maximum(SMALLEST / grid.voxel_sizes - box.shape, 0) / 2
    margin = np.ceil(np.maximum(lack, MARGIN / grid.voxel_sizes)).astype(int)
    return Box(tuple(np.subtract(box.start, margin)), tuple(np.add(box.stop, margin))).clipped(grid.shape)
