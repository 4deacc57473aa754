"""The report of a folder that `limner train` wrote: what was trained, and how losses and scores went."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from limner import check
from limner.files import replacing
from limner.report.curves import MEAN, Metrics, dice_plot, term_plot
from limner.report.head import head
from limner.report.manifest import Facts
from limner.report.plots import embedded
from limner.report.sheet import sheet
from limner.space import LabelTable

METRICS, RECIPE, REPORT, MODEL = "metrics.jsonl", "recipe.toml", "report.html", "model"


def is_run(folder: Path) -> bool:
    """Tell whether a folder was written by `limner train`, with one seed or several."""
    return bool(_runs(folder))


def report_run(folder: Path) -> Path:
    """Write the report of a run, or of the runs with several seeds, beside its metrics; return where it is.

    Raises:
        InputError: if metrics or recipe are damaged, or the report cannot be written.
    """
    folders = _runs(folder)
    runs = {name: read_metrics(path / METRICS) for name, path in folders.items()}
    table = LabelTable.freesurfer()
    colours = {name: table[table.structure_id(name)].colour for name in table.structures}
    losses, dice = term_plot(list(runs.values())), dice_plot(list(runs.values()), colours)
    first = next(iter(folders.values()))
    shapes = sheet(first / MODEL) if (first / MODEL).is_dir() else ""
    parts = (
        head(f"Training of {folder.resolve().name}", _facts(first), outcomes=(), table=table),
        _section("Progress", _table(runs)),
        _section("Losses", losses and embedded(losses, "Each loss term over steps")),
        _section("Dice", dice and embedded(dice, "Dice over steps")),
        _section("People who are not there", shapes and embedded(shapes, "Labels that the shape model draws")),
        "</body>\n</html>\n",
    )
    with replacing(folder / REPORT) as temporary:
        temporary.write_text("".join(parts), encoding="utf-8")
    return folder / REPORT


def read_metrics(path: Path) -> Metrics:
    """Return what a run has logged so far.

    Raises:
        InputError: for a line that is none of a run's.
    """
    try:
        text = path.read_text(encoding="utf-8")
        # A line without an end is being written, or was when the run was stopped.
        lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        metrics = Metrics([line for line in lines if float(line["seconds"]) >= 0])
        # What cannot be drawn is refused here.
        metrics.curves("terms")
        metrics.curves("dice")
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise check.run_metrics(path, error) from error
    return metrics


def _runs(folder: Path) -> dict[str, Path]:
    """Return the folders of runs by name: the folder itself, or those of its seeds."""
    seeds = sorted(folder.glob("seed-*"), key=lambda path: (len(path.name), path.name))
    return {path.name: path for path in (folder, *seeds) if (path / METRICS).is_file()}


def _facts(run: Path) -> Facts:
    """Return what the recipe says, in words; nothing if there is none."""
    path = run / RECIPE
    if not path.is_file():
        return {}
    try:
        recipe = tomllib.loads(path.read_text(encoding="utf-8"))
        method, stages = recipe.pop("method"), recipe.pop("stages")
        facts: Facts = {"Method": ", ".join([method["name"], *_settings(method.get("options", {}))])}
        facts["Stages"] = [", ".join([stage.pop("name"), *_settings(stage)]) for stage in stages]
    except (OSError, LookupError, TypeError, AttributeError, ValueError) as error:
        raise check.run_metrics(path, error) from error
    return facts | {"Data": list(_settings(recipe.pop("data", {}))), "Run": ", ".join(_settings(recipe))}


def _settings(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield each setting and its value."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _settings(value)
        else:
            yield f"{name} {value}".replace("_", " ")


def _section(title: str, body: str) -> str:
    """Return a part of the page; nothing if there is nothing in it."""
    return f'<section class="case"><header><h2>{title}</h2></header>{body}</section>\n' if body else ""


def _table(runs: Mapping[str, Metrics]) -> str:
    """Return the table of runs and their stages: how far each came, and what it told last."""
    rows = [_row(name, run, stage=stage) for name, run in runs.items() for stage in run.stages]
    columns = (
        '<th class="text">stage</th><th>steps</th><th>time</th><th>mean Dice</th><th class="text">last losses</th>'
    )
    titles, body = f"<thead><tr><th>run</th>{columns}</tr></thead>", f"<tbody>{''.join(rows)}</tbody>"
    return f'<div class="wide"><table>{titles}{body}</table></div>'


def _row(name: str, run: Metrics, *, stage: str) -> str:
    """Return a stage's line of the table."""
    seconds = max(line["seconds"] for line in run.lines if line["stage"] == stage)
    dice = run.last(stage, "dice").get(MEAN)
    losses = ", ".join(f"{term} {value:.4g}" for term, value in run.last(stage, "terms").items())
    return (
        f'<tr><td>{escape(name)}</td><td class="text">{escape(stage)}</td><td>{run.stages[stage]}</td>'
        f"<td>{_time(seconds)}</td><td>{'' if dice is None else f'{dice:.3f}'}</td>"
        f'<td class="text">{escape(losses)}</td></tr>'
    )


def _time(seconds: float) -> str:
    """Return a time in words."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
