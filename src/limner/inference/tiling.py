"""A prediction put together from those of boxes that overlap: sum of window times patch, over the sum of windows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from limner.space import Box

#: How a box's voxels count: those of its tile alone, all that it reads alike, or the less the farther from the middle.
Window: TypeAlias = Literal["crop", "box", "gaussian"]
#: Standard deviations of the Gaussian window in the width of what a box reads.
DEVIATIONS = 8


def tiled(
    predict: Callable[[Box], Tensor], shape: Sequence[int], *, tile: int, context: int, window: Window = "gaussian"
) -> Tensor:
    """Return the blended predictions of boxes, (K, *S).

    With the window "crop", and a context as wide as the receptive field, that is the prediction of the whole.

    Args:
        predict: returns (K, *box) for a box inside the image.
        shape: of the image, S.
        tile: voxels along each axis that are a box's own; the tiles fill the image without overlap.
        context: voxels that a box reads beyond its tile on each side, as far as the image goes.
        window: how a box's voxels count.
    """
    axes = [_spans(size, tile, context=context, window=window) for size in shape]
    total = None
    for spans in itertools.product(*axes):
        box = Box(tuple(span.start for span in spans), tuple(span.stop for span in spans))
        patch = predict(box)
        total = patch.new_zeros(len(patch), *shape) if total is None else total
        total[:, *box.slices] += patch * _product([span.share for span in spans]).to(patch)
    return torch.empty(0, *shape) if total is None else total


@dataclass(frozen=True, eq=False)
class _Span:
    """One axis of a box: it reads from `start` to `stop`, and (stop - start,) is its share in each voxel there.

    Boxes fill a lattice and windows are products over the axes, so the windows' sum is one too: each axis is divided
    by its own.
    """

    start: int
    stop: int
    share: Tensor


def _spans(size: int, tile: int, *, context: int, window: Window) -> list[_Span]:
    """Return the spans along an axis of `size` voxels; their shares in a voxel sum to 1."""
    starts = torch.arange(0, size, tile, dtype=torch.float64)[:, None]
    distance = (torch.arange(size) - (starts + (tile - 1) / 2)).abs()
    reach = tile / 2 + context
    weights = (distance < (tile / 2 if window == "crop" else reach)).double()
    if window == "gaussian":
        weights *= torch.exp(-0.5 * (distance / reach * DEVIATIONS / 2) ** 2)
    shares = (weights / weights.sum(0)).float()
    reads = [(max(0, start - context), min(size, start + tile + context)) for start in range(0, size, tile)]
    return [_Span(*read, share[slice(*read)]) for read, share in zip(reads, shares, strict=True)]


def _product(shares: Sequence[Tensor]) -> Tensor:
    """Return the outer product of vectors."""
    product = shares[0]
    for share in shares[1:]:
        product = product[..., None] * share
    return product
