"""The auto-encoder's bounded activation, its sizes, and where it begins."""

from __future__ import annotations

import math

import pytest
import torch

from limner.networks.autoencoder import Bound, Decoder, Encoder, bounded, drawn


@pytest.mark.parametrize(("form", "expected"), [("softsign", 10 / 11 * math.log(12)), ("tanh", math.log(12))])
def test_values_are_bounded_by_a_logarithm(form: Bound, expected: float) -> None:
    values = torch.tensor([-10.0, -0.3, 0.0, 0.3, 10.0])
    found = bounded(values, form)
    torch.testing.assert_close(found[-1], torch.tensor(expected))
    torch.testing.assert_close(found, -found.flip(0))
    assert (found.diff() > 0).all()


def test_the_published_slice_has_the_published_size() -> None:
    """Five levels of 32 features on a slice of 160 by 192, 1000 numbers: 98 % of 11.5 million weights are dense."""
    made = {"shape": (160, 192), "features": (32,) * 5, "latent": 1000}
    encoder, decoder = Encoder(13, bound="softsign", **made), Decoder(14, **made)
    dense = 2 * (3840 * 1000 + 1000) + (1000 * 3840 + 3840)
    total = sum(one.numel() for part in (encoder, decoder) for one in part.parameters())
    assert dense == 11_525_840
    assert 0.98 < dense / total < 1


@pytest.mark.parametrize("shape", [(8, 12), (8, 12, 4)])
def test_codes_and_scores_have_the_promised_shapes(shape: tuple[int, ...]) -> None:
    made = {"shape": shape, "features": (3, 4, 5), "latent": 6}
    mean, log_variance = Encoder(2, bound="tanh", **made)(torch.randn(3, 2, *shape))
    assert mean.shape == log_variance.shape == (3, 6)
    assert Decoder(7, **made)(mean).shape == (3, 7, *shape)


def test_samples_have_the_mean_and_variance_that_they_should() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        means, log_variances = (torch.tensor(each).expand(2, 100_000, 2) for each in ([1.0, -2.0], [0.0, -2.0]))
        found = drawn(means, log_variances)
    torch.testing.assert_close(found[0].mean(0), torch.tensor([1.0, -2.0]), atol=0.02, rtol=0)
    torch.testing.assert_close(found[0].var(0).log(), torch.tensor([0.0, -2.0]), atol=0.02, rtol=0)
    assert torch.equal(found[0], found[1])
