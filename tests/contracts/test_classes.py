"""What every trainable method promises that tells classes apart, on heads of sixteen voxels a side."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from contracts.heads import CLASSES, Variant, agreement, begun, lost, made, seen, stepped

pytestmark = pytest.mark.parametrize("variant", CLASSES.values(), ids=CLASSES.keys())
in_two_and_three = pytest.mark.parametrize("dimensions", [2, 3])


def assert_probabilities(prediction: Tensor) -> None:
    assert prediction.dtype == torch.float32
    assert torch.isfinite(prediction).all()
    assert (prediction >= 0).all()
    torch.testing.assert_close(prediction.sum(1), torch.ones_like(prediction[:, 0]), atol=1e-5, rtol=0)


def test_one_case_can_be_overfitted(variant: Variant) -> None:
    """One whom the prior does not fit; methods without labels learn the prior first, as their recipes say."""
    batch, prior = seen(4, dimensions=2)
    less = {"neighbour_weight": 0.003} if variant.method == "sae" else {}
    method = begun(variant, batch, prior, dimensions=2, **less)
    stepped(method, batch, prior, steps=120)
    before = float((prior.log_probability().argmax(1) == batch.labels)[batch.mask].float().mean())
    assert agreement(method, batch, prior) > before + variant.gain


@in_two_and_three
@pytest.mark.parametrize("channels", [1, 2])
def test_predictions_have_the_promised_shape_and_sum_to_one(variant: Variant, dimensions: int, channels: int) -> None:
    batch, prior = seen(1, 2, dimensions=dimensions, channels=channels)
    method = made(variant, dimensions=dimensions, channels=channels)
    with torch.no_grad():
        prediction = method.predict(batch.image, prior, mask=batch.mask)
    assert prediction.shape == (2, method.task.classes, *[16] * dimensions)
    assert_probabilities(prediction)
    assert (prediction[:, 0][~batch.mask] == 1).all()
    labels = method.segment(prediction)
    assert np.issubdtype(labels.dtype, np.integer)
    np.testing.assert_array_equal(labels, prediction.argmax(1))
    assert all(torch.isfinite(term).all() for term in lost(method, batch, prior).values())


@in_two_and_three
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_constant_image_stays_finite(variant: Variant, dimensions: int, value: float) -> None:
    batch, prior = seen(1, dimensions=dimensions)
    batch = replace(batch, image=torch.full_like(batch.image, value))
    method = made(variant, dimensions=dimensions)
    stepped(method, batch, prior, steps=3, rate=1e-3)
    assert all(torch.isfinite(term).all() for term in lost(method, batch, prior).values())
    with torch.no_grad():
        assert_probabilities(method.predict(batch.image, prior, mask=batch.mask))
        assert_probabilities(method.predict(batch.image, prior))


def test_an_empty_mask_is_all_background(variant: Variant) -> None:
    """As in a tile beside the head."""
    batch, prior = seen(1)
    with torch.no_grad():
        prediction = made(variant).predict(batch.image, prior, mask=torch.zeros_like(batch.mask))
    assert (prediction[:, 0] == 1).all()


def test_what_the_prior_rules_out_is_not_predicted(variant: Variant) -> None:
    batch, prior = seen(1)
    method = made(variant, support=1e-2)
    with torch.no_grad():
        prediction = method.predict(batch.image, prior, mask=batch.mask)
    share = prior.log_probability().exp()
    ruled_out = (share < 0.99e-2) & batch.mask[:, None]
    assert ruled_out.any()
    assert (prediction[ruled_out] == 0).all()
    assert (prediction[(share > 1.01e-2) & batch.mask[:, None]] > 0).all()
