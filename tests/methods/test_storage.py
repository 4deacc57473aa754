"""Models on disk: everything comes back, nothing else is believed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import phantoms
from limner.check import InputError
from limner.data.scan import Preparation
from limner.methods import METHODS
from limner.methods.method import Task
from limner.methods.storage import MODELS, Model, load_model, model_hash, save_model
from limner.priors.storage import SHIPPED, load_prior
from limner.space import LabelTable
from training.toys import OnePlayer

TABLE = LabelTable.freesurfer()
TASK = Task(channels=2, classes=len(TABLE.structures), dimensions=3)


@pytest.fixture(autouse=True)
def _toy_is_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "toy", "training.toys:OnePlayer")


@pytest.fixture
def model() -> Model:
    atlas = phantoms.atlas(phantoms.grid(4.0))
    task = Task(channels=2, classes=len(atlas.table.structures), dimensions=3)
    preparation = Preparation(spacing=2, margin=5)
    return Model(OnePlayer(task), "toy", atlas.table, preparation, atlas, {"scans": 7})


@pytest.fixture
def path(model: Model, tmp_path: Path) -> Path:
    save_model(model, tmp_path / "model")
    return tmp_path / "model"


def test_everything_comes_back(model: Model, path: Path) -> None:
    found = load_model(path)
    assert (found.name, found.task, found.preparation) == ("toy", model.task, model.preparation)
    assert found.method.options == model.method.options
    assert found.provenance == {"scans": 7}
    assert found.table.as_dict() == model.table.as_dict()
    assert found.prior.table.as_dict() == model.prior.table.as_dict()
    assert (found.prior.grid.affine == model.prior.grid.affine).all()
    weights = found.method.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in model.method.state_dict().items())
    assert not found.method.training


def test_a_model_is_a_folder_that_appears_whole(path: Path) -> None:
    assert sorted(entry.name for entry in path.iterdir()) == ["model.json", "prior", "weights.safetensors"]
    assert [entry.name for entry in path.parent.iterdir()] == ["model"]
    assert json.loads((path / "model.json").read_text())["format"] == "limner model 1"


def test_a_model_needs_no_prior(tmp_path: Path) -> None:
    save_model(Model(OnePlayer(TASK), "toy", TABLE, Preparation()), tmp_path / "deep" / "model")
    assert load_model(tmp_path / "deep" / "model").prior is None


def test_a_model_replaces_a_model(model: Model, path: Path) -> None:
    before = model_hash(path)
    with torch.no_grad():
        model.method.usual += 1
    save_model(model, path)
    assert model_hash(path) != before
    assert float(load_model(path).method.usual) == 1
    assert [entry.name for entry in path.parent.iterdir()] == ["model"]


def test_nothing_else_is_replaced(model: Model, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    with pytest.raises(InputError, match=f"'{tmp_path / 'thesis'}' exists and is no model; expected a new path"):
        save_model(model, tmp_path / "thesis")
    assert list((tmp_path / "thesis").iterdir()) == []


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors", "prior/prior.json"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated_files(path: Path, name: str, share: float) -> None:
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=f"'{path}.* is damaged"):
        load_model(path)


def test_another_prior_is_seen(path: Path) -> None:
    description = json.loads((path / "model.json").read_text())
    (path / "model.json").write_text(json.dumps(description | {"prior": "0" * 64}))
    with pytest.raises(InputError, match="is damaged .its prior is another than the one recorded"):
        load_model(path)


def test_tensors_of_another_task(path: Path) -> None:
    description = json.loads((path / "model.json").read_text())
    description["task"]["channels"] = 3
    (path / "model.json").write_text(json.dumps(description))
    with pytest.raises(InputError, match=f"model '{path}' is damaged .*network.0.weight"):
        load_model(path)


def test_another_version(path: Path) -> None:
    description = json.loads((path / "model.json").read_text())
    (path / "model.json").write_text(json.dumps(description | {"format": "limner model 7"}))
    with pytest.raises(InputError, match=f"model '{path}' is of format 'limner model 7' but this limner reads"):
        load_model(path)


def test_a_path_without_a_model(tmp_path: Path, path: Path) -> None:
    for place, words in ((tmp_path, "has no model.json"), (tmp_path / "none", "does not exist")):
        with pytest.raises(InputError, match=f"model '{place}' {words}; expected a folder made by `limner train`"):
            load_model(place)
    shutil.rmtree(path)
    path.write_text("")
    with pytest.raises(InputError, match=f"model '{path}' is a file"):
        load_model(path)


def test_a_model_that_ships_has_the_prior_that_ships() -> None:
    model, prior = load_model(MODELS / "anatomy"), load_prior(SHIPPED)
    assert model.prior is not None
    assert model.prior.provenance == prior.provenance
    assert (model.prior.grid.affine == prior.grid.affine).all()


def test_a_model_that_lost_its_prior_is_not_given_another(path: Path) -> None:
    shutil.rmtree(path / "prior")
    with pytest.raises(InputError, match="is damaged .its prior is another than the one recorded"):
        load_model(path)
