"""Messages about what images show, and about tasks and studies: those that no other test meets."""

from __future__ import annotations

from pathlib import Path

import pytest

from limner import check
from limner.check import InputError


def test_absences() -> None:
    check.absences((1, 1), "translation", others=["supervised"])
    with pytest.raises(InputError, match="4 are marked with it and 0 without; .*take one of supervised, mean_teacher"):
        check.absences((4, 0), "translation", others=["supervised", "mean_teacher"])


def test_targets_agree() -> None:
    check.targets_agree(0, ["a", "b"])
    check.targets_agree(2, ["a", "b"])
    with pytest.raises(InputError, match="present has 1 targets but the label table has the structures a, b"):
        check.targets_agree(1, ["a", "b"])


def test_unique_fits() -> None:
    check.unique_fits(2, 8)
    with pytest.raises(InputError, match="a quarter of the code's 8 channels is shared by 3 targets"):
        check.unique_fits(3, 8)


def test_size_within() -> None:
    check.size_within(24, (32, 64))
    with pytest.raises(InputError, match="slices of 32 x 64 pixels cannot become 48 x 48; expected at most 32"):
        check.size_within(48, (32, 64))


def test_labelled_fit() -> None:
    check.labelled_fit("all", 4, batch=4)
    with pytest.raises(InputError, match="stage 'all' wants 5 scans with labels in a batch of 4"):
        check.labelled_fit("all", 5, batch=4)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (check.without_sklearn(), "scikit-learn is not installed; expected it: run `pip install scikit-learn`"),
        (check.variation_alone("brain"), "data.variation is given with the prior 'brain'; expected one of the two"),
        (check.learns_unsupervised("translation"), "'translation' learns to translate alone"),
        (check.no_study(Path("a")), "'a' exists and is no study; expected a new folder"),
    ],
)
def test_words(found: Exception, words: str) -> None:
    assert words in str(found)
