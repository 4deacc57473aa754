"""What a volume is, told by its values: an image, labels, or instances."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from limner.files.pyramids import Watch, unwatched
from limner.files.unread import UnreadVolume
from limner.space import Array, Box, Kind, Volume, blocks

#: A file of whole numbers with at most this many different values is taken for a label map.
MOST_LABELS = 400
#: A greater id needs more than the 32 bits of a label.
GREATEST = np.iinfo(np.int32).max
#: Voxels along each axis of the parts in which a volume on disk is looked at.
PART = 256


def kind_of(volume: Volume | UnreadVolume, *, watch: Watch = unwatched) -> Kind:
    """Tell by its values, as they are stored, what a volume is: ids too wide or too many for labels are instances.

    Ids are few, or of 64 bits; they are whole and not negative, and most are next to their like along the first axis.
    One on disk is read part by part, until it is certain.

    Args:
        volume: of any kind.
        watch: told how many parts were looked at, and of how many.

    Raises:
        InputError: if a chunk cannot be decoded.
    """
    if isinstance(volume, UnreadVolume):
        return _told(_parts(volume, watch=watch), volume.array.dtype)
    return _told([volume.data], volume.data.dtype)


def looks_like_labels(volume: Volume) -> bool:
    """Tell whether a volume looks like a label map: few values, whole and not negative, most next to their like."""
    return _few(volume.data, set()) is not None and kind_of(volume) != "image"


def _parts(volume: UnreadVolume, *, watch: Watch) -> Iterator[Array]:
    """Yield the parts of a volume, each with the last voxels along the first axis of the one before."""
    found = blocks(volume.grid.shape, (PART,) * volume.grid.dimensions)
    for number, block in enumerate(found, start=1):
        start = (max(0, block.write.start[0] - 1), *block.write.start[1:])
        yield volume.read(Box(start, block.write.stop).slices)
        watch(number, len(found))


def _told(parts: Iterable[Array], dtype: np.dtype[Any]) -> Kind:
    """Tell what a volume of such parts is."""
    values: set[Any] | None = set()
    filled = alike = 0
    for part in parts:
        values = None if values is None else _few(part, values)
        if values is None and dtype != np.uint64:
            return "image"
        inside = part[1:] > 0
        filled += int(np.count_nonzero(inside))
        alike += int(np.count_nonzero(inside & (part[1:] == part[:-1])))
    if 2 * alike <= filled:
        return "image"
    return "labels" if values is not None and max(values) <= GREATEST else "instances"


def _few(part: Array, known: set[Any]) -> set[Any] | None:
    """Return the values of a part with those that are known; None if they are many, or no ids."""
    if part.dtype.kind == "f" and not np.isfinite(part).all():
        return None
    found = np.unique(part)
    if len(found) > MOST_LABELS or (found.dtype.kind in "if" and ((found < 0) | (found % 1 != 0)).any()):
        return None
    values = known | set(found.tolist())
    return values if len(values) <= MOST_LABELS else None
