"""Voxel sizes and offsets in nanometres, as microscopes' files state them, and the affine in mm that they mean.

Axes are stored z, y, x; along x lies the first axis of the world. A number of nanometres of up to twelve digits comes
back as it was written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limner import check
from limner.space import Array, Grid

PER_MM = 1e6
#: Nanometres in one of each unit that files name.
UNITS = {"m": 1e9, "meter": 1e9, "mm": 1e6, "millimeter": 1e6, "um": 1e3, "µm": 1e3, "μm": 1e3, "micrometer": 1e3}
UNITS |= {"micron": 1e3, "nm": 1.0, "nanometer": 1.0, "angstrom": 0.1}


def placed(
    resolution: Sequence[float], offset: Sequence[float] | None = None, *, axes: Sequence[int] | None = None
) -> NDArray[np.float64]:
    """Return the affine (D+1, D+1) in mm of voxels of `resolution`, the first centred at `offset`; both (D,) in nm.

    Args:
        resolution: of each axis, as stored.
        offset: likewise; none unless given.
        axes: (D,) which axis of the world each follows; the last the first, and so on, unless given.
    """
    D = len(resolution)
    rows = list(range(D))[::-1] if axes is None else list(axes)
    affine = np.zeros((D + 1, D + 1))
    affine[-1, -1] = 1
    affine[rows, range(D)] = np.asarray(resolution, np.float64) / PER_MM
    affine[rows, -1] = 0 if offset is None else np.asarray(offset, np.float64) / PER_MM
    return affine


def attributes(grid: Grid) -> dict[str, Any]:
    """Return what a file says of a grid: `resolution` (D,) in nm and, where it is needed, `offset` (D,) or `affine`.

    A grid whose axes are not those of the world, turned round, has its affine in mm beside its voxel sizes.
    """
    told: dict[str, Any] = {"resolution": nanometres(grid.voxel_sizes)}
    offset = nanometres(grid.affine[:-1, -1][::-1])
    if not np.array_equal(placed(told["resolution"], offset), grid.affine):
        return told | {"affine": grid.affine.tolist()}
    return told | ({"offset": offset} if any(offset) else {})


def affine_of(told: Mapping[str, Any], path: Path) -> Array | None:
    """Return the affine (D+1, D+1) in mm that a file's attributes mean; None if they have no resolution.

    Read are `resolution` or `voxel_size`, `offset`, `units` or `unit` (nm where there are none), and `affine`.

    Raises:
        InputError: for an unknown unit, or a resolution that is not positive.
    """
    if "affine" in told:
        return np.asarray(told["affine"], np.float64)
    sizes = told.get("resolution", told.get("voxel_size"))
    if sizes is None:
        return None
    factor = in_nanometres(told.get("units", told.get("unit", "nm")), path, axes=len(sizes))
    offset = np.zeros(len(sizes)) if told.get("offset") is None else np.asarray(told["offset"], np.float64)
    check.resolution(np.asarray(sizes, np.float64), offset, path=path)
    return placed(nanometres(np.asarray(sizes) * factor / PER_MM), nanometres(offset * factor / PER_MM))


def in_nanometres(units: Any, path: Path, *, axes: int) -> NDArray[np.float64]:
    """Return how many nanometres one of each axis's unit is, (axes,); one unit may speak for all.

    Raises:
        InputError: for a unit that is no length we know.
    """
    names = [units] * axes if isinstance(units, str | bytes) else list(units)[-axes:]
    words = [name.decode() if isinstance(name, bytes) else str(name) for name in names]
    known = [word.strip().lower().replace("metre", "meter").removesuffix("s") for word in words]
    for name, word in zip(known, words, strict=True):
        if name not in UNITS:
            raise check.unknown_unit(path, word, known=UNITS)
    return np.array([UNITS[name] for name in known])


def nanometres(lengths: Array) -> list[float]:
    """Return lengths in mm (N,) as nanometres, rounded to the twelve digits that survive the way through mm."""
    return [float(f"{length * PER_MM:.12g}") for length in np.asarray(lengths, np.float64).tolist()]
