"""A batch's prior says what the atlas says of each of its scans."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import phantoms
from limner.priors.atlas import FLOOR, Atlas, PlacedAtlas
from limner.priors.dense import DensePrior, part_maps
from limner.space import Grid


@pytest.fixture(scope="module")
def atlas() -> Atlas:
    return phantoms.atlas(phantoms.grid(4.0))


@pytest.fixture(scope="module")
def grids() -> list[Grid]:
    """Two people of one shape."""
    bends = [((20, -10, 30), (-40, -20, -35)), ((0, 5, -10), (-30, -30, -30))]
    return [Grid((12, 14, 10), phantoms.turned(*bend) @ np.diag([6.0, 5.0, 7.0, 1.0])) for bend in bends]


@pytest.fixture(scope="module")
def dense(atlas: Atlas, grids: list[Grid]) -> DensePrior:
    maps = torch.from_numpy(np.stack([part_maps(atlas, grid) for grid in grids]))
    return DensePrior(atlas.parts, maps.movedim(-1, 1), atlas.neighbours)


@pytest.fixture(scope="module")
def placed(atlas: Atlas, grids: list[Grid]) -> list[PlacedAtlas]:
    return [atlas.place(grid) for grid in grids]


def drawn(prior: DensePrior) -> Tensor:
    shape = (2, prior.classes, *prior.probability.shape[2:])
    return torch.softmax(torch.from_numpy(np.random.default_rng(0).normal(size=shape)), 1)


def test_maps_keep_a_voxels_parts_side_by_side(atlas: Atlas, grids: list[Grid]) -> None:
    maps = part_maps(atlas, grids[0])
    assert maps.dtype == np.float16
    assert maps.flags.c_contiguous
    assert maps.shape == (*grids[0].shape, len(atlas.parts.class_of))


def test_parts_are_those_of_the_atlas(dense: DensePrior, placed: list[PlacedAtlas]) -> None:
    found, expected = dense.part_probability(), torch.stack([one.part_probability() for one in placed])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=3e-4, rtol=0)
    torch.testing.assert_close(found.sum(1), torch.ones(found.sum(1).shape))
    assert found.min() > 0


def test_parts_within_a_mask_are_those_of_its_voxels(dense: DensePrior) -> None:
    mask = torch.from_numpy(np.random.default_rng(0).random((2, *dense.probability.shape[2:])) < 0.1)
    torch.testing.assert_close(dense.parts_within(mask), dense.part_probability().movedim(1, -1)[mask])


def test_classes_are_those_of_the_atlas(dense: DensePrior, placed: list[PlacedAtlas]) -> None:
    found, expected = dense.log_probability(), torch.stack([one.log_probability() for one in placed])
    torch.testing.assert_close(found.exp(), expected.exp(), atol=5e-4, rtol=0)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(found.sum(1).shape))
    assert dense.log_probability() is found


def test_autocast_rounds_no_probability(dense: DensePrior) -> None:
    fresh = DensePrior(dense.parts, dense.probability)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(fresh.log_probability(), dense.log_probability(), rtol=0, atol=0)


def test_energy_is_the_atlas_energy_of_each_scan(dense: DensePrior, placed: list[PlacedAtlas]) -> None:
    q = drawn(dense)
    expected = torch.cat([one.energy(q[[number]]) for number, one in enumerate(placed)])
    torch.testing.assert_close(dense.energy(q), expected, rtol=5e-3, atol=0)
    floored = torch.stack([one.part_probability() for one in placed])
    exact = DensePrior(dense.parts, floored * (1 + floored.shape[1] * FLOOR) - FLOOR, dense.neighbours)
    torch.testing.assert_close(exact.energy(q), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("counted", [True, False])
def test_messages_are_the_derivative_of_the_energy(dense: DensePrior, counted: bool) -> None:
    prior = dense if counted else DensePrior(dense.parts, dense.probability)
    q = drawn(prior).requires_grad_()
    (gradient,) = torch.autograd.grad(prior.energy(q).sum(), q)
    torch.testing.assert_close(prior.messages(q.detach()), gradient, rtol=1e-5, atol=1e-5)


def test_one_scan_is_a_batch_of_one(atlas: Atlas, grids: list[Grid], dense: DensePrior) -> None:
    torch.testing.assert_close(DensePrior.of(atlas, grids[1]).probability, dense.probability[1:], rtol=0, atol=0)


def test_another_device_has_the_same_memory_order(dense: DensePrior) -> None:
    moved = dense.to("meta")
    assert moved.probability.device.type == "meta"
    assert moved.probability.stride() == dense.probability.stride()
    assert moved.probability.stride(1) == 1
    assert moved.parts.class_of.device.type == moved.parts.tissue_of.device.type == "meta"
