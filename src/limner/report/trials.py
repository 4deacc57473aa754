"""Decoders that were tried, as points: what their splits and what their mergers cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from limner.report.plots import INK, SOFT, svg

#: Bits up to which the plot goes along either axis: what costs more is out of the question.
FARTHEST = 4.0


def trade_plot(points: Sequence[tuple[str, float, float]]) -> str:
    """Return an SVG document of splits against mergers, one colour for each decoder; its best trade-offs are joined.

    Args:
        points: of each trial its decoder, and what its splits and its mergers cost, bits.
    """
    figure = Figure(figsize=(5.2, 4.2), layout="constrained")
    axis = figure.subplots()
    for number, kind in enumerate(dict.fromkeys(kind for kind, _, _ in points)):
        costs = np.array([[split, merge] for name, split, merge in points if name == kind])
        axis.plot(*costs.T, ".", color=f"C{number}", markersize=4, alpha=0.35)
        axis.plot(*front(costs).T, "-", color=f"C{number}", linewidth=1.5, label=kind)
    best = min(points, key=lambda point: point[1] + point[2])
    axis.plot(*best[1:], "o", color=INK, markersize=8, fillstyle="none")
    _plain(axis, limit=min(FARTHEST, 1.05 * max(max(split, merge) for _, split, merge in points)))
    return svg(figure)


def front(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rows of `costs` (N, 2) that no other beats in both, in ascending order of the first."""
    ordered = costs[np.lexsort(costs.T[::-1])]
    lowest = np.minimum.accumulate(ordered[:, 1])
    best: NDArray[np.float64] = ordered[np.append(True, lowest[1:] < lowest[:-1])]
    return best


def _plain(axis: Axes, *, limit: float) -> None:
    """Name the axes, and leave them nothing but what is read."""
    axis.set_xlabel("splits, bits", color=INK)
    axis.set_ylabel("mergers, bits", color=INK)
    axis.set_xlim(0, limit)
    axis.set_ylim(0, limit)
    for total in range(1, 2 * int(limit) + 1):
        axis.plot([0, total], [total, 0], ":", color=SOFT, linewidth=0.6)
    axis.legend(frameon=False, fontsize=8, labelcolor=INK)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
