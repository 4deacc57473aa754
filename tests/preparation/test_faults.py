"""Bad sections are found among sound ones, and sound ones are left alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from limner.data.defects import blurred, darkened, missing, noisy, unfocused
from limner.files import open_volume
from limner.preparation.faults import SIDE, faults, measured, middle
from limner.preparation.sections import shifted


def stack(sections: int = 30, size: int = 96) -> NDArray[np.float32]:
    """Sections whose texture goes on from one to the next, with noise of its own in each."""
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.normal(size=(sections, size, size)), (4, 2, 2))
    return (smooth / smooth.std() + 0.3 * rng.normal(size=smooth.shape)).astype(np.float32)


def told(sections: NDArray[np.float32]) -> list[tuple[int, str]]:
    return [(one.section, one.kind) for one in faults(measured(sections))]


def test_sound_sections_are_left_alone() -> None:
    assert told(stack()) == []


@pytest.mark.parametrize(
    ("kind", "section"),
    [
        ("blurred", lambda one: ndimage.gaussian_filter(one, 2)),
        ("noisy", lambda one: one + np.random.default_rng(1).normal(0, 1.5, one.shape).astype(np.float32)),
        ("dark", lambda one: one - 1.5),
        ("bright", lambda one: one + 1.5),
        ("missing", lambda one: np.full_like(one, -2)),
        ("misaligned", lambda one: shifted(one, np.array([5, -4]))),
    ],
)
def test_each_fault_is_called_by_its_name(
    kind: str, section: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> None:
    sections = stack()
    sections[12] = section(sections[12])
    assert told(sections) == [(12, kind)]


def test_a_part_of_a_section_is_enough() -> None:
    sections = stack()
    sections[12, :24, :24] -= 2
    (one,) = faults(measured(sections))
    assert (one.kind, one.section) == ("dark", 12)
    assert one.reason.endswith("in 1 of 16 parts")


@pytest.mark.parametrize(("last", "how"), [(13, "alone"), (30, "with all that follow")])
def test_a_move_is_told_with_its_figures(last: int, how: str) -> None:
    sections = stack()
    for section in range(12, last):
        sections[section] = shifted(sections[section], np.array([5, -4]))
    (one,) = faults(measured(sections))
    found = re.fullmatch(rf"moved by (-?\d+) (-?\d+) voxels along y x, {how}", one.reason)
    assert found, one
    np.testing.assert_allclose([int(step) for step in found.groups()], [5, -4], atol=1)


def test_the_unit_and_the_origin_of_intensities_do_not_matter() -> None:
    sections = stack()
    sections[12] -= 1.5
    sections[20] = ndimage.gaussian_filter(sections[20], 2)
    assert told(sections) == told(1000 * sections + 5000) == [(12, "dark"), (20, "blurred")]


def test_a_run_of_bad_sections_is_judged_by_what_lies_around_it() -> None:
    sections = stack()
    sections[10:13] = ndimage.gaussian_filter(sections[10:13], (0, 2, 2))
    assert told(sections) == [(10, "blurred"), (11, "blurred"), (12, "blurred")]


@pytest.mark.parametrize("shape", [(1, 40, 40), (2, 40, 40), (6, 8, 300), (5, 1, 1)])
def test_any_size_is_measured(shape: tuple[int, ...]) -> None:
    data = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    assert len(measured(data)) == len(data)
    assert isinstance(faults(measured(data)), tuple)


def test_nothing_but_one_value_everywhere_is_no_fault() -> None:
    assert told(np.zeros((8, 40, 40), np.float32)) == []


def test_what_surrounds_a_padded_stack_says_nothing() -> None:
    padded = np.zeros((30, 200, 200), np.float32)
    padded[:, :96, :96] = stack()
    assert told(padded) == []
    padded[12, :96, :96] -= 2
    assert told(padded) == [(12, "dark")]


def test_the_middle_of_large_sections_is_looked_at() -> None:
    assert middle(SIDE + 100) == slice(50, SIDE + 50)
    assert middle(7) == slice(0, 7)


@pytest.mark.real
def test_most_made_defects_of_real_sections_are_found(real_data: Path) -> None:
    """As `benchmarks/sections.py` measures it, but once and on half of the volume."""
    data = open_volume(real_data / "em_neurons/unlabelled.hdf").data[:120].astype(np.float32)
    data = (data - data.mean()) / data.std()
    assert told(data) == []
    chosen, found = list(range(4, 119, 9)), 0
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for way in (blurred, unfocused, darkened, noisy, missing):
            bad = torch.from_numpy(data.copy())
            bad[chosen] = way(bad[chosen][:, None])[:, 0]
            sections = {section for section, _ in told(bad.numpy())}
            assert sections <= set(chosen)
            found += len(sections)
    assert found > 0.95 * 5 * len(chosen)
