"""Where a network looks at a volume: on one lattice, so that parts of it are predicted as the whole is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limner.methods.affinity import Affinity
from limner.space import Array, Box, blocks

#: Voxels along each axis of what a network looks at in one piece, by its dimensions.
SIDE = {2: 1072, 3: 176}
#: Voxels around a tile that are looked at too, at most: as many as a network of three levels sees.
MARGIN = 24

#: Returns what lies in a box of an image, (channels, *box) float32, made ready.
Read: TypeAlias = Callable[[Box], Array]


@dataclass(frozen=True)
class Lattice:
    """Tiles that fill a volume from its first voxel on, and what is looked at to predict one.

    A tile begins at a multiple of the network's stride, so that voxels are pooled alike wherever it begins.

    Args:
        shape: of the volume, (D,).
        tile: voxels along each axis of a tile.
        margin: voxels that are looked at beyond it, on every side; beyond the volume they are mirrored.
        stride: what the sizes of pieces are multiples of.
    """

    shape: tuple[int, ...]
    tile: tuple[int, ...]
    margin: tuple[int, ...]
    stride: tuple[int, ...]

    @classmethod
    def of(cls, method: Affinity, shape: Sequence[int], *, side: int | None = None) -> Lattice:
        """Return the lattice on which a method looks at a volume.

        Args:
            method: of as many dimensions as the volume, or of one less, which looks at each section by itself.
            shape: of the volume.
            side: voxels along each axis of a piece, with its margins; those of `SIDE` unless given.
        """
        stride, dimensions = method.stride, method.task.dimensions
        margin = _up(min(method.context, MARGIN), stride)
        tile = max((side or SIDE[dimensions]) - 2 * margin, stride) // stride * stride
        apart = len(shape) - dimensions  # axes along which sections are looked at one by one
        return cls(
            tuple(shape),
            (1,) * apart + (tile,) * dimensions,
            (0,) * apart + (margin,) * dimensions,
            (1,) * apart + (stride,) * dimensions,
        )

    @property
    def piece(self) -> tuple[int, ...]:
        """The most voxels along each axis that are looked at at once."""
        axes = zip(self.shape, self.tile, self.margin, self.stride, strict=True)
        return tuple(min(tile, _up(size, stride)) + 2 * margin for size, tile, margin, stride in axes)

    def tiles(self, box: Box) -> Iterator[Box]:
        """Yield the tiles of a box that begins where a tile does, and ends where one does, or the volume."""
        for one in blocks(box.shape, self.tile):
            yield one.write.moved(box.start).clipped(self.shape)

    def looked_at(self, tile: Box) -> Box:
        """Return the piece that is looked at for a tile; it may lie outside the volume in part."""
        sizes = [_up(size, stride) for size, stride in zip(tile.shape, self.stride, strict=True)]
        around = zip(tile.start, sizes, self.margin, strict=True)
        spans = [(first - margin, first + size + margin) for first, size, margin in around]
        return Box(tuple(start for start, _ in spans), tuple(stop for _, stop in spans))


def predicted(method: Affinity, read: Read, *, box: Box, lattice: Lattice) -> NDArray[np.uint8]:
    """Return the affinities of a box of whole tiles, (C, *box), in 255ths.

    Args:
        method: ready to predict.
        read: of the volume.
        box: of its voxels.
        lattice: of the volume.
    """
    found = np.empty((len(method.offsets), *box.shape), np.uint8)
    for tile in lattice.tiles(box):
        piece = torch.from_numpy(mirrored(read, lattice.looked_at(tile), shape=lattice.shape))
        flat = piece.ndim - 1 > method.task.dimensions
        affinities = looked(method, piece[:, 0] if flat else piece)
        affinities = affinities[:, None] if flat else affinities
        inner = tuple(slice(margin, margin + size) for margin, size in zip(lattice.margin, tile.shape, strict=True))
        place = tile.moved([-first for first in box.start]).slices
        found[:, *place] = (affinities[:, *inner].clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return found


def mirrored(read: Read, box: Box, *, shape: Sequence[int]) -> Array:
    """Return what lies in a box that may reach outside a volume of `shape`, (channels, *box): mirrored at its borders.

    The voxels at the border are their own first images, as in numpy's "symmetric" padding.
    """
    wanted = [_reflected(first, last, size=size) for first, last, size in zip(box.start, box.stop, shape, strict=True)]
    around = Box(tuple(one.min() for one in wanted), tuple(one.max() + 1 for one in wanted))
    inside = [one - first for one, first in zip(wanted, around.start, strict=True)]
    found: Array = read(around)
    for axis, places in enumerate(inside, start=1):
        found = np.take(found, places, axis)
    return np.ascontiguousarray(found)


def _reflected(first: int, last: int, *, size: int) -> NDArray[np.intp]:
    """Return where in an axis of `size` voxels those from `first` to before `last` are read."""
    places = np.arange(first, last) % (2 * size)
    return np.minimum(places, 2 * size - 1 - places)


@torch.no_grad()
def looked(method: Affinity, image: Tensor) -> Tensor:
    """Return the affinities (C, *S) of a piece (channels, *S), on the CPU; in bf16 where that is fast."""
    device = next(method.parameters()).device
    known = torch.cpu.get_capabilities() if device.type == "cpu" else {"avx512_bf16": True}
    half = bool(known.get("amx_bf16") or known.get("avx512_bf16"))
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
        return method.predict(image[None].to(device), None)[0].float().cpu()


def _up(size: int, stride: int) -> int:
    """Return the least multiple of the stride that is not smaller."""
    return -(-size // stride) * stride
