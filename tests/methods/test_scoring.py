"""What the prior adds to scores and rules out, and how voxels are weighed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from contracts.heads import VARIANTS, made
from limner.losses import RULED_OUT
from limner.methods.scoring import class_balanced, class_probability, per_scan
from limner.priors.prior import Parts

LOCATION = torch.tensor([[0.7, 0.2, 0.1], [0.02, 0.97, 0.01], [1 / 3, 1 / 3, 1 / 3]])
SCORES = torch.arange(9.0).reshape(3, 3)


def informed(**options: float) -> Tensor:
    return made(VARIANTS["supervised"], **options).informed(SCORES, LOCATION)


def test_without_options_scores_are_left_alone() -> None:
    assert torch.equal(informed(), SCORES)


def test_unlikely_classes_are_ruled_out() -> None:
    out = torch.tensor([[False, False, True], [True, False, True], [False, False, False]])
    assert torch.equal(informed(support=0.15), SCORES.masked_fill(out, RULED_OUT))


def test_the_likeliest_class_stays_whatever_the_support() -> None:
    found = informed(support=0.9) > RULED_OUT
    assert found.tolist() == [[True, False, False], [False, True, False], [True, True, True]]


@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_the_place_adds_its_log_probability(weight: float) -> None:
    torch.testing.assert_close(informed(location=weight), SCORES + weight * LOCATION.log())


def test_a_class_is_as_likely_as_its_parts_together() -> None:
    parts = torch.tensor([[0.5, 0.2, 0.1, 0.2], [0.0, 0.25, 0.25, 0.5]])
    of = Parts(torch.tensor([0, 2, 1, 2]), torch.tensor([0, 1, 1, 0]), ("background", "white"))
    expected = torch.tensor([[0.5, 0.1, 0.4], [0.0, 0.25, 0.75]])
    torch.testing.assert_close(class_probability(parts, of), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(class_probability(parts, of), expected)


def test_every_scan_weighs_the_same() -> None:
    mask = torch.tensor([[[True, True], [True, True]], [[False, True], [False, False]], [[False] * 2] * 2])
    torch.testing.assert_close(per_scan(mask), torch.tensor([1 / 12] * 4 + [1 / 3]))


def test_every_class_may_weigh_the_same() -> None:
    mask = torch.tensor([[[True, True], [True, True]], [[False, True], [False, False]], [[False] * 2] * 2])
    location = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.5, 0.5]])
    weights = class_balanced(location, mask)
    first = [(0.9 / 3 + 0.1 / 1) / 2 / 3] * 3 + [(0.3 / 3 + 0.7 / 1) / 2 / 3]
    torch.testing.assert_close(weights, torch.tensor([*first, 1 / 3]))
