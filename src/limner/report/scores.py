"""Scores against references: as a table, for one scan or over scans, and as box plots."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

import numpy as np
from numpy.typing import NDArray

from limner.evaluation import METRICS, Row
from limner.evaluation.scores import MEAN
from limner.evaluation.statistics import mean, standard_error
from limner.report.plots import box_plots, embedded
from limner.space import LabelTable

TITLES = {"dice": "Dice", "hd95": "HD95", "asd": "ASD"}
"""The metrics that the report shows, and what it calls them."""
DECIMALS = {"dice": 3, "hd95": 2, "asd": 2}
GREY = (150, 150, 150)

Values = dict[str, dict[str, NDArray[np.float64]]]


def grouped(rows: Iterable[Row]) -> Values:
    """Return the values over cases (N,) for each structure, the mean last, and in it for each metric that is shown."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in sorted(rows, key=lambda row: row["structure"] == MEAN):
        if row["metric"] in TITLES:
            found.setdefault(row["structure"], {}).setdefault(row["metric"], []).append(row["value"])
    return {name: {metric: np.array(values) for metric, values in each.items()} for name, each in found.items()}


def score_table(rows: Iterable[Row], *, table: LabelTable) -> str:
    """Return the table of scores, means over cases with their standard errors, of what any case has; else nothing."""
    values = {name: each for name, each in grouped(rows).items() if _scored(each)}
    metrics = _metrics(values)
    if not metrics:
        return ""
    body = "".join(
        f"<tr{' class=mean' if name == MEAN else ''}><td>{_chip(name, table)}{escape(name)}</td>"
        + "".join(f"<td>{_cell(each[metric], DECIMALS[metric])}</td>" for metric in metrics)
        + "</tr>"
        for name, each in values.items()
    )
    head = "".join(f"<th>{_titled(metric)}</th>" for metric in metrics)
    return f"<table><thead><tr><th>structure</th>{head}</tr></thead><tbody>{body}</tbody></table>"


def score_plot(rows: Iterable[Row], *, table: LabelTable) -> str:
    """Return the figure with a box plot per metric, one box per structure that any case has."""
    values = {name: each for name, each in grouped(rows).items() if name != MEAN and _scored(each)}
    by_metric = {_titled(metric): {name: each[metric] for name, each in values.items()} for metric in _metrics(values)}
    if not by_metric:
        return ""
    plot = box_plots(by_metric, colours={name: _colour(name, table) for name in values})
    return embedded(plot, "One box plot per metric, one box per structure")


def _metrics(values: Values) -> list[str]:
    """Return the metrics that every structure has."""
    return [metric for metric in TITLES if values and all(metric in each for each in values.values())]


def _scored(each: dict[str, NDArray[np.float64]]) -> bool:
    """Tell whether any case has a score."""
    return not all(np.isnan(values).all() for values in each.values())


def _titled(metric: str) -> str:
    """Return what a metric is called, with its unit."""
    unit = METRICS[metric]
    return f"{TITLES[metric]} ({unit})" if unit else TITLES[metric]


def _cell(values: NDArray[np.float64], decimals: int) -> str:
    """Return the mean of `values` (N,) and its standard error, as far as they are numbers."""
    known = values[~np.isnan(values)]
    if not known.size:
        return "\N{EN DASH}"
    if np.isinf(known).any():
        missed = int(np.isinf(known).sum())
        median = f"{np.median(known):.{decimals}f}"
        return f'<span title="missed in {missed} of {known.size}; median {median}">\N{INFINITY}</span>'
    error = standard_error(known)
    spread = "" if np.isnan(error) else f" ± {error:.{decimals}f}"
    return f"{mean(known):.{decimals}f}{spread}"


def _colour(name: str, table: LabelTable) -> tuple[int, int, int]:
    """Return the colour of what was scored, a structure or a single label."""
    if name in table.structures:
        return table[table.structure_id(name)].colour
    return table.labels[table.names.index(name)].colour if name in table.names else GREY


def _chip(name: str, table: LabelTable) -> str:
    """Return the colour of what was scored as a chip; nothing for the mean."""
    if name == MEAN:
        return ""
    return f'<i class="chip" style="color:rgb{_colour(name, table)}"></i>'.replace(", ", ",")
