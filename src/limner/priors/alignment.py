"""Move a prior to where it best explains a scan: an affine map, by the likelihood."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from limner.space import Array, Grid

#: Floor of the interpolated probabilities: a misplaced voxel must not decide alone.
FLOOR = 1e-4
#: Unit of length in mm that makes rotations, scales and shifts steps of one size for the optimiser.
LENGTH = 50.0


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a scan says about its classes at scattered points.

    Args:
        points: (N, 3) mm in the scan's world.
        likelihood: (P, N) of each part, scaled so that the largest at a point is 1.
        weights: (N,) how much each point counts; they sum to 1.
    """

    points: Array
    likelihood: Tensor
    weights: Tensor


def interpolated(maps: Tensor, grid: Grid, *, points: Array) -> Tensor:
    """Return maps (P, *S) on `grid` at points (N, 3) mm, linearly, the border continued: (P, N)."""
    places = 2 * grid.indices(points)[:, ::-1] / (np.array(grid.shape)[::-1] - 1) - 1
    values = torch.nn.functional.grid_sample(
        maps[None], torch.from_numpy(places).to(maps)[None, None, None], align_corners=True, padding_mode="border"
    )
    return values[0, :, 0, 0]


def refined(maps: Tensor, grid: Grid, *, evidence: Evidence, start: Array, rounds: int) -> tuple[Array, float]:
    """Return the affine map (4, 4) from the scan's world to the prior's that best explains the evidence, and its score.

    Args:
        maps: (P, *S) probabilities of the parts.
        grid: of the maps.
        evidence: of the scan.
        start: (4, 4) affine to start from.
        rounds: steps of L-BFGS at most.

    Returns:
        The affine map, and the weighted mean log-likelihood in nats.

    Source: our own; the objective is that of Van Leemput et al. 1999 seen as a function of the atlas's position, as in
    Ashburner and Friston 2005 (unified segmentation).
    """
    from scipy.optimize import minimize

    from limner.priors.kernels import explain, share_threads

    share_threads()
    centre = evidence.points.mean(0)
    offsets = (evidence.points - centre) / LENGTH
    scaled = np.c_[offsets, np.ones(len(offsets))]
    columns = np.c_[start[:3, :3], (start[:3, :3] @ centre + start[:3, 3]) / LENGTH]
    to_indices = LENGTH * np.linalg.inv(grid.affine)[:3, :3]
    origin = grid.indices(np.zeros(3))
    rows, likelihood = maps.movedim(0, -1).contiguous().numpy(), evidence.likelihood.T.contiguous().numpy()
    floor, weights = FLOOR * likelihood.sum(1, dtype=np.float64), evidence.weights.numpy().astype(np.float64)

    def cost(parameters: Array) -> tuple[float, Array]:
        indices = scaled @ (to_indices @ parameters.reshape(3, 4)).T + origin
        values, slopes = np.empty(len(indices)), np.empty((len(indices), 3))
        explain(rows, indices, likelihood, values, slopes)
        values += floor
        gradient = -to_indices.T @ ((slopes * (weights / values)[:, None]).T @ scaled)
        return -float(weights @ np.log(values)), gradient.ravel()

    found = minimize(cost, columns.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": rounds})
    matrix = found.x.reshape(3, 4)
    transform = np.eye(4)
    transform[:3, :3] = matrix[:, :3]
    transform[:3, 3] = LENGTH * matrix[:, 3] - matrix[:, :3] @ centre
    return transform, -float(found.fun)
