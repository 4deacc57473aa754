"""SAE's loss, term by term, on images so small that everything can be written out."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck

from contracts.heads import VARIANTS, agreement, lost, made, seen, stepped
from limner.check import InputError
from limner.data.batch import IGNORE, Batch
from limner.methods.gaussians import GaussianSettings, class_evidence, fit_to_parts
from limner.methods.method import Task
from limner.methods.sae import SAE, SAEOptions, _Decoder, rounded, unit_range
from limner.priors.dense import DensePrior
from limner.priors.neighbours import NeighbourTable, neighbour_energy, neighbour_messages
from limner.priors.prior import Parts

#: The last of three classes has two parts, one of the tissue of the class before.
PARTS = Parts(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 1, 2]), ("background", "grey", "white"))
SHAPES = pytest.mark.parametrize("shape", [(5, 4), (3, 4, 2)])


class Fixed(nn.Module):
    """A network whose scores are given, whatever the image."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = scores

    def forward(self, _: Tensor) -> Tensor:
        return self.scores


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def scene(shape: tuple[int, ...] = (5, 4), *, channels: int = 1) -> tuple[Batch, DensePrior]:
    """Two scans of unequal masks, and the prior on them."""
    mask = drawn(2, *shape, seed=1) < torch.tensor([0.2, 0.9]).reshape(2, *[1] * len(shape))
    image = drawn(2, channels, *shape, seed=2) * mask[:, None]
    labels = torch.full((2, *shape), IGNORE)
    world = torch.eye(len(shape) + 1, dtype=torch.float64).repeat(2, 1, 1)
    batch = Batch(image, labels, torch.zeros(2, 0, dtype=torch.int64), mask, world, ("first", "second"))
    table = NeighbourTable(np.random.default_rng(0).integers(1000, size=(3, 3)), 3)
    return batch, DensePrior(PARTS, (2 * drawn(2, 4, *shape, seed=3)).softmax(1), table, neighbour_weight=0.3)


def sae(scores: Tensor, *, channels: int = 1, **options: Any) -> SAE:
    """A method whose network says `scores` (2, 3, *S); by default nothing is ruled out."""
    method = SAE(Task(channels, 3, scores.ndim - 2), SAEOptions(**({"support": 0.0} | options)))
    method.network = Fixed(scores)
    return method


def classes_of(prior: DensePrior) -> Tensor:
    """Log-probabilities of the classes, (B, K, *S) nats."""
    return prior.log_probability()


def mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean over scans of the mean over each scan's mask, of values (B, *S)."""
    return torch.stack([one[where].mean() for one, where in zip(values, mask, strict=True)]).mean()


def evidence_of(batch: Batch, prior: DensePrior) -> Tensor:
    """Log p(class, value | place) under Gaussians fitted to each scan alone, (B, K, *S) nats; 0 outside the masks."""
    found = torch.zeros(2, 3, *batch.mask.shape[1:])
    for number, where in enumerate(batch.mask):
        values, parts = batch.image[number][:, where], prior.part_probability()[number][:, where].T.contiguous()
        gaussians = fit_to_parts(values, parts, of=PARTS, settings=GaussianSettings(), voxels=1000)
        found[number][:, where] = class_evidence(gaussians, values, parts=parts, of=PARTS, classes=3).T
    return found


@SHAPES
@pytest.mark.parametrize("channels", [1, 2])
def test_the_fit_is_the_free_energy_of_each_scan(shape: tuple[int, ...], channels: int) -> None:
    batch, prior = scene(shape, channels=channels)
    scores = drawn(2, 3, *shape)
    q = scores.softmax(1)
    energy = (q * (q.log() - evidence_of(batch, prior))).sum(1)
    found = lost(sae(scores, channels=channels), batch, prior)
    torch.testing.assert_close(found["fit"], mean(energy, batch.mask))


@pytest.mark.parametrize("balance", [0.4, 1.0])
def test_small_structures_may_weigh_as_much_as_large_ones(balance: float) -> None:
    batch, prior = scene((5, 4))
    scores = drawn(2, 3, 5, 4)
    energy = (scores.softmax(1) * (scores.log_softmax(1) - evidence_of(batch, prior))).sum(1)
    location = prior.log_probability().exp()
    each = [
        sum((place[:, where] * one[where]).sum(1) / place[:, where].sum(1)) / 3
        for place, one, where in zip(location, energy, batch.mask, strict=True)
    ]
    expected = (1 - balance) * mean(energy, batch.mask) + balance * torch.stack(each).mean()
    torch.testing.assert_close(lost(sae(scores, balance=balance), batch, prior)["fit"], expected)


def test_the_weight_of_the_likelihood_is_what_it_says() -> None:
    batch, prior = scene()
    scores = drawn(2, 3, 5, 4)
    full, half, none = (lost(sae(scores, data_weight=weight), batch, prior) for weight in (1.0, 0.5, 0.0))
    torch.testing.assert_close(half["fit"], (full["fit"] + none["prior"]) / 2)
    assert set(full) == set(half) == {"fit", "neighbours"}
    assert set(none) == {"prior"}
    assert set(lost(sae(scores, data_weight=0.0, likelihood="decoder"), batch, prior)) == {"prior"}


@SHAPES
def test_without_likelihood_the_loss_is_the_divergence_from_the_prior(shape: tuple[int, ...]) -> None:
    batch, prior = scene(shape)
    scores = drawn(2, 3, *shape)
    q = scores.softmax(1)
    divergence = (q * (q.log() - classes_of(prior))).sum(1)
    torch.testing.assert_close(lost(sae(scores, data_weight=0.0), batch, prior)["prior"], mean(divergence, batch.mask))
    assert lost(sae(classes_of(prior), data_weight=0.0), batch, prior)["prior"].item() == pytest.approx(0, abs=1e-6)


@SHAPES
@pytest.mark.parametrize("weight", [None, 0.07])
@pytest.mark.parametrize("support", [0.0, 0.2])
def test_the_neighbours_are_those_of_the_whole_image(
    shape: tuple[int, ...], weight: float | None, support: float
) -> None:
    """With background all around the mask."""
    batch, prior = scene(shape)
    scores = drawn(2, 3, *shape)
    method = sae(scores, neighbour_weight=weight, support=support, sweeps=0)
    q = method.predict(batch.image, prior, mask=batch.mask)
    energy = neighbour_energy(q, prior.neighbours) / batch.mask.flatten(1).sum(1)
    found = lost(method, batch, prior)["neighbours"]
    torch.testing.assert_close(found, (0.3 if weight is None else weight) * energy.mean())


@pytest.mark.parametrize("silent", [{"neighbour_weight": 0.0}, {"data_weight": 0.0}])
def test_neighbours_may_be_silent(silent: dict[str, float]) -> None:
    batch, prior = scene()
    assert "neighbours" not in lost(sae(drawn(2, 3, 5, 4), **silent), batch, prior)
    assert "neighbours" not in lost(sae(drawn(2, 3, 5, 4)), batch, replace(prior, neighbours=None))


@SHAPES
@pytest.mark.parametrize("options", [{}, {"support": 0.2}, {"location": 0.7}, {"data_weight": 0.5}])
def test_gradients_of_the_whole_loss_are_finite_differences(shape: tuple[int, ...], options: dict[str, float]) -> None:
    """With the Gaussians held still, as the gradient takes them."""
    batch, prior = scene(shape)
    scores = drawn(2, 3, *shape).double()
    method = sae(scores, **options)
    fitted = class_rows(evidence_of(batch, prior), batch.mask)
    method._evidence = lambda *_, **__: fitted

    def loss(scores: Tensor) -> Tensor:
        method.network.scores = scores
        return torch.stack(list(lost(method, batch, prior).values())).sum()

    assert loss(scores).dtype == torch.float64
    assert gradcheck(loss, scores.requires_grad_())


def class_rows(maps: Tensor, mask: Tensor) -> Tensor:
    """Maps (B, K, *S) at the voxels of a mask, (N, K)."""
    return maps.movedim(1, -1)[mask]


def test_gaussians_are_fitted_when_a_scan_is_first_seen() -> None:
    """Whatever the network says: its scores do not enter."""
    batch, prior = scene()
    method = sae(drawn(2, 3, 5, 4), neighbour_weight=0.0)
    lost(method, batch, prior)
    other, evidence = drawn(2, 3, 5, 4, seed=9), evidence_of(batch, prior)
    method.network.scores = other
    q = other.softmax(1)
    expected = mean((q * (q.log() - evidence)).sum(1), batch.mask)
    torch.testing.assert_close(lost(method, batch, prior)["fit"], expected)
    elsewhere = replace(batch, world=2 * batch.world, image=batch.image.flip(0))
    refitted = lost(method, elsewhere, prior)["fit"]
    torch.testing.assert_close(refitted, lost(sae(other), elsewhere, prior)["fit"])


def test_half_precision_of_the_network_is_all_that_autocast_costs() -> None:
    batch, prior = scene()
    scores = drawn(2, 3, 5, 4).bfloat16()
    expected = lost(sae(scores.float(), likelihood="decoder", variance="fixed"), batch, prior)
    with torch.autocast("cpu", torch.bfloat16):
        plain, decoded = (lost(sae(scores, **more), batch, prior) for more in ({}, {"likelihood": "decoder"}))
    assert {term.dtype for terms in (plain, decoded) for term in terms.values()} == {torch.float32}
    assert torch.equal(decoded["prior"], expected["prior"])
    assert torch.equal(plain["neighbours"], expected["neighbours"])
    assert torch.equal(plain["fit"], lost(sae(scores.float()), batch, prior)["fit"])


def decided(shape: tuple[int, ...] = (5, 4)) -> tuple[Tensor, Tensor]:
    """Scores so sure that every sample is the same, (2, 3, *S), and that sample."""
    labels = drawn(2, 3, *shape).argmax(1)
    sample = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float()
    return 1e4 * sample, sample


@SHAPES
@pytest.mark.parametrize("channels", [1, 2])
def test_the_decoder_reconstructs_the_image_from_a_sample(shape: tuple[int, ...], channels: int) -> None:
    batch, prior = scene(shape, channels=channels)
    scores, sample = decided(shape)
    method = sae(scores, channels=channels, likelihood="decoder", variance="fixed", precision=7.0, data_weight=0.5)
    background = torch.tensor([1.0, 0, 0]).reshape(1, 3, *[1] * len(shape))
    drawn_image = method.decoder.convolution(torch.where(batch.mask[:, None], sample, background)).sigmoid()
    residual = (drawn_image - unit_range(batch.image)).square().sum(1)
    found = lost(method, batch, prior)
    torch.testing.assert_close(found["reconstruction"], 0.5 * 7 * mean(residual, batch.mask))
    assert set(found) == {"prior", "neighbours", "reconstruction"}


def test_samples_follow_the_scores() -> None:
    """What is reconstructed is drawn from q, not from the prior or from the likeliest class."""
    batch, prior = scene((40, 40))
    scores = torch.tensor([0.0, 1.0, 2.0]).reshape(1, 3, 1, 1).expand(2, 3, 40, 40)
    method = sae(scores, likelihood="decoder", variance="fixed")
    seen_by_decoder: list[Tensor] = []
    method.decoder.register_forward_pre_hook(lambda _, given: seen_by_decoder.append(given[0]))
    lost(method, batch, prior)
    sample = class_rows(seen_by_decoder[0], batch.mask)
    assert ((sample == 0) | (sample == 1)).all()
    torch.testing.assert_close(sample.mean(0), scores[0, :, 0, 0].softmax(0), atol=0.05, rtol=0)


def test_the_gradient_passes_the_sample() -> None:
    batch, prior = scene()
    scores = drawn(2, 3, 5, 4).requires_grad_()
    found = lost(sae(scores, likelihood="decoder", variance="fixed"), batch, prior)["reconstruction"]
    (gradient,) = torch.autograd.grad(found, scores)
    assert (gradient.abs().sum(1) > 0).equal(batch.mask)


def test_the_variance_is_the_mean_of_the_last_sixteen_errors() -> None:
    decoder, latest = _Decoder(Task(1, 3, 2)), deque(maxlen=16)
    for error in np.random.default_rng(0).uniform(0.001, 0.1, 40).tolist():
        weight = decoder.weight(torch.tensor(error))
        # As printed: no likelihood for sixteen scans, and then the variance of those before this one.
        assert weight == pytest.approx(0.5 / np.mean(latest) if len(latest) == 16 else 0.0, rel=1e-4)
        latest.append(error)


@pytest.mark.parametrize(
    ("variance", "weight"),
    [(0.5, 0.5), (0.2, 5.0), (0.04, 5.0), (0.031, 50.0), (0.0033, 50.0), (0.0031, 500.0), (1e-4, 500.0), (1e8, 5e-9)],
)
def test_the_public_code_rounds_the_variance_to_a_power_of_ten(variance: float, weight: float) -> None:
    assert rounded(0.5 / variance) == pytest.approx(weight)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("variance", ["estimated", "rounded"])
def test_the_weight_follows_the_variance(channels: int, variance: str) -> None:
    """One of all channels together, as if each were a voxel more."""
    batch, prior = scene(channels=channels)
    scores, _ = decided()
    method = sae(scores, channels=channels, likelihood="decoder", variance=variance)
    method.decoder.errors.fill_(0.0025)
    remembered = lost(method, batch, prior)
    error = float(method.decoder.errors[-1]) * channels
    weight = {"estimated": 200.0, "rounded": 500.0}[variance]
    assert remembered["reconstruction"].item() == pytest.approx(weight * error, rel=1e-4)
    assert method.decoder.errors[:-1].tolist() == pytest.approx([0.0025] * 15)


def test_the_warm_up_learns_the_prior() -> None:
    batch, prior = seen(1, dimensions=2)
    method = made(VARIANTS["sae"], dimensions=2, data_weight=0.0, sweeps=0)
    stepped(method, batch, prior, steps=150)
    assert lost(method, batch, prior)["prior"].item() < 0.03
    likeliest = replace(batch, labels=prior.log_probability().argmax(1))
    assert agreement(method, likeliest, prior) > 0.97


def test_a_missing_prior_is_refused() -> None:
    batch, _ = scene()
    with pytest.raises(InputError, match="method 'sae' got no prior; expected one: pass a placed prior, or --prior"):
        next(sae(drawn(2, 3, 5, 4)).losses(batch, None))


def test_fitting_on_a_part_of_the_voxels_changes_little(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, prior = seen(1)
    means = []
    for voxels in (4096, 400):
        monkeypatch.setattr("limner.methods.appearance.FITTED_ON", voxels)
        method = made(VARIANTS["sae"])
        lost(method, batch, prior)
        (gaussians,) = method._gaussians.kept.values()
        means.append(gaussians.means)
    torch.testing.assert_close(means[1], means[0], atol=0.1, rtol=0)
    assert not torch.equal(means[1], means[0])


@SHAPES
def test_segmenting_goes_on_from_the_encoder_towards_the_least_loss(shape: tuple[int, ...]) -> None:
    batch, prior = scene(shape)
    scores, losses = 2 * drawn(2, 3, *shape), []
    for sweeps in range(4):
        found = sae(scores, sweeps=sweeps).predict(batch.image, prior, mask=batch.mask)
        assert torch.equal(found[:, 0][~batch.mask], torch.ones(int((~batch.mask).sum())))
        reached = torch.where(batch.mask[:, None], found, torch.ones(()) / 3).clamp_min(1e-30).log()
        losses.append(sum(float(term) for term in lost(sae(reached), batch, prior).values()))
    assert losses[1] < losses[0] - 0.01
    assert losses[3] <= losses[2] <= losses[1]
    settled = sae(scores, sweeps=30).predict(batch.image, prior, mask=batch.mask)
    where = batch.mask[:, None].expand_as(settled)
    expected = (evidence_of(batch, prior) - 0.3 * neighbour_messages(settled, prior.neighbours)).softmax(1)
    torch.testing.assert_close(settled[where], expected[where], atol=1e-3, rtol=0)


@pytest.mark.parametrize("options", [{"sweeps": 0}, {"likelihood": "decoder"}, {"neighbour_weight": 0.0}])
def test_else_the_encoder_is_taken_at_its_word(options: dict[str, Any]) -> None:
    batch, prior = scene()
    scores = drawn(2, 3, 5, 4)
    found = sae(scores, **options).predict(batch.image, prior, mask=batch.mask)
    where = batch.mask[:, None].expand_as(found)
    torch.testing.assert_close(found[where], scores.softmax(1)[where])
