from __future__ import annotations

import re
import subprocess
import sys
import warnings
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from limner.report.plots import FEW, box_plots

COLOURS = {"caudate": (122, 186, 220), "putamen": (236, 13, 176)}


@pytest.fixture(autouse=True)
def _quiet() -> None:
    warnings.simplefilter("error")


def plotted(caudate: list[float], putamen: list[float]) -> str:
    values = {"caudate": np.array(caudate), "putamen": np.array(putamen)}
    return box_plots({"Dice": values, "HD95 (mm)": values}, colours=COLOURS)


def texts(svg: str) -> list[str]:
    """What the figure says; each text is drawn as shapes after a remark that holds it."""
    return re.findall(r"<!-- (.*?) -->", svg)


def points(svg: str) -> int:
    """How many points are drawn in the first plot."""
    axes = svg.partition('id="axes_1"')[2].partition('id="axes_2"')[0]
    return len(re.findall(r"<use [^>]*style=\"fill: #303030; fill-opacity", axes))


def test_each_metric_has_a_plot_and_each_structure_a_box_in_its_colour() -> None:
    svg = plotted([0.8, 0.85, 0.9], [0.6, 0.7, 0.8])
    ET.fromstring(svg)
    assert {"Dice", "HD95 (mm)", "caudate", "putamen"} <= set(texts(svg))
    assert texts(svg).count("caudate") == 1
    assert [svg.lower().count(f"fill: {colour}") for colour in ("#7abadc", "#ec0db0")] == [2, 2]


def test_few_cases_are_drawn_as_points_and_many_are_not() -> None:
    assert points(plotted([0.8, 0.85, 0.9], [0.6, 0.7])) == 5
    assert points(plotted([0.8] * (FEW + 1), [0.6] * 3)) == 0


def test_missed_structures_are_counted() -> None:
    svg = plotted([0.8, np.inf, np.inf], [0.6, np.nan, 0.7])
    assert texts(svg).count("2 × ∞") == 2
    assert points(svg) == 3


@pytest.mark.parametrize("values", [[], [0.5], [np.nan], [np.inf]])
def test_a_structure_with_few_values_or_none_does_no_harm(values: list[float]) -> None:
    ET.fromstring(plotted(values, [0.6, 0.7]))


def test_equal_scores_make_equal_files() -> None:
    assert plotted([0.8, 0.9], [0.6, 0.7]) == plotted([0.8, 0.9], [0.6, 0.7])


def test_no_figure_is_left_to_a_global_state() -> None:
    program = "import sys, limner.report; sys.exit('matplotlib.pyplot' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
