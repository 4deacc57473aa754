"""A model of made cells is adapted, without labels, to a volume of theirs of another kind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

import tiny
from inference.cells import cube, taught
from limner.blocks import Crew
from limner.check import InputError
from limner.cluster import Progress, Serial
from limner.data.scan import Preparation
from limner.data.volumes import OBJECTS
from limner.files import save_volume
from limner.files.affinities import open_affinities
from limner.files.nanometres import placed
from limner.inference.blockwise import Prediction, predict_blocks
from limner.inference.neurons import volume_affinities
from limner.instances import affinities_of
from limner.methods.affinity import Affinity, AffinityOptions
from limner.methods.method import Task
from limner.methods.storage import Model, load_model, save_model
from limner.space import Grid, Volume
from limner.training.transfer import adapt_volume


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, and a copy of its cube of another tone, blurred and noisy."""
    folder = tmp_path_factory.mktemp("adapting")
    taught(folder, steps=60)
    image, _ = cube()
    rng = np.random.default_rng(1)
    harmed = 200 * ((image.data - 60) / 140).clip(0, 1) ** 3
    harmed = ndimage.gaussian_filter(harmed, 0.5) + rng.normal(0, 8, image.data.shape)
    save_volume(Volume(harmed.astype(np.float32), image.grid, "image"), folder / "other.zarr")
    return folder


def error(model: Path, volume: Path) -> float:
    """The mean distance of near affinities from the truth."""
    method = load_model(model).method
    assert isinstance(method, Affinity)
    method.options = method.options.model_copy(update={"mirrored": "none"})
    found = volume_affinities(method, volume).data[:3] / 255
    truth = affinities_of(cube()[1].data, method.offsets[:3])
    return float(np.abs(found - truth)[:, 1:, 1:, 1:].mean())


@pytest.fixture(scope="module")
def adapted(home: Path) -> Iterator[Path]:
    before = {path.name: path.read_bytes() for path in (home / "run/model").iterdir() if path.is_file()}
    done = tiny.limner("adapt", "run/model", "other.zarr", "-o", "new", "--steps", 30, at=home)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "intensities: matched; 30 steps"
    assert done.stdout.splitlines()[-1] == "model: new"
    yield home / "new"
    assert {path.name: path.read_bytes() for path in (home / "run/model").iterdir() if path.is_file()} == before
    assert not [path.name for path in home.iterdir() if path.name.startswith(".")]


def test_adapting_helps_and_tells_what_it_did(home: Path, adapted: Path) -> None:
    assert error(adapted, home / "other.zarr") < error(home / "run/model", home / "other.zarr")
    told = json.loads((adapted / "model.json").read_text())["provenance"]["adapted"]
    assert told["agreement"][1] > told["agreement"][0]
    assert 0 < told["drift"] < 0.5
    assert told["kept"] > 0.8
    assert told["volume"] == "other.zarr"
    assert all(0 < share <= 1 for share in (*told["confident"], *told["agreement"]))


def test_what_is_told_of_a_model_stays_with_it(home: Path, adapted: Path) -> None:
    source, found = load_model(home / "run/model"), load_model(adapted)
    assert found.name == "affinity"
    assert found.provenance["look"] == source.provenance["look"]
    assert found.provenance["look"]["voxels"] == [10.0, 10.0, 10.0]
    changed = found.method.options.model_copy(update={"tones": None})
    assert found.method.options.tones is not None
    assert changed == source.method.options


def test_without_steps_intensities_alone_are_matched(home: Path) -> None:
    told = adapt_volume(home / "run/model", home / "other.zarr", out=home / "matched", steps=0, progress=False)
    assert (told.steps, told.drift, told.kept) == (0, 0.0, 1.0)
    source, found = (load_model(home / name).method for name in ("run/model", "matched"))
    assert all(torch.equal(one, found.state_dict()[name]) for name, one in source.state_dict().items())
    assert isinstance(found, Affinity)
    assert found.options.tones is not None
    assert error(home / "matched", home / "other.zarr") != error(home / "run/model", home / "other.zarr")


def test_blocks_see_the_curve_too_and_another_curve_is_another_prediction(home: Path, adapted: Path) -> None:
    what = Prediction.of(home / "other.zarr", adapted, mirrored=False, side=24)
    predict_blocks(what, home / "blocks.zarr", crew=Crew(Serial(1), Progress()))
    method = what.method()
    method.options = method.options.model_copy(update={"mirrored": "none"})
    found = volume_affinities(method, home / "other.zarr")
    # Tiles of another size are pooled and summed otherwise, by a digit.
    assert np.abs(open_affinities(home / "blocks.zarr").data.astype(int) - found.data).max() <= 1
    assert dict(what.origin)["tones"]
    assert "tones" not in dict(Prediction.of(home / "other.zarr", home / "run/model").origin)


def test_flat_models_see_sections_by_themselves(home: Path) -> None:
    method = Affinity(Task(1, 2, 2), AffinityOptions(network={"features": [4, 6]}))  # type: ignore[arg-type]
    save_model(Model(method, "affinity", OBJECTS, Preparation()), home / "flat")
    with pytest.raises(InputError, match="does not say what the volumes that it learned from look like"):
        adapt_volume(home / "flat", home / "other.zarr", out=home / "no", progress=False)
    told = adapt_volume(
        home / "flat", home / "other.zarr", out=home / "flat2", like=home / "cube.hdf", steps=2, progress=False
    )
    assert told.steps == 2
    assert load_model(home / "flat2").task.dimensions == 2


@pytest.mark.parametrize(
    ("shape", "nm", "message"),
    [
        ((20, 20, 20), 20.0, "bad.hdf' are 20 x 20 x 20 nm but the model learned from 10 x 10 x 10 nm"),
        ((20, 20), 10.0, r"the volume has shape \(20, 20\) but the model looks at 3 axes"),
        (None, 10.0, "bad.hdf"),
    ],
)
def test_other_volumes_are_refused(home: Path, shape: tuple[int, ...] | None, nm: float, message: str) -> None:
    data = np.random.default_rng(0).normal(size=shape).astype(np.float32) if shape else np.ones((9, 9, 9), np.float32)
    save_volume(Volume(data, Grid(data.shape, placed([nm] * data.ndim)), "image"), home / "bad.hdf")
    with pytest.raises(InputError, match=message):
        adapt_volume(home / "run/model", home / "bad.hdf", out=home / "no", progress=False)
    assert not (home / "no").exists()


def test_several_volumes_are_refused(home: Path) -> None:
    done = tiny.limner("adapt", "run/model", "other.zarr", "cube.hdf", "-o", "no", at=home)
    assert "2 volumes were given; expected one" in tiny.refused(done)
