"""What every trainable method promises, on heads of sixteen voxels a side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from contracts.heads import VARIANTS, Variant, atlas, begun, lost, made, seen, stepped
from contracts.weak import WEAK
from limner.data.batch import IGNORE, Batch
from limner.data.scan import Preparation
from limner.methods import METHODS, method_class
from limner.methods.method import Trainable
from limner.methods.storage import Model, load_model, save_model
from limner.priors.dense import DensePrior

pytestmark = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())
in_two_and_three = pytest.mark.parametrize("dimensions", [2, 3])


def summed(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def gradients(method: Trainable, batch: Batch, prior: DensePrior) -> dict[str, Tensor]:
    """The gradient of the loss with respect to each parameter, 0 where there is none."""
    method.zero_grad()
    summed(lost(method, batch, prior)).backward()
    return {name: torch.zeros_like(one) if one.grad is None else one.grad for name, one in method.named_parameters()}


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5 * float(1 + value.detach().abs().max()))


@in_two_and_three
def test_every_parameter_is_learned(variant: Variant, dimensions: int) -> None:
    batch, prior = seen(1, dimensions=dimensions)
    method = made(variant, dimensions=dimensions)
    stepped(method, batch, prior, steps=17, rate=1e-3)  # what begins at zero, or waits for sixteen errors, has begun
    found, learning = gradients(method, batch, prior), dict(method.named_parameters())
    assert not [name for name, gradient in found.items() if learning[name].requires_grad and not gradient.any()]


def test_what_is_frozen_does_not_move(variant: Variant) -> None:
    batch, prior = seen(1, dimensions=2)
    method = begun(variant, batch, prior, dimensions=2)
    for number, parameter in enumerate(method.parameters()):
        parameter.requires_grad_(parameter.requires_grad and number % 2 == 0)
    before = {name: one.detach().clone() for name, one in method.named_parameters()}
    stepped(method, batch, prior, steps=18, rate=1e-3)
    moved = {name: not torch.equal(one, before[name]) for name, one in method.named_parameters()}
    assert moved == {name: one.requires_grad for name, one in method.named_parameters()}


def test_a_saved_method_comes_back_bit_for_bit(variant: Variant, tmp_path: Path) -> None:
    batch, prior = seen(1)
    method = made(variant)
    stepped(method, batch, prior, steps=2)
    save_model(Model(method, variant.method, atlas().table, Preparation(), atlas()), tmp_path / "model")
    found = load_model(tmp_path / "model").method
    assert type(found) is type(method)
    assert (found.options, found.task) == (method.options, method.task)
    weights = found.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in method.state_dict().items())
    with torch.no_grad():
        again, before = (one.eval().predict(batch.image, prior, mask=batch.mask) for one in (found, method))
    assert torch.equal(again, before)


def test_voxels_that_nobody_labelled_teach_nothing(variant: Variant) -> None:
    """Nor do labels outside the mask, nor, where labels do not teach, any labels."""
    batch, prior = seen(1, 2)
    method = made(variant)
    generator = torch.Generator().manual_seed(0)
    blank = torch.rand(batch.labels.shape, generator=generator) < 0.3
    some = torch.where(blank, IGNORE, batch.labels)
    wild = torch.randint(0, method.task.classes, batch.labels.shape, generator=generator)
    outside = replace(batch, labels=torch.where(batch.mask, some, wild))
    anywhere = replace(batch, labels=wild)
    expected = lost(method, replace(batch, labels=some), prior)
    for other in (outside, *([] if method.supervised else [anywhere])):
        found = lost(method, other, prior)
        assert all(torch.equal(found[name], term) for name, term in expected.items())
    if method.supervised and not method.instances:  # whose losses are of edges, not of voxels
        # Nobody looks at the score of a voxel without a label.
        scores = torch.randn(2, method.task.classes, *batch.labels.shape[1:], requires_grad=True)
        method.network.forward = lambda _: scores
        (gradient,) = torch.autograd.grad(summed(lost(method, outside, prior)), scores)
        assert (gradient.abs().sum(1) > 0).equal(batch.mask & ~blank)


@in_two_and_three
def test_everything_is_made_where_the_batch_is(variant: Variant, dimensions: int) -> None:
    """What is made without naming a device lands, here, where nothing can be computed with it."""
    batch, prior = seen(1, 2, dimensions=dimensions)
    method = made(variant, dimensions=dimensions)
    with torch.device("meta"):
        terms = lost(method, batch, prior)
        summed(terms).backward()
        predictions = [method.predict(batch.image, prior, mask=mask) for mask in (batch.mask, None)]
    assert all(value.device == batch.image.device for value in (*terms.values(), *predictions))


@in_two_and_three
def test_the_order_of_a_batch_does_not_matter(variant: Variant, dimensions: int) -> None:
    method = made(variant, dimensions=dimensions)
    found = [lost(method, *seen(*people, dimensions=dimensions)) for people in ((1, 2, 4), (4, 1, 2))]
    assert_close(*found)


def test_a_batch_is_the_mean_of_its_scans(variant: Variant) -> None:
    """So that it does not matter how scans are spread over batches and processes."""
    method = made(variant)
    together = gradients(method, *seen(1, 4))
    alone = [gradients(method, *seen(person)) for person in (1, 4)]
    assert_close(together, {name: (alone[0][name] + alone[1][name]) / 2 for name in together})
    assert any(alone[0][name].any() for name in together)


def test_the_same_seed_gives_the_same_loss(variant: Variant) -> None:
    batch, prior = seen(1, dimensions=2)
    first, second, other = (
        stepped(made(variant, dimensions=2, seed=seed), batch, prior, steps=4) for seed in (0, 0, 1)
    )
    assert first == second
    assert first != other


@in_two_and_three
def test_a_batch_without_labels_stays_finite(variant: Variant, dimensions: int) -> None:
    batch, prior = seen(1, 2, dimensions=dimensions)
    method = made(variant, dimensions=dimensions)
    found = gradients(method, replace(batch, labels=torch.full_like(batch.labels, IGNORE)), prior)
    assert all(torch.isfinite(gradient).all() for gradient in found.values())
    assert any(gradient.any() for gradient in found.values()) is not method.supervised


@pytest.mark.parametrize("voxels", [0, 1, 2])
def test_a_scan_of_few_voxels_stays_finite(variant: Variant, voxels: int) -> None:
    batch, prior = seen(1, 2)
    batch.mask[0].flatten()[batch.mask[0].flatten().nonzero()[voxels:, 0]] = False
    assert int(batch.mask[0].sum()) == voxels
    found = gradients(made(variant), batch, prior)
    assert all(torch.isfinite(gradient).all() for gradient in found.values())
    assert any(gradient.any() for gradient in found.values())


def test_the_same_image_gives_the_same_prediction(variant: Variant) -> None:
    batch, prior = seen(1, 2)
    method = made(variant).eval()
    before = batch.image.clone()
    with torch.no_grad():
        first, second = (method.predict(batch.image, prior, mask=batch.mask) for _ in range(2))
        one = method.predict(batch.image[1:], seen(2)[1], mask=batch.mask[1:])
    assert torch.equal(first, second)
    assert torch.equal(batch.image, before)
    torch.testing.assert_close(first[1:], one, atol=1e-5, rtol=0)


def test_methods_of_the_list_are_here(variant: Variant) -> None:
    assert issubclass(method_class(variant.method), Trainable)
    trainable = {name for name in METHODS if issubclass(method_class(name), Trainable)}
    assert {one.method for one in VARIANTS.values()} | {one.method for one in WEAK.values()} == trainable
