"""A model goes on learning from a scan of another kind; what it came from stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from limner.check import InputError
from limner.files import open_volume, save_volume
from limner.inference import segment_volume
from limner.methods.storage import load_model
from limner.space import Volume
from limner.training.adaptation import adapt, drift
from limner.training.recipe import load_recipe
from limner.training.run import train
from tiny import dice, furnish, image, labels, limner, refused

RECIPE = """
prior = "{home}/prior"
device = "cpu"
[data]
scans = "{home}/scan.csv"
[method]
name = "{name}"
options = {{ network = {{ features = [4, 6, 8] }} }}
[[stages]]
name = "only"
steps = 20
learning_rate = 1e-2
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of bright pulp, and a scan in which the pulp is dark."""
    folder = furnish(tmp_path_factory.mktemp("home"))
    (folder / "scan.csv").write_text("image,labels\nscan.nii.gz,map.nii.gz\n")
    for name in ("sae", "supervised"):
        (folder / f"{name}.toml").write_text(RECIPE.format(home=folder, name=name))
        train(load_recipe(folder / f"{name}.toml"), folder / name, progress=False)
    other = image(seed=5)
    save_volume(Volume((150 - other.data) * (labels().data > 0), other.grid, "image"), folder / "other.nii.gz")
    return folder


def test_adapting_lowers_the_objective_and_leaves_the_source_alone(home: Path) -> None:
    before = {path.name: path.read_bytes() for path in (home / "sae" / "model").iterdir() if path.is_file()}
    told = adapt(
        home / "sae" / "model", [home / "other.nii.gz"], out=home / "new", steps=30, learning_rate=1e-2, progress=False
    )
    assert told.after < told.before - 0.01
    assert 0 < told.drift < 1
    assert {path.name: path.read_bytes() for path in (home / "sae" / "model").iterdir() if path.is_file()} == before
    source, found = (load_model(path) for path in (home / "sae" / "model", home / "new"))
    assert told.drift == pytest.approx(drift(source.method.state_dict(), found.method.state_dict()))
    assert found.provenance["adapted"]["before"] == told.before
    assert found.provenance["stages"] == source.provenance["stages"]
    other = open_volume(home / "other.nii.gz")
    assert dice(segment_volume(other, method=found).labels.data, labels().data) > 0.9
    assert not [path.name for path in home.iterdir() if path.name.startswith(".")]


def test_the_command_tells_objective_and_drift(home: Path) -> None:
    done = limner("adapt", "sae/model", "other.nii.gz", "-o", "out/model", "--steps", 2, at=home)
    assert done.returncode == 0, done.stderr
    first, second, third = done.stdout.splitlines()
    assert first.startswith("objective: ")
    assert first.endswith(" nats per voxel after 2 steps")
    assert second.startswith("drift: ")
    assert third == "model: out/model"
    assert json.loads((home / "out/model/model.json").read_text())["provenance"]["adapted"]["steps"] == 2


def test_what_labels_alone_teach_cannot_be_adapted(home: Path) -> None:
    done = limner("adapt", "supervised/model", "other.nii.gz", "-o", "no", at=home)
    assert "method 'supervised' learns from labels alone" in refused(done)
    assert "expected a model of anatomy or sae" in done.stderr
    assert not (home / "no").exists()


def test_nothing_else_is_replaced(home: Path) -> None:
    with pytest.raises(InputError, match="exists and is no model"):
        adapt(home / "sae" / "model", [home / "other.nii.gz"], out=home / "prior", progress=False)


def test_drift_is_the_change_relative_to_the_weights() -> None:
    before = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([[4.0]])}
    after = {"a": torch.tensor([3.0, 1.0]), "b": torch.tensor([[4.0]])}
    assert drift(before, after) == pytest.approx(0.2)
