"""Refuse positions in the world that cannot be, or that do not belong together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from limner.check.errors import InputError


def affine(matrix: NDArray[np.float64], name: object, *, dimensions: int) -> None:
    """Refuse a matrix that does not map voxels of `dimensions` axes to the world one to one.

    Raises:
        InputError: for a wrong shape, a non-finite or a singular matrix.
    """
    remedy = "repair the header, or take it from the original scan"
    size = dimensions + 1
    if matrix.shape != (size, size):
        raise InputError(f"affine of '{name}' has shape {matrix.shape}; expected {(size, size)}: {remedy}")
    if not np.isfinite(matrix).all():
        raise InputError(f"affine of '{name}' has NaN or infinite entries; expected finite ones: {remedy}")
    axes = matrix[:-1, :-1]
    lengths = np.linalg.norm(axes, axis=0)
    # Judged on unit axes, so that nanometres and metres are treated alike.
    if not lengths.all() or abs(np.linalg.det(axes / lengths)) < 1e-6 or matrix[-1].tolist() != [0] * dimensions + [1]:
        raise InputError(
            f"affine of '{name}' is singular, {matrix.tolist()}; expected {dimensions} independent axes: {remedy}"
        )


def orientation(name: str, axes: Sequence[str]) -> InputError:
    """Word an orientation that does not name each world axis once."""
    choices = ", ".join(f"{pair[0]} or {pair[1]}" for pair in axes)
    return InputError(f"orientation '{name}' is not one; expected one letter of each of {choices}: for example 'RAS'")


class Gridded(Protocol):
    """A grid, as far as comparing two of them goes."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along each axis."""

    @property
    def tolerance(self) -> float:
        """Distance in mm that no one would notice."""

    def distance(self, other: Any) -> float:
        """Largest distance in mm between corresponding corners."""


def same_grid(first: Gridded, second: Gridded, *, case: str, names: tuple[str, str] = ("labels", "image")) -> None:
    """Refuse two grids of one case that differ in shape, or by more than their tolerance at a corner.

    Raises:
        InputError: with both shapes, or the distance.
    """
    have = "have" if names[0].endswith("s") else "has"
    remedy = "resample one onto the grid of the other"
    if first.shape != second.shape:
        raise InputError(
            f"{names[0]} of '{case}' {have} shape {first.shape} but its {names[1]} has {second.shape}; {remedy}"
        )
    distance = first.distance(second)
    if distance > first.tolerance:
        raise InputError(
            f"{names[0]} of '{case}' {have} another affine than its {names[1]}, "
            f"{distance:.3g} mm apart at a corner; {remedy}"
        )
