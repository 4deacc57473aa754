"""What the cells of a study say: tables of means over seeds, comparisons over people, and curves."""

from __future__ import annotations

import csv
import json
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from limner.data.cohort import read_cohort
from limner.evaluation.scores import Row
from limner.evaluation.statistics import Comparison, compared
from limner.files import replacing
from limner.study.cells import StudyRecipe, cells
from limner.study.work import CELLS, RUN, TEST
from limner.training.run import METRICS

TABLE, LIST, CURVES, EFFICIENCY = "table.md", "cells.csv", "curves.svg", "labels.svg"
INFORMATION = "information.svg"
COLUMNS = (
    "method",
    "runs",
    "soft Dice of all (sd of seeds)",
    "Dice a person",
    "HD95, mm",
    "difference to the first, 95 %",
    "Wilcoxon p",
    "gap covered",
    "Dice in validation",
    "steps",
    "minutes",
    "change inside / outside",
)
Record = Mapping[str, Any]


def write_tables(study: StudyRecipe, out: Path, *, without: Container[str] = ()) -> None:
    """Write cells.csv, table.md, curves.svg and, for several amounts of labels, labels.svg, from what is done.

    Args:
        study: what is compared.
        out: its folder.
        without: names of cells that failed, of which an earlier test may lie there.
    """
    tests = _tests(study, out, without=without)
    found = [json.loads(path.read_text(encoding="utf-8")) for path in tests]
    if not found:
        return
    people = _people(study)
    _list(found, out / LIST)
    lines = [line for amount in study.amounts for line in section(study, found, amount=amount, people=people)]
    with replacing(out / TABLE) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    _curves(study, tests, path=out / CURVES, of=("dice", "mean"), words="Dice in validation")
    _curves(study, tests, path=out / INFORMATION, of=("terms", "information"), words="information, nats", factor=-1)
    if len(study.amounts) > 1:
        _efficiency(study, found, path=out / EFFICIENCY)


def _tests(study: StudyRecipe, out: Path, *, without: Container[str]) -> list[Path]:
    """Return the files of the study's cells that are done; others may have been left by rows or seeds that it had."""
    paths = (out / CELLS / cell.name / TEST for cell in cells(study) if cell.name not in without)
    return sorted(path for path in paths if path.exists())


def section(study: StudyRecipe, found: Sequence[Record], *, amount: str, people: Mapping[str, str]) -> list[str]:
    """Return the lines of a table for one amount of labels.

    Args:
        study: its rows.
        found: what all cells found.
        amount: of labels.
        people: whose each case is.
    """
    rows = {name: [one for one in found if one["row"] == name and one["amount"] == amount] for name in study.methods}
    rows = {name: cells for name, cells in rows.items() if cells}
    if not rows:
        return []
    labelled = next(iter(rows.values()))[0]["labelled"]
    lines = [
        f"## Labels: {amount} ({labelled} images)",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|---" * len(COLUMNS) + "|",
    ]
    first = next(iter(study.methods))  # also where it is not done: rows are compared with no other
    lines += [_line(study, name, rows=rows, found=found, first=first, people=people) for name in rows]
    return [*lines, ""]


def _line(
    study: StudyRecipe,
    name: str,
    *,
    rows: Mapping[str, Sequence[Record]],
    found: Sequence[Record],
    first: str,
    people: Mapping[str, str],
) -> str:
    """Return the line of one method."""
    mine = rows[name]
    reference = rows.get(first) if name != first else None
    against = comparison(mine, reference, people=people) if reference else None
    soft = [fmean(one["soft"].values()) for one in mine]
    apart = [one["removal"] for one in mine if one["removal"] is not None]
    values = [
        name,
        str(len(mine)),
        f"{fmean(soft):.3f}" + (f" ({stdev(soft):.3f})" if len(soft) > 1 else ""),
        f"{fmean(per_person(mine, people=people).values()):.3f}",
        _distance(mine),
        "" if against is None else _interval(against),
        "" if against is None else f"{against.wilcoxon:.2g}",
        gap_covered(soft, reference, found=found, row=first) if reference else "",
        _chosen(study, name, rows=rows),
        f"{fmean(one['steps'] for one in mine):.0f}",
        f"{fmean(one['seconds'] for one in mine) / 60:.1f}",
        f"{fmean(apart):.1f}" if apart else "",
    ]
    return "| " + " | ".join(values) + " |"


def _distance(done: Iterable[Record]) -> str:
    """Return the mean HD95 over cases in words, and how many have none; nothing where voxel sizes are not known."""
    every = [row["hd95"] for cell in done for row in cell["cases"] if "hd95" in row]
    found = [one for one in every if one is not None]
    if not every:
        return ""
    missed = f" ({len(every) - len(found)} of {len(every)} missed)" if len(found) < len(every) else ""
    return (f"{fmean(found):.2f}" if found else "none") + missed


def _interval(against: Comparison) -> str:
    """Return a difference and its interval in words."""
    summary = against.difference
    return f"{summary.mean:+.3f} [{summary.low:+.3f}, {summary.high:+.3f}]"


def _chosen(study: StudyRecipe, name: str, *, rows: Mapping[str, Sequence[Record]]) -> str:
    """Return the validation Dice of a row, marked if it is the best of its variants."""
    mine = _validation(rows[name])
    group = study.methods[name].variant_of or name
    others = [other for other in rows if (study.methods[other].variant_of or other) == group]
    best = max(others, key=lambda other: _validation(rows[other]))
    return f"{mine:.3f}" + (" *" if len(others) > 1 and best == name else "")


def _validation(cells: Iterable[Record]) -> float:
    """Return the mean over seeds of the best Dice in validation."""
    return fmean(one["validation"] or 0.0 for one in cells)


def per_person(cells: Sequence[Record], *, people: Mapping[str, str]) -> dict[str, float]:
    """Return the Dice of each person: of all its voxels and structures together, the mean over seeds."""
    seeds: dict[str, list[float]] = {}
    for cell in cells:
        sums: dict[str, list[float]] = {}
        for row in cell["cases"]:
            total = sums.setdefault(people.get(row["case"], row["case"]), [0.0, 0.0])
            total[0] += 2 * row["both"]
            total[1] += row["found"] + row["true"]
        for person, (both, all_of_it) in sums.items():
            seeds.setdefault(person, []).append(both / all_of_it if all_of_it else 1.0)
    return {person: fmean(values) for person, values in seeds.items()}


def comparison(first: Sequence[Record], second: Sequence[Record], *, people: Mapping[str, str]) -> Comparison:
    """Return the paired comparison over people of two rows, each the mean of its seeds."""

    def rows(cells: Sequence[Record]) -> list[Row]:
        scores = per_person(cells, people=people).items()
        return [Row(case=person, structure="all", metric="dice", value=value) for person, value in scores]

    return compared(rows(first), rows(second), rng=np.random.default_rng(0))["all", "dice"]


def gap_covered(soft: Sequence[float], few: Sequence[Record], *, found: Sequence[Record], row: str) -> str:
    """Return how much of the way from few labels to all of them a method goes, in words; nothing if nobody had all.

    Args:
        soft: Dice of the method's seeds.
        few: cells of the reference with as many labels.
        found: all cells.
        row: name of the reference.

    Source: Vorontsov et al. 2022, Figure 7.
    """
    every = [fmean(one["soft"].values()) for one in found if one["row"] == row and one["amount"] == "1"]
    if not every:
        return ""
    low, high = fmean(fmean(one["soft"].values()) for one in few), fmean(every)
    return f"{(fmean(soft) - low) / (high - low):.0%}" if high > low else ""


def _people(study: StudyRecipe) -> dict[str, str]:
    """Return whose each case is."""
    name, amount = next(iter(study.methods)), study.amounts[0]
    scans = study.run(name, amount, seed=0).data.scans
    return {} if scans is None else {case.name: case.person for case in read_cohort(scans)}


def _list(found: Sequence[Record], path: Path) -> None:
    """Write a line for each cell."""
    rows = [
        {key: one[key] for key in ("row", "amount", "seed", "labelled", "steps", "seconds", "validation", "removal")}
        | {f"soft {name}": f"{value:.4f}" for name, value in one["soft"].items()}
        for one in found
    ]
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _curves(
    study: StudyRecipe, tests: Sequence[Path], *, path: Path, of: tuple[str, str], words: str, factor: float = 1.0
) -> None:
    """Draw something that runs log, times a factor, against the step: one line a cell, one colour a row, if any did."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axis = figure.subplots()
    colours = {name: f"C{number}" for number, name in enumerate(study.methods)}
    shown = set()
    for test in tests:
        name = json.loads(test.read_text(encoding="utf-8"))["row"]
        lines = map(json.loads, (test.parent / RUN / METRICS).read_text(encoding="utf-8").splitlines())
        points = [(line["step"], factor * line[of[0]][of[1]]) for line in lines if of[1] in line.get(of[0], {})]
        if points:
            label = None if name in shown else name
            axis.plot(*zip(*points, strict=True), color=colours.get(name, "grey"), linewidth=0.9, label=label)
            shown.add(name)
    if not shown:
        return
    axis.set(xlabel="step", ylabel=words)
    axis.legend(fontsize=8, frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="svg")


def _efficiency(study: StudyRecipe, found: Sequence[Record], *, path: Path) -> None:
    """Draw the Dice of each row against how many images are labelled."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axis = figure.subplots()
    for name in study.methods:
        points: dict[int, list[float]] = {}
        for one in found:
            if one["row"] == name:
                points.setdefault(one["labelled"], []).append(fmean(one["soft"].values()))
        counts = sorted(points)
        means = [fmean(points[count]) for count in counts]
        spread = [stdev(points[count]) if len(points[count]) > 1 else 0.0 for count in counts]
        axis.errorbar(counts, means, spread, label=name, marker="o", markersize=3, capsize=2, linewidth=1)
    axis.set(xscale="log", xlabel="labelled images", ylabel="soft Dice of all test images")
    axis.legend(fontsize=8, frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="svg")
