"""Where the voxels of an image lie, and an image that knows it."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limner import check
from limner.space.boxes import Box

Array: TypeAlias = NDArray[Any]
Kind: TypeAlias = Literal["image", "labels", "instances"]

LETTERS = ("LR", "PA", "IS")
#: Voxels of at most this many mm are told in nm.
SMALL = 1e-3
#: Points along each axis at which it is looked how much of a grid another covers.
COVERED_AT = 16


@dataclass(frozen=True, eq=False)
class Grid:
    """A lattice of voxels in the world.

    Args:
        shape: voxels along each of the D axes, as stored.
        affine: (D+1, D+1), maps voxel indices (centres) to RAS+ mm; copied, and read-only afterwards.

    Raises:
        InputError: if the affine has another size, is not finite or is singular.
    """

    shape: tuple[int, ...]
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Store plain integers and a private, checked affine."""
        affine = np.array(self.affine, dtype=np.float64)
        check.affine(affine, "grid", dimensions=len(self.shape))
        affine.flags.writeable = False
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))
        object.__setattr__(self, "affine", affine)

    def __str__(self) -> str:
        """Return the shape, voxel sizes and orientation in words."""
        unit, factor = self.unit
        sizes = " x ".join(f"{size:.4g}" for size in self.voxel_sizes * factor)
        return f"{' x '.join(map(str, self.shape))} voxels of {sizes} {unit}, axes lead {self.orientation}"

    @property
    def unit(self) -> tuple[str, float]:
        """Unit in which lengths are told, nm if all voxels are small, and how many of it are a mm."""
        return ("mm", 1.0) if self.voxel_sizes.max() > SMALL else ("nm", 1e6)

    @property
    def dimensions(self) -> int:
        """Number of axes, D."""
        return len(self.shape)

    @property
    def voxel_sizes(self) -> NDArray[np.float64]:
        """Distance in mm between neighbours along each axis, (D,)."""
        return np.asarray(np.linalg.norm(self.affine[:-1, :-1], axis=0))

    @property
    def voxel_volume(self) -> float:
        """Volume of a voxel in mm3 (in 2-D, its area in mm2)."""
        return float(abs(np.linalg.det(self.affine[:-1, :-1])))

    @property
    def skew(self) -> float:
        """Largest cosine between two axes, 0 if all are at right angles."""
        axes = self.affine[:-1, :-1] / self.voxel_sizes
        return float(np.abs(axes.T @ axes - np.eye(self.dimensions)).max())

    @property
    def orientation(self) -> str:
        """Where each axis leads, such as "LIA": to the left, down, to the front."""
        axes, signs = oriented_axes(self.affine)
        return "".join(LETTERS[axis][sign > 0] for axis, sign in zip(axes, signs, strict=True))

    @property
    def centre(self) -> NDArray[np.float64]:
        """World position in mm of the middle of the grid, (D,)."""
        return self.world((np.array(self.shape) - 1) / 2)

    def corners(self) -> NDArray[np.float64]:
        """Return the outer corners of the box that the voxels fill, (2**D, D) in mm."""
        ends = [(-0.5, size - 0.5) for size in self.shape]
        return self.world(list(itertools.product(*ends)))

    def world(self, indices: ArrayLike) -> NDArray[np.float64]:
        """Return the positions in mm of voxel `indices`, both (..., D)."""
        positions = np.asarray(indices, np.float64) @ self.affine[:-1, :-1].T
        return np.asarray(positions + self.affine[:-1, -1])

    def indices(self, points: ArrayLike) -> NDArray[np.float64]:
        """Return the fractional voxel indices of `points` in mm, both (..., D)."""
        inverse = np.linalg.inv(self.affine)
        return np.asarray(np.asarray(points, np.float64) @ inverse[:-1, :-1].T + inverse[:-1, -1])

    def moved(self, transform: ArrayLike) -> Grid:
        """Return the grid carried along by `transform`, a (D+1, D+1) map from mm to mm."""
        return Grid(self.shape, np.asarray(transform, dtype=np.float64) @ self.affine)

    def cropped(self, box: Box) -> Grid:
        """Return the grid of the voxels in `box`, which may reach beyond this grid."""
        affine = self.affine.copy()
        affine[:-1, -1] = self.world(box.start)
        return Grid(box.shape, affine)

    def spaced(self, spacing: float) -> Grid:
        """Return a grid of isotropic `spacing` in mm with the same axes and centre that covers this one's box."""
        sizes = self.voxel_sizes
        # The millionth keeps rounding from adding a voxel when the spacing fits exactly.
        shape = tuple(max(1, math.ceil(n * size / spacing - 1e-6)) for n, size in zip(self.shape, sizes, strict=True))
        affine = self.affine.copy()
        affine[:-1, :-1] *= spacing / sizes
        affine[:-1, -1] = self.centre - affine[:-1, :-1] @ ((np.array(shape) - 1) / 2)
        return Grid(shape, affine)

    def thinned(self, every: int, *, apart: float) -> tuple[tuple[slice, ...], Grid]:
        """Return which voxels are left if one in `every` along each axis is, or more if they are thick, and their grid.

        Args:
            every: of so many voxels along an axis, one is left at least.
            apart: mm between two that are left, at most, but for voxels that are thicker.
        """
        steps = [min(every, max(1, int(apart / size))) for size in self.voxel_sizes]
        shape = tuple(math.ceil(n / step) for n, step in zip(self.shape, steps, strict=True))
        return tuple(slice(None, None, step) for step in steps), Grid(shape, self.affine @ np.diag([*steps, 1]))

    def thick(self) -> Grid:
        """Return the grid in 3-D, a 2-D one as a single slice that is as thick as its smallest voxel is wide."""
        if self.dimensions == 3:
            return self
        affine = np.diag([0, 0, self.voxel_sizes.min(), 1])
        affine[np.ix_([0, 1, 3], [0, 1, 3])] = self.affine
        return Grid((*self.shape, 1), affine)

    def covered(self, by: Grid) -> float:
        """Return the share of this grid's box that lies in another's, looked at on a lattice of points."""
        steps = np.linspace(0, 1, COVERED_AT)
        lattice = np.stack(np.meshgrid(*[steps] * self.dimensions, indexing="ij"), -1).reshape(-1, self.dimensions)
        places = by.indices(self.world(lattice * (np.array(self.shape) - 1)))
        return float(((places >= -0.5) & (places <= np.array(by.shape) - 0.5)).all(-1).mean())

    def distance(self, other: Grid) -> float:
        """Return the largest distance in mm between corresponding corners of two grids."""
        return float(np.linalg.norm(self.corners() - other.corners(), axis=-1).max())

    @property
    def tolerance(self) -> float:
        """Distance in mm that no one would notice: 0.001, but for small voxels a hundredth of the smallest size."""
        return min(1e-3, float(self.voxel_sizes.min()) / 100)

    def matches(self, other: Grid, tolerance: float | None = None) -> bool:
        """Tell whether two grids have one shape, and corners at most `tolerance` mm apart (None: their own)."""
        allowed = self.tolerance if tolerance is None else tolerance
        return self.shape == other.shape and self.distance(other) <= allowed


@dataclass(frozen=True, eq=False)
class Volume:
    """An image or a label map, and where it lies.

    Args:
        data: (*S), 3-D or 2-D, one value per voxel; integers unless the kind is "image".
        grid: of the same shape.
        kind: "image" (interpolated when resampled), "labels" (never mixed) or "instances" (likewise, but an id means
            nothing beyond that its voxels belong together, and 0 is none).
        header: the header of the file it came from, for writing the same fields again; its geometry yields to the grid.

    Raises:
        InputError: if the shapes differ, or labels or instances are not integers.
    """

    data: Array
    grid: Grid
    kind: Kind
    header: object | None = None

    def __post_init__(self) -> None:
        """Check that data, grid and kind agree."""
        check.three_dimensional(self.data.shape, "volume")
        check.volume(self.data, self.grid.shape, kind=self.kind)


def oriented_axes(affine: NDArray[np.float64]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return for each voxel axis the world axis it follows most closely, each taken once, and the sign, 1 or -1."""
    axes = affine[:-1, :-1] / np.linalg.norm(affine[:-1, :-1], axis=0)
    voxel_axes = range(len(axes))

    def agreement(order: tuple[int, ...]) -> float:
        return float(sum(abs(axes[order[axis], axis]) for axis in voxel_axes))

    best = max(itertools.permutations(voxel_axes), key=agreement)
    return best, tuple(1 if axes[best[axis], axis] > 0 else -1 for axis in voxel_axes)
