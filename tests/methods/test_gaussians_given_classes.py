"""Gaussians where somebody proposes the classes: weighted means and variances, and EM for what classes leave open."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from limner.methods import gaussians
from limner.methods.gaussians import SMALLEST_VARIANCE, Gaussians, GaussianSettings, class_evidence, fit_to_classes
from limner.priors.prior import Parts

#: One Gaussian for each tissue, tied down by nothing.
FREE = GaussianSettings(components={}, mean_strength=0, variance_strength=0)
#: Every class a part and a tissue of its own.
SIMPLE = Parts(torch.arange(3), torch.arange(3), ("background", "grey", "white"))
#: The last class has two parts, one of the tissue of the class before.
MIXED = Parts(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 1, 2]), ("background", "grey", "white"))
#: Of the tissues' values, in two channels.
MEANS, SD = np.array([[0.0, 2.0], [4.0, 6.0], [9.0, -1.0]]), 1.3


def drawn(of: Parts, *, count: int = 400, channels: int = 2, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Values (C, N), the prior of the parts (N, P), and proposed classes (N, K) that fit neither too well."""
    rng = np.random.default_rng(seed)
    parts = rng.dirichlet([1.0] * len(of.class_of), count) * 0.97 + 0.03 / len(of.class_of)
    part = (rng.random((count, 1)) > parts.cumsum(1)).sum(1).clip(0, len(of.class_of) - 1)
    values = rng.normal(MEANS[of.tissue_of.numpy()[part], :channels], SD)
    sure = np.eye(3)[of.class_of.numpy()[part]]
    q = 0.7 * sure + 0.3 * rng.dirichlet([1.0] * 3, count)
    return tuple(torch.from_numpy(one).float() for one in (values.T.copy(), parts, q))


def responsibilities(found: Gaussians, values: Tensor, parts: Tensor, *, q: Tensor, of: Parts) -> np.ndarray:
    """The slow twin: p(component | voxel, its proposed classes), (N, G), voxel by voxel."""
    result = np.zeros((len(parts), len(found.means)))
    for voxel, (shares, proposed) in enumerate(zip(parts.double().numpy(), q.double().numpy(), strict=True)):
        dense = densities(found, values[:, voxel])
        for k, weight in enumerate(proposed):
            joint = np.zeros(len(dense))
            for part in np.flatnonzero(of.class_of.numpy() == k):
                joint += shares[part] * dense * (found.tissue_of.numpy() == of.tissue_of[part].item())
            result[voxel] += weight * joint / joint.sum()
    return result


def densities(found: Gaussians, value: Tensor) -> np.ndarray:
    """Density of each component at one value (C,), its share in the tissue included, (G,)."""
    each = zip(found.means.numpy(), found.covariances.numpy(), found.shares.numpy(), strict=True)
    return np.array([share * stats.multivariate_normal(mean, spread).pdf(value) for mean, spread, share in each])


def moments(values: Tensor, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means (G, C) and covariances (G, C, C) of values under weights (N, G), each by itself."""
    points = values.double().numpy().T
    means = np.stack([np.average(points, axis=0, weights=weight) for weight in weights.T])
    spreads = [np.cov(points.T, aweights=weight, bias=True, ddof=0) for weight in weights.T]
    floor = np.diag(points.var(0)) * SMALLEST_VARIANCE
    return means, np.stack([spread.reshape(len(values), -1) + floor for spread in spreads])


@pytest.mark.parametrize("channels", [1, 2])
def test_classes_of_one_tissue_have_weighted_means_and_variances(channels: int) -> None:
    values, parts, q = drawn(SIMPLE, channels=channels)
    found = fit_to_classes(values, parts, q=q, of=SIMPLE, settings=FREE)
    means, spreads = moments(values, q.double().numpy())
    np.testing.assert_allclose(found.means, means, atol=1e-4)
    np.testing.assert_allclose(found.covariances, spreads, atol=1e-3)
    assert found.tissue_of.tolist() == [0, 1, 2]


@pytest.mark.parametrize("components", [{}, {"background": 2}, {"grey": 2}])
def test_what_classes_leave_open_is_a_fixed_point_of_em(components: dict[str, int]) -> None:
    values, parts, q = drawn(MIXED)
    settings = GaussianSettings(components, mean_strength=0, variance_strength=0)
    found = fit_to_classes(values, parts, q=q, of=MIXED, settings=settings, rounds=400)
    weights = responsibilities(found, values, parts, q=q, of=MIXED)
    means, spreads = moments(values, weights)
    np.testing.assert_allclose(found.means, means, atol=0.02)
    np.testing.assert_allclose(found.covariances, spreads, atol=0.05)
    mass = np.array([weights[:, found.tissue_of.numpy() == tissue].sum() for tissue in range(3)])
    np.testing.assert_allclose(found.shares, weights.sum(0) / mass[found.tissue_of], atol=0.01)


def test_known_gaussians_are_recovered() -> None:
    """Where classes are sure, but one is of two tissues, which only the values tell apart."""
    values, parts, q = drawn(MIXED, count=4000)
    sure = torch.nn.functional.one_hot(q.argmax(1), 3).float()
    found = fit_to_classes(values, parts, q=sure, of=MIXED, settings=FREE, rounds=20)
    np.testing.assert_allclose(found.means, MEANS, atol=0.15)
    np.testing.assert_allclose(found.covariances, [np.eye(2) * SD**2] * 3, atol=0.2)


def test_means_are_held_near_where_the_prior_has_them() -> None:
    """Not near what was proposed: proposals that follow the means, and means the proposals, would wander together."""
    values, parts, _ = drawn(SIMPLE)
    wrong = parts.roll(1, 1)
    means = []
    for strength in (0.0, 1.0, 1e6):
        settings = GaussianSettings({}, mean_strength=strength, variance_strength=0)
        means.append(fit_to_classes(values, parts, q=wrong, of=SIMPLE, settings=settings).means)
    weights = parts.square() / parts.square().sum(0)
    expected = weights.T @ values.T
    torch.testing.assert_close(means[2], expected, atol=1e-3, rtol=0)
    distances = [float((one - expected).norm()) for one in means]
    assert distances[0] > distances[1] > distances[2]


@pytest.mark.parametrize("out", [[1], [0, 2], [1, 2]])
@pytest.mark.parametrize("settings", [FREE, GaussianSettings()])
def test_classes_that_are_ruled_out_everywhere_stay_finite(out: list[int], settings: GaussianSettings) -> None:
    values, parts, q = drawn(SIMPLE)
    q[:, out] = 0
    q = q / q.sum(1, keepdim=True)
    found = fit_to_classes(values, parts, q=q, of=SIMPLE, settings=settings)
    assert all(torch.isfinite(field).all() for field in (found.means, found.covariances, found.shares))
    assert (torch.linalg.eigvalsh(found.covariances) > 0).all()
    # They wait where the prior has most of them.
    for tissue in out:
        weights = parts[:, tissue].square()
        expected = (values * weights).sum(1) / weights.sum()
        means = found.means[found.tissue_of == tissue]
        torch.testing.assert_close(means.mean(0), expected, atol=0.3, rtol=0)


@pytest.mark.parametrize("components", [{}, {"grey": 2}])
def test_evidence_is_the_log_probability_of_class_and_value(components: dict[str, int]) -> None:
    values, parts, q = drawn(MIXED, count=60)
    settings = GaussianSettings(components)
    found = fit_to_classes(values, parts, q=q, of=MIXED, settings=settings)
    evidence = class_evidence(found, values, parts=parts, of=MIXED, classes=3)
    for voxel in range(60):
        dense = densities(found, values[:, voxel])
        tissues = np.array([dense[found.tissue_of.numpy() == tissue].sum() for tissue in range(3)])
        joint = parts[voxel].numpy() * tissues[MIXED.tissue_of]
        expected = np.log([joint[0], joint[1], joint[2] + joint[3]])
        np.testing.assert_allclose(evidence[voxel], expected, atol=2e-3)


def test_evidence_does_not_depend_on_how_much_is_computed_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    values, parts, q = drawn(MIXED)
    found = fit_to_classes(values, parts, q=q, of=MIXED, settings=FREE)
    whole = class_evidence(found, values, parts=parts, of=MIXED, classes=3)
    monkeypatch.setattr(gaussians, "CHUNK", 64)
    torch.testing.assert_close(class_evidence(found, values, parts=parts, of=MIXED, classes=3), whole)


def test_evidence_of_the_unlikeliest_is_finite() -> None:
    found = Gaussians(torch.tensor([[0.0], [1.0]]), torch.full((2, 1, 1), 1e-6), torch.ones(2), torch.arange(2))
    of = Parts(torch.arange(2), torch.arange(2), ("background", "white"))
    evidence = class_evidence(found, torch.tensor([[0.0, 1e3]]), parts=torch.full((2, 2), 0.5), of=of, classes=2)
    assert torch.isfinite(evidence).all()
    assert evidence[0, 0] > evidence[0, 1] + 60
