"""Supervised learning against its formula, scan by scan."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from contracts.heads import VARIANTS, lost, made, seen
from limner.data.batch import IGNORE
from limner.losses import soft_dice


@pytest.mark.parametrize("variant", ["supervised", "supervised that is told the place"])
def test_the_loss_is_that_of_what_is_predicted(variant: str) -> None:
    """The mean over scans of each scan's mean over its labelled voxels, however many those are."""
    batch, prior = seen(1, 4)
    batch.labels[0, :8] = IGNORE
    method = made(VARIANTS[variant])
    with torch.no_grad():
        log_shares = method.predict(batch.image, prior, mask=batch.mask).log()
        found = lost(method, batch, prior)
    dice, entropy = [], []
    for maps, labels, inside in zip(log_shares, batch.labels, batch.mask, strict=True):
        known = inside & (labels != IGNORE)
        dice.append(soft_dice(maps[:, known].T, labels[known]))
        entropy.append(-maps[:, known].gather(0, labels[known][None]).mean())
    torch.testing.assert_close(found["dice"], torch.stack(dice).mean(), atol=1e-4, rtol=0)
    torch.testing.assert_close(found["cross-entropy"], torch.stack(entropy).mean(), atol=1e-4, rtol=0)


def test_no_prior_is_needed() -> None:
    batch, prior = seen(1)
    method = made(VARIANTS["supervised"])
    assert lost(method, batch, None) == lost(method, batch, prior)
    with torch.no_grad():
        without, with_one = (method.predict(batch.image, one, mask=batch.mask) for one in (None, prior))
    assert torch.equal(without, with_one)


def test_a_scan_without_labels_counts_as_nothing_lost() -> None:
    batch, prior = seen(1, 4)
    method = made(VARIANTS["supervised"])
    alone = lost(method, *seen(4))
    batch.labels[0] = IGNORE
    found = lost(method, batch, prior)
    for name, term in found.items():
        torch.testing.assert_close(term, alone[name] / 2, atol=1e-4, rtol=0)


def test_labels_outside_the_mask_are_not_learned() -> None:
    batch, prior = seen(1)
    method = made(VARIANTS["supervised"])
    wild = replace(batch, labels=torch.where(batch.mask, batch.labels, 3))
    assert lost(method, wild, prior) == lost(method, batch, prior)
