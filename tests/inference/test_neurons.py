"""From a labelled cube to a segmented volume, through the commands, on made cells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
from inference.cells import SHAPE, cube, taught
from limner.check import InputError
from limner.data.scan import Preparation
from limner.data.volumes import OBJECTS
from limner.evaluation import evaluate_instances
from limner.files import open_volume, save_volume
from limner.files.affinities import open_affinities
from limner.inference.neurons import predicted, segments, volume_affinities
from limner.inference.objects import decoder_of
from limner.inference.tuning import best_of_each
from limner.inference.tuning import tune as tuned
from limner.instances import nearest
from limner.instances.decoding import Decoder
from limner.methods.affinity import Affinity, AffinityOptions
from limner.methods.method import Task
from limner.methods.storage import Model, load_model, save_model
from limner.space import Grid, Volume
from limner.training.recipe import load_recipe
from limner.training.run import train


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cube, and a model that learned from it."""
    folder = tmp_path_factory.mktemp("neurons")
    taught(folder, steps=60)
    return folder


def cost(labels: Volume) -> float:
    """The variation of information between labels and the cube's ids, bits."""
    rows = evaluate_instances(labels, cube()[1], case="cube").rows
    return next(row["value"] for row in rows if row["metric"] == "vi")


@pytest.fixture(scope="module")
def segmented(home: Path) -> Path:
    """What the commands make of the cube."""
    done = tiny.limner("tune", "run/model", "cube.hdf", "--sections", 12, 20, "-o", "tuned", at=home)
    assert done.returncode == 0, done.stderr
    assert {"mean", "quantile", "mutex", "components"} <= set(done.stdout.split())
    done = tiny.limner("segment", "cube.hdf", "--model", "tuned", "-o", "out", at=home)
    assert done.returncode == 0, done.stderr
    return home / "out"


def test_cells_that_were_not_learned_from_are_found(segmented: Path) -> None:
    labels, (image, _) = open_volume(segmented / "cube_labels.hdf", kind="instances"), cube()
    assert cost(labels) < 0.6
    np.testing.assert_allclose(labels.grid.affine, image.grid.affine, rtol=1e-9)
    affinities = open_affinities(segmented / "cube_affinities.zarr")
    assert affinities.data.dtype == np.uint8
    assert affinities.offsets[3] == (-3, 0, 0)


def test_the_choice_is_kept_and_told(home: Path, segmented: Path) -> None:
    assert segmented.is_dir()
    before, after = load_model(home / "run/model"), load_model(home / "tuned")
    assert after.method.options.decoder != before.method.options.decoder
    assert after.provenance["tuned"]["volume"] == "cube.hdf"
    assert "svg" in (home / "tuned-tuning.svg").read_text()[:200]


def test_scores_of_borders_are_logged(home: Path) -> None:
    assert '"dice": {"mean": ' in (home / "run/metrics.jsonl").read_text()


def test_the_best_is_what_it_says(home: Path) -> None:
    trials = tuned(home / "run/model", home / "cube.hdf", sections=(12, 20), out=home / "again")
    assert trials[0].cost == min(trial.cost for trial in trials)
    assert best_of_each(trials)[0] == trials[0]
    affinities = volume_affinities(load_model(home / "again").method, home / "cube.hdf", sections=(12, 20))
    found = segments(affinities, trials[0].decoder)
    assert abs(cost(found) - trials[0].cost) < 1e-6


def test_one_kind_of_decoder_is_tried(home: Path, tmp_path: Path) -> None:
    asked = {"sections": (12, 20), "kinds": ("components",), "out": tmp_path / "tuned"}
    trials = tuned(home / "run/model", home / "cube.hdf", **asked)
    assert {trial.decoder.kind for trial in trials} == {"components"}
    assert load_model(tmp_path / "tuned").method.options.decoder == trials[0].decoder


def test_a_kind_that_the_edges_are_not_for_is_refused(home: Path, tmp_path: Path) -> None:
    method = Affinity(Task(1, 2, 3), AffinityOptions(network={"features": (4, 6)}, offsets=nearest(3)))
    save_model(Model(method, "affinity", OBJECTS, Preparation()), tmp_path / "near")
    with pytest.raises(InputError, match="no decoder of the kind mutex can be tried"):
        tuned(tmp_path / "near", home / "cube.hdf", sections=(12, 20), kinds=("mutex",))


def test_one_file_and_no_mirrors(home: Path, tmp_path: Path) -> None:
    done = tiny.limner("segment", "cube.hdf", "--model", "run/model", "--plain", "-o", tmp_path / "one.zarr", at=home)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["one.zarr"]
    assert open_volume(tmp_path / "one.zarr", kind="instances").data.max() > 1


def test_options_of_other_models_are_refused(home: Path, tmp_path: Path) -> None:
    done = tiny.limner("segment", "cube.hdf", "--model", "run/model", "--n4", "-o", tmp_path / "out", at=home)
    assert "--n4 means nothing to a model of method 'affinity'" in tiny.refused(done)
    assert not (tmp_path / "out").exists()
    done = tiny.limner("segment", "cube.hdf", "--plain", "-o", tmp_path / "out", at=home)
    assert "--plain is for models that tell objects apart" in tiny.refused(done)


def test_a_model_goes_on_with_a_few_sections_of_another_volume(home: Path, tmp_path: Path) -> None:
    places = [f"data.volumes.{number}.image={home / 'cube.hdf'}" for number in (0, 1)]
    recipe = load_recipe(
        home / "recipe.toml", overrides=[*places, "stages.0.steps=1", "data.volumes.0.sections=[0, 3]"]
    )
    train(recipe, tmp_path / "run", start=home / "run/model", progress=False)
    one, other = (load_model(folder / "run/model").method.state_dict() for folder in (home, tmp_path))
    changes = [float((one[name] - other[name]).abs().max()) for name in one]
    assert 0 < max(changes) < 0.02


@pytest.fixture
def flat() -> Affinity:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Affinity(Task(1, 2, 2), AffinityOptions(network={"features": (4, 6)})).eval()


def test_tiles_are_the_whole_beyond_their_seams(flat: Affinity) -> None:
    image = np.random.default_rng(0).normal(size=(1, 150, 90)).astype(np.float32)
    whole, tiles = predicted(flat, image), predicted(flat, image, side=80)
    assert whole.shape == (len(flat.offsets), 150, 90)
    assert np.abs(whole.astype(int) - tiles).max() <= 4  # steps of 1/255; products are in bfloat16 where that is fast


def test_sections_of_a_stack_are_looked_at_one_by_one(flat: Affinity, tmp_path: Path) -> None:
    save_volume(cube()[0], tmp_path / "stack.tif")
    found = volume_affinities(flat, tmp_path / "stack.tif", sections=(4, 6))
    assert found.data.shape == (len(flat.offsets), 2, 32, 32)
    assert found.offsets[0] == (0, -1, 0)
    np.testing.assert_allclose(found.grid.affine[0, 3], 3e-4 + 4e-5)
    assert decoder_of(flat) == Decoder(sections=True)


def test_a_solid_model_needs_a_solid_volume(flat: Affinity, tmp_path: Path) -> None:
    solid = Affinity(Task(1, 2, 3), AffinityOptions(network={"features": (4, 6)}))
    image = cube()[0]
    section = Volume(image.data[0], Grid(SHAPE[1:], np.eye(3)), "image")
    save_volume(section, tmp_path / "section.tif")
    with pytest.raises(InputError, match="looks at 3 axes"):
        volume_affinities(solid, tmp_path / "section.tif")
    assert volume_affinities(flat, tmp_path / "section.tif").data.ndim == 3


def test_a_saved_model_keeps_its_decoder(flat: Affinity, tmp_path: Path) -> None:
    decoder = Decoder(kind="mutex", strides=(2, 2), smallest=7)
    flat.options = flat.options.model_copy(update={"decoder": decoder})
    save_model(Model(flat, "affinity", OBJECTS, Preparation()), tmp_path / "model")
    assert load_model(tmp_path / "model").method.options.decoder == decoder
