"""The verdict: good scans pass, spoiled ones do not, and the reason says why."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import phantoms
from limner.data.scan import prepared
from limner.inference.quality import RANGES, Quality, quality
from limner.methods.placement import place_scan
from limner.priors.atlas import Atlas
from limner.space import Array, Volume

GOOD = Quality(0.5, 0.3, 1.05, 0.9, 1.1, 10.0, 0.01, 0.6, 2.0)
#: A turn by 60 degrees about the first axis.
ASLANT = np.array([[1, 0, 0, 0], [0, 0.5, -(0.75**0.5), 0], [0, 0.75**0.5, 0.5, 0], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def atlas() -> Atlas:
    return phantoms.atlas(phantoms.grid(2.0))


def measured(data: Array, atlas: Atlas) -> Quality:
    """The measures of a stripped scan of the made head."""
    grid = phantoms.grid(2.0, half=(56, 54, 54))
    scan = prepared(Volume(data.astype(np.float32), grid, "image"))
    rng = np.random.default_rng(0)
    return quality(scan, place_scan(scan.image, scan.mask, grid=scan.grid, atlas=atlas, rng=rng), atlas=atlas)


def brain() -> Array:
    truth = phantoms.labels(phantoms.grid(2.0, half=(56, 54, 54)))
    return np.where(truth.data > 0, np.maximum(phantoms.image(truth), 1), 0)


def test_a_good_scan_passes(atlas: Atlas) -> None:
    found = measured(brain(), atlas)
    assert (found.verdict, found.reason) == ("pass", "")
    assert found.filled == pytest.approx(1, abs=0.1)
    assert found.smallest_scale == pytest.approx(1, abs=0.05)
    assert found.largest_scale == pytest.approx(1, abs=0.05)
    assert (found.smallest_jacobian, found.largest_jacobian) == (1, 1)


def test_noise_fails_because_the_prior_tells_nothing_of_it(atlas: Atlas) -> None:
    noise = np.abs(np.random.default_rng(0).normal(80, 20, brain().shape)) + 1
    found = measured(np.where(brain() > 0, noise, 0), atlas)
    assert found.verdict == "fail"
    assert "tells next to nothing" in found.reason
    assert found.told_nats < 0.05


def test_a_blurred_scan_is_not_sharp(atlas: Atlas) -> None:
    from scipy.ndimage import gaussian_filter

    data = brain()
    blurred = np.where(data > 0, np.maximum(gaussian_filter(data, 3), 1), 0)
    assert measured(blurred, atlas).sharpness < 0.5 * measured(data, atlas).sharpness


def test_a_scan_that_is_cut_off_is_told(atlas: Atlas) -> None:
    """What was brighter than grey matter, white matter above all, has one value."""
    found = measured(np.minimum(brain(), 85), atlas)
    assert (found.verdict, "as if it were cut off there" in found.reason) == ("fail", True)
    assert found.saturated > 0.2


@pytest.mark.parametrize(("change", "degrees"), [(np.diag([1, 1, -1, 1]), 180), (ASLANT, 60)], ids=["mirror", "aslant"])
def test_a_scan_that_lies_far_from_how_its_header_says_is_told(atlas: Atlas, change: Array, degrees: float) -> None:
    scan = prepared(Volume(brain().astype(np.float32), phantoms.grid(2.0, half=(56, 54, 54)), "image"))
    placement = place_scan(scan.image, scan.mask, grid=scan.grid, atlas=atlas, rng=np.random.default_rng(0))
    found = quality(scan, replace(placement, transform=placement.transform @ change), atlas=atlas)
    assert found.turned_degrees == pytest.approx(degrees, abs=5)
    assert "far from how its header says" in found.reason
    assert found.verdict != "pass"


@pytest.mark.parametrize("kept", [slice(27, None), slice(22, 32)], ids=["half a head", "ten slices"])
def test_a_part_of_a_head_is_told(atlas: Atlas, kept: slice) -> None:
    data = np.zeros_like(brain())
    data[:, :, kept] = brain()[:, :, kept]
    found = measured(data, atlas)
    assert found.verdict == "fail"
    assert found.filled < 0.8 or found.smallest_scale < 0.7


@pytest.mark.parametrize("name", RANGES)
def test_every_measure_can_be_odd(name: str) -> None:
    one = RANGES[name]
    for index, outside in ((0, -1), (1, 1)):
        usual, possible = one.usual[index], one.possible[index]
        if not np.isfinite(usual) or usual == possible:
            continue
        between, beyond = (
            replace(GOOD, **{name: value}) for value in ((usual + possible) / 2, possible + outside * 1e-3)
        )
        assert (between.verdict, beyond.verdict) == ("look", "fail")
        assert name.replace("_", " ") in between.reason
        assert f"{usual:g}" in between.reason


def test_what_is_no_number_fails() -> None:
    assert GOOD.verdict == "pass"
    assert replace(GOOD, told_nats=float("nan")).verdict == "fail"
