"""The report of volumes that `limner segment` split into objects: how their sections look, and which are bad."""

from __future__ import annotations

import csv
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from limner import check
from limner.files import replacing
from limner.preparation.overview import COLUMNS, ENDING
from limner.report.head import head
from limner.report.plots import INK, SOFT, embedded, svg
from limner.space import LabelTable

REPORT = "report.html"
FAULT = "#b02020"
#: What is drawn of each section.
DRAWN = {"level": "intensity", "contrast": "contrast", "detail": "detail"}


class Table(NamedTuple):
    """What the table of a volume says.

    Args:
        values: by column, a number for each section.
        faults: by section, what is wrong with it.
    """

    values: dict[str, NDArray[np.float64]]
    faults: dict[int, str]


def are_volumes(folder: Path) -> bool:
    """Tell whether a folder holds volumes that were split into objects."""
    return any(folder.glob(f"*{ENDING}"))


def report_volumes(folder: Path) -> Path:
    """Write the report of all volumes of a folder, and return where it is.

    Raises:
        InputError: for a table that is damaged, or if the report cannot be written.
    """
    tables = {path.name.removesuffix(ENDING): read_table(path) for path in sorted(folder.glob(f"*{ENDING}"))}
    count = len(tables)
    title = f"Sections of {next(iter(tables))}" if count == 1 else f"Sections of {count} volumes"
    begin = head(title, {}, outcomes=(), table=LabelTable.freesurfer())
    parts = (_part(name, table) for name, table in tables.items())
    with replacing(folder / REPORT) as temporary:
        temporary.write_text("".join([begin, *parts, "</body>\n</html>\n"]), encoding="utf-8")
    return folder / REPORT


def read_table(path: Path) -> Table:
    """Return what `limner segment` kept of a volume's sections.

    Raises:
        InputError: for a file that is none of its tables.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        values = {name: np.array([float(row[name]) for row in rows]) for name in COLUMNS[:-1]}
        return Table(values, {int(row["section"]): row["faults"] for row in rows if row["faults"]})
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise check.sections_table(path, error) from error


def section_plot(table: Table) -> str:
    """Return an SVG document of what was measured over the sections, with those that are unlike their neighbours."""
    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    axes = figure.subplots(len(DRAWN), 1, sharex=True)
    for axis, (column, words) in zip(axes, DRAWN.items(), strict=True):
        axis.plot(table.values["section"], table.values[column], color=INK, linewidth=0.8)
        for section in table.faults:
            axis.axvline(section, color=FAULT, alpha=0.35, linewidth=1.5)
        axis.set_ylabel(words, color=INK, fontsize=9)
        axis.tick_params(color=SOFT, labelsize=8, labelcolor=INK)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("section", color=INK, fontsize=9)
    return svg(figure)


def _part(name: str, table: Table) -> str:
    """Return a volume's part of the page."""
    count, bad = len(table.values["section"]), len(table.faults)
    words = f"{bad} of {count} sections are unlike their neighbours; segments will be wrong there"
    rows = "".join(
        f'<tr><td>{section}</td><td class="text">{escape(reason)}</td></tr>' for section, reason in table.faults.items()
    )
    titles = '<thead><tr><th>section</th><th class="text">what is wrong</th></tr></thead>'
    listed = f'<div class="wide"><table>{titles}<tbody>{rows}</tbody></table></div>' if bad else ""
    return (
        f'<section class="case"><header><h2>{escape(name)}</h2><small>{words if bad else "no section stands out"}'
        f"</small></header>{listed}{embedded(section_plot(table), 'Each section: intensity, contrast, detail')}"
        "</section>\n"
    )
