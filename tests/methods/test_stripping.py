"""The brain in a head: found whatever the contrast, where the head lies, and how its coils shine."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

import phantoms
from limner.methods.stripping import find_brain
from limner.priors.atlas import Atlas
from limner.priors.averaging import build_atlas
from limner.space import Array, Grid, LabelTable

GRID = phantoms.grid(2.0, half=(72, 70, 80))
TABLE = LabelTable.freesurfer().subset([*phantoms.IDS, 165, 258])


@pytest.fixture(autouse=True, scope="module")
def _coarse() -> Iterator[None]:
    """Look at fewer points and coarser maps than in earnest."""
    with phantoms.hurried(inside=15_000):
        yield


@pytest.fixture(scope="module")
def atlas() -> Atlas:
    """Of the whole head."""
    whole = {"head": lambda: phantoms.labels(GRID, around=True)}
    made = build_atlas(whole, TABLE, spacing=2, blur=2, bends=False).head
    assert made is not None
    return made


def scene(transform: Array | None = None, *, inverted: bool = False) -> tuple[torch.Tensor, Array]:
    """An image of a head (1, *S), and where its brain is."""
    truth = phantoms.labels(GRID, transform, around=True)
    image = np.abs(phantoms.image(truth))
    # Air and bone stay dark, whatever the contrast.
    image = np.where(np.isin(truth.data, (0, 165)), image, 150 - image) if inverted else image
    return torch.from_numpy(image)[None], np.isin(truth.data, phantoms.IDS)


def found(image: torch.Tensor, atlas: Atlas, *, grid: Grid = GRID, oriented: bool = True) -> Array:
    mask, _ = find_brain(image, grid=grid, atlas=atlas, rng=np.random.default_rng(0), oriented=oriented)
    return mask.numpy()


@pytest.mark.parametrize("inverted", [False, True])
def test_the_brain_is_found(atlas: Atlas, inverted: bool) -> None:
    image, brain = scene(phantoms.turned((6, -5, 8), (4, -6, 3), scale=1.05), inverted=inverted)
    mask = found(image, atlas)
    assert phantoms.dice(mask, brain) > 0.95
    # What is lost here is lost for good.
    assert (mask & brain).sum() > 0.97 * brain.sum()


def test_the_mask_is_one_piece_without_holes(atlas: Atlas) -> None:
    from scipy import ndimage

    mask = found(scene()[0], atlas)
    assert ndimage.label(mask)[1] == 1
    assert ndimage.label(~mask)[1] == 1


def test_axes_that_nobody_knows_are_no_hindrance(atlas: Atlas) -> None:
    image, brain = scene()
    turned, there = image.permute(0, 3, 1, 2).flip(2), np.flip(brain.transpose(2, 0, 1), 1)
    bare = Grid(tuple(turned.shape[1:]), np.diag([2.0, 2, 2, 1]))
    assert phantoms.dice(found(turned.contiguous(), atlas, grid=bare, oriented=False), there) > 0.95


def test_the_atlas_of_the_head_knows_tissues(atlas: Atlas) -> None:
    assert {"background", "Skull", "Head-ExtraCerebral", "white", "grey"} <= set(atlas.parts.tissues)
    outside = atlas.parts.class_of == 0
    assert {atlas.parts.tissues[tissue] for tissue in atlas.parts.tissue_of[outside].tolist()} == {
        "background",
        "Skull",
        "Head-ExtraCerebral",
    }
