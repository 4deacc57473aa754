"""A study from its recipe to its tables, through the command line, stopped and taken up again."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from limner.check import InputError
from limner.config import load
from limner.study import StudyRecipe, load_study, run_study
from limner.study.cells import cells, merged
from limner.study.tables import comparison, gap_covered, per_person
from tiny import limner, refused

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


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_can_be_begun(path: Path) -> None:
    study = load_study(path)
    names = [cell.name for cell in cells(study)]
    assert len(set(names)) == len(names) == len(study.methods) * study.seeds * len(study.amounts)


def test_methods_are_compared_on_a_task(tmp_path: Path) -> None:
    made = limner("task", "digits-smoke", "-o", "smoke", "--pairs", 40, "--validation", 4, "--test", 6, at=tmp_path)
    assert made.returncode == 0, made.stderr
    text = (ROOT / "recipes/translation/smoke.toml").read_text().replace("steps = 30", "steps = 2")
    text = text.replace("evaluate_every = 15", "evaluate_every = 1").replace("[8, 16, 32, 64]", "[4, 4, 8, 8]")
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
    (tmp_path / "out/cells/translation-0.1-seed-0/test.json").unlink()
    again = limner("study", "study.toml", "-o", "out", at=tmp_path)
    assert "3 of 4 were finished before" in again.stderr
    assert (tmp_path / "out/table.md").read_text() == table
    other = limner("study", "study.toml", "-o", "out", "--set", "recipe.stages.0.steps=3", at=tmp_path)
    assert "holds a study of another recipe; expected the one in" in refused(other)


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


def test_methods_refuse_what_they_cannot_learn_from(tmp_path: Path) -> None:
    made = limner("task", "digits-smoke", "-o", "smoke", "--pairs", 10, "--validation", 1, "--test", 1, at=tmp_path)
    assert made.returncode == 0, made.stderr
    table = tmp_path / "smoke/table.csv"
    whole = table.read_text()
    lines = whole.splitlines()
    recipe = (ROOT / "recipes/translation/smoke.toml").read_text()
    (tmp_path / "study.toml").write_text(recipe)
    table.write_text("\n".join(line for line in lines if "absent" not in line) + "\n")
    done = limner("study", "study.toml", "-o", "a", at=tmp_path)
    assert "10 are marked with it and 0 without; expected some of each" in done.stdout
    table.write_text("\n".join([lines[0], *(line.replace("labels.npy", "") for line in lines[1:])]) + "\n")
    done = limner("study", "study.toml", "-o", "b", at=tmp_path)
    assert "labels of a share of 0.1 were wanted but none of" in done.stdout
