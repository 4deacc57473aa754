"""A study from its recipe to its tables, through the command line, stopped and taken up again."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch

from limner import check
from limner.check import InputError
from limner.config import load
from limner.data.cohort import Case
from limner.data.tasks import TaskOptions, build_task
from limner.files import save_volume
from limner.space import Grid, Volume
from limner.study import StudyRecipe, load_study, run_study
from limner.study.cells import cells, merged
from limner.study.tables import _distance, comparison, gap_covered, per_person, section
from limner.study.work import measured
from limner.training.run import train
from tiny import limner

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "recipes" / "translation").glob("*.toml"))


def record(row: str, *, found: list[float], amount: str = "0.1") -> dict[str, object]:
    """A cell that found so many of 10 voxels, and nothing else, in each of two images of each person."""
    cases = [
        {"case": f"{person}{image}", "structure": "a", "found": both, "true": 10, "both": both}
        for person, both in zip("xyz", found, strict=True)
        for image in range(2)
    ]
    return {"row": row, "amount": amount, "seed": 0, "soft": {"a": sum(found) / 30}, "cases": cases}


PEOPLE = {f"{person}{image}": person for person in "xyz" for image in range(2)}


def test_dice_is_of_a_person_and_the_mean_of_seeds() -> None:
    found = per_person([record("one", found=[10, 5, 0]), record("one", found=[10, 10, 0])], people=PEOPLE)
    assert found == pytest.approx({"x": 1.0, "y": (2 / 3 + 1) / 2, "z": 0.0})


def test_rows_are_compared_over_people() -> None:
    against = comparison([record("two", found=[10, 10, 10])], [record("one", found=[5, 5, 5])], people=PEOPLE)
    assert against.difference.cases == 3
    assert against.difference.mean == pytest.approx(1 / 3)
    assert against.difference.low == pytest.approx(1 / 3)


def test_the_gap_is_between_few_labels_and_all() -> None:
    few, every = record("one", found=[3, 3, 3]), record("one", found=[9, 9, 9], amount="1")
    assert gap_covered([0.6], [few], found=[few, every], row="one") == "50%"
    assert gap_covered([0.6], [few], found=[few], row="one") == ""


def test_options_of_an_amount_replace_others() -> None:
    assert merged({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}, "d": 4}) == {"a": {"b": 1, "c": 3}, "d": 4}


def test_options_of_all_methods_give_way_to_those_of_a_row() -> None:
    path = ROOT / "recipes/translation/ablations.toml"
    study = load_study(path, overrides=["options.codec.features=[4,8,16]", "options.codec.decoder='batch'"])
    rows = [study.run(name, "0.01", seed=0).method.options for name in ("translation", "IN:IN", "no skips")]
    assert [row["codec"]["features"] for row in rows] == [[4, 8, 16]] * 3
    assert [row["codec"]["decoder"] for row in rows] == ["batch", "instance", "batch"]
    assert rows[2]["codec"]["skips"] == "none"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_can_be_begun(path: Path) -> None:
    study = load_study(path)
    names = [cell.name for cell in cells(study)]
    assert len(set(names)) == len(names) == len(study.methods) * study.seeds * len(study.amounts)


def test_methods_are_compared_on_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = limner("task", "digits-smoke", "-o", "smoke", "--pairs", 40, "--validation", 4, "--test", 6, at=tmp_path)
    assert made.returncode == 0, made.stderr
    text = (ROOT / "recipes/translation/smoke.toml").read_text().replace("steps = 30", "steps = 2")
    text = text.replace("evaluate_every = 15", "evaluate_every = 1").replace("[8, 16, 32, 64]", "[4, 4, 8, 8]")
    text = text.replace("discriminators =", "information = true, discriminators =")
    text = text.replace("checkpoint_every", "log_every = 1\ncheckpoint_every")
    (tmp_path / "study.toml").write_text(text)
    done = limner("study", "study.toml", "-o", "out", at=tmp_path)
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "out/table.md").read_text()
    rows = ("supervised", "autoencoder", "mean teacher", "translation")
    assert "## Labels: 0.1 (4 images)" in table
    assert all(f"| {row} | 1 |" in table for row in rows)
    with (tmp_path / "out/cells.csv").open() as file:
        assert [row["row"] for row in csv.DictReader(file)] == [
            "autoencoder",
            "mean teacher",
            "supervised",
            "translation",
        ]
    tested = json.loads((tmp_path / "out/cells/translation-0.1-seed-0/test.json").read_text())
    assert len(tested["cases"]) == 6
    assert tested["removal"] > 0
    assert (tmp_path / "out/cells/translation-0.1-seed-0/pictures.png").stat().st_size > 1000
    lines = (tmp_path / "out/cells/translation-0.1-seed-0/run/metrics.jsonl").read_text()
    assert "adversarial" in lines
    assert all("<svg" in (tmp_path / f"out/{name}.svg").read_text() for name in ("curves", "information"))
    assert not (tmp_path / "out/labels.svg").exists()  # of several amounts alone
    (tmp_path / "out/cells/translation-0.1-seed-0/test.json").unlink()
    monkeypatch.chdir(tmp_path)
    again = run_study(load_study(Path("study.toml")), tmp_path / "out")
    assert [outcome.known for outcome in again] == [True, True, True, False]
    assert (tmp_path / "out/table.md").read_text() == table
    other = load_study(Path("study.toml"), overrides=["recipe.stages.0.steps=3"])
    with pytest.raises(InputError, match="holds a study of another recipe; expected the one in"):
        run_study(other, tmp_path / "out")


def test_what_no_study_is_is_refused(tmp_path: Path) -> None:
    text = (ROOT / "recipes/translation/smoke.toml").read_text()
    path = tmp_path / "study.toml"
    path.write_text(text.replace('method = "translation"', 'method = "translatoin"'))
    with pytest.raises(InputError, match="method 'translatoin' is not known"):
        load_study(path)
    path.write_text(text.replace("labels = [0.1]", "labels = [0.0]"))
    with pytest.raises(InputError, match=r"sets labels\[0\] to 0\.0; expected"):
        load_study(path)
    path.write_text(text.replace("scales = 2", "scale = 2"))
    with pytest.raises(InputError, match="unknown setting method.options.discriminators.scale"):
        load_study(path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    path.write_text(text)
    with pytest.raises(InputError, match="'.*full' exists and is no study"):
        run_study(load(path, StudyRecipe), tmp_path / "full")


def test_translation_learns_without_any_labels_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = build_task("digits-smoke", tmp_path / "smoke", options=TaskOptions(pairs=10, validation=1, test=1))
    table.write_text(table.read_text().replace("labels.npy", ""))
    monkeypatch.chdir(tmp_path)
    settings = ["recipe.stages.0.steps=1", "recipe.stages.0.evaluate_every=0"]
    study = load_study(ROOT / "recipes/translation/smoke.toml", overrides=settings)
    recipes = [study.run(name, "0.1", seed=0) for name in ("translation", "supervised")]
    free = [one.model_copy(update={"data": one.data.model_copy(update={"labelled": None})}) for one in recipes]
    stages = [stage.model_copy(update={"labelled": 0}) for stage in free[0].stages]
    with pytest.warns(check.InputWarning, match="'translation' learns to translate alone"):
        train(free[0].model_copy(update={"stages": tuple(stages)}), tmp_path / "run", progress=False)
    terms = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])["terms"]
    assert terms["segmentation"] == 0
    assert terms["reconstruction"] > 0
    with pytest.raises(InputError, match="method 'supervised' learns from labels but no scan for training has any"):
        train(free[1], tmp_path / "other", progress=False)


HEADS = """
seeds = 1
[recipe]
device = "cpu"
precision = "32"
[recipe.data]
scans = "heads/table.csv"
table = "heads/labels.tsv"
region = "whole"
intensity = "kept"
[[recipe.stages]]
name = "all"
steps = 10
batch = 2
learning_rate = 1e-2
[methods.supervised]
method = "supervised"
options = { objective = "batch dice", network = { kind = "codec", codec = { features = [4, 4, 8] } } }
"""


def test_distances_are_in_mm_where_voxel_sizes_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a voxel is a mm: volumes with the affine of nothing."""
    monkeypatch.chdir(tmp_path)
    for size in (1.0, 3.0):
        for number in range(8):
            labels = np.zeros((9, 9, 9), np.int32)
            labels[2:6, 3:7, number % 4 : number % 4 + 4] = 1
            scan = labels + np.random.default_rng(number).normal(0, 0.5, labels.shape).astype(np.float32)
            grid = Grid(labels.shape, np.diag([size, size, size, 1.0]))
            for folder, kind, data in (("images", "image", np.float32(scan)), ("labels", "labels", labels)):
                (tmp_path / f"{size}" / folder).mkdir(parents=True, exist_ok=True)
                save_volume(Volume(data, grid, kind), tmp_path / f"{size}" / folder / f"{number}.nii.gz")
    (tmp_path / "study.toml").write_text(HEADS)
    found = []
    for size in (1.0, 3.0):
        shutil.rmtree("heads", ignore_errors=True)
        build_task("hippocampus", tmp_path / "heads", source=tmp_path / f"{size}")
        (outcome,) = run_study(load_study(Path("study.toml")), tmp_path / f"out-{size}")
        assert outcome.error is None
        cases = json.loads(Path(f"out-{size}/cells/supervised-1-seed-0/test.json").read_text())["cases"]
        found.append([case["hd95"] for case in cases])
        assert f"| {fmean(found[-1]):.2f} |" in Path(f"out-{size}/table.md").read_text()
    assert found[1] == pytest.approx([3 * distance for distance in found[0]])
    assert any(found[0])


def test_voxel_sizes_are_known_or_not() -> None:
    flat, solid, path = torch.eye(3).double(), torch.eye(4).double(), (Path("a"),)
    assert measured(Case("volume", path), solid)
    assert measured(Case("fine picture", path), flat * 0.5)
    assert not measured(Case("picture", path), flat)
    assert not measured(Case("slice", path, slice=0), flat)
    assert measured(Case("slice of a mm", path, slice=0, spacing=(1, 1)), flat)


def test_methods_refuse_what_they_cannot_learn_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = build_task("digits-smoke", tmp_path / "smoke", options=TaskOptions(pairs=10, validation=1, test=1))
    lines = table.read_text().splitlines()
    monkeypatch.chdir(tmp_path)
    settings = ["recipe.stages.0.steps=1", "recipe.stages.0.evaluate_every=0"]
    study = load_study(ROOT / "recipes/translation/smoke.toml", overrides=settings)
    translation = study.model_copy(update={"methods": {"translation": study.methods["translation"]}})
    table.write_text("\n".join(line for line in lines if "absent" not in line) + "\n")
    (outcome,) = run_study(translation, tmp_path / "a")
    assert "10 are marked with it and 0 without; expected some of each" in str(outcome.error)
    table.write_text("\n".join(lines) + "\n")
    mixed = load_study(
        ROOT / "recipes/translation/smoke.toml", overrides=[*settings, "recipe.stages.0.apart='nothing'"]
    )
    outcomes = run_study(mixed.model_copy(update={"methods": translation.methods}), tmp_path / "mixed")
    assert "has apart 'nothing' and a batch of 8 but method 'translation' learns from scans" in str(outcomes[0].error)
    unlabelled = [line.replace("labels.npy", "") if "train" in line else line for line in lines]
    table.write_text("\n".join(unlabelled) + "\n")
    outcomes = run_study(study, tmp_path / "b")
    assert all("labels of a share of 0.1 were wanted but none of" in str(one.error) for one in outcomes)
    table.write_text("\n".join(line.replace(",test,", ",train,") for line in lines) + "\n")
    with pytest.raises(InputError, match="the study has nothing to test on: no image has labels and the split 'test'"):
        run_study(study, tmp_path / "c")


def test_what_has_changed_is_neither_tested_nor_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """People who were trained on may be among those to test on now; rows that were added are trained."""
    monkeypatch.chdir(tmp_path)
    table = build_task("digits-smoke", tmp_path / "smoke", options=TaskOptions(pairs=10, validation=1, test=1))
    settings = ["recipe.stages.0.steps=1", "recipe.stages.0.evaluate_every=0"]
    both = load_study(ROOT / "recipes/translation/smoke.toml", overrides=settings)
    rows = {name: both.methods[name] for name in ("supervised", "autoencoder")}
    one, two = (both.model_copy(update={"methods": dict(list(rows.items())[:count])}) for count in (1, 2))
    assert [outcome.error for outcome in run_study(one, tmp_path / "out")] == [None]
    assert [(outcome.known, outcome.error) for outcome in run_study(two, tmp_path / "out")] == [
        (True, None),
        (False, None),
    ]
    assert "| autoencoder |" in (tmp_path / "out/table.md").read_text()
    assert [outcome.known for outcome in run_study(one, tmp_path / "out")] == [True]
    assert "autoencoder" not in (tmp_path / "out/table.md").read_text()
    before = (tmp_path / "out/cells/supervised-0.1-seed-0/test.json").read_bytes()
    labels = np.load(tmp_path / "smoke/labels.npy")
    np.save(tmp_path / "smoke/labels.npy", labels[:, ::-1])
    (outcome,) = run_study(one, tmp_path / "out")
    assert "learned from other images, labels or splits than there are now" in str(outcome.error)
    assert (tmp_path / "out/cells/supervised-0.1-seed-0/test.json").read_bytes() == before
    assert table.exists()


def test_rows_are_compared_with_the_first_or_with_none() -> None:
    study = load_study(ROOT / "recipes/translation/smoke.toml")
    more = {"steps": 1, "seconds": 1.0, "removal": None, "validation": 0.5, "labelled": 4}
    cells_done = [record(row, found=[5, 5, 5]) | more for row in ("autoencoder", "mean teacher")]
    lines = [line for line in section(study, cells_done, amount="0.1", people=PEOPLE) if line.startswith("| a")]
    assert lines[0].split(" | ")[5:8] == ["", "", ""]


def test_structures_that_were_missed_are_counted() -> None:
    cases = [{"hd95": 1.0}, {"hd95": None}]
    assert _distance([{"cases": cases}]) == "1.00 (1 of 2 missed)"
    assert _distance([{"cases": [{}]}]) == ""


def test_amounts_and_folders_are_those_of_the_study(tmp_path: Path) -> None:
    text = (ROOT / "recipes/translation/smoke.toml").read_text()
    path = tmp_path / "study.toml"
    row = '[methods.other]\nmethod = "autoencoder"\n[methods.other.at."{}"]\nreconstruction = 3.0\n'
    path.write_text(text + row.format("0.10"))
    with pytest.raises(InputError, match=r"amount of labels '0.10' is not known"):
        load_study(path)
    path.write_text(text + row.format("0.1"))
    assert load_study(path).run("other", "0.1", seed=0).method.options["reconstruction"] == 3.0
    path.write_text(text + '[methods."mean-teacher"]\nmethod = "mean_teacher"\n')
    with pytest.raises(InputError, match="two runs of the study would lie in the folder 'mean-teacher-0.1-seed-0'"):
        load_study(path)
