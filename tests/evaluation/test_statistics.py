from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pytest
import scipy.stats

from limner.check import InputError, InputWarning
from limner.evaluation import Row, bootstrap_interval, compared, paired_tests, summarised


def rows(values: Sequence[float], *, structure: str = "putamen", metric: str = "dice") -> list[Row]:
    return [
        {"case": f"person-{index}", "structure": structure, "metric": metric, "value": value}
        for index, value in enumerate(values)
    ]


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def test_summary_of_each_group_in_the_order_of_the_rows() -> None:
    values = [0.7, 0.8, 0.85, 0.9]
    found = summarised([*rows(values), *rows([3.0], metric="hd95")], rng=generator())
    assert list(found) == [("putamen", "dice"), ("putamen", "hd95")]
    first, second = found.values()
    assert first.cases == 4
    assert first.mean == pytest.approx(0.8125)
    assert first.median == pytest.approx(0.825)
    assert first.standard_error == pytest.approx(scipy.stats.sem(values))
    assert 0.7 <= first.low < first.mean < first.high <= 0.9
    assert (second.cases, second.mean, second.median) == (1, 3, 3)
    assert np.isnan([second.standard_error, second.low, second.high]).all()


def test_absent_structures_are_left_out_and_missed_ones_kept() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        absent = summarised(rows([np.nan, 1.0, 2.0]), rng=generator())["putamen", "dice"]
        missed = summarised(rows([np.inf, 1.0, 2.0]), rng=generator())["putamen", "dice"]
        none = summarised(rows([np.nan]), rng=generator())["putamen", "dice"]
    assert (absent.cases, absent.mean) == (2, 1.5)
    assert (missed.cases, missed.mean, missed.high, missed.median) == (3, np.inf, np.inf, 2)
    assert np.isnan(missed.standard_error)
    assert none.cases == 0
    assert np.isnan([none.mean, none.median]).all()


def test_interval_agrees_with_scipy() -> None:
    values = generator().gamma(2, size=30)
    found = bootstrap_interval(values, rng=generator(), resamples=50_000)
    expected = scipy.stats.bootstrap((values,), np.mean, n_resamples=50_000, method="percentile").confidence_interval
    np.testing.assert_allclose(found, expected, atol=0.02)


@pytest.mark.parametrize(("cases", "low", "high"), [(7, 0.84, 0.91), (50, 0.92, 0.96)])
def test_interval_covers_the_mean_as_often_as_documented(cases: int, low: float, high: float) -> None:
    rng = generator()
    intervals = np.array([bootstrap_interval(rng.normal(size=cases), rng=rng, resamples=500) for _ in range(2000)])
    covered = np.mean((intervals[:, 0] <= 0) & (intervals[:, 1] >= 0))
    assert low < covered < high


def test_interval_is_a_function_of_its_generator_and_narrows_with_the_level() -> None:
    values = generator().normal(size=20)
    wide, again = (bootstrap_interval(values, rng=generator()) for _ in range(2))
    narrow = bootstrap_interval(values, rng=generator(), level=0.5)
    assert wide == again
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_comparison_agrees_with_scipy() -> None:
    rng = generator()
    second = rng.uniform(0.7, 0.9, size=12)
    first = second + rng.normal(0.02, 0.02, size=12)
    # Pairing goes by case, not by place.
    found = compared(rows(first), rows(second)[::-1], rng=generator())["putamen", "dice"]
    assert found.difference.cases == 12
    assert found.difference.mean == pytest.approx(np.mean(first - second))
    assert found.difference.low < found.difference.mean < found.difference.high
    assert found.difference.standard_error == pytest.approx(scipy.stats.sem(first - second))
    assert found.paired_t == pytest.approx(scipy.stats.ttest_rel(first, second).pvalue)
    assert found.wilcoxon == pytest.approx(scipy.stats.wilcoxon(first, second).pvalue)


def test_comparison_keeps_groups_apart() -> None:
    groups = [*rows([1.0, 2.0]), *rows([5.0, 7.0], metric="hd95"), *rows([1.0, 1.0], structure="caudate")]
    others = [*rows([0.0, 0.0]), *rows([1.0, 1.0], metric="hd95")]
    found = compared(groups, others, rng=generator())
    assert {group: one.difference.mean for group, one in found.items()} == {
        ("putamen", "dice"): 1.5,
        ("putamen", "hd95"): 5,
    }


def test_comparison_leaves_out_nan_and_ties_two_infinities() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = compared(rows([np.inf, 2.0, np.nan, 4.0]), rows([np.inf, 1.0, 1.0, 1.0]), rng=generator())[
            "putamen", "dice"
        ]
        missed = compared(rows([np.inf, 2.0, 3.0]), rows([1.0, np.inf, 1.0]), rng=generator())["putamen", "dice"]
        nothing = compared(rows([np.nan]), rows([1.0]), rng=generator())["putamen", "dice"]
    assert (found.difference.cases, found.difference.mean) == (3, pytest.approx(4 / 3))
    assert missed.difference.cases == 3
    assert np.isnan([missed.difference.mean, missed.paired_t]).all()
    assert missed.wilcoxon == pytest.approx(1)
    assert nothing.difference.cases == 0
    assert np.isnan([nothing.difference.mean, nothing.wilcoxon]).all()


def test_equal_differences() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert paired_tests([0.0, 0.0, 0.0]) == (1, 1)
        assert paired_tests([0.25, 0.25, 0.25, 0.25]) == (pytest.approx(0.125), 0)
    assert np.isnan(paired_tests([0.5])).all()


def test_tests_find_no_more_than_chance_where_there_is_nothing() -> None:
    rng = generator()
    p = np.array([paired_tests(rng.normal(size=15)) for _ in range(1000)])
    assert ((p < 0.05).mean(axis=0) < 0.07).all()
    assert ((p < 0.05).mean(axis=0) > 0.03).all()


def test_comparing_strangers_is_refused() -> None:
    other: list[Row] = [{"case": "sub-01", "structure": "putamen", "metric": "dice", "value": 1.0}]
    with pytest.raises(InputError, match="share no case: person-0 against sub-01; expected the same cases in both"):
        compared(rows([0.5]), other, rng=generator())
    with pytest.raises(InputError, match="share no case: none against none"):
        compared([], [], rng=generator())


def test_cases_of_one_method_alone_are_named() -> None:
    with pytest.warns(InputWarning, match="only one of the two tables has the cases person-2; they were left out"):
        found = compared(rows([1.0, 2.0, 3.0]), rows([0.0, 0.0]), rng=generator())["putamen", "dice"]
    assert (found.difference.cases, found.difference.mean) == (2, 1.5)
