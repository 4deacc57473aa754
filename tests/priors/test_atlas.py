"""An atlas placed on a scan's grid: parts, floor, energy, and the way back to ids."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

import phantoms
from limner.priors.atlas import FLOOR, Atlas, PlacedAtlas
from limner.priors.deformation import Smooth, Warps
from limner.priors.neighbours import neighbour_energy
from limner.priors.sparse import SparseMaps
from limner.space import Grid, Label, LabelTable

TABLE = LabelTable(
    (
        Label(7, "Left-Nut", (1, 2, 3), "nut", "grey"),
        Label(9, "Right-Nut", (1, 2, 3), "nut", "grey"),
        Label(12, "shell", (1, 2, 3), "shell", "white"),
        Label(20, "juice", (1, 2, 3), "rest", "fluid"),
        Label(21, "bark", (1, 2, 3), "rest", "white"),
        Label(22, "leaf", (1, 2, 3), "rest", "grey"),
        Label(30, "sky", (1, 2, 3), "background", "outside"),
    ),
    ("shell", "nut"),
)


@pytest.fixture(scope="module")
def head() -> Atlas:
    return phantoms.atlas(phantoms.grid(4.0))


@pytest.fixture(scope="module")
def tilted(head: Atlas) -> PlacedAtlas:
    """The head on an anisotropic grid that is turned against its own."""
    affine = phantoms.turned((20, -10, 30), (-40, -20, -35)) @ np.diag([6.0, 5.0, 7.0, 1.0])
    return head.place(Grid((12, 14, 10), affine))


def classes_of(volume_ids: np.ndarray, atlas: Atlas) -> np.ndarray:
    return atlas.table.structure_of[atlas.table.rows(volume_ids)]


def drawn_q(prior: PlacedAtlas, *, batch: int = 2) -> Tensor:
    logits = np.random.default_rng(0).normal(size=(batch, len(prior.atlas.table.structures), *prior.grid.shape))
    return torch.softmax(torch.from_numpy(logits), 1)


def test_labels_of_one_class_and_one_tissue_are_one_part() -> None:
    maps = SparseMaps(np.zeros((6, 1, 1, 1), np.uint8), np.full((6, 1, 1, 1), 0, np.uint8))
    atlas = Atlas(TABLE, Grid((1, 1, 1), np.eye(4)), maps)
    assert TABLE.structures == ("background", "shell", "nut", "rest")
    named = [
        (TABLE.structures[one], TABLE.tissues[tissue])
        for one, tissue in zip(atlas.parts.class_of.tolist(), atlas.parts.tissue_of.tolist(), strict=True)
    ]
    assert named[0] == ("background", "background")
    assert sorted(named) == sorted({(label.structure, label.tissue) for label in TABLE.labels})
    for label, part in zip(TABLE.labels, atlas.part_of.tolist(), strict=True):
        assert named[part] == (label.structure, label.tissue)


def test_parts_are_floored_probabilities(tilted: PlacedAtlas) -> None:
    parts = tilted.part_probability()
    count = len(tilted.parts.class_of)
    torch.testing.assert_close(parts.sum(0), torch.ones(tilted.grid.shape))
    assert parts.min() == pytest.approx(FLOOR / (1 + count * FLOOR))
    assert parts.dtype == torch.float32
    assert parts.shape == (count, *tilted.grid.shape)


@pytest.mark.parametrize(("size", "skipped"), [(2.0, 3), (6.0, 1)])
def test_inside_a_mask_each_part_counts_by_its_share_there(tilted: PlacedAtlas, size: float, skipped: int) -> None:
    """Bayes' rule, written out: p(part | place, inside) ~ p(part | place) p(inside | part)."""
    grid = tilted.grid.spaced(size)
    prior = tilted.atlas.sampled(grid)
    mask = prior[0] < 0.5
    every = (slice(None, None, skipped),) * 3
    share = prior[:, *every][:, mask[every]].sum(1) / prior[:, *every].flatten(1).sum(1)
    assert share[0] < 0.5 < share[1:].max()
    expected = prior * share[:, None, None, None]
    found = tilted.atlas.within(mask, grid).sampled(grid)
    torch.testing.assert_close(found, expected / expected.sum(0), atol=1e-4, rtol=0)


def test_a_mask_that_is_everywhere_changes_nothing(tilted: PlacedAtlas) -> None:
    everywhere = torch.ones(tilted.grid.shape, dtype=torch.bool)
    found = tilted.atlas.within(everywhere, tilted.grid).place(tilted.grid)
    torch.testing.assert_close(found.part_probability(), tilted.part_probability())


def test_classes_are_sums_of_their_parts(tilted: PlacedAtlas) -> None:
    probability = tilted.log_probability().exp()
    torch.testing.assert_close(probability.sum(0), torch.ones(tilted.grid.shape))
    for number in range(len(probability)):
        parts = tilted.part_probability()[tilted.parts.class_of == number]
        torch.testing.assert_close(probability[number], parts.sum(0))


def test_energy_is_that_of_location_and_neighbours(tilted: PlacedAtlas) -> None:
    q, table = drawn_q(tilted), tilted.atlas.neighbours
    assert table is not None
    location = -(q * tilted.log_probability()).flatten(1).sum(1)
    torch.testing.assert_close(
        tilted.energy(q), location + tilted.neighbour_weight * neighbour_energy(q, table), rtol=1e-6, atol=0
    )
    alone = PlacedAtlas(tilted.atlas, tilted.grid, neighbour_weight=0)
    torch.testing.assert_close(alone.energy(q), location, rtol=1e-6, atol=0)


@pytest.mark.parametrize("counted", [True, False])
def test_messages_are_the_derivative_of_the_energy(tilted: PlacedAtlas, counted: bool) -> None:
    atlas = tilted.atlas
    if not counted:
        atlas = Atlas(atlas.table, atlas.grid, atlas.maps)
    placed = atlas.place(tilted.grid)
    q = drawn_q(placed).requires_grad_()
    (gradient,) = torch.autograd.grad(placed.energy(q).sum(), q)
    torch.testing.assert_close(placed.messages(q.detach()), gradient, rtol=1e-5, atol=1e-5)


def test_a_place_far_away_is_background(head: Atlas) -> None:
    far = np.eye(4)
    far[:3, 3] = 1e4
    probability = head.place(Grid((3, 3, 3), far)).log_probability().exp()
    assert (probability[0] > 0.999).all()


def test_ids_come_back_left_and_right_apart(tilted: PlacedAtlas) -> None:
    truth = phantoms.labels(tilted.grid).data
    ids = tilted.identified(classes_of(truth, tilted.atlas))
    beside = abs(tilted.grid.world(np.moveaxis(np.indices(truth.shape), 0, -1))[..., 0]) > 4  # mm from the midline
    np.testing.assert_array_equal(ids[beside], truth[beside])
    assert ids.dtype == np.int32


def test_every_class_has_an_id_everywhere(tilted: PlacedAtlas) -> None:
    table = tilted.atlas.table
    for number, structure in enumerate(table.structures):
        ids = tilted.identified(np.full(tilted.grid.shape, number))
        assert {table[label].structure for label in np.unique(ids).tolist()} == {structure}


def test_a_volume_of_one_slice_is_a_slice_of_the_volume(tilted: PlacedAtlas) -> None:
    grid = tilted.grid
    affine = grid.affine.copy()
    affine[:3, 3] = grid.world([0, 0, 4])
    one = tilted.atlas.place(Grid((*grid.shape[:2], 1), affine))
    torch.testing.assert_close(one.part_probability(), tilted.part_probability()[..., 4:5])


def test_a_bent_atlas_is_the_atlas_elsewhere(head: Atlas) -> None:
    """Probabilities and ids, on a turned grid, are those of the places to which the warp takes its voxels."""
    warps = Warps.over(head.grid, (Smooth(12.0, 2.0),))
    warp = warps.warp(np.random.default_rng(0).normal(size=warps.size))
    grid = Grid((9, 8, 7), phantoms.turned((20, -10, 30), (-24, -20, -18)) @ np.diag([6.0, 5.0, 6.0, 1.0]))
    bent, voxels = replace(head, warp=warp), np.moveaxis(np.indices(grid.shape), 0, -1).reshape(-1, 3)
    classes = bent.place(grid).log_probability().argmax(0).numpy()
    ids = bent.place(grid).identified(classes)
    assert np.abs(warp.moved(grid.world(voxels)) - grid.world(voxels)).max() > 2
    for number in range(0, len(voxels), 7):
        place = tuple(voxels[number])
        affine = grid.affine.copy()
        affine[:3, 3] = warp.moved(grid.world(voxels[number : number + 1]))[0]
        there = head.place(Grid((1, 1, 1), affine))
        torch.testing.assert_close(
            bent.sampled(grid)[(slice(None), *place)], head.sampled(there.grid).flatten(), atol=1e-4, rtol=0
        )
        assert there.identified(classes[place].reshape(1, 1, 1)).item() == ids[place]
