"""What a run told on its way, as lines over its steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from limner.report.plots import INK, SOFT, svg

COLUMNS = 3
MEAN = "mean"

Colour = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Curve:
    """One number over the steps of a run; `values` (N,) has nan between stages, `steps` (N,) count on."""

    steps: NDArray[np.float64]
    values: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Metrics:
    """The lines that a run has logged.

    Args:
        lines: each has a stage, a step in it, seconds, and terms or dice by name.
    """

    lines: Sequence[Mapping[str, Any]]

    @property
    def stages(self) -> dict[str, int]:
        """Steps of each stage so far, in the order of the stages."""
        steps: dict[str, int] = {}
        for line in self.lines:
            steps[line["stage"]] = max(steps.get(line["stage"], 0), line["step"])
        return steps

    @property
    def begins(self) -> dict[str, int]:
        """Steps before each stage."""
        steps = list(self.stages.values())
        return {stage: sum(steps[:index]) for index, stage in enumerate(self.stages)}

    def last(self, stage: str, kind: Literal["terms", "dice"]) -> Mapping[str, float]:
        """Return the numbers that a stage logged last; empty if it logged none of the kind."""
        found = [line[kind] for line in self.lines if line["stage"] == stage and kind in line]
        return found[-1] if found else {}

    def curves(self, kind: Literal["terms", "dice"]) -> dict[str, Curve]:
        """Return each number of a kind over the steps of all stages."""
        points: dict[str, list[tuple[float, float]]] = {}
        begins = self.begins
        for stage, begin in begins.items():
            lines = [line for line in self.lines if line["stage"] == stage and kind in line]
            for name in dict.fromkeys(name for line in lines for name in line[kind]):
                row = [(begin + line["step"], line[kind][name]) for line in lines if name in line[kind]]
                points.setdefault(name, []).extend([*row, (row[-1][0], np.nan)])
        return {name: Curve(*np.array(row, np.float64).T) for name, row in points.items()}


def term_plot(runs: Sequence[Metrics]) -> str:
    """Return an SVG document with one plot for each loss term, one line for each run; empty if there are none."""
    curves = [run.curves("terms") for run in runs]
    names = list(dict.fromkeys(name for each in curves for name in each))
    if not names:
        return ""
    rows = -(-len(names) // COLUMNS)
    figure = Figure(figsize=(3.6 * min(COLUMNS, len(names)), 2.2 * rows), layout="constrained")
    axes = figure.subplots(rows, min(COLUMNS, len(names)), squeeze=False, sharex=True).ravel()
    for axis, name in zip(axes, names, strict=False):
        for each in curves:
            if name in each:
                axis.plot(each[name].steps, each[name].values, color=INK, linewidth=1, alpha=_alpha(runs))
        axis.set_title(name, fontsize=9, color=INK, loc="left")
        _plain(axis, runs)
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    return svg(figure)


def dice_plot(runs: Sequence[Metrics], colours: Mapping[str, Colour]) -> str:
    """Return an SVG document of Dice over steps; empty if none was logged.

    Of one run each structure has a line, of several the mean over structures.

    Args:
        runs: what was logged.
        colours: red, green, blue of structures, 0 to 255.
    """
    curves = [run.curves("dice") for run in runs]
    if not any(curves):
        return ""
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    axis = figure.subplots()
    for name, curve in curves[0].items() if len(runs) == 1 else ():
        if name != MEAN:
            colour = [channel / 255 for channel in colours.get(name, (128, 128, 128))]
            axis.plot(curve.steps, curve.values, ".-", color=colour, linewidth=1, markersize=4, label=name)
    for each in curves:
        if MEAN in each:
            label = MEAN if each is curves[0] else None
            axis.plot(
                each[MEAN].steps, each[MEAN].values, ".-", color=INK, linewidth=2, alpha=_alpha(runs), label=label
            )
    axis.set_ylabel("Dice", color=INK)
    axis.legend(frameon=False, fontsize=8, labelcolor=INK, loc="center left", bbox_to_anchor=(1, 0.5))
    _plain(axis, runs)
    return svg(figure)


def _alpha(runs: Sequence[Metrics]) -> float:
    """Return how opaque a line is: the more runs, the less."""
    return 1.0 if len(runs) == 1 else 0.6


def _plain(axis: Axes, runs: Iterable[Metrics]) -> None:
    """Leave the axis nothing but what is read, and mark where the stages of the first run begin."""
    for stage, begin in next(iter(runs)).begins.items():
        axis.axvline(begin, color=SOFT, linewidth=0.6, linestyle=":")
        axis.text(begin, 1, f" {stage}", transform=axis.get_xaxis_transform(), va="top", fontsize=7, color=SOFT)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["bottom", "left"]].set_color(SOFT)
    axis.tick_params(color=SOFT, labelsize=8, labelcolor=INK)
    axis.set_xlabel("step", color=INK, fontsize=8)
    axis.grid(axis="y", color=SOFT, alpha=0.25, linewidth=0.6)
