from __future__ import annotations

from pathlib import Path

import pytest

from check.messages import Inspection, refusal
from limner import check

REFUSED = [
    (
        lambda: check.voxels_alike(Path("a.zarr"), [40, 4, 4], expected=[10, 10, 10], farthest=1.5),
        (
            "voxels of 'a.zarr' are 40 x 4 x 4 nm but the model learned from 10 x 10 x 10 nm; expected at most 1.5 "
            "times as large or as small: resample it, as `limner convert --like` does, or correct its resolution"
        ),
    ),
    (
        lambda: check.look_unknown(Path("model")),
        (
            "model 'model' does not say what the volumes that it learned from look like; expected it to, as those "
            "that are trained now: give a volume of their kind with --like"
        ),
    ),
    (
        lambda: check.curve([0, 1, 1], [0, 1, 2]),
        (
            "tones have 3 intensities given and 3 wanted; expected as many of both, and those given ascending: leave "
            "them out, or take them from a model that `limner adapt` made"
        ),
    ),
    (
        lambda: check.one_volume(2),
        (
            "2 volumes were given; expected one, since intensities of different volumes are matched by different "
            "curves: adapt to each by itself, or join them first"
        ),
    ),
    (
        lambda: check.only_volumes(["--like"]),
        "--like is for models that tell objects apart; expected such a MODEL: leave it out",
    ),
    (
        lambda: check.sections_table(Path("a_sections.csv"), KeyError("level")),
        (
            "'a_sections.csv' cannot be read (KeyError: 'level'); expected the table of sections that `limner "
            "segment` wrote: restore it, or segment again"
        ),
    ),
]


@pytest.mark.parametrize(("inspect", "message"), REFUSED, ids=range(len(REFUSED)))
def test_refused(inspect: Inspection, message: str) -> None:
    assert refusal(inspect) == message


def test_what_can_be_used_passes() -> None:
    check.voxels_alike(Path("a.zarr"), [12.5, 8, 10], expected=[10, 10, 10], farthest=1.5)
    check.voxels_alike(Path("a.tif"), [1e6, 1e6, 1e6], expected=[10, 10, 10], farthest=1.5)  # nobody said
    check.curve([0, 1], [5, 5])
    check.one_volume(1)
    check.only_volumes([])


def test_bad_sections_are_named_and_the_rest_counted() -> None:
    told = [f"{number} (dark: darker by 2.0)" for number in range(7)]
    assert str(check.faulty_sections("a.zarr", told, sections=90)) == (
        "sections of 'a.zarr', of which there are 90, are unlike their neighbours: 0 (dark: darker by 2.0); 1 (dark: "
        "darker by 2.0); 2 (dark: darker by 2.0); 3 (dark: darker by 2.0); 4 (dark: darker by 2.0); and 2 more: "
        "segments will be wrong there; look at them, and mend or replace them"
    )
