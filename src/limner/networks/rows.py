"""The voxels of a mask as rows: what is known of a voxel side by side, and nothing of those that do not count."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def rows_within(maps: Tensor, mask: Tensor) -> Tensor:
    """Return (N, K), float32 at least: maps (B, K, *S) at the N voxels of a mask (B, *S)."""
    rows: Tensor = _Rows.apply(maps, mask)  # type: ignore[no-untyped-call]
    return rows.to(torch.promote_types(rows.dtype, torch.float32))


def spread(rows: Tensor, mask: Tensor) -> Tensor:
    """Return (B, K, *S) probabilities: rows (N, K) at the N voxels of a mask (B, *S), and background elsewhere.

    A voxel's classes lie side by side in memory.
    """
    dense: Tensor = _Spread.apply(rows, mask)  # type: ignore[no-untyped-call]
    return dense


class _Rows(torch.autograd.Function):
    """Rows of a mask. Each voxel is taken once, so that backward copies where indexing would have to add."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(mask)
        return taken(maps, mask)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return put(gradient, mask, background=0), None


class _Spread(torch.autograd.Function):
    """Rows put back where they were, and its gradient."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(mask)
        return put(rows, mask, background=1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return taken(gradient, mask), None


def taken(maps: Tensor, mask: Tensor) -> Tensor:
    """Return (N, K): maps (B, K, *S) at the voxels of a mask."""
    rows = maps.movedim(1, -1)
    return rows.reshape(-1, maps.shape[1]).index_select(0, mask.flatten().nonzero()[:, 0])


def put(rows: Tensor, mask: Tensor, *, background: float) -> Tensor:
    """Return (B, K, *S): rows (N, K) at the voxels of a mask (B, *S); elsewhere 0, and `background` in the first."""
    dense = rows.new_zeros(*mask.shape, rows.shape[1])
    dense[..., 0] = background
    dense.view(-1, rows.shape[1]).index_copy_(0, mask.flatten().nonzero()[:, 0], rows)
    return dense.movedim(-1, 1)
