"""Affinities made from labels, and what every decoder asks of them.

An edge is stored at the later of its two voxels: channels z, y, x have the offsets -1 along their axis.

Source: Turaga et al., Neural Computation 22 (2010), affinity graphs; Lee et al., arXiv 1706.00120, long-range offsets.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from limner import check
from limner.instances.slabs import each
from limner.space import Array, Offsets

Slices = tuple[slice, ...]


def nearest(dimensions: int) -> tuple[tuple[int, ...], ...]:
    """Return the offsets of the direct neighbours before a voxel, (D, D): one step back along each axis."""
    return tuple(tuple(-int(axis == other) for other in range(dimensions)) for axis in range(dimensions))


def ends(offset: Sequence[int], shape: Sequence[int]) -> tuple[Slices, Slices]:
    """Return where those voxels of an array of `shape` lie that have a partner at `offset` (D,), and where these do."""
    here = [slice(max(0, -step), max(0, min(size, size - step))) for step, size in zip(offset, shape, strict=True)]
    there = [slice(max(0, step), max(0, min(size, size + step))) for step, size in zip(offset, shape, strict=True)]
    return tuple(here), tuple(there)


def affinities_of(labels: Array, offsets: Offsets, *, background: int = 0) -> NDArray[np.bool_]:
    """Return which voxels belong together with their partners.

    Args:
        labels: (*S) integers. Voxels of the `background` belong together with none.
        offsets: (C, D) voxels, from a voxel to its partner.
        background: id of what is no object.

    Returns:
        (C, *S), false where the partner lies outside.
    """
    out = np.zeros((len(offsets), *labels.shape), np.bool_)
    for channel, offset in zip(out, offsets, strict=True):
        here, there = ends(offset, labels.shape)
        channel[here] = (labels[here] == labels[there]) & (labels[here] != background)
    return out


def valid(known: NDArray[np.bool_], offsets: Offsets) -> NDArray[np.bool_]:
    """Return which edges somebody knows: both voxels lie inside, and both are `known` (*S); (C, *S)."""
    out = np.zeros((len(offsets), *known.shape), np.bool_)
    for channel, offset in zip(out, offsets, strict=True):
        here, there = ends(offset, known.shape)
        channel[here] = known[here] & known[there]
    return out


class Edges(NamedTuple):
    """Affinities as the kernels take them.

    Args:
        values: (C, Z, Y, X), float32 or uint8, contiguous.
        offsets: (C, 3) int64.
        near: (C,) whether a channel's partners are direct neighbours.
        shape: (D,) of the volume, before 2-D ones were given a section.
    """

    values: Array
    offsets: NDArray[np.int64]
    near: NDArray[np.bool_]
    shape: tuple[int, ...]

    def nearest(self) -> Edges:
        """Return the channels of direct neighbours only."""
        chosen = np.flatnonzero(self.near)
        first, last = int(chosen[0]), int(chosen[-1]) + 1
        # They mostly stand side by side, and then nothing is copied.
        values = self.values[first:last] if last - first == len(chosen) else self.values[chosen]
        return Edges(values, self.offsets[chosen], self.near[chosen], self.shape)


def edges(values: Array, offsets: Offsets, *, threads: int | None = None) -> Edges:
    """Return affinities (C, *S) with their offsets (C, D) in 3-D, after a look at them.

    Warns if most of those of direct neighbours are low, as boundary probabilities are.

    Raises:
        InputError: for shapes that do not go together, another type than float32 or uint8, values outside 0 to 1, NaN,
            more voxels or edges than 32 bits can number, or if there are no direct neighbours.
    """
    from limner.instances.kernels import values as shares

    check.affinities(values, offsets)
    check.decodable(values[0].size, values.size)
    missing = 4 - values.ndim
    steps = np.pad(np.asarray(offsets, np.int64), ((0, 0), (missing, 0)))
    solid = np.ascontiguousarray(values).reshape(len(values), *(1,) * missing, *values.shape[1:])
    near = np.abs(steps).sum(axis=1) == 1
    if not near.any():
        raise check.no_nearest(offsets)
    if values.dtype == np.float32 and not all(each(shares.all_shares, solid.reshape(len(solid), -1), threads=threads)):
        check.affinity_range(float(values.min()), float(values.max()))
    _warn_if_inverted([channel for channel, direct in zip(solid, near, strict=True) if direct])
    return Edges(solid, steps, near, values.shape[1:])


def _warn_if_inverted(channels: Sequence[Array]) -> None:
    """Warn if the median of affinities of direct neighbours, looked at here and there, is low."""
    whole = 255 if channels[0].dtype == np.uint8 else 1
    some = [channel.reshape(-1)[:: max(1, channel.size // 4096)] for channel in channels]
    middle = float(np.median(np.concatenate(some))) / whole
    if middle < 0.2:
        warnings.warn(check.likely_inverted(middle), stacklevel=4)
