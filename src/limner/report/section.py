"""One scan's part of the page: its pictures, volumes, scores and notes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from html import escape

import numpy as np
from numpy.typing import NDArray

from limner import check
from limner.report.case import CaseReport
from limner.report.field import Field, field_of
from limner.report.figures import Layer, frame, picture
from limner.report.scores import score_table
from limner.report.sides import Pair, paired
from limner.report.slices import Slice, strips
from limner.space import LabelTable

UNLABELLED = "no voxel is labelled: look at the scan, and at how it was aligned"


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the head of the page says of one scan.

    Args:
        key: where its part of the page is.
        case: the scan, without its volumes.
        rows: (L,) which rows of the label table its pictures show.
        layers: what its pictures show.
    """

    key: str
    case: CaseReport
    rows: NDArray[np.bool_]
    layers: tuple[Layer, ...] = ()


def section(case: CaseReport, key: str, *, table: LabelTable) -> tuple[str, Outcome]:
    """Return a scan's part of the page and what came of it; a scan that cannot be drawn is one that failed.

    Args:
        case: the scan.
        key: unique in the page.
        table: names the labels.
    """
    field = None
    try:
        field = field_of(case, table)
    except check.InputError as error:
        case = replace(case, error=str(error))
    case = replace(case, image=None, labels=None, uncertainty=None, reference=None)
    if field is None:
        return f"{_opening(case, key=key)}</section>\n", Outcome(key, case, np.zeros(len(table), dtype=bool))
    if field.labels is not None and not field.labels.any():
        case = replace(case, notes=(*case.notes, UNLABELLED))
    layers = _layers(field)
    html = (
        f'{_opening(case, key=key)}<div class="body">{_slices(field, layers, table=table, key=key)}'
        f'<div class="tables">{_volumes(field, table)}{score_table(case.scores, table=table)}</div></div></section>\n'
    )
    return html, Outcome(key, case, _shown(field, len(table)), layers)


def _opening(case: CaseReport, *, key: str) -> str:
    """Return how a part begins: the name, the error and the notes."""
    time = "" if case.seconds is None else f"<small>{case.seconds:.0f} s</small>"
    error = "" if case.trouble is None else f'<p class="error">{escape(case.trouble)}</p>'
    if case.verdict == "look":
        error += f'<p class="doubt">look: {escape(case.reason)}</p>'
    notes = "".join(f"<li>{escape(note)}</li>" for note in case.notes)
    return (
        f'<section class="case{" failed" if case.trouble else ""}" id="{key}">'
        f"<header><h2>{escape(case.name)}</h2>{time}</header>{error}"
        + (f'<ul class="notes">{notes}</ul>' if notes else "")
    )


def _layers(field: Field) -> tuple[Layer, ...]:
    """Return what there is to show, the scan with its labels first."""
    others: tuple[Layer, ...] = ("reference", "uncertainty", "errors")
    return ("labels", *(layer for layer in others if getattr(field, layer) is not None))


def _shown(field: Field, size: int) -> NDArray[np.bool_]:
    """Return which of the table's rows the labels or the reference have, (L,)."""
    maps = [rows for rows in (field.labels, field.reference) if rows is not None]
    counts = [np.bincount(rows.ravel(), minlength=size) for rows in maps]
    return np.asarray(np.sum([np.zeros(size), *counts], axis=0) > 0)


def _slices(field: Field, layers: tuple[Layer, ...], *, table: LabelTable, key: str) -> str:
    """Return the pictures: for each plane one strip of slices per layer."""
    rows = [
        _strip(cuts, layer, table=table, key=f"{key}-{plane.name}") for plane, cuts in strips(field) for layer in layers
    ]
    bare = " bare" if field.image is None else ""
    return f'<div class="slices{bare}">{"".join(rows)}</div>'


def _strip(cuts: list[Slice], layer: Layer, *, table: LabelTable, key: str) -> str:
    """Return a row of slices through one layer. Each is the label of a box that, once ticked, enlarges it."""
    name = cuts[0].plane.name + (f" \N{MIDDLE DOT} {layer}" if layer != "labels" else "")
    pictures = (
        '<label class="slice" style="aspect-ratio:{:g}/{:g}">'.format(*frame(cut)[2:])
        + f'<input type="checkbox">{picture(cut, layer, table=table, key=f"{key}-{cut.index}")}</label>'
        for cut in cuts
    )
    return f'<div class="strip {layer}"><span>{name}</span>{"".join(pictures)}</div>\n'


def _volumes(field: Field, table: LabelTable) -> str:
    """Return the table of volumes, left and right beside one another."""
    volumes = field.volumes(table)
    body = "".join(
        f'<tr><td><i class="chip c{table.labels[row].id}"></i>{escape(pair.name)}</td>{_amounts(pair, volumes)}</tr>'
        for pair in paired(table)
        for row in [row for row in pair.rows if volumes[row]][:1]
    )
    head = "<tr><th>volume (mm³)</th><th>left</th><th>right</th></tr>"
    return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>" if body else ""


def _amounts(pair: Pair, volumes: NDArray[np.float64]) -> str:
    """Return the table's cells for a left and a right volume, or for the one there is."""
    if pair.right is None:
        return f'<td colspan="2">{volumes[pair.left]:,.0f}</td>'
    return f"<td>{volumes[pair.left]:,.0f}</td><td>{volumes[pair.right]:,.0f}</td>"
