"""Gaussians fitted to intensities that were drawn from known ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from limner.methods import gaussians
from limner.methods.gaussians import Gaussians, GaussianSettings, fit_gaussians, uniform_log_density

TISSUES = ("background", "grey", "white")
MEANS = torch.tensor([[20.0, 90.0], [60.0, 50.0], [100.0, 40.0]])
COVARIANCES = torch.tensor([[[25.0, 6.0], [6.0, 16.0]], [[64.0, -20.0], [-20.0, 36.0]], [[30.0, 10.0], [10.0, 90.0]]])
#: One Gaussian for each tissue, tied down by nothing.
FREE = GaussianSettings(components={}, mean_strength=0, variance_strength=0)


def drawn(count: int = 20_000, *, seed: int = 0, channels: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Values (C, N) of voxels of known tissue (N,), and the prior (T, N) that the tissues were drawn from."""
    rng = np.random.default_rng(seed)
    prior = rng.dirichlet([0.4] * 3, count) * 0.97 + 0.01
    tissue = (rng.random((count, 1)) > prior.cumsum(1)).sum(1).clip(0, 2)
    values = np.empty((count, 2))
    for number in range(3):
        where = tissue == number
        values[where] = rng.multivariate_normal(MEANS.numpy()[number], COVARIANCES.numpy()[number], where.sum())
    return torch.tensor(values.T[:channels].copy()).float(), torch.tensor(prior.T.copy()).float(), torch.tensor(tissue)


def fitted(values: Tensor, prior: Tensor, settings: GaussianSettings = FREE, **more: float) -> Gaussians:
    return fit_gaussians(values, prior, tissues=TISSUES, settings=settings, **more)[0]


def labels(values: Tensor, prior: Tensor, settings: GaussianSettings | None = None) -> Tensor:
    """The likeliest tissue of each voxel after fitting."""
    found = fitted(values, prior, settings or GaussianSettings())
    return (found.log_density(values) + prior.log()).argmax(0)


@pytest.mark.parametrize("channels", [1, 2])
def test_known_gaussians_are_recovered(channels: int) -> None:
    values, prior, _ = drawn(channels=channels)
    found = fitted(values, prior)
    np.testing.assert_allclose(found.means, MEANS[:, :channels], atol=1)
    np.testing.assert_allclose(found.covariances, COVARIANCES[:, :channels, :channels], rtol=0.15, atol=3)
    np.testing.assert_allclose(found.shares, 1)


def test_densities_are_those_of_scipy() -> None:
    values, _, _ = drawn(50)
    found = Gaussians(MEANS, COVARIANCES, torch.tensor([0.3, 0.7, 1.0]), torch.tensor([0, 0, 1]))
    each = [
        stats.multivariate_normal(mean, covariance).pdf(values.T)
        for mean, covariance in zip(MEANS.numpy(), COVARIANCES.numpy(), strict=True)
    ]
    expected = np.log([0.3 * each[0] + 0.7 * each[1], each[2]])
    np.testing.assert_allclose(found.log_density(values), expected, rtol=1e-4)
    np.testing.assert_allclose(
        found.component_log_density(values), np.log([0.3 * each[0], 0.7 * each[1], each[2]]), rtol=1e-4
    )


def test_densities_do_not_depend_on_how_many_are_computed_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    values, prior, _ = drawn(1000)
    found = fitted(values, prior)
    whole = found.log_density(values)
    monkeypatch.setattr(gaussians, "CHUNK", 64)
    torch.testing.assert_close(found.log_density(values), whole)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("components", [{}, {"background": 2, "grey": 3}])
def test_a_step_never_lowers_the_evidence(
    seed: int, components: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no priors on the parameters the penalised evidence is the evidence itself."""
    monkeypatch.setattr(gaussians, "CONVERGED", -np.inf)
    values, prior, _ = drawn(3000, seed=seed)
    evidence = [
        fit_gaussians(
            values,
            prior,
            tissues=TISSUES,
            settings=GaussianSettings(components, mean_strength=0, variance_strength=0, rounds=rounds),
        )[1]
        for rounds in range(1, 25)
    ]
    assert evidence[-1] > evidence[0] + 0.01
    # The floor of the variances, and single precision, cost the last digits.
    assert np.diff(evidence).min() > -1e-4


def test_the_evidence_is_the_mean_log_probability_of_the_values() -> None:
    values, prior, _ = drawn(2000)
    settings = GaussianSettings(components={"background": 2}, rounds=30)
    found, evidence = fit_gaussians(values, prior, tissues=TISSUES, settings=settings)
    expected = (found.log_density(values) + prior.log()).logsumexp(0).mean()
    assert evidence == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.parametrize(("scale", "shift"), [(1000.0, 7.0), (1e-6, 0.0), (1.0, 3000.0), (-2.0, 100.0)])
@pytest.mark.parametrize("settings", [FREE, GaussianSettings(), GaussianSettings(components={"white": 3})])
def test_the_unit_of_the_image_does_not_matter(scale: float, shift: float, settings: GaussianSettings) -> None:
    values, prior, _ = drawn(4000)
    assert (labels(values * scale + shift, prior, settings) == labels(values, prior, settings)).float().mean() > 0.999


@pytest.mark.parametrize("settings", [FREE, GaussianSettings(), GaussianSettings(components={"white": 3})])
def test_a_channel_may_be_its_negative(settings: GaussianSettings) -> None:
    """Whether channels rise together or against one another, components begin where there are values."""
    values, prior, _ = drawn(4000, channels=1)
    noise = torch.randn(values.shape, generator=torch.Generator().manual_seed(0)) / 10
    found = [labels(torch.cat([values, sign * values + noise]), prior, settings) for sign in (1, -1)]
    assert (found[0] == found[1]).float().mean() > 0.99


def test_components_share_their_tissue() -> None:
    """A tissue of two kinds gets a Gaussian for each, and tissues of one keep theirs."""
    rng = np.random.default_rng(0)
    kind = rng.random(12_000)
    values = np.where(kind < 0.3, rng.normal(20, 3, 12_000), rng.normal(40, 3, 12_000))
    values[8000:] = rng.normal(100, 4, 4000)
    prior = torch.full((3, 12_000), 0.01)
    prior[0, :8000], prior[2, 8000:] = 0.98, 0.98
    found = fitted(torch.tensor(values[None]).float(), prior, GaussianSettings(components={"background": 2}))
    assert found.tissue_of.tolist() == [0, 0, 1, 2]
    np.testing.assert_allclose(found.means[[0, 1, 3], 0], [20, 40, 100], atol=0.5)
    np.testing.assert_allclose(found.shares[:2], [0.3, 0.7], atol=0.02)
    assert found.shares[2:].tolist() == [1, 1]


@pytest.mark.parametrize("sign", [1, -1])
def test_ventricles_look_like_pure_fluid(sign: int) -> None:
    """Neither like fluid that shares its voxels with grey matter, nor like vessels, nor like what is there instead."""
    rng = np.random.default_rng(0)
    amounts = {"white": (6000, 100, 5), "grey": (6000, 60, 5), "sulcus": (2200, 42, 7), "fluid": (2000, 10, 3)}
    amounts |= {"vessel": (150, 160, 10), "ventricle": (500, 10, 3), "mistaken": (1500, 60, 5)}
    values = np.concatenate([rng.normal(mean, sd, count) for count, mean, sd in amounts.values()])
    kind = np.repeat(list(amounts), [count for count, _, _ in amounts.values()])
    tissues = ("white", "grey", "csf", "ventricular csf")
    prior = torch.full((4, len(kind)), 0.01)
    prior[0, kind == "white"] = prior[1, kind == "grey"] = prior[2, np.isin(kind, ["sulcus", "fluid", "vessel"])] = 1
    prior[3, np.isin(kind, ["ventricle", "mistaken"])] = 0.8
    prior[1, np.isin(kind, ["ventricle", "mistaken"])] = 0.2
    prior, image = prior / prior.sum(0), torch.tensor(sign * values[None]).float()
    found, _ = fit_gaussians(image, prior, tissues=tissues, settings=GaussianSettings())
    assert found.means[found.tissue_of == 3].item() == pytest.approx(sign * 10, abs=3)
    likeliest = (found.log_density(image) + prior.log()).argmax(0).numpy()
    assert (likeliest[kind == "ventricle"] == 3).mean() > 0.95
    assert (likeliest[kind == "mistaken"] == 1).mean() > 0.95


@pytest.mark.parametrize("settings", [FREE, GaussianSettings(), GaussianSettings(components={"grey": 3})])
@pytest.mark.parametrize("least", [1e-5, 1e-12])
def test_a_tissue_without_a_voxel_stays_finite(settings: GaussianSettings, least: float) -> None:
    values, prior, tissue = drawn(4000)
    values, prior = values[:, tissue != 1] + 500, prior[:, tissue != 1]
    prior[1] = least
    found = fitted(values, prior / prior.sum(0), settings)
    assert all(torch.isfinite(field).all() for field in (found.means, found.covariances, found.shares))
    assert torch.isfinite(found.log_density(values)).all()
    assert (torch.linalg.eigvalsh(found.covariances) > 0).all()
    # It stays where it was begun, among the image's values.
    # At most at the last of them, which another processor rounds another way.
    assert (found.means >= values.amin(1) - 1e-3).all()
    assert (found.means <= values.amax(1) + 1e-3).all()


@pytest.mark.parametrize("value", [0.0, 0.1, 1234.5, -7e6])
@pytest.mark.parametrize("settings", [FREE, GaussianSettings()])
def test_a_constant_image_leaves_the_prior_to_decide(value: float, settings: GaussianSettings) -> None:
    _, prior, _ = drawn(500)
    values = torch.full((2, 500), value)
    found = fitted(values, prior, settings)
    posterior = (found.log_density(values) + prior.log()).softmax(0)
    torch.testing.assert_close(posterior, prior, atol=0.02, rtol=0)


def test_one_voxel_is_enough() -> None:
    found = fitted(torch.tensor([[5.0]]), torch.tensor([[0.2], [0.3], [0.5]]), GaussianSettings())
    assert torch.isfinite(found.log_density(torch.tensor([[5.0]]))).all()


def test_the_prior_on_means_holds_a_tissue_that_is_rarely_seen() -> None:
    """A tissue of which the scan has far less than expected may drift to what is there instead; not if held."""
    values, prior, tissue = drawn(8000, channels=1)
    rare = (tissue != 1) | (torch.rand(8000, generator=torch.Generator().manual_seed(0)) < 0.02)
    values, prior = values[:, rare], prior[:, rare]
    expected = (prior[1] ** 2 * values).sum() / (prior[1] ** 2).sum()
    free, held = (
        fitted(values, prior, GaussianSettings(components={}, mean_strength=strength, variance_strength=0.1))
        for strength in (0.0, 50.0)
    )
    assert abs(held.means[1, 0] - expected) < 1
    assert abs(held.means[1, 0] - expected) < abs(free.means[1, 0] - expected)


def test_the_prior_on_variances_draws_them_together() -> None:
    values, prior, _ = drawn(channels=1)
    spreads = [
        fitted(values, prior, GaussianSettings({}, mean_strength=0, variance_strength=strength)).covariances.flatten()
        for strength in (0.0, 1.0, 1e4)
    ]
    ratios = [float(spread.max() / spread.min()) for spread in spreads]
    assert ratios[0] > ratios[1] > ratios[2]
    assert ratios[2] == pytest.approx(1, abs=0.01)


def test_outliers_do_not_pull() -> None:
    values, prior, _ = drawn(channels=1)
    strange = torch.arange(values.shape[1]) % 25 == 0
    values = torch.where(strange, 250 + values, values)
    expecting, believing = fitted(values, prior, outliers=0.05), fitted(values, prior)
    np.testing.assert_allclose(expecting.means[:, 0], MEANS[:, 0], atol=1.5)
    np.testing.assert_allclose(expecting.covariances[:, 0, 0], COVARIANCES[:, 0, 0], rtol=0.2)
    assert abs(believing.means[:, 0] - MEANS[:, 0]).max() > 10


def test_expecting_no_outliers_is_the_limit_of_expecting_few() -> None:
    values, prior, _ = drawn(4000)
    few, none = fitted(values, prior, outliers=1e-9), fitted(values, prior)
    torch.testing.assert_close(few.means, none.means, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(few.covariances, none.covariances, rtol=1e-3, atol=1e-2)


def test_outliers_have_any_value_of_the_range() -> None:
    values = torch.tensor([[0.0, 2.0, 1.0], [10.0, 10.5, 15.0]])
    assert float(uniform_log_density(values)) == pytest.approx(-math.log(2 * 5))
