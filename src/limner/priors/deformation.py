"""How an atlas bends: smooth velocities, how likely they are, and the diffeomorphisms that follow them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from limner.space import Array, Grid

#: Spacing of velocities in mm; the modes', which are smoother, is twice that.
SPACING = 4.0
#: Halvings of a velocity before it is squared: steps of a few millimetres become a small part of a voxel.
SQUARINGS = 4
#: Whole numbers that a mode's largest component is stored as.
LEVELS = 127


@dataclass(frozen=True)
class Smooth:
    """Velocities of one smoothness.

    Args:
        length: sd in mm of the Gaussian that white noise is smoothed with.
        sd: of each component of the velocity, mm.
    """

    length: float
    sd: float


#: How a person may differ beside the modes: stiff enough that one structure's gain does not fold the next.
STIFF = (Smooth(16.0, 2.0), Smooth(7.0, 1.0), Smooth(5.0, 0.7))


@dataclass(frozen=True, eq=False)
class Warps:
    """A Gaussian prior of velocities: v = sum_m z_m mode_m + sum_s sd_s G_s w_s, with all z and w standard normal.

    Args:
        grid: (*C) of the velocities, in the atlas's world; each size odd.
        modes: (M, 3, *D) how the people of the atlas were seen to differ, one sd each, in voxels of `grid`, on every
            second voxel of it; M may be 0.
        smooth: how others may differ beside that.

    Source: stationary velocities as in Arsigny et al. 2006; modes and stiffness as one Gaussian prior are our own.
    """

    grid: Grid
    modes: Tensor
    smooth: tuple[Smooth, ...] = STIFF

    @classmethod
    def over(cls, grid: Grid, smooth: tuple[Smooth, ...] = STIFF, *, spacing: float = SPACING) -> Warps:
        """Return warps without modes for an atlas's grid."""
        sizes = (np.array(grid.shape) - 1) * grid.voxel_sizes
        shape = tuple(2 * int(np.ceil(size / (2 * spacing))) + 1 for size in sizes)
        affine = grid.affine.copy()
        affine[:3, :3] *= spacing / grid.voxel_sizes
        return cls(Grid(shape, affine), torch.zeros(0, 3, 1, 1, 1), smooth)

    @classmethod
    def learned(cls, grid: Grid, velocities: Tensor) -> Warps:
        """Return warps with the principal modes of velocities (N, 3, *D) on a grid, in its voxels; their mean is none.

        The warps' own grid has another voxel between two of that one.
        """
        _, spread, directions = torch.linalg.svd(velocities.flatten(1), full_matrices=False)
        kept = len(velocities) - 1
        modes = 2 * directions[:kept] * spread[:kept, None] / np.sqrt(max(1, kept))
        finer = grid.affine @ np.diag([0.5, 0.5, 0.5, 1])
        shape = tuple(2 * size - 1 for size in grid.shape)
        return cls(Grid(shape, finer), modes.view(kept, *velocities.shape[1:]))

    @property
    def size(self) -> int:
        """Number of coefficients."""
        return len(self.modes) + len(self.smooth) * 3 * int(np.prod(self.grid.shape))

    @cached_property
    def _blurs(self) -> list[list[Tensor]]:
        """For each smoothness the matrices (n, n) along the axes that make of white noise velocities of its sd."""
        from scipy.ndimage import gaussian_filter1d

        found, spacing = [], float(self.grid.voxel_sizes[0])
        for one in self.smooth:
            matrices = [gaussian_filter1d(np.eye(n), one.length / spacing, axis=0) for n in self.grid.shape]
            scaled = [matrix / np.linalg.norm(matrix[len(matrix) // 2]) for matrix in matrices]
            scaled[0] = scaled[0] * one.sd / spacing
            found.append([torch.from_numpy(matrix).float() for matrix in scaled])
        return found

    def velocity(self, coefficients: Tensor) -> Tensor:
        """Return the velocity (3, *C) of coefficients (size,), in voxels of the grid."""
        modes, white = coefficients[: len(self.modes)], coefficients[len(self.modes) :]
        usual = torch.tensordot(modes, self.modes, 1)[None]
        velocity = functional.interpolate(usual, self.grid.shape, mode="trilinear", align_corners=True)[0]
        for matrices, noise in zip(self._blurs, white.view(len(self.smooth), 3, *self.grid.shape), strict=True):
            velocity = velocity + mixed(noise, matrices)
        return velocity

    def warp(self, coefficients: Array) -> Warp:
        """Return the warp of coefficients (size,), halved until it folds nowhere: on a grid, even flows may."""
        with torch.no_grad():
            velocity = self.velocity(torch.from_numpy(coefficients).float())
            warp = Warp(self.grid, flow(velocity))
            while warp.jacobian().min() <= 0:
                velocity = velocity / 2
                warp = Warp(self.grid, flow(velocity))
            return warp

    def stored(self) -> tuple[Array, Array]:
        """Return the modes as whole numbers (M, 3, *D) int8, and the unit (M,) of each."""
        unit = self.modes.abs().flatten(1).amax(1).clamp_min(1e-9).numpy() / LEVELS
        return np.rint(self.modes.numpy() / unit[:, None, None, None, None]).astype(np.int8), unit

    @classmethod
    def from_stored(cls, grid: Grid, *, modes: Array, unit: Array) -> Warps:
        """Return the warps that `stored` described."""
        return cls(grid, torch.from_numpy(modes * unit[:, None, None, None, None].astype(np.float32)))


@dataclass(frozen=True, eq=False)
class Warp:
    """A diffeomorphism of an atlas's world.

    Args:
        grid: (*C), coarse.
        displacement: (3, *C) in voxels of `grid`: what the affine map takes to a place lies that much farther in the
            atlas.
    """

    grid: Grid
    displacement: Tensor

    def on(self, grid: Grid) -> tuple[Array, Array]:
        """Return the matrix (3, 4) from a grid's voxels to this one's, and the displacement (*C, 3) in its voxels."""
        to_field = np.linalg.inv(self.grid.affine) @ grid.affine
        back = np.linalg.inv(to_field)[:3, :3].astype(np.float32)
        return to_field[:3], np.ascontiguousarray(self.displacement.movedim(0, -1).numpy() @ back.T)

    def moved(self, points: Array) -> Array:
        """Return where points (N, 3) in mm, after the affine map, lie in the atlas, (N, 3) mm."""
        indices = torch.from_numpy(self.grid.indices(points).T).float()
        return self.grid.world((indices + displaced(self.displacement, indices)).T.numpy())

    def jacobian(self) -> Tensor:
        """Return the determinants (*C): how much larger a piece of the scan becomes in the atlas, beside the affine."""
        slopes = torch.stack([torch.stack(torch.gradient(one)) for one in self.displacement])
        found: Tensor = torch.linalg.det((slopes + torch.eye(3)[:, :, None, None, None]).permute(2, 3, 4, 0, 1))
        return found


def mixed(values: Tensor, matrices: list[Tensor]) -> Tensor:
    """Return values (P, X, Y, Z) after each axis was multiplied by its matrix (n, n)."""
    for axis, matrix in enumerate(matrices, start=1):
        values = torch.tensordot(matrix, values, dims=([1], [axis])).movedim(0, axis)
    return values


def flow(velocity: Tensor) -> Tensor:
    """Return the displacement (3, *C) after one unit of time along a velocity (3, *C), both in voxels.

    Source: scaling and squaring, Arsigny et al. 2006.
    """
    here = torch.stack(torch.meshgrid(*[torch.arange(float(size)) for size in velocity.shape[1:]], indexing="ij"))
    displacement = velocity / 2.0**SQUARINGS
    for _ in range(SQUARINGS):
        displacement = displacement + displaced(displacement, here + displacement)
    return displacement


def displaced(displacement: Tensor, places: Tensor) -> Tensor:
    """Return a displacement (3, *C) at fractional voxels (3, *S), linearly, the border continued: (3, *S)."""
    last = torch.tensor(displacement.shape[1:], dtype=places.dtype).sub_(1).view(3, *[1] * (places.ndim - 1))
    where = (2 * places / last - 1).flip(0).movedim(0, -1)
    where = where.view(*[1] * (5 - where.ndim), *where.shape)
    sampled: Tensor = functional.grid_sample(displacement[None], where, align_corners=True, padding_mode="border")
    return sampled.view(places.shape)
