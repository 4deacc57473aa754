from __future__ import annotations

import pytest

from check.messages import SCAN, Inspection, refusal
from limner import check

REFUSED = [
    (
        lambda: check.unknown_labels({99: 12, 1005: 1}, SCAN),
        (
            "'data/scan.nii.gz' has labels that the label table does not know: 99 (12 voxels), 1005 (1 voxel); "
            "expected ids of the table: give a table that names them with --labels TABLE, "
            "or count them as background with --fold-unknown"
        ),
    ),
    (
        lambda: check.unknown_labels({99: 2}, "prediction of 'sub-07'"),
        (
            "prediction of 'sub-07' has labels that the label table does not know: 99 (2 voxels); "
            "expected ids of the table: give a table that names them with --labels TABLE, "
            "or count them as background with --fold-unknown"
        ),
    ),
    (
        lambda: check.unknown_id(99, 14),
        "label 99 is not in the label table; expected one of its 14 ids: choose one, or extend the table",
    ),
    (
        lambda: check.unknown_structure("lung", ["background", "caudate"]),
        "structure 'lung' is not in the label table; expected one of background, caudate: correct the name",
    ),
    (
        lambda: check.table("mine.csv", "has id 3 twice, as 'a' and 'b'"),
        (
            "label table 'mine.csv' has id 3 twice, as 'a' and 'b'; "
            "expected columns id,name[,red,green,blue][,structure][,tissue]: correct the table"
        ),
    ),
]


@pytest.mark.parametrize(("inspect", "message"), REFUSED)
def test_what_is_refused(inspect: Inspection, message: str) -> None:
    assert refusal(inspect) == message
