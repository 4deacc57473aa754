"""What a trained method says of one scan: as a whole, or tile by tile where the whole is too large."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from limner.data.scan import Scan
from limner.inference.tiling import Window, tiled
from limner.methods.method import Trainable
from limner.priors.atlas import PlacedAtlas
from limner.priors.dense import DensePrior
from limner.space import Box

#: Voxels that a method looks at in one piece: a brain at 0.8 mm, and for 16 channels half a gigabyte.
LARGEST = 200**3


def predicted(method: Trainable, scan: Scan, *, placed: PlacedAtlas | None, largest: int = LARGEST) -> Tensor:
    """Return the probabilities of a scan's classes, (K, *S); outside its mask they mean nothing.

    Args:
        method: on any device; it is put into the state for prediction.
        scan: made ready as for training.
        placed: the atlas that the method was trained with, on the scan's grid; None if it was trained without one.
        largest: voxels that are looked at in one piece; a larger scan is tiled, if the method allows.
    """
    pieces = _Pieces(method.eval(), scan.standardised(), scan.mask, placed)
    whole = Box.whole(scan.grid.shape)
    if whole.size <= largest or not method.local:
        return pieces.predicted(whole)
    side = _down(largest ** (1 / len(whole.shape)), method.stride)
    context = min(_up(method.context, method.stride), _down(side / 4, method.stride))
    # A receptive field too wide for the tiles leaves seams, which the window blends.
    window: Window = "crop" if context >= method.context else "gaussian"
    tile = max(side - 2 * context, method.stride)
    return tiled(pieces.predicted, whole.shape, tile=tile, context=context, window=window)


def sampled(method: Trainable, scan: Scan, *, placed: PlacedAtlas | None) -> Iterator[Tensor]:
    """Yield probabilities of a scan's classes that are all likely, (K, *S), if the method draws any.

    Args:
        method: on any device; it is put into the state for prediction.
        scan: made ready as for training.
        placed: as for `predicted`.
    """
    yield from _Pieces(method.eval(), scan.standardised(), scan.mask, placed).sampled(Box.whole(scan.grid.shape))


@dataclass(frozen=True, eq=False)
class _Pieces:
    """A method and the scan that it looks at: image (C, *S), mask (*S), and the atlas on its grid, if there is one."""

    method: Trainable
    image: Tensor
    mask: Tensor
    placed: PlacedAtlas | None

    @torch.no_grad()
    def predicted(self, box: Box) -> Tensor:
        """Return the probabilities in a box, (K, *box)."""
        image, mask, prior = self._cut(box)
        found = self.method.predict(image[None], prior, mask=mask)[0]
        return found[:, *Box.whole(box.shape).slices].float().cpu()

    @torch.no_grad()
    def sampled(self, box: Box) -> Iterator[Tensor]:
        """Yield samples of the probabilities in a box, (K, *box)."""
        image, mask, prior = self._cut(box)
        for found in self.method.samples(image[None], prior, mask=mask):
            yield found[0][:, *Box.whole(box.shape).slices].float().cpu()

    def _cut(self, box: Box) -> tuple[Tensor, Tensor, DensePrior | None]:
        """Return image (C, *), mask (1, *) and prior in a box, on the method's device."""
        device = next((parameter.device for parameter in self.method.parameters()), torch.device("cpu"))
        # The image goes on beyond its end with nothing, up to a whole number of strides.
        shape = tuple(_up(size, self.method.stride) for size in box.shape)
        image, mask = (_padded(values[:, *box.slices], shape).to(device) for values in (self.image, self.mask[None]))
        ends = tuple(first + size for first, size in zip(box.start, shape, strict=True))
        prior = None
        if self.placed:
            prior = DensePrior.of(self.placed.atlas, self.placed.grid.cropped(Box(box.start, ends))).to(device)
        return image, mask, prior


def _up(size: float, stride: int) -> int:
    """Return the least multiple of the stride that is not smaller."""
    return math.ceil(size / stride) * stride


def _down(size: float, stride: int) -> int:
    """Return the greatest multiple of the stride that is not larger, or else the stride itself."""
    # The millionth keeps a root that should be whole from falling short of it.
    return max(1, math.floor(size / stride + 1e-6)) * stride


def _padded(values: Tensor, shape: Sequence[int]) -> Tensor:
    """Return values (C, *box) with zeros at the end of each axis, (C, *shape)."""
    padded = values.new_zeros(len(values), *shape)
    padded[:, *Box.whole(values.shape[1:]).slices] = values
    return padded
