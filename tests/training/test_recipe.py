from __future__ import annotations

import os
from pathlib import Path

import pytest

from house.modules import ROOT
from limner import check
from limner.config import load, save
from limner.files import save_volume
from limner.methods.storage import load_model
from limner.training.recipe import Recipe, load_recipe
from limner.training.run import train
from tiny import furnish, image, labels

RECIPES = sorted((ROOT / "recipes").glob("*.toml"))
WRITTEN = """
prior = "brain"
[data]
scans = "scans"
[method]
name = "supervised"
[[stages]]
name = "coarse"
steps = 10
spacing = 2
[[stages]]
name = "fine"
steps = 5
crop = [16, 16, 16]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "recipe.toml").write_text(WRITTEN)
    return tmp_path / "recipe.toml"


def test_paths_are_meant_where_limner_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    overrides = ["data.labels=~/labels", "data.cache=/cache", "prior=../prior"]
    recipe = load(path, Recipe, overrides=overrides)
    assert recipe.data.scans == tmp_path / "elsewhere" / "scans"
    assert recipe.data.labels == Path.home() / "labels"
    assert recipe.data.cache == Path("/cache")
    assert os.path.normpath(recipe.prior or "") == str(tmp_path / "prior")
    assert load(path, Recipe).prior == "brain"


@pytest.mark.parametrize("bits", ["32", "'32'", '"32"'])
def test_precision_may_be_a_number(path: Path, bits: str) -> None:
    assert load(path, Recipe, overrides=[f"precision={bits}"]).precision == "32"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages=[]", "': there are no stages; expected at least one"),
        ("stages.fine.name=coarse", "': two stages are called 'coarse' (coarse, coarse)"),
        ("stages.fine.start=fine", "': stage 'fine' starts from 'fine'; expected an earlier stage, one of coarse"),
        ("stages.coarse.start=fine", "expected nothing, as it is the first stage"),
        ("stages.fine.name=a/b", "expected text of letters, digits, '-' and '_'"),
        ("stages.fine.steps=0", "sets stages[1].steps to 0; expected a number of at least 1"),
        ("stages.fine.crop=[16]", "sets stages[1].crop to [16]; expected at least 2 values"),
        (
            "stages.fine.stesp=1",
            "has the unknown setting stages[1].stesp; expected one of name, data, steps, seconds, batch",
        ),
        ("precision=16", "sets precision to 16; expected 'auto', '32' or 'bf16'"),
        ("device=gpu", "sets device to 'gpu'; expected 'auto', 'cpu' or 'cuda'"),
        ("data.validation=1", "sets data.validation to 1; expected a number below 1"),
        (
            "data.scans=",
            "stage 'coarse' learns from scans but data.scans is not given; expected their folder: add it to",
        ),
        ("stages.fine.data=maps", "stage 'fine' learns from maps but data.maps is not given"),
        ("stages.fine.data=heads", "sets stages[1].data to 'heads'; expected 'scans' or 'maps'"),
        (
            "method.name=superviced",
            "expected one of anatomy, autoencoder, mean_teacher, mixture, sae, supervised, translation: did you mean",
        ),
        (
            "method.name=mixture",
            "method 'mixture' has nothing to train; expected one of anatomy, autoencoder, mean_teacher, sae",
        ),
        ("method.options.zzz=1", "has the unknown setting method.options.zzz; expected one of"),
        ("stages.fine.options.zzz=1", "has the unknown setting stages[1].options.zzz; expected one of"),
    ],
)
def test_a_recipe_that_cannot_be(path: Path, override: str, message: str) -> None:
    with pytest.raises(check.InputError) as refused:
        load_recipe(path, overrides=[override])
    assert message in str(refused.value)


def test_a_loaded_recipe_is_complete_and_saved_as_such(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.options().model_dump(mode="json", exclude_none=True) == recipe.method.options
    assert recipe.method.options != {}
    save(recipe, tmp_path / "resolved.toml")
    assert load_recipe(tmp_path / "resolved.toml") == recipe


def test_recipes_are_offered() -> None:
    assert {path.stem for path in RECIPES} >= {"anatomy", "anatomy-published", "sae", "sae-published", "supervised"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_sound_and_saved_whole(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path)
    save(recipe, tmp_path / "resolved.toml")
    assert load_recipe(tmp_path / "resolved.toml") == recipe


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_runs(path: Path, tmp_path: Path) -> None:
    furnish(tmp_path)
    (tmp_path / "scans.csv").write_text(
        "image,labels,person\nscan.nii.gz,map.nii.gz,ann\nsecond.nii.gz,map.nii.gz,bob\n"
    )
    save_volume(image(seed=1), tmp_path / "second.nii.gz")
    (tmp_path / "maps").mkdir()
    save_volume(labels(), tmp_path / "maps" / "one.nii.gz")
    (home, folder) = (f"{key}={tmp_path / name}" for key, name in (("prior", "prior"), ("data.maps", "maps")))
    overrides = [home, folder, f"data.scans={tmp_path / 'scans.csv'}"]
    # One step of each stage, at twice the voxel size: as many voxels as the head has.
    for number, stage in enumerate(load_recipe(path).stages):
        overrides += [f"stages.{number}.steps=1", f"stages.{number}.spacing={2 * (stage.spacing or 1)}"]
    if load_recipe(path).method.name == "anatomy":
        overrides += ["method.options.shape.shape=[32, 32, 32]", "method.options.shape.latent=8"]
    model = load_model(train(load_recipe(path, overrides=overrides), tmp_path / "run", progress=False))
    assert model.name == load_recipe(path).method.name


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_says_what_it_is_for(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("# ")
