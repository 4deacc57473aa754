"""Voxels to be written, wherever they are: in memory, or on disk, where a part is read at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from limner import check
from limner.space import Array, Grid, Kind, Volume
from limner.space.grid import oriented_axes

Slices: TypeAlias = tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class Source:
    """Voxels to be written.

    Args:
        grid: where they lie, (*S).
        kind: what they are.
        dtype: in which they are stored.
        part: returns those of a part, in any type that holds the same values.
    """

    grid: Grid
    kind: Kind
    dtype: np.dtype[Any]
    part: Callable[[Slices], Array]

    @classmethod
    def of(cls, volume: Volume) -> Source:
        """Return the voxels of a volume in memory, in their type."""
        return cls(volume.grid, volume.kind, volume.data.dtype, volume.data.__getitem__)

    def read(self, slices: Slices) -> Array:
        """Return the voxels of a part, in the type in which they are stored."""
        return self.part(slices).astype(self.dtype, copy=False)

    def upright(self) -> Source:
        """Return the same voxels with axes that follow z, y, x of the world, a 2-D image as one section.

        A section is as thick as its smallest voxel is wide.
        """
        solid = self if self.grid.dimensions == 3 else self._solid()
        axes, signs = oriented_axes(solid.grid.affine)
        order = [axes.index(axis) for axis in (2, 1, 0)]
        back = np.argsort(order)
        flips = tuple(slice(None, None, signs[axis]) for axis in order)
        shape, turn = solid.grid.shape, np.eye(4)
        for axis in range(3):
            if signs[axis] < 0:
                turn[axis, [axis, 3]] = -1, shape[axis] - 1

        def part(slices: Slices) -> Array:
            asked = [slices[place].indices(size) for place, size in zip(back, shape, strict=True)]
            there = [
                slice(start, stop) if sign > 0 else slice(size - stop, size - start)
                for (start, stop, _), sign, size in zip(asked, signs, shape, strict=True)
            ]
            return solid.part(tuple(there)).transpose(order)[flips]

        affine = (solid.grid.affine @ turn)[:, [*order, 3]]
        return replace(solid, grid=Grid(tuple(shape[axis] for axis in order), affine), part=part)

    def unsigned(self, path: Path, *, least: int = 1) -> Source:
        """Return ids in an unsigned type of `least` bytes at least; an image as it is.

        Reading ids below 0 raises an `InputError` that names `path`.
        """
        if self.kind == "image":
            return self

        def part(slices: Slices) -> Array:
            data = self.part(slices)
            check.instance_ids(data, path)
            return data

        return replace(self, dtype=np.dtype(f"u{max(least, self.dtype.itemsize)}"), part=part)

    def _solid(self) -> Source:
        """Return a 2-D image as one section."""
        return replace(self, grid=self.grid.thick(), part=lambda slices: self.part(slices[:2])[..., np.newaxis])
