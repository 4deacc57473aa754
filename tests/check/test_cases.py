from __future__ import annotations

from pathlib import Path

import pytest

from check.messages import SCAN, Inspection, refusal
from limner import check
from limner.check import InputWarning

REFUSED = [
    (
        lambda: check.same_names([SCAN, "data/scan.mgz"]),
        (
            "'data/scan.nii.gz', 'data/scan.mgz' would have the same name; "
            "expected names that differ in more than their suffix: rename one, or leave it out"
        ),
    ),
    (
        lambda: check.unpaired({SCAN: [], Path("b.mgz"): [Path("x/b.mgz"), Path("y/b.mgz")]}),
        (
            "predictions and references cannot be paired: 'data/scan.nii.gz' suits no reference; "
            "'b.mgz' suits 'x/b.mgz', 'y/b.mgz'; expected one reference for each prediction, of the same name or in a "
            "folder that its name begins with: rename them, or give one prediction and one reference"
        ),
    ),
    (
        lambda: check.no_shared_case(["sub-01", "sub-02"], []),
        (
            "scores to compare share no case: sub-01, sub-02 against none; "
            "expected the same cases in both: evaluate both methods on the same scans"
        ),
    ),
]

WARNED = [
    (
        check.without_prediction([SCAN, Path("b.mgz")]),
        "references without a prediction were left out: 'data/scan.nii.gz', 'b.mgz'",
    ),
    (
        check.unshared_cases(["sub-01", "sub-02"]),
        "only one of the two tables has the cases sub-01, sub-02; they were left out",
    ),
]


@pytest.mark.parametrize(("inspect", "message"), REFUSED)
def test_what_is_refused(inspect: Inspection, message: str) -> None:
    assert refusal(inspect) == message


@pytest.mark.parametrize(("warning", "message"), WARNED)
def test_what_is_tolerated(warning: InputWarning, message: str) -> None:
    assert type(warning) is InputWarning
    assert str(warning) == message
