from __future__ import annotations

from pathlib import Path

import pytest

from check.messages import Inspection, refusal
from limner import check

REFUSED = [
    (
        lambda: check.same_structures(["background", "lung", "rest"], ["background", "caudate", "rest"]),
        (
            "the prior lacks caudate and has lung; expected the model's structures background, caudate, rest: "
            "leave out --prior for the model's own, or give one with the same label table"
        ),
    ),
    (
        lambda: check.same_structures(["background"], ["background", "caudate"]),
        (
            "the prior lacks caudate; expected the model's structures background, caudate: "
            "leave out --prior for the model's own, or give one with the same label table"
        ),
    ),
    (
        lambda: check.same_structures(["background", "b", "a"], ["background", "a", "b"]),
        (
            "the prior has them in the order background, b, a; expected the model's structures background, a, b: "
            "leave out --prior for the model's own, or give one with the same label table"
        ),
    ),
    (
        lambda: check.model_channels(1, 2),
        (
            "the scan has 1 image but the model was trained on 2; expected as many, in the same order: "
            "give the first as the scan and the others with --channel"
        ),
    ),
    (
        lambda: check.model_dimensions((64, 64, 30), 2),
        (
            "the image has shape (64, 64, 30) but the model was trained on 2 axes; expected as many: "
            "give such an image, or a model for this one"
        ),
    ),
    (
        lambda: check.prior_of_another_world("anatomy"),
        (
            "a model of 'anatomy' knows shapes where its own prior has them but another prior was given; expected "
            "none: leave out --prior, or train a model with that prior"
        ),
    ),
    (
        lambda: check.draws_nothing("sae"),
        (
            "method 'sae' draws no samples; expected a model of anatomy for --samples: leave it out, or give such a "
            "--model"
        ),
    ),
    (
        lambda: check.labels_alone(Path("out.nii.gz"), "--posteriors"),
        "output 'out.nii.gz' is one file but --posteriors writes several; expected a folder: choose another -o",
    ),
    (
        lambda: check.run_metrics(Path("run/metrics.jsonl"), KeyError("step")),
        (
            "'run/metrics.jsonl' cannot be read (KeyError: 'step'); expected it as `limner train` wrote it: "
            "restore it, or train again"
        ),
    ),
]


@pytest.mark.parametrize(("inspect", "message"), REFUSED)
def test_what_is_refused(inspect: Inspection, message: str) -> None:
    assert refusal(inspect) == message


def test_what_fits_passes() -> None:
    check.same_structures(("background", "caudate"), ["background", "caudate"])
    check.model_channels(2, 2)
    check.model_dimensions((64, 64), 2)
