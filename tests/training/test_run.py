"""Whole runs on a small head: what they leave, how they go on, what they refuse."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from limner.check import InputError
from limner.config import save
from limner.files import save_volume
from limner.methods.storage import load_model
from limner.training import memory
from limner.training.recipe import Recipe, load_recipe
from limner.training.run import summarised, train, train_seeds
from tiny import environment, furnish, image

RECIPE = """
prior = "{home}/prior"
device = "cpu"
[data]
scans = "{home}/scans.csv"
[method]
name = "supervised"
[[stages]]
name = "coarse"
steps = 3
spacing = 4
log_every = 1
[[stages]]
name = "fine"
steps = 4
learning_rate = 1e-2
log_every = 2
evaluate_every = 2
crop = [16, 16, 16]
"""

#: A last stage that moves no weight that anybody would notice.
STILL = ("stages.fine.steps=1", "stages.fine.learning_rate=1e-30", "stages.fine.evaluate_every=0")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three scans, two of them with labels, a prior and a recipe."""
    folder = furnish(tmp_path_factory.mktemp("home"))
    for seed, name in enumerate(("second", "third"), start=1):
        save_volume(image(seed=seed), folder / f"{name}.nii.gz")
    rows = ["scan.nii.gz,map.nii.gz,train", "second.nii.gz,,train", "third.nii.gz,map.nii.gz,validation"]
    (folder / "scans.csv").write_text("image,labels,split\n" + "\n".join(rows))
    (folder / "recipe.toml").write_text(RECIPE.format(home=folder))
    return folder


def recipe(home: Path, *overrides: str) -> Recipe:
    cache = home / "cache"
    # In bf16, which "auto" takes where the processor has it, equal means equal to three digits.
    return load_recipe(home / "recipe.toml", overrides=[f"data.cache={cache}", "precision=32", *overrides])


@pytest.fixture(scope="module")
def run(home: Path) -> Path:
    out = home / "run"
    assert train(recipe(home), out, progress=False) == out / "model"
    return out


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_close(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=0, atol=1e-20)


def same(first: Path, second: Path) -> bool:
    """Whether two models have the same weights, bit for bit."""
    return (first / "weights.safetensors").read_bytes() == (second / "weights.safetensors").read_bytes()


def test_what_a_run_leaves(run: Path, home: Path) -> None:
    assert load_recipe(run / "recipe.toml") == recipe(home)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["coarse.safetensors", "fine.safetensors"]
    found = [(line["stage"], line["step"], "dice" in line) for line in lines(run)]
    coarse, fine = found[:3], found[3:]
    assert coarse == [("coarse", step, False) for step in (1, 2, 3)]
    assert fine == [("fine", step, dice) for step in (2, 4) for dice in (True, False)]
    assert set(lines(run)[3]["dice"]) == {"mean", "rind", "pulp", "stone"}


def test_the_model_says_where_it_comes_from(run: Path) -> None:
    model = load_model(run / "model")
    assert model.preparation.spacing is None
    assert model.table.structures == ("background", "rind", "pulp", "stone")
    assert (model.task.channels, model.task.classes, model.task.dimensions) == (1, 4, 3)
    assert {key: model.provenance[key] for key in ("scans", "people", "labelled", "seed")} == {
        "scans": 2,
        "people": 2,
        "labelled": 1,
        "seed": 0,
    }


def test_a_stage_begins_where_the_one_before_ended(home: Path, tmp_path: Path) -> None:
    train(recipe(home, *STILL), tmp_path / "run", progress=False)
    folder = tmp_path / "run" / "checkpoints"
    assert_close(*(load_file(folder / f"{stage}.safetensors") for stage in ("coarse", "fine")))


def test_a_finished_run_is_left_alone(run: Path, home: Path) -> None:
    before = (run / "model" / "model.json").stat().st_mtime_ns
    assert train(recipe(home), run, resume=True, progress=False) == run / "model"
    assert (run / "model" / "model.json").stat().st_mtime_ns == before


def test_a_run_that_stopped_between_stages_goes_on(run: Path, home: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/model")
    (tmp_path / "run/checkpoints/fine.safetensors").unlink()
    train(recipe(home), tmp_path / "run", resume=True, progress=False)
    assert same(tmp_path / "run/model", run / "model")
    without = [{key: value for key, value in line.items() if key != "seconds"} for line in lines(run)]
    assert [
        {key: value for key, value in line.items() if key != "seconds"} for line in lines(tmp_path / "run")
    ] == without


def test_a_model_is_trained_further(run: Path, home: Path, tmp_path: Path) -> None:
    model = train(recipe(home, "stages.coarse=", *STILL), tmp_path / "run", start=run / "model", progress=False)
    assert_close(*(load_file(folder / "weights.safetensors") for folder in (run / "model", model)))


def test_seeds_differ_and_are_summarised(home: Path, tmp_path: Path) -> None:
    short = ["stages.coarse=", "stages.fine.steps=2"]
    models = train_seeds(recipe(home, *short), tmp_path / "runs", seeds=2, progress=False)
    assert models == tuple(tmp_path / "runs" / f"seed-{seed}" / "model" for seed in (0, 1))
    assert not same(*models)
    summary = json.loads((tmp_path / "runs/summary.json").read_text())
    dice = [lines(model.parent)[-2]["dice"]["pulp"] for model in models]
    assert summary["dice/pulp"]["values"] == dice
    assert summary["dice/pulp"]["mean"] == pytest.approx(sum(dice) / 2)
    assert summary["dice/pulp"]["sd"] == pytest.approx(abs(dice[0] - dice[1]) / 2**0.5)
    assert "terms/cross-entropy" in summarised([model.parent / "metrics.jsonl" for model in models])
    again = train_seeds(recipe(home, *short), tmp_path / "runs", seeds=3, resume=True, progress=False)
    assert again[:2] == models
    assert len(again) == 3


def test_event_files_and_deterministic_mode(home: Path, tmp_path: Path) -> None:
    short = ["stages.coarse=", "stages.fine.steps=1", "tensorboard=true", "deterministic=true"]
    train(recipe(home, *short), tmp_path / "run", progress=False)
    assert [path.name for path in (tmp_path / "run/events").iterdir() if "tfevents" in path.name]
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_folder_of_something_else(home: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(InputError, match=f"'{tmp_path}' exists and is no run; expected a new folder"):
        train(recipe(home), tmp_path, progress=False)


def test_a_run_is_not_begun_twice(run: Path, home: Path) -> None:
    with pytest.raises(
        InputError, match=f"run '{run}' exists already; expected a new folder: go on with it by --resume"
    ):
        train(recipe(home), run, progress=False)


def test_a_run_of_another_recipe(run: Path, home: Path) -> None:
    words = f"run '{run}' has the recipe's stages.1..steps = 4 but 5 was given; expected the recipe that it was begun"
    with pytest.raises(InputError, match=words):
        train(recipe(home, "stages.fine.steps=5"), run, resume=True, progress=False)


def test_a_gpu_that_is_not_there(home: Path, tmp_path: Path) -> None:
    found = torch.cuda.device_count()
    with pytest.raises(InputError, match=f"{found + 1} CUDA devices? wanted but {found} found; expected as many"):
        train(recipe(home, "device=cuda", f"devices={found + 1}"), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_too_little_memory(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text(str(2**21))
    monkeypatch.setattr(memory, "LIMIT", limit)
    words = (
        "a step of stage 'fine' takes about .* GiB but 0.00195 GiB are available; expected less: set stages.fine.crop"
    )
    with pytest.raises(InputError, match=words):
        train(recipe(home, "stages.coarse=", "stages.fine.crop="), tmp_path / "run", progress=False)
    assert not (tmp_path / "run/recipe.toml").exists()


def test_labels_are_needed_to_teach(home: Path, tmp_path: Path) -> None:
    (home / "unlabelled.csv").write_text("image\nscan.nii.gz\n")
    with pytest.raises(InputError, match="method 'supervised' learns from labels but no scan for training has any"):
        train(recipe(home, f"data.scans={home / 'unlabelled.csv'}"), tmp_path / "run", progress=False)


def test_a_model_of_something_else(run: Path, home: Path, tmp_path: Path) -> None:
    (home / "pairs.csv").write_text("image,image_2,labels\nscan.nii.gz,second.nii.gz,map.nii.gz\n")
    two = recipe(home, f"data.scans={home / 'pairs.csv'}")
    with pytest.raises(InputError, match=f"model '{run / 'model'}' has .*channels=1.* but the recipe's .*channels=2"):
        train(two, tmp_path / "run", start=run / "model", progress=False)
    description = json.loads((run / "model/model.json").read_text())
    shutil.copytree(run / "model", tmp_path / "model")
    options = {"method": "sae", "options": {}}
    (tmp_path / "model/model.json").write_text(json.dumps(description | options))
    with pytest.raises(InputError, match="model '.*' is (of method 'sae' but the recipe trains 'supervised'|damaged)"):
        train(recipe(home), tmp_path / "run", start=tmp_path / "model", progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["supervised", "sae"])
def test_two_devices_do_what_one_does(home: Path, tmp_path: Path, name: str) -> None:
    short = [f"method.name={name}", "stages.fine="]
    one = load_model(train(recipe(home, *short, "stages.coarse.batch=2"), tmp_path / "one", progress=False))
    two = load_model(train(recipe(home, *short, "devices=2"), tmp_path / "two", progress=False))
    for mine, theirs in zip(one.method.parameters(), two.method.parameters(), strict=True):
        # Each weight has moved by up to 3e-3.
        torch.testing.assert_close(mine, theirs, rtol=0, atol=2e-4)
    for mine, theirs in zip(lines(tmp_path / "one"), lines(tmp_path / "two"), strict=True):
        assert mine["terms"] == pytest.approx(theirs["terms"], rel=1e-3)


PROGRAM = """
import sys
from pathlib import Path
from limner.training.recipe import load_recipe
from limner.training.run import train

train(load_recipe(Path(sys.argv[1])), sys.argv[2], resume=True, progress=False)
"""


@pytest.mark.slow
def test_a_run_is_killed_ten_times_and_goes_on(home: Path, tmp_path: Path) -> None:
    noisy = ["method.name=sae", "method.options.likelihood=decoder", "stages.fine.steps=60", "stages.fine.log_every=1"]
    chosen = recipe(home, *noisy, "stages.fine.checkpoint_every=5")
    whole = train(chosen, tmp_path / "whole", progress=False)
    out = tmp_path / "run"
    save(chosen, tmp_path / "recipe.toml")
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "recipe.toml"), str(out)]
    for count in sorted(np.random.default_rng(0).choice(np.arange(1, 58), 10, replace=False).tolist()):
        process = subprocess.Popen(command, env=environment())
        metrics = out / "metrics.jsonl"
        while process.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") >= count):
            time.sleep(0.005)
        process.kill()
        process.wait()
        assert process.returncode == -signal.SIGKILL
    subprocess.run(command, check=True, env=environment())
    assert same(whole, out / "model")
