from __future__ import annotations

from pathlib import Path

import pytest

from check.messages import Inspection, refusal
from limner import check
from limner.check import InputWarning

TABLE = Path("scans.csv")

REFUSED = [
    (
        lambda: check.unknown_column(TABLE, "lable", known=["image", "labels"]),
        ("table 'scans.csv': column 'lable' is not known; expected one of image, labels: did you mean 'labels'?"),
    ),
    (
        lambda: check.image_column(TABLE, ["scan", "labels"]),
        "table 'scans.csv' has the columns scan, labels; expected one called image: name the scans in it",
    ),
    (
        lambda: check.image_column(TABLE, []),
        "table 'scans.csv' has the columns none; expected one called image: name the scans in it",
    ),
    (
        lambda: check.table_has_scans(TABLE, 0),
        "table 'scans.csv' names no scans; expected one in each line after the first: add them",
    ),
    (
        lambda: check.table_line(TABLE, 3, reason="'a.nii' does not exist; expected a file: check the path"),
        "table 'scans.csv', line 3: 'a.nii' does not exist; expected a file: check the path",
    ),
    (
        lambda: check.cases_differ(["a", "b", "a"]),
        "two cases are called 'a'; expected a name for each: correct the column case, or rename a file",
    ),
    (
        lambda: check.one_split("ann", ["test", "train"]),
        (
            "person 'ann' is in the splits test and train; expected all scans of a person in one: "
            "move them to the same split"
        ),
    ),
    (
        lambda: check.split_has_scans("training", 0, people=3),
        (
            "no scans are left for training of the 3 people in all; expected at least one: "
            "correct the column split, or the share kept for validation"
        ),
    ),
    (
        lambda: check.alike("images", {"a": 2, "b": 2, "c": 1}),
        ("'c' has 1 images but 'a' has 2; expected as many for every scan: complete the table, or leave a scan out"),
    ),
    (
        lambda: check.crop_axes([8, 8], (9, 9, 9), case="ann"),
        "crop (8, 8) has 2 axes but 'ann' has 3, shape (9, 9, 9); expected one size for each axis: correct the crop",
    ),
    (
        lambda: check.labels_of_nobody([Path(f"maps/{name}.nii") for name in "pqrs"], Path("maps")),
        (
            "none of the label maps in 'maps' has the name of a scan: 'p.nii', 'q.nii', 'r.nii', ...; expected NAME or "
            "NAME_labels for the scan NAME: rename them, or give a table with the columns image and labels"
        ),
    ),
    (
        lambda: check.flat_insides(Path("raw.tif"), ids="insides", flat=False),
        (
            "piece of 'raw.tif' has ids = 'insides' but is not flat; expected sections by themselves, in which what is "
            "connected is one cell: set flat to true, or give ids of instances"
        ),
    ),
    (
        lambda: check.sections_there(Path("cube.hdf"), (2, 9), available=4),
        (
            "piece of 'cube.hdf' has sections [2, 9]; expected the first and one past the last within [0, 4], which "
            "image and labels share: correct them"
        ),
    ),
    (
        lambda: check.some_labelled(0, case="cube[0:3]"),
        (
            "piece 'cube[0:3]' has no labelled voxel: all ids are 0; expected ids of instances: choose other sections, "
            "or set zero to 'membrane'"
        ),
    ),
]


@pytest.mark.parametrize(("inspect", "message"), REFUSED)
def test_what_is_refused(inspect: Inspection, message: str) -> None:
    assert refusal(inspect) == message


def test_what_is_tolerated() -> None:
    warning = check.spare_labels([Path("maps/p.nii"), Path("q.nii")])
    assert type(warning) is InputWarning
    assert str(warning) == "label maps without a scan were left out: 'maps/p.nii', 'q.nii'"


def test_what_passes() -> None:
    check.image_column(TABLE, ["image"])
    check.table_has_scans(TABLE, 1)
    check.cases_differ(["a", "b"])
    check.one_split("ann", ["test"])
    check.split_has_scans("training", 1, people=1)
    check.alike("images", {"a": 2, "b": 2})
    check.flat_insides(TABLE, ids="insides", flat=True)
    check.sections_there(TABLE, (0, 4), available=4)
    check.some_labelled(1, case="cube")
    check.crop_axes([8, 8, 8], (9, 9, 9), case="ann")
