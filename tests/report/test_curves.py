"""What is drawn and told of a training run, from its metrics."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limner.check import InputError
from limner.report import report_folder
from limner.report.curves import Metrics, dice_plot, term_plot
from limner.report.run import read_metrics


def line(stage: str, step: int, **values: dict[str, float]) -> dict[str, Any]:
    return {"stage": stage, "step": step, "seconds": step * 2.0, **values}


LINES = [
    line("warm up", 10, terms={"prior": 2.0}),
    line("warm up", 20, terms={"prior": 1.5}),
    line("full", 10, terms={"prior": 1.25, "likelihood": 3.0}),
    line("full", 10, dice={"mean": 0.55, "putamen": 0.5, "caudate": 0.6}),
    line("full", 40, terms={"prior": 1.0, "likelihood": 2.5}),
    line("full", 40, dice={"mean": 0.75, "putamen": 0.7, "caudate": 0.8}),
]
RECIPE = """
seed = 3
[data]
scans = "/data/scans"
[method]
name = "sae"
options = {sweeps = 2}
[[stages]]
name = "warm up"
steps = 20
[[stages]]
name = "full"
steps = 40
learning_rate = 0.001
"""


def written(folder: Path, lines: list[dict[str, Any]] | None = None) -> Path:
    """A run's folder."""
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines or LINES))
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


def pictures(page: str) -> list[str]:
    """The figures of a page, as SVG documents."""
    return [base64.b64decode(found).decode() for found in re.findall(r"data:image/svg\+xml;base64,([^\"]*)", page)]


def texts(svg: str) -> list[str]:
    """What the figure says; each text is drawn as shapes after a remark that holds it."""
    return re.findall(r"<!-- (.*?) -->", svg)


def test_stages_follow_one_another() -> None:
    metrics = Metrics(LINES)
    assert metrics.stages == {"warm up": 20, "full": 40}
    curves = metrics.curves("terms")
    assert list(curves) == ["prior", "likelihood"]
    # No line leads from one stage to the next.
    np.testing.assert_array_equal(curves["prior"].steps, [10, 20, 20, 30, 60, 60])
    np.testing.assert_array_equal(curves["prior"].values, [2, 1.5, np.nan, 1.25, 1, np.nan])
    np.testing.assert_array_equal(curves["likelihood"].steps, [30, 60, 60])
    assert metrics.last("full", "dice")["mean"] == 0.75
    assert metrics.last("warm up", "dice") == {}


def test_the_page_tells_what_was_trained_and_how_it_went(tmp_path: Path) -> None:
    run = written(tmp_path / "run")
    assert report_folder(run) == run / "report.html"
    page = (run / "report.html").read_text()
    assert "<h1>Training of run</h1>" in page
    assert "<dd>sae, sweeps 2</dd>" in page
    assert "<dd>full, steps 40, learning rate 0.001</dd>" in page
    row = '<td>run</td><td class="text">full</td><td>40</td><td>1 min 20 s</td><td>0.750</td>'
    assert f'{row}<td class="text">prior 1, likelihood 2.5</td>' in page
    losses, dice = map(texts, pictures(page))
    assert {"prior", "likelihood", "step"} <= set(losses)
    assert "putamen" not in losses
    assert {"Dice", "mean", "putamen", "caudate"} <= set(dice)


def test_seeds_are_drawn_together(tmp_path: Path) -> None:
    for seed in (0, 1):
        written(tmp_path / f"seed-{seed}")
    page = report_folder(tmp_path).read_text()
    assert all(f"<td>seed-{seed}</td>" in page for seed in (0, 1))
    losses, dice = pictures(page)
    assert "putamen" not in texts(dice)
    assert texts(losses).count("prior") == 1
    one, two = term_plot([Metrics(LINES)]), term_plot([Metrics(LINES), Metrics(LINES)])
    assert two.count("opacity: 0.6") == 2 * 2 > one.count("opacity: 0.6")


def test_a_run_without_labels_has_no_dice(tmp_path: Path) -> None:
    run = written(tmp_path / "run", [one for one in LINES if "terms" in one])
    page = report_folder(run).read_text()
    assert len(pictures(page)) == 1
    assert "<h2>Dice</h2>" not in page
    assert dice_plot([Metrics([])], {}) == term_plot([Metrics([])]) == ""


def test_a_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    run = written(tmp_path / "run")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "full", "st')
    assert len(read_metrics(run / "metrics.jsonl").lines) == len(LINES)


@pytest.mark.parametrize(
    "damage", ["nonsense", "[]", '{"stage": "full", "step": 3}', json.dumps(line("full", 3, terms={"prior": "x"}))]
)
def test_damaged_metrics_are_refused(tmp_path: Path, damage: str) -> None:
    run = written(tmp_path / "run")
    (run / "metrics.jsonl").write_text(damage + "\n")
    with pytest.raises(InputError, match=r"metrics.jsonl' cannot be read \(.*expected it as `limner train` wrote it"):
        report_folder(run)
    assert not (run / "report.html").exists()


def test_a_damaged_recipe_is_refused(tmp_path: Path) -> None:
    run = written(tmp_path / "run")
    (run / "recipe.toml").write_text("seed = 1")
    with pytest.raises(InputError, match=r"recipe.toml' cannot be read"):
        report_folder(run)


def test_names_are_no_html(tmp_path: Path) -> None:
    page = report_folder(written(tmp_path / "run", [line("<b>", 1, terms={"<i>": 1.0})])).read_text()
    assert "<b>" not in page
    assert "<i> 1" not in page
