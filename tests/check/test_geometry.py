from __future__ import annotations

import numpy as np
import pytest

from check.messages import SCAN, Inspection, refusal
from limner import check
from limner.space import Grid

GRID = Grid((160, 192, 224), np.eye(4))
MOVED = Grid((160, 192, 224), np.array([[1, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
SHORT = Grid((160, 192, 223), np.eye(4))

REFUSED = [
    (
        lambda: check.affine(np.zeros((3, 3)), SCAN, dimensions=2),
        (
            "affine of 'data/scan.nii.gz' is singular, [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]; "
            "expected 2 independent axes: repair the header, or take it from the original scan"
        ),
    ),
    (
        lambda: check.affine(np.eye(3), SCAN, dimensions=3),
        (
            "affine of 'data/scan.nii.gz' has shape (3, 3); expected (4, 4): "
            "repair the header, or take it from the original scan"
        ),
    ),
    (
        lambda: check.affine(np.diag([np.inf, 1, 1]), SCAN, dimensions=2),
        (
            "affine of 'data/scan.nii.gz' has NaN or infinite entries; expected finite ones: "
            "repair the header, or take it from the original scan"
        ),
    ),
    (
        lambda: check.same_grid(GRID, SHORT, case="sub-07"),
        (
            "labels of 'sub-07' have shape (160, 192, 224) but its image has (160, 192, 223); "
            "resample one onto the grid of the other"
        ),
    ),
    (
        lambda: check.same_grid(GRID, MOVED, case="sub-07", names=("prediction", "reference")),
        (
            "prediction of 'sub-07' has another affine than its reference, 0.5 mm apart at a corner; "
            "resample one onto the grid of the other"
        ),
    ),
    (
        lambda: check.orientation("RAR", ("LR", "PA", "IS")),
        "orientation 'RAR' is not one; expected one letter of each of L or R, P or A, I or S: for example 'RAS'",
    ),
]


@pytest.mark.parametrize(("inspect", "message"), REFUSED)
def test_what_is_refused(inspect: Inspection, message: str) -> None:
    assert refusal(inspect) == message


def test_sound_geometry_passes() -> None:
    check.affine(np.eye(4), SCAN, dimensions=3)
    check.same_grid(GRID, Grid(GRID.shape, GRID.affine + 1e-8 * np.eye(4, k=1)), case="sub-07")
