from __future__ import annotations

import math
import re

import numpy as np
import pytest

from limner.evaluation import Row
from limner.report.scores import grouped, score_plot, score_table
from report.phantoms import TABLE


def rows(structure: str, metric: str, *values: float) -> list[Row]:
    return [
        {"case": f"case-{number}", "structure": structure, "metric": metric, "value": value}
        for number, value in enumerate(values)
    ]


def cells(html: str) -> list[list[str]]:
    """The text of each row of a table."""
    lines = re.findall(r"<tr.*?</tr>", html)
    return [[re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<t[dh].*?</t[dh]>", line)] for line in lines]


def test_means_come_with_their_standard_error() -> None:
    html = score_table(rows("ear", "dice", 0.8, 0.9) + rows("ear", "hd95", 1, 3), table=TABLE)
    assert cells(html) == [["structure", "Dice", "HD95 (mm)"], ["ear", "0.850 ± 0.050", "2.00 ± 1.00"]]
    assert "color:rgb(60,60,200)" in html


def test_a_single_case_has_no_spread() -> None:
    assert cells(score_table(rows("ear", "dice", 0.8), table=TABLE))[1] == ["ear", "0.800"]


def test_the_mean_comes_last() -> None:
    html = score_table([*rows("mean", "dice", 0.7), *rows("ear", "dice", 0.8), *rows("nose", "dice", 0.6)], table=TABLE)
    assert [line[0] for line in cells(html)] == ["structure", "ear", "nose", "mean"]
    assert "<tr class=mean><td>mean" in html


def test_what_no_case_has_is_left_out() -> None:
    scored = [*rows("ear", "dice", 0.8, math.nan), *rows("nose", "dice", math.nan, math.nan)]
    assert cells(score_table(scored, table=TABLE)) == [["structure", "Dice"], ["ear", "0.800"]]
    assert score_plot(rows("nose", "dice", math.nan), table=TABLE) == ""


def test_missed_structures_have_no_mean_distance() -> None:
    html = score_table(rows("ear", "hd95", 1.0, math.inf, 2.0), table=TABLE)
    assert cells(html)[1] == ["ear", "∞"]
    assert 'title="missed in 1 of 3; median 2.00"' in html


def test_other_metrics_are_not_shown() -> None:
    assert grouped(rows("ear", "volume", 12)) == {}
    assert score_table(rows("ear", "volume", 12), table=TABLE) == ""
    assert score_plot([], table=TABLE) == ""


def test_values_keep_the_order_of_the_cases() -> None:
    np.testing.assert_array_equal(grouped(rows("ear", "asd", 3, 1, 2))["ear"]["asd"], [3, 1, 2])


@pytest.mark.parametrize("name", ["Left-Ear", "something else"])
def test_labels_and_strangers_have_colours_too(name: str) -> None:
    colour = {"Left-Ear": "60,60,200"}.get(name, "150,150,150")
    assert f"color:rgb({colour})" in score_table(rows(name, "dice", 1), table=TABLE)


def test_the_plot_is_an_image() -> None:
    html = score_plot([*rows("ear", "dice", 0.8, 0.9), *rows("mean", "dice", 0.8, 0.9)], table=TABLE)
    assert html.startswith('<figure class="plot"><img src="data:image/svg+xml;base64,')
