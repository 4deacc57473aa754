"""Gaussians under a prior of parts, and what they say of each class."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from limner.methods import gaussians
from limner.methods.gaussians import Gaussians, GaussianSettings, class_evidence, fit_to_parts
from limner.priors.prior import Parts

#: One Gaussian for each tissue, tied down by nothing.
FREE = GaussianSettings(components={}, mean_strength=0, variance_strength=0)
#: The last class has two parts, one of the tissue of the class before.
MIXED = Parts(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 1, 2]), ("background", "grey", "white"))
#: Of the tissues' values, in two channels.
MEANS, SD = np.array([[0.0, 2.0], [4.0, 6.0], [9.0, -1.0]]), 1.3


def drawn(*, count: int = 400) -> tuple[Tensor, Tensor]:
    """Values (C, N) and the prior of the parts (N, P) that they were drawn from."""
    rng = np.random.default_rng(0)
    parts = rng.dirichlet([1.0] * 4, count) * 0.97 + 0.03 / 4
    part = (rng.random((count, 1)) > parts.cumsum(1)).sum(1).clip(0, 3)
    values = rng.normal(MEANS[MIXED.tissue_of.numpy()[part]], SD)
    return torch.from_numpy(values.T.copy()).float(), torch.from_numpy(parts).float()


def densities(found: Gaussians, value: Tensor) -> np.ndarray:
    """Density of each component at one value (C,), its share in the tissue included, (G,)."""
    each = zip(found.means.numpy(), found.covariances.numpy(), found.shares.numpy(), strict=True)
    return np.array([share * stats.multivariate_normal(mean, spread).pdf(value) for mean, spread, share in each])


@pytest.mark.parametrize("voxels", [6000, 2000])
def test_known_gaussians_are_recovered(voxels: int) -> None:
    """Also where a class is of two tissues, and on some of the voxels."""
    values, parts = drawn(count=6000)
    found = fit_to_parts(values, parts, of=MIXED, settings=FREE, voxels=voxels)
    np.testing.assert_allclose(found.means, MEANS, atol=0.15)
    np.testing.assert_allclose(found.covariances, [np.eye(2) * SD**2] * 3, atol=0.25)


@pytest.mark.parametrize("components", [{}, {"grey": 2}])
def test_evidence_is_the_log_probability_of_class_and_value(components: dict[str, int]) -> None:
    values, parts = drawn(count=60)
    settings = GaussianSettings(components)
    found = fit_to_parts(values, parts, of=MIXED, settings=settings, voxels=60)
    evidence = class_evidence(found, values, parts=parts, of=MIXED, classes=3)
    for voxel in range(60):
        dense = densities(found, values[:, voxel])
        tissues = np.array([dense[found.tissue_of.numpy() == tissue].sum() for tissue in range(3)])
        joint = parts[voxel].numpy() * tissues[MIXED.tissue_of]
        expected = np.log([joint[0], joint[1], joint[2] + joint[3]])
        np.testing.assert_allclose(evidence[voxel], expected, atol=2e-3)


def test_evidence_does_not_depend_on_how_much_is_computed_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    values, parts = drawn()
    found = fit_to_parts(values, parts, of=MIXED, settings=FREE, voxels=400)
    whole = class_evidence(found, values, parts=parts, of=MIXED, classes=3)
    monkeypatch.setattr(gaussians, "CHUNK", 64)
    torch.testing.assert_close(class_evidence(found, values, parts=parts, of=MIXED, classes=3), whole)


def test_evidence_of_the_unlikeliest_is_finite() -> None:
    found = Gaussians(torch.tensor([[0.0], [1.0]]), torch.full((2, 1, 1), 1e-6), torch.ones(2), torch.arange(2))
    of = Parts(torch.arange(2), torch.arange(2), ("background", "white"))
    evidence = class_evidence(found, torch.tensor([[0.0, 1e3]]), parts=torch.full((2, 2), 0.5), of=of, classes=2)
    assert torch.isfinite(evidence).all()
    assert evidence[0, 0] > evidence[0, 1] + 60


@pytest.mark.parametrize("sign", [1, -1])
def test_what_is_mostly_grey_does_not_speak_for_fluid(sign: int) -> None:
    """Where fluid is expected, and grey matter less: a voxel is fluid only if fluid fills most of it."""
    rng = np.random.default_rng(0)
    filled = np.concatenate([np.zeros(3000), rng.uniform(0, 1, 6000), np.ones(3000)])  # by grey matter
    values = torch.from_numpy(sign * rng.normal(10 + 50 * filled, 3)[None]).float()
    parts = torch.full((len(filled), 2), 0.7)
    parts[:, 0] = torch.from_numpy(np.where(filled == 1, 0.95, 0.3)).float()
    parts[:, 1] = 1 - parts[:, 0]
    of = Parts(torch.tensor([0, 1]), torch.tensor([0, 1]), ("grey", "csf"))
    errors = []
    for shared in ({}, {"csf": "grey"}):
        settings = GaussianSettings(components={"csf": 4}, shared=shared)
        found = fit_to_parts(values, parts, of=of, settings=settings, voxels=12_000)
        classes = class_evidence(found, values, parts=parts, of=of, classes=2).argmax(1).numpy()
        errors.append((classes != (filled < 0.5)).mean())
    assert errors[1] < 0.75 * errors[0]
