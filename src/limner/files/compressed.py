"""Chunks of ids in neuroglancer's `compressed_segmentation`: blocks of 8 x 8 x 8, each with a table of its ids.

Source: the format's description in neuroglancer's repository; tables are not shared among blocks here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from limner.space import Array, blocks

#: Voxels along each axis of a block.
BLOCK = (8, 8, 8)
#: Bits in which the place of an id in its table may be told.
WIDTHS = (0, 1, 2, 4, 8, 16, 32)
#: Words of a chunk's header, which tells where its one channel begins; and of that of each block.
CHANNEL, HEADER = 1, 2


def packed(ids: Array) -> bytes:
    """Return ids (Z, Y, X), uint32 or uint64, in bytes."""
    words = ids.dtype.itemsize // 4
    boxes = [block.write for block in blocks(ids.shape, BLOCK)]
    headers, content, place = [], [], HEADER * len(boxes)
    for box in boxes:
        table, places = np.unique(ids[box.slices], return_inverse=True)
        bits = next(width for width in WIDTHS if len(table) <= 1 << width)
        values = _told(places.reshape(box.shape), bits)
        headers += [place + len(values) | bits << 24, place]
        content += [values, table.astype(table.dtype.newbyteorder("<")).view("<u4")]
        place += len(values) + words * len(table)
    return b"".join([np.array([CHANNEL, *headers], "<u4").tobytes(), *(part.tobytes() for part in content)])


def _told(places: NDArray[np.intp], bits: int) -> NDArray[np.uint32]:
    """Return the places in a table of a block's voxels, (*box), in words of 32 bits; it is filled up to `BLOCK`."""
    if not bits:
        return np.empty(0, "<u4")
    whole = np.zeros(BLOCK, np.uint32)
    whole[tuple(slice(size) for size in places.shape)] = places
    each = whole.reshape(-1, 32 // bits) << np.arange(0, 32, bits, dtype=np.uint32)
    return np.asarray(np.bitwise_or.reduce(each, axis=1), "<u4")


def unpacked(content: bytes, shape: tuple[int, ...], *, dtype: np.dtype[Any]) -> Array:
    """Return the ids (Z, Y, X) of a chunk that `packed` made."""
    words = np.frombuffer(content, "<u4")[CHANNEL:]
    found = np.empty(shape, dtype)
    for number, block in enumerate(blocks(shape, BLOCK)):
        header, place = (int(word) for word in words[HEADER * number :][:HEADER])
        bits, table = header >> 24, words[header & 0xFFFFFF :]
        places = _read(words[place:], bits)[tuple(slice(size) for size in block.write.shape)]
        needed = (int(places.max()) + 1) * (dtype.itemsize // 4)
        found[block.write.slices] = table[:needed].view(dtype.newbyteorder("<"))[places]
    return found


def _read(words: NDArray[np.uint32], bits: int) -> NDArray[np.uint32]:
    """Return the places in a table that words begin with, (*BLOCK)."""
    if not bits:
        return np.zeros(BLOCK, np.uint32)
    values = words[: np.prod(BLOCK) * bits // 32, np.newaxis] >> np.arange(0, 32, bits, dtype=np.uint32)
    return (values & np.uint32((1 << bits) - 1)).reshape(BLOCK)
