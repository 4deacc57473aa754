"""What the scores of many cases say: means with their uncertainty, and paired comparisons.

Values that are nan (a structure that neither map has) are left out and the count says so. Infinite ones (a structure
that was missed) are kept: they make a mean infinite, as they should, while the median and the ranks can use them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from limner import check
from limner.evaluation.scores import Row


@dataclass(frozen=True)
class Summary:
    """One structure and metric over cases, in the metric's unit.

    Args:
        cases: how many have a value.
        mean: over them.
        standard_error: of the mean.
        low: bound of the mean's bootstrap interval.
        high: the other bound.
        median: over the cases.
    """

    cases: int
    mean: float
    standard_error: float
    low: float
    high: float
    median: float


@dataclass(frozen=True)
class Comparison:
    """Two sets of scores of the same cases on one structure and metric, in the metric's unit.

    Args:
        difference: summary of first minus second.
        wilcoxon: p value of the signed-rank test.
        paired_t: p value of the paired t-test.
    """

    difference: Summary
    wilcoxon: float
    paired_t: float


def summarised(rows: Iterable[Row], *, rng: np.random.Generator, level: float = 0.95) -> dict[tuple[str, str], Summary]:
    """Return a summary over cases for each (structure, metric), in the order of the rows.

    Args:
        rows: any number of cases, structures and metrics.
        rng: draws the bootstrap's samples.
        level: confidence of the intervals.
    """
    groups: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        groups.setdefault((row["structure"], row["metric"]), []).append(row["value"])
    return {group: _summary(np.array(values), rng=rng, level=level) for group, values in groups.items()}


def compared(
    first: Sequence[Row], second: Sequence[Row], *, rng: np.random.Generator, level: float = 0.95
) -> dict[tuple[str, str], Comparison]:
    """Compare two sets of scores, paired by case, for each (structure, metric) that both have, in the first's order.

    A pair with a nan is left out; two infinite values are a tie. The p values are not corrected for the number of
    comparisons.

    Args:
        first: scores of one method.
        second: scores of another on the same cases.
        rng: draws the bootstrap's samples.
        level: confidence of the intervals.

    Raises:
        InputError: if they share no case. Cases of one set alone are left out with an InputWarning.
    """
    _check_shared(first, second)
    partners = {(row["structure"], row["metric"], row["case"]): row["value"] for row in second}
    groups: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in first:
        group = row["structure"], row["metric"]
        if (*group, row["case"]) in partners:
            groups.setdefault(group, []).append((row["value"], partners[*group, row["case"]]))
    return {group: _comparison(np.array(pairs), rng=rng, level=level) for group, pairs in groups.items()}


def mean(values: ArrayLike) -> float:
    """Return the mean of `values` (N,): nan for none, or where they are infinite both ways."""
    values = np.asarray(values, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return float(values.mean()) if len(values) else np.nan


def standard_error(values: ArrayLike) -> float:
    """Return the standard error of the mean of `values` (N,): nan for fewer than two, or where one is infinite."""
    values = np.asarray(values, dtype=np.float64)
    if len(values) < 2 or not np.isfinite(values).all():
        return np.nan
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def bootstrap_interval(
    values: ArrayLike, *, rng: np.random.Generator, level: float = 0.95, resamples: int = 10_000
) -> tuple[float, float]:
    """Return the bounds between which the mean of `values` (N,) lies at a confidence `level`; nan for fewer than two.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13, percentile interval, taken at
    order statistics: no interpolation, so that infinite values stay what they are. It is too narrow for very few
    cases: at 7 of them a nominal 95 % covers about 88 %.
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) < 2:
        return np.nan, np.nan
    samples = values[rng.integers(len(values), size=(resamples, len(values)))]
    with np.errstate(invalid="ignore"):
        # Differences may be infinite both ways; then the mean, and with it the interval, is not a number.
        low, high = np.quantile(samples.mean(axis=1), [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return float(low), float(high)


def paired_tests(differences: ArrayLike) -> tuple[float, float]:
    """Return the two-sided p values of Wilcoxon's signed-rank test and of the paired t-test.

    Args:
        differences: (N,), one per case.

    Returns:
        Wilcoxon's p and the t-test's p: nan for fewer than two cases, the t-test's also where a difference is
        infinite; 1 if nothing differs.

    Source: Wilcoxon, Biometrics Bulletin 1 (1945); Student, Biometrika 6 (1908); both by scipy, which drops
    differences of zero from the ranks.
    """
    differences = np.asarray(differences, dtype=np.float64)
    if len(differences) < 2:
        return np.nan, np.nan
    if not differences.any():
        return 1.0, 1.0
    with warnings.catch_warnings():
        # Equal differences leave the t-test without a spread; its p is then 0, which is what we want.
        warnings.filterwarnings("ignore", category=RuntimeWarning)
        ranked = scipy.stats.wilcoxon(differences).pvalue
        return float(ranked), float(scipy.stats.ttest_1samp(differences, 0).pvalue)


def _summary(values: NDArray[np.float64], *, rng: np.random.Generator, level: float) -> Summary:
    """Return the summary of `values` (N,) without those that are nan."""
    known = values[~np.isnan(values)]
    low, high = bootstrap_interval(known, rng=rng, level=level)
    median = float(np.median(known)) if len(known) else np.nan
    return Summary(len(known), mean(known), standard_error(known), low, high, median)


def _comparison(pairs: NDArray[np.float64], *, rng: np.random.Generator, level: float) -> Comparison:
    """Return the comparison of `pairs` (N, 2) without those that hold a nan."""
    first, second = pairs[~np.isnan(pairs).any(axis=1)].T
    # Two infinite distances are a tie, though their difference is not a number.
    differences = np.zeros(len(first))
    np.subtract(first, second, out=differences, where=first != second)
    wilcoxon, paired_t = paired_tests(differences)
    return Comparison(_summary(differences, rng=rng, level=level), wilcoxon, paired_t)


def _check_shared(first: Iterable[Row], second: Iterable[Row]) -> None:
    """Refuse two sets of rows without a common case, and warn of cases that only one has."""
    mine, theirs = ({row["case"] for row in rows} for rows in (first, second))
    if not mine & theirs:
        raise check.no_shared_case(sorted(mine), sorted(theirs))
    if mine ^ theirs:
        warnings.warn(check.unshared_cases(sorted(mine ^ theirs)), stacklevel=3)
