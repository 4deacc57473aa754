from __future__ import annotations

import numpy as np
import pytest

from check.messages import SCAN, Inspection, refusal
from limner import check

REFUSED = [
    (
        lambda: check.numeric(np.dtype("c8"), SCAN),
        (
            "'data/scan.nii.gz' holds values of type complex64; expected one real number per voxel: "
            "convert it to grey values"
        ),
    ),
    (
        lambda: check.three_dimensional((2, 3, 4, 30), SCAN),
        (
            "'data/scan.nii.gz' has 4 dimensions, shape (2, 3, 4, 30); expected three (or two): "
            "save one of its volumes as a file of its own"
        ),
    ),
    (
        lambda: check.three_dimensional((9,), SCAN),
        "'data/scan.nii.gz' has 1 dimensions, shape (9,); expected three (or two): give an image",
    ),
    (
        lambda: check.three_dimensional((9, 0), SCAN),
        "'data/scan.nii.gz' has no voxels, shape (9, 0); expected at least one along each axis: export it again",
    ),
    (
        lambda: check.finite(np.array([[[0, np.nan, 1]]]), SCAN),
        (
            "'data/scan.nii.gz' has NaN or infinite values in 1 of 3 voxels; expected finite ones: "
            "replace them, e.g. with numpy.nan_to_num, or export the image again"
        ),
    ),
    (
        lambda: check.varied(np.full((2, 2), 0.25), SCAN),
        "'data/scan.nii.gz' is constant, 0.25 in every voxel; expected an image with contrast: check what was exported",
    ),
    (
        lambda: check.whole_numbers(np.array([[1, 2.7, 0.5]]), SCAN),
        (
            "labels 'data/scan.nii.gz' hold 2.7 at voxel (0, 1), one of 2 such values; expected whole numbers of at "
            "most 32 bits: give a label map (resampled by nearest neighbour if at all), not an image"
        ),
    ),
    (
        lambda: check.whole_numbers(np.array([[1, 2**63 + 5]], np.uint64), SCAN),
        (
            "labels 'data/scan.nii.gz' hold 9223372036854775813 at voxel (0, 1), one of 1 such values; expected whole "
            "numbers of at most 32 bits: if they tell objects apart, say so: --instances, or --kind instances in "
            "convert"
        ),
    ),
    (
        lambda: check.volume(np.zeros((2, 3)), (2, 4), kind="image"),
        "volume has data of shape (2, 3); expected that of its grid, (2, 4): crop both alike",
    ),
    (
        lambda: check.volume(np.zeros((2, 3)), (2, 3), kind="mask"),
        "volume has kind 'mask'; expected 'image', 'labels' or 'instances': choose one",
    ),
    (
        lambda: check.volume(np.zeros((2, 3)), (2, 3), kind="labels"),
        "volume of labels has data of type float64; expected integers: convert with astype",
    ),
    (
        lambda: check.label_map("image", "reference of 'sub-07'"),
        "reference of 'sub-07' was opened as an image; expected labels: open it with kind='labels'",
    ),
]


@pytest.mark.parametrize(("inspect", "message"), REFUSED)
def test_what_is_refused(inspect: Inspection, message: str) -> None:
    assert refusal(inspect) == message


def test_sound_voxels_pass() -> None:
    check.numeric(np.dtype(">f8"), SCAN)
    check.three_dimensional((2, 3), SCAN)
    check.finite(np.zeros(3), SCAN)
    check.varied(np.arange(3), SCAN)
    check.whole_numbers(np.array([-1.0, 530.0]), SCAN)
    check.volume(np.zeros((2, 3), bool), (2, 3), kind="labels")
    check.label_map("labels", SCAN)
