"""The sheet of people who are not there: of models that draw some, and of no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import phantoms
from contracts.heads import SHAPE
from limner.data.scan import Preparation
from limner.methods.anatomy import Anatomy, AnatomyOptions
from limner.methods.method import Task
from limner.methods.sae import SAE, SAEOptions
from limner.methods.storage import Model, save_model
from limner.priors.dense import DensePrior
from limner.report.sheet import COLUMNS, ROWS, sheet, slice_grid


@pytest.fixture(scope="module")
def model() -> Model:
    """A shape model whose weights are random, and large: what it draws differs."""
    atlas = phantoms.atlas(phantoms.grid(4.0))
    task = Task(channels=1, classes=len(atlas.table.structures), dimensions=3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        method = Anatomy(task, AnatomyOptions(shape=SHAPE))
        torch.nn.init.normal_(method.shape.decoder.head.weight, std=10.0)
    return Model(method.eval(), "anatomy", atlas.table, Preparation(), atlas)


def test_a_sheet_has_the_prior_and_people_who_differ(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path / "model")
    document = sheet(tmp_path / "model")
    assert document.count("<image") == COLUMNS * ROWS
    assert sheet(tmp_path / "model") == document
    prior = DensePrior.of(model.prior, slice_grid(model.method.options.shape))
    first, second = model.method.imagined(prior, 2)
    assert (first != second).any()


def test_the_slice_lies_in_the_middle_of_the_lattice(model: Model) -> None:
    shape = model.method.options.shape
    grid = slice_grid(shape)
    middle = grid.world(np.array([(np.array(grid.shape) - 1) / 2]))[0]
    np.testing.assert_allclose(middle, shape.centre)
    assert grid.shape[1] == 1
    np.testing.assert_allclose(np.array(grid.shape)[[0, 2]], np.array(shape.shape)[[0, 2]] * shape.spacing, atol=0.5)


def test_models_that_draw_nobody_have_none(model: Model, tmp_path: Path) -> None:
    method = SAE(model.task, SAEOptions())
    save_model(Model(method, "sae", model.table, Preparation(), model.prior), tmp_path / "model")
    assert sheet(tmp_path / "model") == ""
