"""Intervals of volumes: as wide as the doubt that voxels share, and never narrower than customs differ."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from limner.inference.volumes import CUSTOM, SHARED, volume_intervals


def same(classes: np.ndarray) -> np.ndarray:
    """Ids are classes, but ten times as large."""
    return 10 * classes


def belief(shares: np.ndarray) -> torch.Tensor:
    """Two classes, of which the second has these shares, (2, N, 1, 1)."""
    return torch.from_numpy(np.stack([1 - shares, shares])[..., None, None]).float()


def test_a_certain_volume_differs_by_custom_alone() -> None:
    shares = np.repeat([0.0, 1.0], 500)
    low, high = volume_intervals(belief(shares), identified=same, voxel=2.0)[10]
    assert low == pytest.approx(1000 * (1 - 1.96 * CUSTOM), rel=0.01)
    assert high == pytest.approx(1000 * (1 + 1.96 * CUSTOM), rel=0.01)


def test_the_interval_is_that_of_samples_with_doubt_in_common() -> None:
    rng = np.random.default_rng(0)
    shares = rng.beta(0.3, 0.3, 4000).clip(0.003, 0.997)
    common = rng.normal(size=(2000, 1))
    sampled = []
    for one in common:
        latent = np.sqrt(SHARED) * one + np.sqrt(1 - SHARED) * rng.normal(size=len(shares))
        sampled.append(np.count_nonzero(stats.norm.ppf(shares) > latent))
    low, high = np.quantile(sampled, [0.025, 0.975])
    volume = np.count_nonzero(shares > 0.5)
    found = volume_intervals(belief(shares), identified=same, voxel=1.0)[10]
    custom = 1.96 * CUSTOM * volume
    expected = (volume - np.hypot(np.mean(sampled) - low, custom), volume + np.hypot(high - np.mean(sampled), custom))
    np.testing.assert_allclose(found, expected, rtol=0.02)


def test_more_doubt_is_a_wider_interval() -> None:
    widths = []
    for doubt in (0.05, 0.2, 0.4):
        shares = np.repeat([doubt, 1 - doubt], 500)
        low, high = volume_intervals(belief(shares), identified=same, voxel=1.0)[10]
        widths.append(high - low)
    assert widths == sorted(widths)
    assert widths[2] > 1.3 * widths[0]


def test_a_label_without_a_voxel_may_still_have_some() -> None:
    low, high = volume_intervals(belief(np.full(1000, 0.3)), identified=same, voxel=1.0)[10]
    assert low == 0
    assert 30 < high < 400


def test_a_classs_labels_share_its_voxels() -> None:
    shares = np.repeat([0.0, 1.0, 1.0], 300)
    sides = np.repeat([0, 1, 2], 300)[:, None, None]
    found = volume_intervals(belief(shares), identified=lambda classes: classes * sides, voxel=1.0)
    assert found[1] == found[2]
    assert np.mean(found[1]) == pytest.approx(300, rel=0.01)
