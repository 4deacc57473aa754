"""Scores over cases as box plots, and figures as parts of a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

FEW = 30
"""Cases up to which each is drawn as a point over its box."""
INK, SOFT = "#303030", "#808080"


def box_plots(
    scores: Mapping[str, Mapping[str, NDArray[np.float64]]], *, colours: Mapping[str, tuple[int, int, int]]
) -> str:
    """Return an SVG document with one box plot per metric, beside one another, one box per structure over cases.

    A box spans the quartiles, its line is the median, its whiskers reach to the last value within 1.5 times the
    quartiles' distance. Infinite distances, of structures that were missed, are counted at the edge instead.

    Args:
        scores: for each metric, named as its axis is to be, and each structure: (N,), one value per case.
        colours: red, green, blue of each structure, 0 to 255.
    """
    figure = Figure(figsize=(3.1 * len(scores), 0.24 * len(colours) + 0.7), layout="constrained")
    axes = figure.subplots(1, len(scores), sharey=True, squeeze=False)[0]
    for axis, (metric, values) in zip(axes, scores.items(), strict=True):
        _draw(axis, [values[structure] for structure in colours], colours=list(colours.values()))
        axis.set_xlabel(metric, color=INK)
    axes[0].set_yticks(range(len(colours)), list(colours))
    axes[0].invert_yaxis()
    return svg(figure)


def svg(figure: Figure) -> str:
    """Return a figure as an SVG document."""
    content = io.StringIO()
    # The salt makes equal figures equal files.
    with mpl.rc_context({"svg.hashsalt": "limner"}):
        figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    return content.getvalue()


def embedded(document: str, words: str) -> str:
    """Return an SVG document as a figure of a page; `words` say what it shows."""
    address = "data:image/svg+xml;base64," + base64.b64encode(document.encode("utf-8")).decode("ascii")
    return f'<figure class="plot"><img src="{address}" alt="{words}"></figure>'


def _draw(axis: Axes, values: Sequence[NDArray[np.float64]], *, colours: Sequence[tuple[int, int, int]]) -> None:
    """Draw one box per structure, from left to right, at heights 0, 1, 2, ..."""
    finite = [structure[np.isfinite(structure)] for structure in values]
    fills = [tuple(channel / 255 for channel in colour) for colour in colours]
    many = max(map(len, finite)) > FEW
    boxes = axis.boxplot(
        finite,
        positions=range(len(finite)),
        orientation="horizontal",
        widths=0.62,
        patch_artist=True,
        showfliers=many,
        flierprops={"marker": ".", "markersize": 3, "markeredgecolor": SOFT},
        medianprops={"color": INK, "linewidth": 1.4},
        whiskerprops={"color": SOFT},
        capprops={"color": SOFT},
        boxprops={"edgecolor": SOFT},
    )
    for height, (box, fill) in enumerate(zip(boxes["boxes"], fills, strict=True)):
        box.set_facecolor((*fill, 0.45))
        if not many:
            # Each case keeps its place within the boxes, so that one can be followed.
            places = height + np.linspace(-0.2, 0.2, len(values[height]) + 2)[1:-1][np.isfinite(values[height])]
            axis.plot(finite[height], places, "o", markersize=3.2, color=INK, alpha=0.7, markeredgewidth=0, zorder=3)
        _count_missed(axis, int(np.isposinf(values[height]).sum()), height=height)
    _plain(axis)


def _count_missed(axis: Axes, missed: int, *, height: int) -> None:
    """Write at the right edge how many values are infinite, if any."""
    if missed:
        text = f"{missed} \N{MULTIPLICATION SIGN} \N{INFINITY}"
        axis.annotate(text, (1, height), xycoords=("axes fraction", "data"), ha="right", va="center", color=INK, size=8)


def _plain(axis: Axes) -> None:
    """Leave the axis nothing but what is read."""
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.spines["bottom"].set_color(SOFT)
    axis.tick_params(axis="y", length=0, labelsize=9, labelcolor=INK)
    axis.tick_params(axis="x", color=SOFT, labelsize=8, labelcolor=INK)
    axis.grid(axis="x", color=SOFT, alpha=0.25, linewidth=0.6)
    axis.set_axisbelow(True)
