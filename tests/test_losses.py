"""Losses against plain autograd, finite differences and other libraries."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.losses import DiceLoss
from torch import Tensor
from torch.autograd import gradcheck

from limner import losses
from limner.losses import (
    RULED_OUT,
    balanced_cross_entropy,
    cross_entropy,
    explanation,
    free_energy,
    known_square,
    log_shares,
    soft_dice,
)

SEEDS = st.integers(0, 2**32 - 1)


def drawn(*shape: int, seed: int = 0, scale: float = 3.0) -> Tensor:
    """Random numbers in float64."""
    return scale * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def plain(scores: Tensor, evidence: Tensor) -> tuple[Tensor, Tensor]:
    """The slow twin: what autograd makes of the formula."""
    q = scores.softmax(1)
    return (q * (scores.log_softmax(1) - evidence)).sum(1), q


@given(SEEDS, st.integers(1, 6), st.integers(2, 17))
def test_log_shares_are_those_of_torch(seed: int, voxels: int, classes: int) -> None:
    scores = drawn(voxels, classes, seed=seed, scale=30)
    torch.testing.assert_close(log_shares(scores), scores.log_softmax(1))


@given(SEEDS, st.integers(0, 6), st.integers(2, 6))
def test_free_energy_and_its_gradient_are_those_of_autograd(seed: int, voxels: int, classes: int) -> None:
    scores, evidence = (drawn(voxels, classes, seed=seed ^ which).requires_grad_() for which in (0, 1))
    to_energy, to_q = drawn(voxels, seed=seed ^ 2), drawn(voxels, classes, seed=seed ^ 3)
    found, expected = free_energy(scores, evidence.detach()), plain(scores, evidence.detach())
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(pair, scores, (to_energy, to_q))[0] for pair in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_gradients_of_the_free_energy_are_finite_differences() -> None:
    evidence = drawn(4, 5, seed=1)
    assert gradcheck(lambda scores: free_energy(scores, evidence), drawn(4, 5).requires_grad_())


@pytest.mark.parametrize("which", [0, 1])
def test_one_of_the_two_may_be_unused(which: int) -> None:
    scores, evidence = drawn(4, 3).requires_grad_(), drawn(4, 3, seed=1)
    gradients = [
        torch.autograd.grad(pair[which].square().sum(), scores)[0]
        for pair in (free_energy(scores, evidence), plain(scores, evidence))
    ]
    torch.testing.assert_close(*gradients)


@given(SEEDS)
def test_the_posterior_has_the_least_free_energy(seed: int) -> None:
    evidence = drawn(5, 4, seed=seed)
    # Scores may be off by a constant at each voxel.
    scores = (evidence + drawn(5, 1, seed=seed + 1)).requires_grad_()
    energy, q = free_energy(scores, evidence)
    torch.testing.assert_close(energy, -evidence.logsumexp(1))
    torch.testing.assert_close(q, evidence.softmax(1))
    (gradient,) = torch.autograd.grad(energy.sum(), scores)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient))
    elsewhere, _ = free_energy(scores + drawn(5, 4, seed=seed + 2, scale=1), evidence)
    assert (elsewhere > energy).all()


def test_a_class_that_is_ruled_out_has_no_share_and_no_gradient() -> None:
    scores, evidence = drawn(6, 4).float(), drawn(6, 4, seed=1).float()
    out = torch.zeros_like(scores, dtype=torch.bool)
    out[:, 2], out[3, :3] = True, True
    scores = scores.masked_fill(out, RULED_OUT).requires_grad_()
    energy, q = free_energy(scores, evidence)
    assert (q[out] == 0).all()
    torch.testing.assert_close(q.sum(1), torch.ones(6))
    (gradient,) = torch.autograd.grad((energy.sum(), q.square().sum()), scores)
    assert torch.isfinite(energy).all()
    assert torch.isfinite(gradient).all()
    assert (gradient[out] == 0).all()
    kept = ~out[0]
    without, _ = free_energy(scores[:3, kept], evidence[:3, kept])
    torch.testing.assert_close(energy[:3], without)
    torch.testing.assert_close(energy[3], -evidence[3, 3])


def test_the_free_energy_does_not_depend_on_how_many_voxels_are_worked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, evidence = drawn(50, 3).requires_grad_(), drawn(50, 3, seed=1)
    found = []
    for chunk in (1 << 15, 7):
        monkeypatch.setattr(losses, "CHUNK", chunk)
        pair = free_energy(scores, evidence)
        found.append((*pair, *torch.autograd.grad((pair[0].sum(), pair[1].square().sum()), scores)))
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_cross_entropy_is_that_of_torch() -> None:
    scores, labels = drawn(20, 4).requires_grad_(), torch.arange(20) % 3
    expected = torch.nn.functional.cross_entropy(scores, labels)
    torch.testing.assert_close(cross_entropy(scores, labels), expected)
    assert gradcheck(cross_entropy, (scores, labels))


@pytest.mark.parametrize("shown", [[0, 1, 2, 3], [0, 1, 3], [2]])
def test_soft_dice_is_that_of_monai(shown: list[int]) -> None:
    """Of the classes that are there; the background is not asked."""
    scores, labels = drawn(40, 4).float(), torch.tensor(shown).repeat(40)[:40]
    one_hot = torch.nn.functional.one_hot(labels, 4).float()
    each = DiceLoss(include_background=False, squared_pred=True, smooth_nr=0, smooth_dr=1e-9, reduction="none")
    found = each(scores.softmax(1).T[None, :, :, None], one_hot.T[None, :, :, None]).flatten()
    there = [k - 1 for k in shown if k]
    torch.testing.assert_close(soft_dice(scores, labels), found[there].mean())


def test_gradients_of_soft_dice_are_finite_differences() -> None:
    labels = torch.arange(12) % 3
    assert gradcheck(soft_dice, (drawn(12, 4).requires_grad_(), labels))


def test_soft_dice_is_nothing_where_all_is_right() -> None:
    labels = torch.arange(12) % 3
    scores = 60 * torch.nn.functional.one_hot(labels, 3).double()
    assert float(soft_dice(scores, labels)) == pytest.approx(0, abs=1e-12)
    assert float(soft_dice(-scores, labels)) > 0.5


@pytest.mark.parametrize("loss", [cross_entropy, soft_dice])
def test_no_labels_are_no_loss(loss: object) -> None:
    scores = torch.zeros(0, 4, requires_grad=True)
    found = loss(scores, torch.zeros(0, dtype=torch.int64))
    (gradient,) = torch.autograd.grad(found, scores)
    assert gradient.shape == scores.shape
    assert found.item() == 0


def test_soft_dice_of_background_alone_is_nothing() -> None:
    scores = drawn(5, 3).requires_grad_()
    found = soft_dice(scores, torch.zeros(5, dtype=torch.int64))
    (gradient,) = torch.autograd.grad(found, scores)
    assert found.item() == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("exact", [True, False])
@given(seed=SEEDS)
def test_a_voxel_is_explained_as_the_formulas_say(exact: bool, seed: int) -> None:
    """The slow twin goes voxel by voxel and class by class."""
    scores, location, density = (
        drawn(6, 4, seed=seed),
        drawn(6, 4, seed=seed + 1).log_softmax(1),
        drawn(6, 4, seed=seed + 2),
    )
    labels = torch.tensor([-1, 2, -1, 0, -1, 3])
    expected = []
    for voxel in range(6):
        weights = [float((scores[voxel, k] + location[voxel, k]).exp()) for k in range(4)]
        shares = [weight / sum(weights) for weight in weights]
        likelihood = [float(density[voxel, k].exp()) for k in range(4)]
        if labels[voxel] >= 0:
            value = -math.log(shares[labels[voxel]] * likelihood[labels[voxel]])
        elif exact:
            value = -math.log(sum(share * one for share, one in zip(shares, likelihood, strict=True)))
        else:
            value = -sum(share * math.log(one) for share, one in zip(shares, likelihood, strict=True))
        expected.append(value)
    known = {"location": location, "evidence": location + density, "exact": exact}
    found = explanation(
        scores.float(), **{k: v.float() if isinstance(v, Tensor) else v for k, v in known.items()}, labels=labels
    )
    torch.testing.assert_close(found.double(), torch.tensor(expected).double(), rtol=1e-5, atol=1e-5)
    ignored = explanation(scores, **known)
    torch.testing.assert_close(ignored[labels < 0], torch.tensor(expected).double()[labels < 0])


def test_the_exact_likelihood_is_never_below_its_bound() -> None:
    scores, location = drawn(500, 5), drawn(500, 5, seed=1).log_softmax(1)
    known = {"location": location, "evidence": location + drawn(500, 5, seed=2)}
    assert (explanation(scores, **known) <= explanation(scores, **known, exact=False) + 1e-9).all()


def test_yes_and_no_weigh_the_same_in_every_channel() -> None:
    """However rare one of them is, down to one in twenty; what is unknown counts for nothing."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 3, 10, 10, generator=generator, dtype=torch.float64)
    targets = torch.rand(2, 3, 10, 10, generator=generator) < torch.tensor([0.5, 0.1, 0.9])[:, None, None]
    known = torch.rand(2, 3, 10, 10, generator=generator) < 0.7
    known[1, 2] = False
    expected = []
    for scan, channel in itertools.product(range(2), range(3)):
        seen = known[scan, channel]
        each = -torch.where(targets[scan, channel], scores[scan, channel], -scores[scan, channel]).sigmoid().log()
        halves = [each[seen & (targets[scan, channel] == answer)] for answer in (True, False)]
        expected.append(sum(float(half.mean()) / 2 for half in halves) if seen.any() else 0.0)
    found = balanced_cross_entropy(scores, targets, known=known, rarest=1e-6)
    assert float(found) == pytest.approx(sum(expected) / 6, rel=1e-5)
    rare = torch.zeros(1, 1, 100, dtype=torch.bool)
    rare[..., 0] = True
    one = balanced_cross_entropy(torch.zeros(1, 1, 100), rare, known=torch.ones_like(rare))
    assert float(one) == pytest.approx(math.log(2) * (0.01 * 0.5 / 0.05 + 0.5), rel=1e-5)


def test_squares_are_means_over_what_is_known() -> None:
    found, targets = torch.randn(2, 2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    known = torch.rand(2, 1, 5, 5, generator=torch.Generator().manual_seed(1)) < 0.5
    each = [float((a - b).square()[:, where[0]].mean()) for a, b, where in zip(found, targets, known, strict=True)]
    assert float(known_square(found, targets, known=known)) == pytest.approx(sum(each) / 2, rel=1e-5)
    assert float(known_square(found, targets, known=torch.zeros_like(known))) == 0
