"""How the page begins: what was run, what the colours mean, what came of each scan, and how all scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from limner.evaluation import Row
from limner.evaluation.scores import MEAN
from limner.report.figures import UNCERTAINTY_COLOURS, UNCERTAINTY_LIMIT
from limner.report.scores import score_plot, score_table
from limner.report.section import Outcome
from limner.report.sides import paired
from limner.space import LabelTable

CONVENTION = "Radiological convention: the patient’s left is on the right of the picture."
# The page's style goes by the first name of each switch; a switch is there if pictures show its layer.
SWITCHES = (
    ("areas", "labels"),
    ("outlines", "labels"),
    ("reference", "reference"),
    ("uncertainty", "uncertainty"),
    ("errors", "errors"),
)


def head(
    title: str, facts: Mapping[str, str | Sequence[str]], *, outcomes: Sequence[Outcome], table: LabelTable
) -> str:
    """Return the page up to the first scan.

    Args:
        title: of the page.
        facts: what was run, by name; one line for each item where the value is a sequence.
        outcomes: of all scans.
        table: names the labels.
    """
    style = (resources.files("limner.report") / "page.css").read_text(encoding="utf-8")
    shown = np.any([np.zeros(len(table), dtype=bool), *(outcome.rows for outcome in outcomes)], axis=0)
    layers: set[str] = {layer for outcome in outcomes for layer in outcome.layers}
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}{_colours(table, shown)}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n{_facts(facts)}{_overview(outcomes)}{_scores(outcomes, table)}"
        f"{_key(table, shown, uncertain='uncertainty' in layers)}{_tools(layers)}"
    )


def _colours(table: LabelTable, shown: NDArray[np.bool_]) -> str:
    """Return the style rules that colour the labels that are `shown` (L,)."""
    labels = [label for label, used in zip(table.labels, shown, strict=True) if used]
    return "".join(".c{} {{ color: rgb({} {} {}); }}\n".format(label.id, *label.colour) for label in labels)


def _facts(facts: Mapping[str, str | Sequence[str]]) -> str:
    """Return what was run as a list of names and values."""
    lines = {name: [value] if isinstance(value, str) else value for name, value in facts.items()}
    items = (
        f"<dt>{escape(name)}</dt>" + "".join(f"<dd>{escape(line)}</dd>" for line in values)
        for name, values in lines.items()
    )
    return f'<dl class="facts">{"".join(items)}</dl>\n'


def _key(table: LabelTable, shown: NDArray[np.bool_], *, uncertain: bool) -> str:
    """Return what the colours mean: of the labels that are `shown` (L,), and of uncertainty."""
    items = [
        f'<li><i class="chip c{table.labels[row].id}"></i>{escape(pair.name)}</li>'
        for pair in paired(table)
        for row in [row for row in pair.rows if shown[row]][:1]
    ]
    if uncertain:
        stops = ",".join(to_hex(colour) for colour in mpl.colormaps[UNCERTAINTY_COLOURS](np.linspace(0, 1, 9)))
        bar = f'<i class="bar" style="background:linear-gradient(90deg,{stops})"></i>'
        items.append(f"<li>uncertainty 0 {bar} {UNCERTAINTY_LIMIT:g} nat and more</li>")
    return f'<h3>Key</h3><ul class="key">{"".join(items)}</ul>\n' if items else ""


def _tools(layers: set[str]) -> str:
    """Return the switches that show and hide what pictures have, which stay in sight."""
    switches = "".join(
        f'<label><input type="checkbox" id="{name}" checked>{name}</label>'
        for name, layer in SWITCHES
        if layer in layers
    )
    hint = f'<span class="soft">{CONVENTION} Click a picture to enlarge it; point at an area for its name.</span>'
    return f'<div class="tools">{switches}{hint}</div>\n' if layers else ""


def _overview(outcomes: Sequence[Outcome]) -> str:
    """Return a table of all scans that leads to each; nothing for a single one."""
    if len(outcomes) < 2:
        return ""
    scored = any(outcome.case.scores for outcome in outcomes)
    rows = "".join(_line(outcome, scored=scored) for outcome in outcomes)
    dice = "<th>mean Dice</th>" if scored else ""
    columns = f'<th>scan</th>{dice}<th>time</th><th class="text">result</th>'
    body = f"<thead><tr>{columns}</tr></thead><tbody>{rows}</tbody>"
    return f'<div class="wide"><table class="overview">{body}</table></div>\n'


def _line(outcome: Outcome, *, scored: bool) -> str:
    """Return a scan's line of the overview."""
    case = outcome.case
    result = case.verdict or "done"
    if case.trouble is not None:
        result = f'<span class="bad">failed: {escape(case.trouble)}</span>'
    elif case.reason:
        result += f": {escape(case.reason)}"
    if case.error is None and case.notes:
        result += f", {len(case.notes)} note{'s' * (len(case.notes) > 1)}"
    time = "" if case.seconds is None else f"{case.seconds:.0f} s"
    dice = f"<td>{_mean_dice(case.scores)}</td>" if scored else ""
    link = f'<a href="#{outcome.key}">{escape(case.name)}</a>'
    return f'<tr><td>{link}</td>{dice}<td>{time}</td><td class="text">{result}</td></tr>'


def _mean_dice(rows: Sequence[Row]) -> str:
    """Return one scan's Dice over structures; nothing if it has no scores."""
    means = [row["value"] for row in rows if (row["structure"], row["metric"]) == (MEAN, "dice")]
    return f"{means[0]:.3f}" if means else ""


def _scores(outcomes: Sequence[Outcome], table: LabelTable) -> str:
    """Return how all scans scored; nothing if there are no references."""
    rows = [row for outcome in outcomes for row in outcome.case.scores]
    if not rows:
        return ""
    cases = len({row["case"] for row in rows})
    words = f"{cases} scan{'s' * (cases > 1)}" + (", mean ± standard error of the mean" if cases > 1 else "")
    return (
        f'<section class="case" id="scores"><header><h2>Against the references</h2><small>{words}; distances are '
        "infinite for a structure that one of the two lacks</small></header>"
        f'<div class="scores"><div class="wide">{score_table(rows, table=table)}</div>'
        f"{score_plot(rows, table=table)}</div></section>\n"
    )
