"""What a step sees follows from seed and step alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.data.sampling import case_at, common_shape, crop_at, positions


@given(step=st.integers(0, 50), batch=st.integers(1, 4), ranks=st.integers(1, 3))
def test_processes_share_what_one_would_take(step: int, batch: int, ranks: int) -> None:
    shared = [place for rank in range(ranks) for place in positions(step, batch=batch, rank=rank, ranks=ranks)]
    assert shared == list(positions(step, batch=batch * ranks))
    assert positions(step + 1, batch=batch).start == positions(step, batch=batch).stop


@given(cases=st.integers(1, 7), seed=st.integers(0, 99))
def test_every_epoch_shows_every_case_once(cases: int, seed: int) -> None:
    for epoch in range(3):
        shown = [case_at(epoch * cases + place, cases=cases, seed=seed) for place in range(cases)]
        assert sorted(shown) == list(range(cases))


def test_epochs_and_seeds_differ() -> None:
    rows = {
        tuple(case_at(epoch * 9 + place, cases=9, seed=seed) for place in range(9))
        for epoch in (0, 1)
        for seed in (0, 1)
    }
    assert len(rows) == 4


@given(
    shape=st.lists(st.integers(1, 9), min_size=2, max_size=3),
    crop=st.integers(1, 12),
    position=st.integers(0, 1000),
    seed=st.integers(0, 9),
)
def test_crops_lie_inside_and_show_the_mask(shape: list[int], crop: int, position: int, seed: int) -> None:
    mask = np.zeros(shape, bool)
    mask[tuple(np.random.default_rng(seed).integers(shape))] = True
    box = crop_at(position, mask, crop=[crop] * len(shape), seed=seed)
    assert box.shape == tuple(np.minimum(shape, crop))
    assert box.clipped(shape) == box
    assert mask[box.slices].any()
    assert box == crop_at(position, mask, crop=[crop] * len(shape), seed=seed)


def test_crops_reach_everywhere() -> None:
    mask = np.ones((8, 6), bool)
    boxes = {crop_at(position, mask, crop=(3, 4), seed=0) for position in range(400)}
    assert len(boxes) == 6 * 3


@pytest.mark.parametrize(("stride", "shape"), [(1, (5, 9, 4)), (4, (8, 12, 4)), (16, (16, 16, 16))])
def test_shapes_are_shared_and_divide_by_the_stride(stride: int, shape: tuple[int, ...]) -> None:
    assert common_shape([(5, 2, 4), (3, 9, 1)], stride) == shape
