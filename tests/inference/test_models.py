"""Trained models, from scan to labels: whole or tiled, with a prior or without, at any voxel size."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import phantoms
import tiny
from inference import toys
from limner.check import InputError
from limner.cluster import Progress
from limner.data.scan import Preparation, prepared
from limner.files import open_volume
from limner.inference import Options, Segmentation, predicted, segment_scans, segment_volume
from limner.methods import METHODS
from limner.methods.method import Task
from limner.methods.storage import Model, model_hash, save_model
from limner.priors.atlas import Atlas
from limner.priors.storage import load_prior, prior_hash
from limner.report import report_folder
from limner.space import Grid, Volume, reoriented


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a scan, its labels, a table and a prior."""
    return tiny.furnish(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def atlas(home: Path) -> Atlas:
    return load_prior(home / "prior")


@pytest.fixture(scope="module")
def model(atlas: Atlas) -> Model:
    return toys.model(atlas, atlas.table)


@pytest.fixture(scope="module")
def found(model: Model) -> Segmentation:
    return segment_volume(tiny.image(), method=model, posteriors=True)


def test_a_model_labels_a_scan(found: Segmentation, atlas: Atlas) -> None:
    assert tiny.dice(found.labels.data, tiny.labels().data) > 0.9
    assert found.placement is not None
    assert found.table == atlas.table
    np.testing.assert_array_equal(found.labels.grid.affine, tiny.GRID.affine)
    stacked = np.stack([volume.data for volume in found.posteriors.values()])
    np.testing.assert_allclose(stacked.sum(0), 1, atol=1e-5)
    assert set(np.unique(found.labels.data[tiny.image().data == 0])) == {0}


def test_stored_orientation_does_not_matter(found: Segmentation, model: Model) -> None:
    turned = segment_volume(reoriented(tiny.image(), "LIA"), method=model)
    assert turned.labels.grid.orientation == "LIA"
    np.testing.assert_array_equal(reoriented(turned.labels, "RAS").data, found.labels.data)


def test_tiles_say_what_the_whole_says(model: Model, atlas: Atlas) -> None:
    scan = prepared(tiny.image())
    assert any(size % 4 for size in scan.grid.shape)
    whole, tiles = (
        predicted(model.method, scan, placed=atlas.place(scan.grid), largest=largest) for largest in (10**6, 12**3)
    )
    assert whole.shape == (4, *scan.grid.shape)
    torch.testing.assert_close(tiles, whole)


def test_a_receptive_field_wider_than_the_tiles_is_blended(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toys.Look, "context", 40)
    scan = prepared(tiny.image())
    whole, tiles = (predicted(model.method, scan, placed=None, largest=largest) for largest in (10**6, 12**3))
    torch.testing.assert_close(tiles, whole, atol=0.1, rtol=0)
    torch.testing.assert_close(tiles.sum(0), torch.ones(scan.grid.shape))


def test_a_coarse_model_labels_a_fine_scan(model: Model, found: Segmentation) -> None:
    coarse = replace(model, preparation=model.preparation.model_copy(update={"spacing": 3.0}))
    again = segment_volume(tiny.image(), method=coarse, posteriors=True)
    assert again.labels.grid.shape == tiny.GRID.shape
    assert tiny.dice(again.labels.data, tiny.labels().data) > 0.75
    assert set(np.unique(again.labels.data[tiny.image().data == 0])) == {0}
    # A scan's rim is its own, however coarse the voxels that the method saw.
    assert np.mean((again.labels.data > 0) == (found.labels.data > 0)) > 0.99
    stacked = np.stack([volume.data for volume in again.posteriors.values()])
    np.testing.assert_allclose(stacked.sum(0), 1, atol=1e-5)


def test_a_model_without_a_prior_needs_none(atlas: Atlas) -> None:
    bare = toys.model(None, atlas.table)
    told: list[str] = []
    found = segment_volume(tiny.image(), method=bare, progress=told.append)
    assert told == ["predicting", "labelling"]
    assert found.placement is None
    assert tiny.dice(found.labels.data, tiny.labels().data) > 0.7


def head(*, prior: bool) -> tuple[Model, Atlas, Volume]:
    """A method that knows where cortex is, and its scan."""
    grid = phantoms.grid(4.0)
    atlas, truth = phantoms.atlas(grid), phantoms.labels(grid)
    method = (toys.Believe if prior else toys.Look)(Task(1, len(atlas.table.structures)))
    image = Volume(phantoms.image(truth) * (truth.data > 0), grid, "image")
    return Model(method, "toy", atlas.table, Preparation(), atlas if prior else None), atlas, image


def test_left_and_right_come_apart() -> None:
    model, _, image = head(prior=True)
    found = segment_volume(image, method=model)
    truth = phantoms.labels(image.grid)
    for side in (3, 42, 10, 49):
        assert phantoms.dice(found.labels.data == side, truth.data == side) > 0.6


def test_without_a_prior_labels_are_structures() -> None:
    model, atlas, image = head(prior=False)
    cortex = atlas.table.structures.index("cerebral cortex")
    model.method.means.data[:] = 99.0
    model.method.means.data[cortex] = 0.0
    found = segment_volume(image, method=model)
    assert found.table == atlas.table.merged()
    assert set(np.unique(found.labels.data)) == {0, 3}
    sided = segment_volume(image, method=model, prior=atlas)
    assert set(np.unique(sided.labels.data)) == {0, 3, 42}
    assert sided.placement is not None
    assert model.method.priors == [None, None]


def test_a_flat_image_is_an_image_too(atlas: Atlas) -> None:
    method = toys.Look(Task(1, 4, dimensions=2))
    method.means.data = toys.means_of(atlas.table)
    flat = Model(method, "look", atlas.table, Preparation())
    scan, truth = tiny.image(), tiny.labels().data[:, :, 11]
    image = Volume(scan.data[:, :, 11], Grid(truth.shape, np.diag([2.0, 2.0, 1.0])), "image")
    assert tiny.dice(segment_volume(image, method=flat).labels.data, truth) > 0.7
    with pytest.raises(InputError, match=r"shape \(20, 24, 22\) but the model was trained on 2 axes"):
        segment_volume(scan, method=flat)


def test_a_prior_of_other_structures_is_refused(model: Model) -> None:
    _, other, _ = head(prior=False)
    with pytest.raises(InputError, match="the prior lacks rind, pulp, stone and has .*caudate.*; expected the model's"):
        segment_volume(tiny.image(), method=model, prior=other)


def test_another_number_of_channels_is_refused(model: Model, atlas: Atlas) -> None:
    with pytest.raises(InputError, match="the scan has 2 images but the model was trained on 1; expected as many"):
        segment_volume(tiny.image(), method=model, channels=[tiny.image()])
    two = toys.model(atlas, atlas.table, channels=2)
    with pytest.raises(InputError, match="the scan has 1 image but the model was trained on 2; expected as many"):
        segment_volume(tiny.image(), method=two)
    both = segment_volume(tiny.image(), method=two, channels=[tiny.image(seed=1)])
    assert tiny.dice(both.labels.data, tiny.labels().data) > 0.9


class Steps(Progress):
    """Keeps the steps that it is told."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str]] = []

    def step(self, name: str, words: str) -> None:
        self.all.append((name, words))


def test_a_model_from_file_to_file(
    model: Model, found: Segmentation, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, "look", "inference.toys:Look")
    save_model(model, tmp_path / "model")
    told = Steps()
    (case,) = segment_scans(
        [home / "scan.nii.gz"],
        tmp_path / "out",
        model=tmp_path / "model",
        options=Options(orientation="RAS"),
        progress=told,
    )
    assert case.error is None
    assert [words for _, words in told.all] == ["reading", "aligning", "predicting", "labelling"]
    labels = open_volume(tmp_path / "out" / case.labels, kind="labels")
    np.testing.assert_array_equal(labels.data, found.labels.data)
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["method"] == "look"
    assert manifest["model"] == {"name": "model", "hash": model_hash(tmp_path / "model")}
    assert manifest["prior"]["hash"] == prior_hash(tmp_path / "model/prior")
    assert "method" not in manifest["options"]
    assert model_hash(tmp_path / "model")[:12] in report_folder(tmp_path / "out").read_text()


def test_what_cannot_be_used_is_refused_before_anything_is_written(
    model: Model, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, "look", "inference.toys:Look")
    _, other, _ = head(prior=False)
    save_model(replace(model, table=other.table, prior=None), tmp_path / "model")
    with pytest.raises(InputError, match="the prior has rind, pulp, stone and lacks|the prior lacks .* and has rind"):
        segment_scans([home / "scan.nii.gz"], tmp_path / "out", model=tmp_path / "model", prior=home / "prior")
    with pytest.raises(InputError, match="nowhere"):
        segment_scans([home / "scan.nii.gz"], tmp_path / "out", model=tmp_path / "nowhere")
    assert not (tmp_path / "out").exists()
