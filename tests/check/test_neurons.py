from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from check.messages import Inspection, refusal
from limner import check

PATH = Path("cube.zarr")

REFUSED = [
    (
        lambda: check.decodable(2**31, 3 * 2**31),
        (
            "affinities of 2147483648 voxels with 6442450944 edges are too many to decode at once; expected fewer than "
            "2**31 voxels and 2**32 edges: decode the volume in blocks"
        ),
    ),
    (
        lambda: check.affinity_range(0.0, np.nan),
        (
            "affinities hold NaN values; expected 0 (apart) to 1 (together): apply the sigmoid to scores, scale "
            "others, and see where a network went wrong if there are NaN"
        ),
    ),
    (
        lambda: check.no_offsets(PATH),
        (
            "'cube.zarr' has no attribute 'offsets'; expected for each channel the steps z, y, x from a voxel to its "
            "partner, such as [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]: they are never guessed; write the attribute"
        ),
    ),
    (
        lambda: check.affinity_sign(PATH, 3),
        (
            "'cube.zarr' has the sign '3'; expected 'attractive' (high where voxels belong together) or 'repulsive': "
            "correct the attribute"
        ),
    ),
    (
        lambda: check.overlapping(0, case="a"),
        "prediction and reference of 'a' share no voxel; expected overlapping extents: correct their offsets",
    ),
    (
        lambda: check.some_reference(0, case="a"),
        (
            "reference of 'a' is ignored everywhere (0, or within the border tolerance); expected labelled voxels: "
            "give another reference, or a smaller tolerance"
        ),
    ),
    (
        lambda: check.instances("labels", "prediction of 'a'"),
        "prediction of 'a' was opened as labels; expected instances: open it with kind='instances'",
    ),
]


@pytest.mark.parametrize(("inspect", "message"), REFUSED, ids=range(len(REFUSED)))
def test_refused(inspect: Inspection, message: str) -> None:
    assert refusal(inspect) == message


def test_what_can_be_used_passes() -> None:
    check.decodable(2**31 - 1, 2**32 - 1)
    check.affinity_range(0, 1)
    check.overlapping(1, case="a")
    check.some_reference(1, case="a")
    check.same_axes(np.eye(3), case="a")
    check.same_lattice(np.array([1.0, -2.0, 1e-4]), case="a")
    check.instances("instances", "a")
