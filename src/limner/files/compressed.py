"""Chunks of ids in neuroglancer's `compressed_segmentation`: blocks of 8 x 8 x 8, each with a table of its ids.

Source: the format's description in neuroglancer's repository; tables are not shared among blocks here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from limner.space import Array

#: Voxels along each axis of a block, and in all of it.
BLOCK, SIZE = (8, 8, 8), 512
#: Bits in which the place of an id in its table may be told.
WIDTHS = (0, 1, 2, 4, 8, 16, 32)
#: Words of a chunk's header, which tells where its one channel begins; and of that of each block.
CHANNEL, HEADER = 1, 2


def packed(ids: Array) -> bytes:
    """Return ids (Z, Y, X), uint32 or uint64, in bytes."""
    rows = _rows(ids)
    content: list[Array] = []
    headers, place = [], HEADER * len(rows)
    for row, mixed in zip(rows, (rows != rows[:, :1]).any(1).tolist(), strict=True):
        table, places = np.unique(row, return_inverse=True) if mixed else (row[:1], None)
        bits = next(width for width in WIDTHS if len(table) <= 1 << width)
        values = np.empty(0, "<u4") if places is None else _told(places, bits)
        words = table.astype(table.dtype.newbyteorder("<"), copy=False).view("<u4")
        headers += [place + len(values) | bits << 24, place]
        content += [values, words]
        place += len(values) + len(words)
    return np.concatenate([np.array([CHANNEL, *headers], "<u4"), *content]).tobytes()


def unpacked(content: bytes, shape: tuple[int, ...], *, dtype: np.dtype[Any]) -> Array:
    """Return the ids (Z, Y, X) of a chunk that `packed` made."""
    words = np.frombuffer(content, "<u4")[CHANNEL:]
    counts = _counts(shape)
    headers = words[: HEADER * int(np.prod(counts))].reshape(-1, HEADER)
    rows = np.empty((len(headers), SIZE), dtype)
    each = dtype.itemsize // 4
    for row, (first, place) in zip(rows, headers.tolist(), strict=True):
        bits, table = first >> 24, words[first & 0xFFFFFF :]
        if bits:
            places = _read(words[place:], bits)
            row[:] = table[: (int(places.max()) + 1) * each].view(dtype.newbyteorder("<"))[places]
        else:
            row[:] = table[:each].view(dtype.newbyteorder("<"))
    whole = rows.reshape(*counts, *BLOCK).transpose(0, 3, 1, 4, 2, 5).reshape([8 * count for count in counts])
    return whole[tuple(slice(size) for size in shape)]


def _counts(shape: tuple[int, ...]) -> list[int]:
    """Return how many blocks there are along each axis."""
    return [-(-size // side) for size, side in zip(shape, BLOCK, strict=True)]


def _rows(ids: Array) -> Array:
    """Return the ids of each block, (N, SIZE); blocks at the ends are filled up with what is next to them."""
    counts = _counts(ids.shape)
    missing = [(0, 8 * count - size) for count, size in zip(counts, ids.shape, strict=True)]
    whole = np.pad(ids, missing, mode="edge")
    return (
        whole.reshape([part for count in counts for part in (count, 8)]).transpose(0, 2, 4, 1, 3, 5).reshape(-1, SIZE)
    )


def _told(places: NDArray[np.intp], bits: int) -> NDArray[np.uint32]:
    """Return the places in a table, (SIZE,), in words of 32 bits."""
    each = places.astype(np.uint32).reshape(-1, 32 // bits) << np.arange(0, 32, bits, dtype=np.uint32)
    return np.asarray(np.bitwise_or.reduce(each, axis=1), "<u4")


def _read(words: NDArray[np.uint32], bits: int) -> NDArray[np.uint32]:
    """Return the places in a table that words begin with, (SIZE,)."""
    values = words[: SIZE * bits // 32, np.newaxis] >> np.arange(0, 32, bits, dtype=np.uint32)
    return (values & np.uint32((1 << bits) - 1)).reshape(SIZE)
