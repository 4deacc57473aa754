"""Affinities of a piece seen mirrored and turned, brought back and averaged.

Source: test-time augmentation as in Lee et al. 2017 (arXiv 1706.00120), who average over flips and exchanged axes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from limner.instances import ends
from limner.space import Offsets

Predict = Callable[[Tensor], Tensor]


class View(NamedTuple):
    """One way to look at a piece.

    Args:
        axes: (D,) which axis of the piece each axis of the view is.
        flips: axes of the view that run the other way.
    """

    axes: tuple[int, ...]
    flips: tuple[int, ...]

    def seen(self, values: Tensor) -> Tensor:
        """Return maps (B, C, *S) as they are in this view."""
        return values.permute(0, 1, *(2 + axis for axis in self.axes)).flip([2 + axis for axis in self.flips])

    def back(self, values: Tensor) -> Tensor:
        """Return maps of the view as they are in the piece."""
        places = sorted(range(len(self.axes)), key=self.axes.__getitem__)
        return values.flip([2 + axis for axis in self.flips]).permute(0, 1, *(2 + place for place in places))

    def offset(self, offset: Sequence[int]) -> tuple[int, ...]:
        """Return the offset (D,) in the piece that one of the view is."""
        found = [0] * len(self.axes)
        for place, (axis, step) in enumerate(zip(self.axes, offset, strict=True)):
            found[axis] = -step if place in self.flips else step
        return tuple(found)


def views(dimensions: int, *, exchanged: Sequence[Sequence[int]] = ()) -> Iterator[View]:
    """Yield all ways to look at a piece: the axes of each group in any order, and every axis either way round.

    The first is the piece as it is.
    """
    orders = [list(range(dimensions))]
    for group in exchanged:
        orders = [_ordered(order, group, chosen=chosen) for order in orders for chosen in itertools.permutations(group)]
    for axes in orders:
        for coins in itertools.product((False, True), repeat=dimensions):
            yield View(tuple(axes), tuple(axis for axis, coin in enumerate(coins) if coin))


def _ordered(axes: Sequence[int], group: Sequence[int], *, chosen: Sequence[int]) -> list[int]:
    """Return axes after those of a group went to the places that were chosen."""
    found = list(axes)
    for place, axis in zip(group, chosen, strict=True):
        found[place] = axis
    return found


def averaged(predict: Predict, image: Tensor, *, offsets: Offsets, ways: Sequence[View]) -> Tensor:
    """Return the mean over views of the affinities (B, K, *S) of images (B, C, *S).

    An edge that runs the other way in a view is stored at its other end there, and is fetched from there.

    Args:
        predict: returns affinities (B, K, *S) of images of any order of axes.
        image: whose affinities.
        offsets: (K, D) voxels, of the channels.
        ways: to look at it, the piece as it is among them.
    """
    known = {tuple(offset): channel for channel, offset in enumerate(offsets)}
    total, count = None, None
    for view in ways:
        found = view.back(predict(view.seen(image)))
        if total is None or count is None:
            total, count = torch.zeros_like(found), torch.zeros_like(found[:1])
        for channel, offset in enumerate(offsets):
            turned = view.offset(offset)
            target, opposite = known.get(turned), known.get(tuple(-step for step in turned))
            if target is not None:
                total[:, target] += found[:, channel]
                count[:, target] += 1
            elif opposite is not None:
                here, there = ends(offsets[opposite], image.shape[2:])
                total[:, opposite][:, *here] += found[:, channel][:, *there]
                count[:, opposite][:, *here] += 1
    if total is None or count is None:
        return predict(image)
    return total / count
