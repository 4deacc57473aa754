"""What every method promises that learns from knowing which images show something, beside a few masks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from contracts.weak import WEAK, StoppedError, made, scene, stepped, trained
from limner.data.batch import IGNORE, Batch
from limner.data.scan import Preparation
from limner.methods.method import Trainable
from limner.methods.storage import Model, load_model, save_model
from limner.space import LabelTable

pytestmark = pytest.mark.parametrize("name", WEAK)
in_two_and_three = pytest.mark.parametrize("dimensions", [2, 3])


def terms(method: Trainable, batch: Batch, seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return {name: term for _, found in method.losses(batch, None) for name, term in found.items()}


def test_it_learns_what_the_labels_show(name: str) -> None:
    method, batch = made(name), scene()
    stepped(method, batch, steps=60, rate=1e-2)
    with torch.no_grad():
        found = torch.from_numpy(method.eval().segment(method.predict(batch.image, None, mask=batch.mask)))
    inside = (found == 1)[:2]
    truth = (batch.labels == 1)[:2]
    assert 2 * (inside & truth).sum() / (inside.sum() + truth.sum()) > 0.8


@in_two_and_three
def test_predictions_are_probabilities(name: str, dimensions: int) -> None:
    method, batch = made(name, dimensions=dimensions).eval(), scene(dimensions=dimensions)
    mask = batch.mask.clone()
    mask[:, :3] = False
    for image in (batch.image, torch.zeros_like(batch.image)):
        with torch.no_grad():
            first, second = (method.predict(image, None, mask=mask) for _ in range(2))
        assert torch.equal(first, second)
        assert first.shape == (6, 2, *[16] * dimensions)
        assert first.dtype == torch.float32
        torch.testing.assert_close(first.sum(1), torch.ones_like(first[:, 0]))
        assert (first[:, 0][~mask] == 1).all()


def test_voxels_that_nobody_labelled_teach_nothing(name: str) -> None:
    batch = scene()
    wild = torch.where(batch.labels == IGNORE, IGNORE, batch.labels)
    outside = batch.mask.clone()
    outside[:, :3] = False
    masked = replace(batch, mask=outside)
    changed = replace(masked, labels=torch.where(outside, wild, 1))
    expected, found = terms(made(name), masked), terms(made(name), changed)
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_without_labels_all_stays_finite(name: str) -> None:
    batch, method = scene(), made(name)
    found = terms(method, replace(batch, labels=torch.full_like(batch.labels, IGNORE)))
    torch.stack(list(found.values())).sum().backward()
    assert all(torch.isfinite(one.grad).all() for one in method.parameters() if one.grad is not None)
    assert found.get("dice", found.get("segmentation")).item() == 0


def test_everything_is_made_where_the_batch_is(name: str) -> None:
    """What is made without naming a device lands, here, where nothing can be computed with it."""
    batch, method = scene(), made(name)
    with torch.device("meta"):
        found = terms(method, batch)
        torch.stack(list(found.values())).sum().backward()
        predicted = method.predict(batch.image, None, mask=batch.mask)
    assert all(value.device == batch.image.device for value in (*found.values(), predicted))


def test_a_saved_method_comes_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    batch, method = scene(), made(name)
    stepped(method, batch, steps=2)
    (tmp_path / "table.tsv").write_text("id\tname\n1\tsquare\n")
    table = LabelTable.read(tmp_path / "table.tsv")
    save_model(Model(method, WEAK[name].method, table, Preparation(region="whole")), tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert loaded.preparation.region == "whole"
    assert loaded.method.options.model_dump(mode="json") == method.options.model_dump(mode="json")
    with torch.no_grad():
        before, again = (one.eval().predict(batch.image, None) for one in (method, loaded.method))
    assert torch.equal(before, again)


def test_a_run_that_was_stopped_ends_bit_for_bit_as_one_that_was_not(name: str, tmp_path: Path) -> None:
    expected = trained(tmp_path / "whole", name)
    with pytest.raises(StoppedError):
        trained(tmp_path / "parts", name, end=5)
    found = trained(tmp_path / "parts", name)
    assert all(torch.equal(found[key], value) for key, value in expected.items())
