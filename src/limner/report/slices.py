"""Which slices of a field to show, and where they lie."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from limner.report.field import Field
from limner.space import Array

SLICES = 5
PIXELS = 320
"""Along a side; a slice that has twice as many is thinned out, since few screens would show them."""


class Plane(NamedTuple):
    """A way to cut a field: its axes that lead across, down and through the picture, and the last one's coordinate."""

    name: str
    across: int
    down: int
    through: int
    coordinate: str


PLANES = (Plane("axial", 0, 1, 2, "z"), Plane("coronal", 0, 2, 1, "y"), Plane("sagittal", 1, 2, 0, "x"))


@dataclass(frozen=True, eq=False)
class Slice:
    """One slice of a field.

    Args:
        field: what is cut.
        plane: in which direction.
        index: voxel along the plane's third axis.
    """

    field: Field
    plane: Plane
    index: int

    @property
    def step(self) -> int:
        """How many voxels each pixel stands for, along a side."""
        shape = self.field.grid.shape
        return max(1, max(shape[self.plane.across], shape[self.plane.down]) // PIXELS)

    @property
    def pixel(self) -> tuple[float, float]:
        """Width and height of a pixel in mm."""
        sizes = self.field.grid.voxel_sizes * self.step
        return float(sizes[self.plane.across]), float(sizes[self.plane.down])

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the picture in mm."""
        across, down = (-(-self.field.grid.shape[axis] // self.step) for axis in (self.plane.across, self.plane.down))
        return across * self.pixel[0], down * self.pixel[1]

    @property
    def title(self) -> str:
        """Where the middle of the slice lies in RAS+ coordinates, such as "z 12 mm"."""
        middle = (np.array(self.field.grid.shape) - 1) / 2
        middle[self.plane.through] = self.index
        position = round(float(self.field.grid.world(middle)[self.plane.through]))
        return f"{self.plane.coordinate} {position} mm".replace("-", "\N{MINUS SIGN}")

    def pixels(self, layer: Array) -> Array:
        """Return what the slice shows of one of the field's layers (X, Y, Z): (rows down, columns to the right)."""
        pixels: Array = layer.take(self.index, axis=self.plane.through).T[:: self.step, :: self.step]
        return pixels


def strips(field: Field) -> Iterator[tuple[Plane, list[Slice]]]:
    """Yield each plane in which the field is more than a line, and the slices to show in it."""
    shape = field.grid.shape
    for plane in PLANES:
        if min(shape[plane.across], shape[plane.down]) > 1:
            yield plane, [Slice(field, plane, index) for index in positions(field, plane)]


def positions(field: Field, plane: Plane) -> list[int]:
    """Return the slices to show, by coordinate: the middles of as many parts with equal numbers of labelled voxels."""
    weight = np.ones(field.grid.shape[plane.through])
    if field.labels is not None and field.labels.any():
        weight = np.count_nonzero(field.labels, axis=(plane.across, plane.down)).astype(float)
    share = np.cumsum(weight) / weight.sum()
    middles = (np.arange(SLICES) + 0.5) / SLICES
    # Axes of a field lead against those of the world.
    return sorted({int(index) for index in np.searchsorted(share, middles)}, reverse=True)
