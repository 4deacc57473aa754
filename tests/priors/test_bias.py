"""The bias field: known gains are found, and what is not known is none."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from limner.priors.bias import SD, Bias
from limner.space import Array, Grid

GRID = Grid((9, 10, 8), np.array([[0, 20, 0, -80], [15, 0, 0, -60], [0, 0, 18, -70], [0, 0, 0, 1.0]]))
POINTS = GRID.world(np.moveaxis(np.indices(GRID.shape), 0, -1).reshape(-1, 3))


def random(seed: int, *, channels: int = 1) -> Bias:
    """A gain drawn from the prior."""
    empty = Bias.around(POINTS, channels=channels)
    noise = torch.randn(empty.coefficients.shape, generator=torch.Generator().manual_seed(seed))
    return Bias(empty.frame, empty.sizes, noise * empty.sds)


def smooth(points: Array) -> torch.Tensor:
    """The logarithm of a gain that is no sum of few cosines, (1, N)."""
    return torch.from_numpy(0.2 * np.tanh(points[:, 0] / 60) - 0.15 * (points[:, 2] / 70) ** 2).float()[None]


def seen(gain: torch.Tensor, *, noise: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Expected intensities of three tissues in turn, and those that a gain and noise make of them."""
    expected = torch.tensor([30.0, 70.0, 110.0]).repeat(len(POINTS))[: len(POINTS)].expand_as(gain)
    error = torch.randn(gain.shape, generator=torch.Generator().manual_seed(seed))
    return expected, (expected + noise * error) * gain.exp()


def estimated(expected: torch.Tensor, values: torch.Tensor, *, noise: float, rounds: int = 5) -> Bias:
    bias = Bias.around(POINTS, channels=len(values))
    for _ in range(rounds):
        even = values * torch.exp(-bias.at(POINTS))
        precisions = torch.full_like(even, noise**-2)
        bias = bias.refined(POINTS, residuals=even - expected, slopes=expected, precisions=precisions)
    return bias


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """sd of the difference of two gains' logarithms: a constant says nothing."""
    return float((one - other).std(1).max())


def test_a_known_gain_is_found() -> None:
    gain = smooth(POINTS)
    expected, values = seen(gain, noise=2.0)
    found = estimated(expected, values, noise=2.0).at(POINTS)
    assert float(gain.std()) > 0.1
    assert apart(found, gain) < 0.02


def test_each_channel_has_its_own() -> None:
    gain = torch.cat([smooth(POINTS), -0.5 * smooth(POINTS[:, ::-1].copy())])
    expected, values = seen(gain, noise=2.0)
    assert apart(estimated(expected, values, noise=2.0).at(POINTS), gain) < 0.02


def test_noise_alone_makes_none() -> None:
    expected, values = seen(torch.zeros(1, len(POINTS)), noise=5.0)
    assert float(estimated(expected, values, noise=5.0).at(POINTS).std()) < 0.02


def test_a_step_never_lowers_the_posterior() -> None:
    expected, values = seen(smooth(POINTS), noise=5.0)

    def cost(bias: Bias) -> float:
        even = values * torch.exp(-bias.at(POINTS))
        whitened = (bias.coefficients[0] / bias.sds.clamp_min(1e-9)).flatten()[1:]
        return float(0.5 * ((even - expected) / 5).square().sum() + 0.5 * whitened.square().sum())

    costs = [cost(estimated(expected, values, noise=5.0, rounds=rounds)) for rounds in range(5)]
    # It ends within a tenth of a nat of the best: expected intensities stand for those seen in the slopes.
    assert all(after <= before + 0.1 for before, after in itertools.pairwise(costs)), costs
    assert costs[-1] < 0.5 * costs[0]


def test_gains_have_the_sd_that_is_expected() -> None:
    spread = np.mean([float(random(seed).at(POINTS).square().mean()) for seed in range(40)]) ** 0.5
    constant = float(random(0).coefficients[0].flatten()[0])
    assert constant == 0
    # The constant's share of the variance is left out.
    assert 0.6 * SD < spread < SD


def test_an_image_is_evened_at_its_voxels() -> None:
    bias = random(3, channels=2)
    image = torch.exp(bias.at(POINTS)).view(2, *GRID.shape)
    torch.testing.assert_close(bias.evened(image, GRID), torch.ones_like(image))


def test_another_world_of_the_scan_changes_nothing() -> None:
    bias, change = random(1), np.array([[0, -1, 0, 4], [1, 0, 0, -3], [0, 0, 1, 9], [0, 0, 0, 1.0]])
    there = np.c_[POINTS, np.ones(len(POINTS))] @ np.linalg.inv(change).T
    torch.testing.assert_close(bias.before(change).at(there[:, :3]), bias.at(POINTS), atol=1e-5, rtol=0)
