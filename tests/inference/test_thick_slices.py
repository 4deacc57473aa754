"""Slices three times as thick as their pixels are wide: labelled where they lie, and believed."""

from __future__ import annotations

import numpy as np
import pytest

import phantoms
from limner.inference import segment_volume
from limner.space import Array, Box, Grid, Volume

#: Slices that are one together.
THICK = 3


def thick(data: Array, on: Grid) -> tuple[Array, Grid]:
    """Blocks of slices (X, Y, Z', 3), and the grid of what they become."""
    depth = on.shape[2] // THICK
    grid = on.cropped(Box((0, 0, 1), (*on.shape[:2], on.shape[2])))  # the middle slice of the first block
    return data[:, :, : depth * THICK].reshape(*data.shape[:2], depth, THICK), Grid(
        (*on.shape[:2], depth), grid.affine @ np.diag([1, 1, THICK, 1])
    )


def test_thick_slices_are_labelled_on_their_own_grid() -> None:
    on = phantoms.grid(2.0, half=(56, 54, 54))
    truth = phantoms.labels(on, phantoms.turned((4, -3, 5), (2, 2, 2)))
    image, grid = thick(np.where(truth.data > 0, np.maximum(phantoms.image(truth), 1), 0), on)
    inside = (image > 0).mean(-1) >= 0.5
    shown = np.where(inside, image.sum(-1) / np.maximum((image > 0).sum(-1), 1), 0)
    with phantoms.hurried(inside=15_000):
        found = segment_volume(
            Volume(shown.astype(np.float32), grid, "image"), prior=phantoms.atlas(phantoms.grid(2.0))
        )
    assert found.labels.grid is grid
    middle = thick(truth.data, on)[0][..., 1]
    scores = [phantoms.dice(found.labels.data == one, middle == one) for one in phantoms.IDS]
    assert np.mean(scores) > 0.9
    assert found.quality.verdict == "pass", found.quality.reason
    assert not found.labels.data[~inside].any()
    assert found.intervals[2][0] == pytest.approx(np.count_nonzero(found.labels.data == 2) * 24, rel=0.3)
