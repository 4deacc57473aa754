"""Heads with their skulls: the brain is found, and labelled as if it had come alone."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import phantoms
from limner.check import InputError, InputWarning
from limner.files import open_volume, save_volume
from limner.inference import Segmentation, segment_scans, segment_volume
from limner.priors.atlas import Atlas
from limner.priors.averaging import build_atlas
from limner.priors.storage import load_prior, save_prior
from limner.space import Array, Grid, LabelTable, Volume, reoriented

GRID = phantoms.grid(2.0, half=(72, 70, 80))
TABLE = LabelTable.freesurfer().subset([*phantoms.IDS, 165, 258])
MOVE = phantoms.turned((5, -4, 6), (3, -5, 4))


@pytest.fixture(autouse=True, scope="module")
def _coarse() -> Iterator[None]:
    """Look at fewer points and coarser maps than in earnest."""
    with phantoms.hurried(inside=15_000):
        yield


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home") / "prior"
    whole = {"head": lambda: phantoms.labels(GRID, around=True)}
    save_prior(build_atlas(whole, TABLE, spacing=2, blur=2, bends=False), folder)
    return folder


@pytest.fixture(scope="module")
def atlas(prior: Path) -> Atlas:
    return load_prior(prior)


def brain() -> Array:
    """The ids of the brain's voxels."""
    labels = phantoms.labels(GRID, MOVE, around=True).data
    return np.where(np.isin(labels, phantoms.IDS), labels, 0)


def scan() -> Volume:
    return Volume(np.abs(phantoms.image(phantoms.labels(GRID, MOVE, around=True))), GRID, "image")


@pytest.fixture(scope="module")
def found(atlas: Atlas) -> Segmentation:
    return segment_volume(scan(), prior=atlas)


def agreement(labels: Array) -> float:
    """Mean Dice of the labels of the brain."""
    return float(np.mean([phantoms.dice(labels == one, brain() == one) for one in phantoms.IDS]))


def test_the_brain_is_labelled_and_nothing_else(found: Segmentation) -> None:
    assert set(np.unique(found.labels.data)) <= {0, *phantoms.IDS}
    assert agreement(found.labels.data) > 0.9
    mask = found.mask.data > 0
    assert phantoms.dice(mask, brain() > 0) > 0.95
    assert not found.labels.data[~mask].any()


def test_it_is_as_if_the_brain_had_come_alone(found: Segmentation, atlas: Atlas) -> None:
    alone = segment_volume(scan(), prior=atlas, mask=Volume(np.uint8(brain() > 0), GRID, "labels"))
    assert alone.mask is None
    assert agreement(found.labels.data) > agreement(alone.labels.data) - 0.02


def test_the_volume_inside_the_skull_is_told(found: Segmentation) -> None:
    *labels, last = found.volumes()
    assert last["name"] == "intracranial"
    assert last["volume_mm3"] == np.count_nonzero(found.mask.data) * 8
    assert last["volume_mm3"] > sum(row["volume_mm3"] for row in labels)
    assert last["intracranial_share"] == 1
    for row in labels:
        assert row["intracranial_share"] == pytest.approx(row["volume_mm3"] / last["volume_mm3"], abs=1e-6)


def test_a_head_whose_axes_nobody_knows_is_turned(atlas: Atlas) -> None:
    """Nor the size of its voxels: at 1 mm it is half as large. Its left and right are too much alike to tell."""
    turned = reoriented(scan(), "PIR")
    bare = Volume(turned.data, Grid(turned.data.shape, np.eye(4)), "image")
    with pytest.warns(InputWarning, match="found to lead PI"):
        found = segment_volume(bare, prior=atlas)
    back = reoriented(Volume(found.mask.data, turned.grid, "labels"), "RAS")
    assert phantoms.dice(back.data > 0, brain() > 0) > 0.9


def test_the_mask_is_written_beside_the_labels(prior: Path, tmp_path: Path) -> None:
    save_volume(scan(), tmp_path / "head.nii.gz")
    (case,) = segment_scans([tmp_path / "head.nii.gz"], tmp_path / "out", prior=prior)
    assert case.error is None
    assert case.mask == "head_mask.nii.gz"
    mask = open_volume(tmp_path / "out" / case.mask, kind="labels")
    assert mask.grid.matches(GRID)
    assert set(np.unique(mask.data)) == {0, 1}
    rows = list(csv.DictReader((tmp_path / "out" / "volumes.csv").open()))
    assert rows[-1] == {
        "case": "head",
        "id": "",
        "name": "intracranial",
        "structure": "intracranial",
        "low_mm3": "",
        "high_mm3": "",
        "volume_mm3": str(float(8 * mask.data.sum())),
        "intracranial_share": "1",
    }
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["cases"][0]["mask"] == case.mask


def test_a_prior_of_brains_alone_needs_them_stripped(atlas: Atlas) -> None:
    with pytest.raises(InputError, match="expected a skull-stripped scan"):
        segment_volume(scan(), prior=replace(atlas, head=None))
