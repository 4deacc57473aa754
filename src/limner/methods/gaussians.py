"""Intensities of tissues as mixtures of Gaussians, fitted in closed form under a prior that varies over space."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from limner.priors.prior import Parts

#: Voxels whose likelihoods are computed at a time.
CHUNK = 1 << 15
#: Smallest variance of a component, as a share of the image's.
SMALLEST_VARIANCE = 1e-3
#: Smallest sd of a component, as a share of the image's largest value: means are not known better than to rounding.
SMALLEST_SD = 1e-5
#: Voxels that the last estimate of a component counts as: one that gets no voxel keeps it.
INERTIA = 1e-6
#: Share of its tissue that a component must have to be its purest: vessels are rare and bright.
COMMON = 0.1
#: Share of a component that does not speak for its tissue.
SILENT = 1e-6
#: Gain in mean log evidence (nats per voxel) below which EM has converged.
CONVERGED = 2e-5


@dataclass(frozen=True)
class GaussianSettings:
    """How tissues' Gaussians are tied down.

    Args:
        components: Gaussians per tissue, by the tissue's name; one where it is not named.
        mean_strength: weight of the prior on the means, as a multiple of the voxels that the spatial prior gives the
            tissue; the prior mean is that of the voxels where the tissue is likely. Tissues of several components have
            none, as their components have to part.
        purest: tissues that look like one component of another, the one farthest from the scan's mean in its own sd.
            In the ventricles fluid is fluid; in the sulci most of it shares its voxels with grey matter, which would
            pass for ventricle where a prior's ventricles are too large.
        shared: tissues whose voxels are often another's in part, and that other. A component past the middle between
            the purest and the other's mean shows voxels that the other fills most. It takes part in the fit, where it
            keeps them from the rest, but does not speak for its tissue.
        variance_strength: weight of the prior on the variances, likewise; the prior variance is the tissues' average.
        rounds: EM steps at most.
    """

    components: Mapping[str, int] = field(default_factory=lambda: {"background": 2, "csf": 4})
    mean_strength: float = 1.0
    variance_strength: float = 0.1
    purest: Mapping[str, str] = field(default_factory=lambda: {"ventricular csf": "csf"})
    shared: Mapping[str, str] = field(default_factory=lambda: {"csf": "grey"})
    rounds: int = 60


@dataclass(frozen=True, eq=False)
class Gaussians:
    """Mixtures of G components over T tissues and C channels.

    Args:
        means: (G, C) in the image's units.
        covariances: (G, C, C).
        shares: (G,) of each component in its tissue; 1 in all over a tissue, or less if some do not speak for it.
        tissue_of: (G,) int64.
    """

    means: Tensor
    covariances: Tensor
    shares: Tensor
    tissue_of: Tensor

    def component_log_density(self, values: Tensor) -> Tensor:
        """Return (G, N) nats of the values (C, N), the components' shares included."""
        factors: Tensor = torch.linalg.cholesky(self.covariances)
        volume = 2 * factors.diagonal(dim1=1, dim2=2).log().sum(1) + values.shape[0] * math.log(2 * math.pi)
        if len(values) == 1:  # far quicker than a solver for matrices of one number
            distance = (values - self.means).div_(factors[:, :, 0]).square_()
        else:
            residuals = values - self.means[:, :, None]
            distance = torch.linalg.solve_triangular(factors, residuals, upper=False).square().sum(1)
        return distance.add_(volume[:, None]).mul_(-0.5).add_(self.shares.log()[:, None])

    def log_density(self, values: Tensor) -> Tensor:
        """Return (T, N) nats: log p(value | tissue) for values (C, N)."""
        tissues = int(self.tissue_of.max()) + 1
        densities = values.new_empty(tissues, values.shape[1])
        for chunk, part in zip(torch.split(densities, CHUNK, 1), torch.split(values, CHUNK, 1), strict=True):
            chunk.copy_(_by_log(self.component_log_density(part), self.tissue_of))
        return densities

    def told(self, values: Tensor, prior: Tensor) -> float:
        """Return how much places tell of intensities: the mean gain in log-likelihood over equal ones, nats.

        Args:
            values: (C, N) intensities.
            prior: (T, N) probabilities of the tissues at their places.
        """
        density = self.log_density(values)
        anywhere = prior.mean(1, keepdim=True)
        return float(((density + prior.log()).logsumexp(0) - (density + anywhere.log()).logsumexp(0)).mean())

    def expected(self, values: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
        """Return the precision of each value (C, N), and the value that its tissues' means make likeliest (C, N).

        Args:
            values: (C, N) intensities.
            prior: (T, N) probabilities of the tissues, positive.
        """
        shares = self.component_log_density(values).add_(prior.log()[self.tissue_of]).softmax(0)
        precisions = 1 / self.covariances.diagonal(dim1=1, dim2=2)
        found = precisions.T @ shares
        return found, (precisions * self.means).T @ shares / found


def fit_gaussians(
    values: Tensor, prior: Tensor, *, tissues: tuple[str, ...], settings: GaussianSettings, outliers: float = 0.0
) -> tuple[Gaussians, float]:
    """Fit tissues' Gaussians to the intensities of one scan by expectation-maximisation.

    The classes' proportions are those of the spatial prior at each voxel: global ones would let large classes swallow
    small ones.

    Args:
        values: (C, N) intensities.
        prior: (T, N) probabilities of the tissues, positive, summing to 1.
        tissues: T names.
        settings: how the Gaussians are tied down.
        outliers: share of the voxels, below 1, that may have any value of the image's range and pull at no Gaussian.

    Returns:
        The Gaussians and the mean log evidence in nats per voxel.

    Source: Van Leemput et al. 1999 (EM with a spatial prior); conjugate priors as in Puonti et al. 2016 (SAMSEG), their
    strengths relative to each tissue's expected volume being ours.
    """
    counts, ties = _components(tissues, settings, device=values.device), _pairs(settings.purest, tissues)
    tissue_of = _groups(counts)
    gaussians = _tied(_started(values, prior, tissue_of=tissue_of), ties, values=values)
    mass = (prior.sum(1) / counts)[tissue_of]
    anchored = (counts == 1)[tissue_of]
    anchor, log_prior = gaussians.means, prior.log()[tissue_of] + math.log1p(-outliers)
    strengths = (settings.mean_strength * mass * anchored, settings.variance_strength * mass)
    evidence = float("-inf")
    for step in range(settings.rounds):
        joint = gaussians.component_log_density(values).add_(log_prior)
        total = joint.logsumexp(0)
        if outliers > 0:
            total = torch.logaddexp(total, uniform_log_density(values) + math.log(outliers))
        previous, evidence = evidence, float(total.mean())
        if step > 5 and evidence - previous < CONVERGED:
            break
        weights = joint.sub_(total).exp_()
        gaussians = _updated(values, weights, old=gaussians, anchor=anchor, strengths=strengths)
        gaussians = _tied(gaussians, ties, values=values)
    return gaussians, evidence


def fit_to_parts(
    values: Tensor, parts: Tensor, *, of: Parts, settings: GaussianSettings, voxels: int, outliers: float = 0.0
) -> Gaussians:
    """Fit tissues' Gaussians, as they are to label one scan, given where the prior expects its parts.

    Args:
        values: (C, N) intensities.
        parts: (N, P) prior probabilities of the parts, positive, summing to 1.
        of: what the parts belong to.
        settings: how the Gaussians are tied down.
        voxels: to fit on, about; more change nothing but the time.
        outliers: as in `fit_gaussians`.

    Source: as `fit_gaussians`; which components speak for their tissue is our own.
    """
    few = slice(None, None, max(1, len(parts) // voxels))
    tissues = parts.new_zeros(len(of.tissues), len(parts[few])).index_add_(0, of.tissue_of, parts[few].T)
    found, _ = fit_gaussians(values[:, few], tissues, tissues=of.tissues, settings=settings, outliers=outliers)
    return _speaking(found, _pairs(settings.shared, of.tissues), values=values)


def class_evidence(gaussians: Gaussians, values: Tensor, *, parts: Tensor, of: Parts, classes: int) -> Tensor:
    """Return (N, K) nats: log p(class, value | place), never further than 69 nats below the likeliest component's.

    Args:
        gaussians: of the tissues.
        values: (C, N) intensities.
        parts: (N, P) prior probabilities of the parts.
        of: what the parts belong to.
        classes: K.

    Source: Van Leemput et al. 1999, the E-step; several parts in a class are our own.
    """
    evidence = parts.new_empty(len(parts), classes)
    alike = (gaussians.tissue_of[:, None] == of.tissue_of).to(parts)  # (G, P)
    members = _members(of.class_of, classes)
    chunks = (torch.split(values, CHUNK, 1), torch.split(parts, CHUNK), torch.split(evidence, CHUNK))
    for seen, shares, target in zip(*chunks, strict=True):
        likelihoods, highest = _likelihoods(gaussians, seen)
        torch.matmul((likelihoods @ alike).mul_(shares), members, out=target)
        target.clamp_min_(1e-30).log_().add_(highest[:, None])
    return evidence


def _components(tissues: tuple[str, ...], settings: GaussianSettings, *, device: torch.device) -> Tensor:
    """Return the number of Gaussians of each tissue, (T,)."""
    return torch.tensor([settings.components.get(name, 1) for name in tissues], device=device)


def _pairs(named: Mapping[str, str], tissues: tuple[str, ...]) -> list[tuple[int, int]]:
    """Return the indices of named pairs of tissues, where both are there."""
    return [(tissues.index(one), tissues.index(other)) for one, other in named.items() if {one, other} <= {*tissues}]


def _tied(gaussians: Gaussians, ties: list[tuple[int, int]], *, values: Tensor) -> Gaussians:
    """Return the Gaussians with tied tissues given the other's purest component."""
    looks_like = torch.arange(len(gaussians.means), device=gaussians.means.device)
    for tissue, other in ties:
        looks_like[gaussians.tissue_of == tissue] = _purest(gaussians, other, values=values)
    return replace(gaussians, means=gaussians.means[looks_like], covariances=gaussians.covariances[looks_like])


def _speaking(gaussians: Gaussians, pairs: list[tuple[int, int]], *, values: Tensor) -> Gaussians:
    """Return the Gaussians without the components of a tissue that show what another fills most."""
    shares = gaussians.shares.clone()
    for tissue, other in pairs:
        pure = gaussians.means[_purest(gaussians, tissue, values=values)]
        way = gaussians.means[_purest(gaussians, other, values=values)] - pure
        gone = (gaussians.means - pure) @ way / way.square().sum().clamp_min(1e-9)
        shares[(gaussians.tissue_of == tissue) & (gone > 0.5)] = SILENT
    return replace(gaussians, shares=shares)


def _purest(gaussians: Gaussians, tissue: int, *, values: Tensor) -> int:
    """Return the component of a tissue that is farthest from the scan's mean in its own sd, and not rare."""
    away = gaussians.means - values.mean(1)
    distance = (away * torch.linalg.solve(gaussians.covariances, away)).sum(1)
    distance = distance.masked_fill(gaussians.shares < COMMON, -1)
    return int(distance.masked_fill(gaussians.tissue_of != tissue, -2).argmax())


def _groups(counts: Tensor) -> Tensor:
    """Return the group of each member, (M,), from the number of each group's members."""
    return torch.arange(len(counts), device=counts.device).repeat_interleave(counts)


def _likelihoods(gaussians: Gaussians, values: Tensor) -> tuple[Tensor, Tensor]:
    """Return (N, G) likelihoods of the components, the largest at each voxel being 1, and (N,) its log, nats."""
    density = gaussians.component_log_density(values)
    highest = density.amax(0)
    return density.sub_(highest).exp_().T.contiguous(), highest


def _members(group_of: Tensor, groups: int) -> Tensor:
    """Return (M, groups) float32, 1 where a member belongs to a group."""
    return torch.nn.functional.one_hot(group_of, groups).float()


def _by_log(components: Tensor, tissue_of: Tensor) -> Tensor:
    """Return (T, N) log-sums over the components (G, N) of each tissue."""
    groups = [components[tissue_of == tissue] for tissue in range(int(tissue_of.max()) + 1)]
    return torch.stack([group[0] if len(group) == 1 else group.logsumexp(0) for group in groups])


def uniform_log_density(values: Tensor) -> Tensor:
    """Return log p (nats, a scalar) of any value if all in the range of `values` (C, N) are equally likely."""
    # No narrower than a Gaussian can be: in a channel that is constant, nothing is an outlier.
    return -(values.amax(1) - values.amin(1)).maximum(10 * _rounding(values)).log().sum()


def _started(values: Tensor, prior: Tensor, *, tissue_of: Tensor) -> Gaussians:
    """Return each tissue's mean and covariance where it is likely, its components one sd apart on the longest axis."""
    weights = prior.square()
    weights = weights / weights.sum(1, keepdim=True)
    means = weights @ values.T
    covariances = _covariances(values, weights, means=means) + _smallest(values)
    counts = torch.bincount(tissue_of).tolist()
    rank = torch.cat([torch.arange(count, device=means.device) - (count - 1) / 2 for count in counts]).to(means)
    lengths, axes = torch.linalg.eigh(covariances)
    spread = (axes[:, :, -1] * lengths[:, -1:].sqrt())[tissue_of]
    shares = 1 / torch.bincount(tissue_of)[tissue_of]
    return Gaussians(means[tissue_of] + rank[:, None] * spread, covariances[tissue_of], shares, tissue_of)


def _covariances(values: Tensor, weights: Tensor, *, means: Tensor) -> Tensor:
    """Return (G, C, C) covariances of values (C, N) about means (G, C) under weights (G, N) that sum to 1."""
    matrices = []
    for weight, mean in zip(weights, means, strict=True):
        residual = values - mean[:, None]
        matrices.append((residual * weight) @ residual.T)
    return torch.stack(matrices)


def _smallest(values: Tensor) -> Tensor:
    """Return the (C, C) diagonal that keeps a covariance from collapsing."""
    return torch.diag((values.var(1, correction=0) * SMALLEST_VARIANCE).maximum(_rounding(values).square()))


def _rounding(values: Tensor) -> Tensor:
    """Return the sd (C,) below which differences between values (C, N) mean nothing."""
    return SMALLEST_SD * values.abs().amax(1) + 1e-15


def _updated(
    values: Tensor, weights: Tensor, *, old: Gaussians, anchor: Tensor, strengths: tuple[Tensor, Tensor]
) -> Gaussians:
    """Return the maximum a posteriori Gaussians given the components' responsibilities (G, N)."""
    mean_strength, variance_strength = (strength[:, None] for strength in strengths)
    mass = weights.sum(1, keepdim=True)
    sums = weights @ values.T + mean_strength * anchor + INERTIA * old.means
    means = sums / (mass + mean_strength + INERTIA)
    scatter = _covariances(values, weights / mass.clamp_min(1e-6), means=means) * mass[:, :, None]
    single = torch.bincount(old.tissue_of)[old.tissue_of] == 1
    which = single if single.any() else slice(None)
    pooled = scatter[which].sum(0) / mass[which].sum().clamp_min(1e-6)
    strength = variance_strength[:, :, None]
    scatter = scatter + strength * pooled + INERTIA * old.covariances
    covariances = scatter / (mass[:, :, None] + strength + INERTIA)
    shares = mass[:, 0] + 1e-3
    totals = shares.new_zeros(int(old.tissue_of.max()) + 1).index_add_(0, old.tissue_of, shares)
    return Gaussians(means, covariances + _smallest(values), shares / totals[old.tissue_of], old.tissue_of)
