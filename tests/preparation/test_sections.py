from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

import tiny
from limner.check import InputError
from limner.files import open_volume, save_volume
from limner.preparation.sections import aligned, compared, shifted
from limner.space import Grid, Volume

RNG = np.random.default_rng(0)


def tissue(sections: int = 24, size: int = 96) -> NDArray[np.float32]:
    """A volume whose texture goes on from section to section, with noise of its own in each."""
    smooth = ndimage.gaussian_filter(RNG.normal(size=(sections, size, size)), (4, 2, 2))
    return (smooth / smooth.std() + 0.3 * RNG.normal(size=smooth.shape)).astype(np.float32)


def volume(data: NDArray[np.float32]) -> Volume:
    return Volume(data, Grid(data.shape, np.diag([4e-5, 4e-6, 4e-6, 1])), "image")


def test_a_shift_is_found_and_how_sure_it_is() -> None:
    section = tissue(1)[0]
    shift, sure = compared(section, shifted(section, np.array([-5, 3])), farthest=8)
    np.testing.assert_array_equal(shift, [5, -3])
    assert sure > 0.9
    assert compared(section, RNG.normal(size=section.shape).astype(np.float32), farthest=8)[1] == 0
    assert compared(section, np.zeros_like(section), farthest=8)[1] == 0


def test_sections_that_jumped_come_back() -> None:
    truth = tissue()
    jumps = RNG.integers(-6, 7, (len(truth), 2))
    torn = np.stack([shifted(section, jump) for section, jump in zip(truth, jumps, strict=True)])
    found, told = aligned(volume(torn), farthest=16)
    together = told.shifts + jumps
    assert np.abs(together - np.rint(np.median(together, 0))).max() <= 1
    assert told.after.min() > 0.5 > told.before.mean()
    assert found.grid.matches(volume(torn).grid)


def test_a_lost_section_parts_nobody() -> None:
    truth = tissue()
    truth[10] = 0
    torn = truth.copy()
    for number in range(10, len(torn)):
        torn[number] = shifted(truth[number], np.array([4, -7]))
    _, told = aligned(volume(torn), farthest=16)
    jump = told.shifts[11:].mean(0) - told.shifts[:10].mean(0)
    np.testing.assert_allclose(jump, [-4, 7], atol=1)


def test_a_slow_slant_is_not_set_upright() -> None:
    """Over many sections objects may run anywhere: drift is what the pull is against."""
    truth = tissue(60)
    slanted = np.stack([shifted(section, np.array([number // 2, 0])) for number, section in enumerate(truth)])
    strong, weak = (aligned(volume(slanted), drift=drift)[1].shifts[:, 0] for drift in (2, 1000))
    assert np.ptp(strong) < 15
    assert np.ptp(weak) > 25


@pytest.mark.parametrize("data", [np.zeros((1, 8, 8), np.float32), np.zeros((8, 8), np.float32)])
def test_what_has_no_sections(data: NDArray[np.float32]) -> None:
    image = Volume(data, Grid(data.shape, np.eye(data.ndim + 1)), "image")
    with pytest.raises(InputError, match="expected an image of two sections or more"):
        aligned(image)


def test_the_command_writes_the_stack_and_tells_every_section(tmp_path: Path) -> None:
    truth = tissue(6)
    torn = np.stack([shifted(section, np.array([0, 5 * (number == 3)])) for number, section in enumerate(truth)])
    save_volume(volume(torn), tmp_path / "torn.tif")
    done = tiny.limner("convert", "torn.tif", "whole.tif", "--align-sections", at=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if line.strip()[:1].isdigit()]
    moved = np.array([int(line[2]) for line in lines])
    np.testing.assert_allclose(moved - np.median(moved), [0, 0, 0, -5, 0], atol=1)
    found = open_volume(tmp_path / "whole.tif")
    assert found.grid.matches(volume(torn).grid)
    assert not np.array_equal(found.data, torn)
