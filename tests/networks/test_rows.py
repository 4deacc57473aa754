"""Rows of a mask, and back, against plain indexing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from limner.networks.rows import rows_within, spread

SHAPES = st.lists(st.integers(1, 5), min_size=2, max_size=3).map(tuple)
SEEDS = st.integers(0, 2**32 - 1)


def drawn(shape: tuple[int, ...], *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Maps (2, 3, *S) and a mask (2, *S) of about half."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, *shape, generator=generator), torch.rand(2, *shape, generator=generator) < 0.5


@given(SEEDS, SHAPES)
def test_rows_are_the_voxels_of_the_mask(seed: int, shape: tuple[int, ...]) -> None:
    maps, mask = drawn(shape, seed=seed)
    assert torch.equal(rows_within(maps, mask), maps.movedim(1, -1)[mask])


@given(SEEDS, SHAPES)
def test_rows_come_back_to_their_places(seed: int, shape: tuple[int, ...]) -> None:
    maps, mask = drawn(shape, seed=seed)
    dense = spread(rows_within(maps, mask), mask)
    background = torch.tensor([1.0, 0, 0]).reshape(1, 3, *[1] * len(shape))
    assert torch.equal(dense, torch.where(mask[:, None], maps, background))
    assert dense.movedim(1, -1).is_contiguous()


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 2)])
def test_gradients_are_finite_differences(shape: tuple[int, ...]) -> None:
    maps, mask = drawn(shape)
    assert gradcheck(lambda maps: rows_within(maps, mask), maps.double().requires_grad_())
    assert gradcheck(lambda rows: spread(rows, mask), maps.movedim(1, -1)[mask].double().requires_grad_())


def test_rows_are_float32_at_least() -> None:
    """What follows has to be precise, whatever the network computes in."""
    maps, mask = drawn((2, 2))
    given = (torch.bfloat16, torch.float32, torch.float64)
    found = [rows_within(maps.to(dtype), mask).dtype for dtype in given]
    assert found == [torch.float32, torch.float32, torch.float64]


def test_nothing_in_the_mask_is_no_rows() -> None:
    maps, mask = drawn((3, 3))
    none = torch.zeros_like(mask)
    rows = rows_within(maps, none)
    assert rows.shape == (0, 3)
    assert (spread(rows, none)[:, 0] == 1).all()
