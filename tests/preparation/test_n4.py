"""N4: a made gain is taken out, and what is no scan is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import phantoms
from limner.check import InputError
from limner.preparation.n4 import evened
from limner.space import Array, Grid, Volume

GRID = phantoms.grid(2.0, half=(60, 58, 56))
LABELS = phantoms.labels(GRID).data


def gain() -> Array:
    """A gain that varies by some 30 % over the head."""
    places = GRID.world(np.moveaxis(np.indices(GRID.shape), 0, -1)) / 60
    return np.exp(0.3 * places[..., 0] - 0.2 * places[..., 1] * places[..., 2])


def brain(*, empty: float = 0) -> Volume:
    """A stripped scan with that gain, its background of one value."""
    data = np.where(LABELS > 0, np.maximum(phantoms.image(Volume(LABELS, GRID, "labels")) * gain(), 1), empty)
    return Volume(data.astype(np.float32), GRID, "image")


def left(volume: Volume) -> float:
    """Sd of white matter over its mean: what is left of the gain, and the noise."""
    white = volume.data[np.isin(LABELS, (2, 41))]
    return float(white.std() / white.mean())


@pytest.mark.parametrize("empty", [0, 3])
def test_a_gain_is_taken_out(empty: float) -> None:
    before, after = brain(empty=empty), evened(brain(empty=empty))
    assert left(before) > 0.1
    assert left(after) < 0.6 * left(before)
    assert after.data.mean() == pytest.approx(before.data.mean(), rel=0.1)
    assert (after.data[LABELS == 0] == empty).all()
    assert after.grid is before.grid


def test_a_mask_says_where_to_look() -> None:
    mask = Volume((LABELS > 0).astype(np.uint8), GRID, "labels")
    assert left(evened(brain(), mask)) < 0.6 * left(brain())
    with pytest.raises(InputError, match="mask of 'the scan' has shape"):
        evened(brain(), Volume(mask.data[1:], replace(GRID, shape=mask.data[1:].shape), "labels"))


def test_what_has_no_gain_is_refused() -> None:
    with pytest.raises(InputError, match="the mask is empty"):
        evened(replace(brain(), data=-1 - brain().data))
    with pytest.raises(InputError, match="expected three axes"):
        evened(Volume(np.ones((8, 8), np.float32), Grid((8, 8), np.eye(3)), "image"))
