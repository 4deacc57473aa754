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
    (
        lambda: check.no_scans(Path("data"), [".nii", ".mgz"]),
        (
            "folder 'data' holds no scans; expected files ending in .nii, .mgz, or the slices of DICOM series: "
            "name the files, or another folder"
        ),
    ),
    (
        lambda: check.one_scan(2, has_mask=True, has_channels=True),
        "--mask belongs to one scan but 2 were given: run limner once for each of them",
    ),
    (
        lambda: check.one_scan(3, has_mask=False, has_channels=True),
        "--channel belongs to one scan but 3 were given: run limner once for each of them",
    ),
    (
        lambda: check.one_file([SCAN, SCAN], Path("out.mgz")),
        "output 'out.mgz' is one file but 2 scans were given; expected a folder: choose another -o",
    ),
    (
        lambda: check.one_file([SCAN], Path("data/../data/scan.nii.gz")),
        "output 'data/../data/scan.nii.gz' is the scan itself; expected a new file: choose another -o",
    ),
    (
        lambda: check.solid((30, 40)),
        "the image has shape (30, 40); expected three axes of two voxels or more: give a 3-D scan",
    ),
    (
        lambda: check.solid((30, 40, 1)),
        "the image has shape (30, 40, 1); expected three axes of two voxels or more: give a 3-D scan",
    ),
    (
        lambda: check.has_background(0.0123, 0.05),
        (
            "1.2% of the image has the value of its border; expected a skull-stripped scan, empty around the brain: "
            "strip it first, or say where the brain is with --mask"
        ),
    ),
    (
        lambda: check.brain_found(1.2e4, sizes=(2e4, 2.6e6)),
        (
            "0.01 litres of the image look like a brain; expected 0.02 to 2.6: the scan may show something else, "
            "or only a part of a head; strip it, or say where the brain is with --mask"
        ),
    ),
    (
        lambda: check.channel_covers(0.04, "anna"),
        (
            "a channel of 'anna' covers 4% of its image; expected another image of the same person in the same place: "
            "see where both lie with `limner check`, and register them if they were moved"
        ),
    ),
    (
        lambda: check.like_sized(4.321),
        (
            "the prior fits the scan only at 4.3 times its size; expected a third to three times: "
            "give a prior of what the scan shows with --prior, and check the scan's voxel size"
        ),
    ),
    (
        lambda: check.manifest(Path("out/manifest.json"), "does not exist"),
        (
            "'out/manifest.json' does not exist; expected the manifest that `limner segment` writes to its output "
            "folder: name that folder, or segment the scans again"
        ),
    ),
    (
        lambda: check.table_suffix(Path("scores.xlsx"), [".csv", ".json"]),
        "table 'scores.xlsx' ends in '.xlsx'; expected .csv or .json: rename it",
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
    (
        check.large_brain(3.456),
        ("the image shows 3.5 litres, more than a brain: strip the scan first, or say where the brain is with --mask"),
    ),
    (
        check.found_orientation("LIA"),
        (
            "the file does not say where its axes lead; they were found to lead LIA by trying all ways. "
            "Left and right look nearly alike, so that they may be swapped: give --orientation if you know it"
        ),
    ),
]


@pytest.mark.parametrize(("inspect", "message"), REFUSED)
def test_what_is_refused(inspect: Inspection, message: str) -> None:
    assert refusal(inspect) == message


@pytest.mark.parametrize(("warning", "message"), WARNED)
def test_what_is_tolerated(warning: InputWarning, message: str) -> None:
    assert type(warning) is InputWarning
    assert str(warning) == message


def test_what_passes() -> None:
    check.one_scan(1, has_mask=True, has_channels=True)
    check.one_scan(9, has_mask=False, has_channels=False)
    check.one_file([SCAN], Path("data/labels.nii.gz"))
    check.solid((2, 2, 2))
    check.has_background(0.05, 0.05)
    for scale in (0.4, 1, 2.5):
        check.like_sized(scale)
