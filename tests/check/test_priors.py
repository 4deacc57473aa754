from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from check.messages import Inspection, refusal
from limner import check

PRIOR = Path("priors/head")

REFUSED = [
    (
        lambda: check.window_size(4),
        "neighbour window has size 4; expected an odd number of voxels from 3 to 21: 3 is the usual one",
    ),
    (
        lambda: check.pair_counts(np.ones((2, 3)), 1),
        (
            "neighbour counts have shape (2, 3); expected one row and one column per class: "
            "count them again from label maps"
        ),
    ),
    (
        lambda: check.pair_counts(np.array([[1.0, -2.0], [3.0, 4.0]]), 1),
        "neighbour counts range from -2 to 4; expected finite ones from 0: count them again from label maps",
    ),
    (
        lambda: check.pair_counts(np.ones((2, 2)), 0),
        "pseudo_windows is 0; expected a finite number above 0: 1 suits most tables",
    ),
    (
        lambda: check.class_indices(np.zeros((2, 2)), 14),
        (
            "labels have type float64; expected integers, the indices of 14 classes: "
            "turn label ids into class indices with the label table"
        ),
    ),
    (
        lambda: check.class_indices(np.array([[0, 17]]), 14),
        (
            "labels range from 0 to 17; expected class indices from 0 to 13: "
            "turn label ids into class indices with the label table"
        ),
    ),
    (
        lambda: check.class_count(13, 14, name="q"),
        (
            "'q' has 13 classes on its second axis but the neighbour table has 14; "
            "use the prior's own classes, in its order"
        ),
    ),
    (
        lambda: check.labelled(0, "map-03"),
        "label map 'map-03' labels no voxel; expected at least one structure: leave the map out",
    ),
    (
        lambda: check.structures_missing(["pallidum", "amygdala"], 16),
        (
            "no voxel of pallidum, amygdala in any of 16 label maps; expected every structure of the table in at least "
            "one: add a map that has it, or give a table without it by --labels"
        ),
    ),
    (
        lambda: check.alignable(0, ["map-01", "map-02", "map-03"], smallest=50),
        (
            "label maps 'map-01' to 'map-03' share no label of 50 voxels or more; expected at least one to align them "
            "by: leave out the maps that lack most structures"
        ),
    ),
    (
        lambda: check.prior_needed("mixture"),
        "method 'mixture' got no prior; expected one: pass a placed prior, or --prior on the command line",
    ),
    (
        lambda: check.mask_not_empty(0),
        "the mask is empty; expected at least one voxel of the brain: check the mask or the image",
    ),
    (
        lambda: check.prior_missing(PRIOR),
        "prior 'priors/head' does not exist; expected a folder made by `limner atlas`: check --prior",
    ),
    (
        lambda: check.prior_missing(Path(__file__)),
        f"prior '{__file__}' is a file; expected a folder made by `limner atlas`: check --prior",
    ),
    (
        lambda: check.prior_missing(Path(__file__).parent),
        (f"prior '{Path(__file__).parent}' has no prior.json; expected a folder made by `limner atlas`: check --prior"),
    ),
    (
        lambda: check.prior_occupied(PRIOR),
        "'priors/head' exists and is no prior; expected a new path or a prior to replace: choose another -o",
    ),
    (
        lambda: check.prior_damaged(PRIOR, "cut\n  short"),
        ("prior 'priors/head' is damaged (cut short); expected the files as `limner atlas` wrote them: build it again"),
    ),
    (
        lambda: check.lattice_divides((48, 42), 8),
        (
            "the shape model's lattice has 42 voxels along an axis but its networks divide it by 8; "
            "expected a multiple of 8: change method.options.shape.shape, or give fewer features"
        ),
    ),
    (
        lambda: check.prior_damaged(PRIOR, EOFError()),
        "prior 'priors/head' is damaged (EOFError); expected the files as `limner atlas` wrote them: build it again",
    ),
    (
        lambda: check.prior_version(PRIOR, "limner prior 9", expected="limner prior 1"),
        (
            "prior 'priors/head' is of format 'limner prior 9' but this limner reads 'limner prior 1': "
            "build it again with `limner atlas`"
        ),
    ),
]


@pytest.mark.parametrize(("inspect", "message"), REFUSED)
def test_what_is_refused(inspect: Inspection, message: str) -> None:
    assert refusal(inspect) == message


def test_sound_priors_pass() -> None:
    check.window_size(21)
    check.pair_counts(np.zeros((2, 2)), 0.5)
    check.class_indices(np.array([[0, 13]]), 14)
    check.class_count(14, 14, name="q")
    check.lattice_divides((48, 40), 8)
    check.labelled(1, "map-03")
    check.structures_missing([], 16)
    check.alignable(1, ["map-01", "map-02"], smallest=50)
    check.mask_not_empty(1)
    check.prior_version(PRIOR, "limner prior 1", expected="limner prior 1")
