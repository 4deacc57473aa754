"""Training through the command line: what a run leaves, and what is refused before it begins."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from limner.files import open_volume, save_volume
from tiny import dice, furnish, image, labels, limner, refused, whole

RECIPE = """
prior = "prior"
[data]
scans = "scans.csv"
[method]
name = "supervised"
[[stages]]
name = "coarse"
steps = 2
spacing = 4
log_every = 1
[[stages]]
name = "fine"
steps = 60
learning_rate = 1e-2
log_every = 1
checkpoint_every = 20
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two scans, their labels, a prior and a recipe."""
    folder = furnish(tmp_path_factory.mktemp("home"))
    save_volume(image(seed=1), folder / "second.nii.gz")
    (folder / "scans.csv").write_text("image,labels\nscan.nii.gz,map.nii.gz\nsecond.nii.gz,map.nii.gz\n")
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module")
def run(home: Path) -> Path:
    """What `limner train` makes."""
    done = limner("train", "recipe.toml", "-o", "run", "--set", "seed=3", at=home)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["model: run/model", "report: run/report.html"]
    return home / "run"


def test_a_run_holds_what_the_guide_says(run: Path) -> None:
    named = {"recipe.toml", "metrics.jsonl", "checkpoints", "cache", "model", "report.html"}
    assert {path.name for path in run.iterdir()} == named
    assert "seed = 3" in (run / "recipe.toml").read_text()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["stage"] for line in lines if "dice" not in line].count("coarse") == 2
    assert {"model.json", "weights.safetensors"} <= {path.name for path in (run / "model").iterdir()}


def test_the_model_labels_a_scan(home: Path, run: Path, tmp_path: Path) -> None:
    done = limner("segment", "second.nii.gz", "--model", run / "model", "-o", tmp_path / "out", at=home)
    assert done.returncode == 0, done.stderr
    found = open_volume(tmp_path / "out" / "second_labels.nii.gz", kind="labels")
    assert dice(found.data, labels().data) > 0.7
    assert (tmp_path / "out" / "report.html").exists()


def test_a_finished_run_is_resumed_at_once(home: Path, run: Path) -> None:
    before = (run / "model" / "weights.safetensors").read_bytes()
    done = limner("train", "recipe.toml", "-o", "run", "--set", "seed=3", "--resume", at=home)
    assert done.returncode == 0, done.stderr
    assert (run / "model" / "weights.safetensors").read_bytes() == before
    done = limner("train", run / "recipe.toml", "-o", "run", "--resume", at=home)
    assert done.returncode == 0, done.stderr


def test_a_run_is_reported(home: Path, run: Path) -> None:
    (run / "report.html").unlink()
    done = limner("report", "run", at=home)
    assert (done.returncode, done.stdout) == (0, "report: run/report.html\n"), done.stderr
    assert "cross-entropy" in (run / "report.html").read_text(encoding="utf-8")


def test_a_model_is_trained_further(home: Path, run: Path, tmp_path: Path) -> None:
    short = ["--set", "stages.coarse=", "--set", "stages.fine.steps=1"]
    done = limner("train", "recipe.toml", "-o", tmp_path / "run", "--from", run / "model", *short, at=home)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "model" / "weights.safetensors").exists()


def test_seeds_are_trained_one_by_one(home: Path, tmp_path: Path) -> None:
    short = ["--set", "stages.coarse=", "--set", "stages.fine.steps=1", "--seeds", "2"]
    done = limner("train", "recipe.toml", "-o", tmp_path / "runs", *short, at=home)
    assert done.returncode == 0, done.stderr
    weights = [(tmp_path / "runs" / f"seed-{seed}/model/weights.safetensors").read_bytes() for seed in (0, 1)]
    assert weights[0] != weights[1]
    (row,) = [line for line in done.stdout.splitlines() if "cross-entropy" in line]
    mean, _, values = (cell.strip() for cell in row.strip("│").split("│")[1:])
    assert np.mean([float(value) for value in values.split()]) == pytest.approx(float(mean), rel=1e-3)
    assert f"model: {tmp_path}/runs/seed-1/model" in done.stdout.splitlines()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.toml"], "'none.toml' does not exist; expected a file: check the path"),
        (["scans.csv"], "'scans.csv' cannot be read as TOML ("),
        (["--set", "stages.fine.stesp=3"], "'recipe.toml' has the unknown setting stages[1].stesp; expected one of"),
        (["--set", "stages.fine.steps=ten"], "'recipe.toml' sets stages[1].steps to 'ten'; expected a whole number"),
        (["--set", "stages.fine.steps=-1"], "'recipe.toml' sets stages[1].steps to -1; expected a number of at least"),
        (["--set", "stages.last.steps=1"], "override 'stages.last.steps=1' leads nowhere at 'last'; expected one of"),
        (["--set", "seed"], "override 'seed' has no key or no '='; expected KEY=VALUE"),
        (
            ["--set", "method.name=sae2"],
            "method 'sae2' is not known; expected one of affinity, anatomy, autoencoder, ",
        ),
        (
            ["--set", "method.name=mixture"],
            "method 'mixture' has nothing to train; expected one of affinity, anatomy, autoencoder, ",
        ),
        (["--set", "method.options.tua=1"], "'recipe.toml' has the unknown setting method.options.tua; expected one"),
        (["--set", "prior=none"], "prior '/"),
        (["--set", "data.scans=none.csv"], "'/"),
        (["--set", "data.scans=split.csv"], "person 'ann' is in the splits test and train; expected all scans of a"),
        (["--set", "data.scans=held.csv"], "no scans are left for training of the 1 people in all; expected at least"),
        (["--set", "data.scans=bare.csv"], "method 'supervised' learns from labels but no scan for training has any"),
        (["--set", "device=cuda", "--set", "devices=99"], "99 CUDA devices wanted but "),
        (["--set", "stages.fine.batch=100000"], "a step of stage 'fine' takes about "),
        (["--from", "none"], "model 'none' does not exist; expected a folder made by `limner train`"),
    ],
)
def test_nothing_is_begun(home: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    (home / "bare.csv").write_text("image\nscan.nii.gz\n")
    (home / "held.csv").write_text("image,split\nscan.nii.gz,test\n")
    (home / "split.csv").write_text("image,person,split\nscan.nii.gz,ann,train\nsecond.nii.gz,ann,test\n")
    recipe = [] if arguments[0].endswith((".toml", ".csv")) else ["recipe.toml"]
    line = refused(limner("train", *recipe, *arguments, "-o", tmp_path / "out", at=home))
    assert line.startswith(f"limner: {message}")
    assert not (tmp_path / "out" / "model").exists()


def test_a_run_of_another_recipe_is_kept(home: Path, run: Path) -> None:
    before = (run / "recipe.toml").read_bytes()
    line = refused(limner("train", "recipe.toml", "-o", "run", "--set", "seed=4", "--resume", at=home))
    assert "seed" in line
    assert "recipe" in line
    assert "--resume" in refused(limner("train", "recipe.toml", "-o", "run", "--set", "seed=3", at=home))
    assert (run / "recipe.toml").read_bytes() == before


def test_outliers_belong_to_the_mixture(home: Path, run: Path, tmp_path: Path) -> None:
    arguments = ["scan.nii.gz", "--model", run / "model", "--outliers", "0.1", "-o", tmp_path / "out"]
    line = refused(limner("segment", *arguments, at=home))
    assert line.startswith("limner: --outliers belongs to the mixture but --model was given")
    assert whole(tmp_path) == []


@pytest.mark.parametrize("damage", ["weights.safetensors", "model.json"])
def test_a_damaged_model(home: Path, run: Path, tmp_path: Path, damage: str) -> None:
    shutil.copytree(run / "model", tmp_path / "model")
    content = (tmp_path / "model" / damage).read_bytes()
    (tmp_path / "model" / damage).write_bytes(content[: len(content) // 2])
    line = refused(limner("segment", "scan.nii.gz", "--model", tmp_path / "model", "-o", tmp_path / "out", at=home))
    assert f"model '{tmp_path / 'model'}'" in line
    assert not (tmp_path / "out").exists()


def test_help_loads_nothing_that_is_slow(home: Path) -> None:
    program = "import sys, limner.cli; print({'torch', 'pydantic', 'lightning_fabric'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=home)
    assert done.stdout == "set()\n"
