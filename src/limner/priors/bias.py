"""The bias field of a scan: the smooth gain of its coils, how likely it is, and its estimate in closed form."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from limner.space import Array, Grid

#: Length in mm over which the gain changes, and its sd in nats.
LENGTH, SD = 40.0, 0.3
#: Cosines less likely than this, relative to the constant, are left out.
RAREST = 1e-3
#: Points whose cosines are computed at a time.
CHUNK = 1 << 16


@dataclass(frozen=True, eq=False)
class Bias:
    """The logarithm of a smooth gain, a sum of cosines over a box.

    Args:
        frame: (D+1, D+1) from the scan's world to the box, which is the unit cube there.
        sizes: (D,) edges of the box, mm.
        coefficients: (C, *N) nats of the cosines, for each channel.

    Source: multiplicative bias as in Van Leemput et al. 1999; a Gaussian process as the field's prior is our own.
    """

    frame: Array
    sizes: Array
    coefficients: Tensor

    @classmethod
    def around(cls, points: Array, *, channels: int) -> Bias:
        """Return a gain of 1 over the box that holds points (N, D) mm of a scan's world."""
        low, high = points.min(0), points.max(0)
        sizes = np.maximum(high - low, 1.0)
        frame = np.diag([*1 / sizes, 1.0])
        frame[:-1, -1] = -low / sizes
        highest = np.sqrt(-2 * np.log(RAREST)) / LENGTH  # radians per mm
        counts = [int(highest * size / np.pi) + 1 for size in sizes]
        return cls(frame, sizes, torch.zeros(channels, *counts))

    @property
    def sds(self) -> Tensor:
        """How large each coefficient is expected to be, (*N) nats; 0 for the constant, which says nothing."""
        sds = torch.ones(())
        for size, count in zip(self.sizes, self.coefficients.shape[1:], strict=True):
            density = torch.exp(-0.5 * (LENGTH * np.pi / float(size) * torch.arange(count)) ** 2)
            # Over the box a cosine's square is a half in the mean; the axes' shares of the variance sum to 1.
            share = density / (density[0] + 0.5 * density[1:].sum())
            sds = sds[..., None] * share.sqrt()
        sds.view(-1)[0] = 0
        return SD * sds

    def at(self, points: Array) -> Tensor:
        """Return the gain's logarithm at points (N, D) mm of the scan's world, (C, N) nats."""
        chunks = np.array_split(points, max(1, len(points) // CHUNK))
        return torch.cat([self.coefficients.flatten(1) @ self.cosines(chunk).T for chunk in chunks], 1)

    def cosines(self, points: Array) -> Tensor:
        """Return each cosine at points (N, D) mm, (N, N1 * N2 ...)."""
        places = torch.from_numpy(points @ self.frame[:-1, :-1].T + self.frame[:-1, -1]).float()
        values = torch.ones(len(points), 1)
        for place, count in zip(places.T, self.coefficients.shape[1:], strict=True):
            along = torch.cos(np.pi * place[:, None] * torch.arange(count))
            values = (values[:, :, None] * along[:, None, :]).flatten(1)
        return values

    def evened(self, image: Tensor, grid: Grid) -> Tensor:
        """Return an image (C, *S) on a grid of the scan's world without its gain."""
        points = grid.world(np.moveaxis(np.indices(grid.shape), 0, -1).reshape(-1, grid.dimensions))
        return image * torch.exp(-self.at(points)).view(image.shape)

    def before(self, change: Array) -> Bias:
        """Return the same gain in another world of the scan, (D+1, D+1) from which to this one is given."""
        return replace(self, frame=self.frame @ change)

    def refined(self, points: Array, *, residuals: Tensor, slopes: Tensor, precisions: Tensor) -> Bias:
        """Return the likeliest gain, given how far intensities are from what they should be.

        Args:
            points: (N, D) mm.
            residuals: (C, N) intensities, this gain taken out, minus those expected.
            slopes: (C, N) change of the residuals with the gain's logarithm: the intensities expected.
            precisions: (C, N) inverse variances of the residuals.

        Source: the M-step of Van Leemput et al. 1999; on intensities, not on their logarithms, which dark voxels would
        rule: a step of Gauss and Newton.
        """
        basis, sds = self.cosines(points) * self.sds.flatten(), self.sds.flatten()
        found = []
        for old, residual, slope, precision in zip(self.coefficients, residuals, slopes, precisions, strict=True):
            whitened = old.flatten() / sds.clamp_min(1e-9)
            curvature = basis.T @ (basis * (precision * slope.square())[:, None]) + torch.eye(len(sds))
            step = torch.linalg.solve(curvature, basis.T @ (precision * slope * residual) - whitened)
            found.append(((whitened + step) * sds).view(old.shape))
        return replace(self, coefficients=torch.stack(found))
