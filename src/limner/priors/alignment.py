"""Move a prior to where it best explains a scan: an affine map and a warp, by the likelihood."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from limner.priors.deformation import Warps, displaced, flow, mixed
from limner.space import Array, Grid

#: Floor of the interpolated probabilities: a misplaced voxel must not decide alone.
FLOOR = 1e-4
#: Unit of length in mm that makes rotations, scales and shifts steps of one size for the optimiser.
LENGTH = 50.0
#: Corrections that L-BFGS remembers of a warp.
REMEMBERED = 8


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a scan says about its classes at scattered points.

    Args:
        points: (N, 3) mm in the scan's world.
        likelihood: (P, N) of each part, scaled so that the largest at a point is 1.
        weights: (N,) how much each point counts.
    """

    points: Array
    likelihood: Tensor
    weights: Tensor


@dataclass(frozen=True, eq=False)
class Labelled:
    """Scattered points whose labels are known, but for some that are wrong.

    Args:
        points: (N, 3) mm in the label map's world.
        rows: (N,) int64, of the maps.
        wrong: share of labels that may be wrong.
        weights: (N,) how much each point counts.
    """

    points: Array
    rows: Array
    wrong: float
    weights: Tensor


class _Explanation:
    """How well maps (P, *S) explain evidence, wherever it is laid over them."""

    def __init__(self, maps: Tensor, evidence: Evidence | Labelled) -> None:
        from limner.priors import kernels

        self._maps = maps.movedim(0, -1).contiguous().numpy()
        self._weights = evidence.weights.numpy().astype(np.float64)
        self._fill: Callable[..., None]
        if isinstance(evidence, Labelled):
            self._fill, self._seen, self._floor = kernels.explain_rows, evidence.rows, evidence.wrong
        else:
            self._fill, self._seen = kernels.explain, evidence.likelihood.T.contiguous().numpy()
            self._floor = FLOOR * self._seen.sum(1, dtype=np.float64)
        kernels.share_threads()

    def at(self, indices: Array) -> tuple[float, Array]:
        """Return the mean log-likelihood in nats with each point at a voxel index (N, 3), and its slopes (N, 3)."""
        values, slopes = np.empty(len(indices)), np.empty((len(indices), 3))
        self._fill(self._maps, indices, self._seen, values, slopes)
        values += self._floor
        return float(self._weights @ np.log(values)), slopes * (self._weights / values)[:, None]


def moved(transform: Array, points: Array) -> Array:
    """Return points (N, 3) after an affine map (4, 4)."""
    return np.asarray(points @ transform[:3, :3].T + transform[:3, 3])


def blurred(maps: Tensor, sd: float) -> Tensor:
    """Return maps (P, *S) blurred by `sd` voxels, the border continued, in memory one voxel after the other."""
    from scipy.ndimage import gaussian_filter1d

    # Products with small matrices: twice as quick as a filter part by part.
    eyes = [np.eye(size, dtype=np.float32) for size in maps.shape[1:]]
    blurs = [torch.from_numpy(gaussian_filter1d(eye, sd, axis=0, mode="nearest")) for eye in eyes] if sd > 0 else []
    return mixed(maps, blurs).movedim(0, -1).contiguous().movedim(-1, 0)


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
        evidence: of the scan; its weights sum to 1.
        start: (4, 4) affine to start from.
        rounds: steps of L-BFGS at most.

    Returns:
        The affine map, and the weighted mean log-likelihood in nats.

    Source: our own; the objective is that of Van Leemput et al. 1999 seen as a function of the atlas's position, as in
    Ashburner and Friston 2005 (unified segmentation).
    """
    from scipy.optimize import minimize

    centre = evidence.points.mean(0)
    offsets = (evidence.points - centre) / LENGTH
    scaled = np.c_[offsets, np.ones(len(offsets))]
    columns = np.c_[start[:3, :3], (start[:3, :3] @ centre + start[:3, 3]) / LENGTH]
    to_indices = LENGTH * np.linalg.inv(grid.affine)[:3, :3]
    origin = grid.indices(np.zeros(3))
    explanation = _Explanation(maps, evidence)

    def cost(parameters: Array) -> tuple[float, Array]:
        value, slopes = explanation.at(scaled @ (to_indices @ parameters.reshape(3, 4)).T + origin)
        return -value, -(to_indices.T @ slopes.T @ scaled).ravel()

    found = minimize(cost, columns.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": rounds})
    matrix = found.x.reshape(3, 4)
    transform = np.eye(4)
    transform[:3, :3] = matrix[:, :3]
    transform[:3, 3] = LENGTH * matrix[:, 3] - matrix[:, :3] @ centre
    return transform, -float(found.fun)


def bent(
    maps: Tensor,
    grid: Grid,
    *,
    evidence: Evidence | Labelled,
    transform: Array,
    warps: Warps,
    start: Array,
    rounds: int,
) -> tuple[Array, float]:
    """Return the coefficients (size,) of the likeliest warp given the evidence, and its penalised log-likelihood.

    Args:
        maps: (P, *S) probabilities of the parts.
        grid: of the maps.
        evidence: of the scan or label map; its weights sum to the number of independent voxels that it counts as.
        transform: (4, 4) affine map from the scan's world to the atlas's, before the warp.
        warps: how likely warps are.
        start: (size,) coefficients to start from.
        rounds: steps of L-BFGS at most; none of them lowers the penalised likelihood.

    Source: the maximum a posteriori warp under the mixture's likelihood, as in Ashburner and Friston 2005 (unified
    segmentation); one Gaussian prior over modes and smooth fields, whitened for the optimiser, is our own.
    """
    from scipy.optimize import minimize

    places = warps.grid.indices(moved(transform, evidence.points))
    indices = torch.from_numpy(places.T).float()
    onward = torch.from_numpy(np.linalg.inv(grid.affine) @ warps.grid.affine).float()
    explanation = _Explanation(maps, evidence)

    def cost(coefficients: Array) -> tuple[float, Array]:
        leaf = torch.from_numpy(coefficients).float().requires_grad_()
        bent_to = onward[:3, :3] @ (indices + displaced(flow(warps.velocity(leaf)), indices)) + onward[:3, 3:]
        value, slopes = explanation.at(bent_to.detach().T.double().numpy())
        (slope,) = torch.autograd.grad(bent_to, leaf, torch.from_numpy(slopes.T).float())
        return 0.5 * float(coefficients @ coefficients) - value, coefficients - slope.double().numpy()

    found = minimize(cost, start, jac=True, method="L-BFGS-B", options={"maxiter": rounds, "maxcor": REMEMBERED})
    return found.x, -float(found.fun)
