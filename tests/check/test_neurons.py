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
        lambda: check.affinity_sign(PATH, 3, known=("attractive", "repulsive")),
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
        lambda: check.overlapping(0, case="raw", names=("labels 'found'", "image")),
        "labels 'found' and image of 'raw' share no voxel; expected overlapping extents: correct their offsets",
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
    (
        lambda: check.offsets([(-1, 0), (-1, 0)], dimensions=2),
        (
            "method.options.offsets are [[-1, 0], [-1, 0]]; expected rows of 2 steps, not all 0 and none twice: "
            "correct them, or leave them out"
        ),
    ),
    (
        lambda: check.network_levels("pools", 1, wanted=2),
        ("network.pools has 1 entries; expected 2, for the levels that features has: change one of both"),
    ),
    (
        lambda: check.edge_per_axis((1, 2), 3),
        (
            "a pool or kernel of the network is [1, 2]; expected 3 numbers, one for each axis of the images, or a "
            "single one for all: correct network.pools or network.kernels"
        ),
    ),
    (
        lambda: check.odd_kernel((1, 2)),
        "network.kernels has [1, 2]; expected odd edges: add or take away one",
    ),
    (
        lambda: check.no_instances("sae"),
        (
            "the model is of method 'sae', which labels structures; expected one that tells objects apart, such as "
            "'affinity': give such a model"
        ),
    ),
    (
        lambda: check.only_classes("--prior", "affinity"),
        (
            "--prior means nothing to a model of method 'affinity', which tells objects apart; expected no options of "
            "brains: leave it out"
        ),
    ),
    (
        lambda: check.only_instances("--plain"),
        "--plain is for models that tell objects apart; expected --model with one: leave it out",
    ),
    (
        lambda: check.solid_or_flat((8, 8), 3),
        (
            "the volume has shape (8, 8) but the model looks at 3 axes; expected as many: give a stack of sections, or "
            "a model of two dimensions"
        ),
    ),
    (
        lambda: check.some_trial(0, kinds=["mutex"]),
        (
            "no decoder of the kind mutex can be tried, because the model has affinities of direct neighbours only; "
            "expected some that repel: leave --decoder out, or choose another"
        ),
    ),
    (
        lambda: check.volume_fits(4e9, 2e9),
        (
            "the volume takes about 4 GB at once but 2 GB are allowed; expected less: convert it to .zarr, which can "
            "go block by block, or cut it into pieces"
        ),
    ),
    (
        lambda: check.stack((8, 8), kind="image"),
        (
            "--align-sections was given image of shape (8, 8); expected an image of two sections or more, along its "
            "first axis: give the image of a stack"
        ),
    ),
]


@pytest.mark.parametrize(("inspect", "message"), REFUSED, ids=range(len(REFUSED)))
def test_refused(inspect: Inspection, message: str) -> None:
    assert refusal(inspect) == message


def test_what_can_be_used_passes() -> None:
    check.decodable(2**31 - 1, 2**32 - 1)
    check.offsets([(-1, 0), (0, -3)], dimensions=2)
    check.edge_per_axis((1, 2, 2), 3)
    check.odd_kernel((1, 3, 3))
    check.solid_or_flat((8, 8, 8), 2)
    check.volume_fits(1, 1)
    check.some_trial(1, kinds=["mean"])
    check.stack((2, 8, 8), kind="image")
    check.affinity_range(0, 1)
    check.overlapping(1, case="a")
    check.some_reference(1, case="a")
    check.same_axes(np.eye(3), case="a")
    check.same_lattice(np.array([1.0, -2.0, 1e-4]), case="a")
    check.instances("instances", "a")
