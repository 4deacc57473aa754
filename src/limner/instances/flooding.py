"""Watershed from given seeds, which grow until they meet.

Source: Meyer, "Color image segmentation" (1992), flooding by queues.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from limner.instances.affinities import Edges
from limner.instances.slabs import each, slabs
from limner.space import Array

Labels = NDArray[np.int32]
Bytes = NDArray[np.uint8]


def watershed(height: Array, seeds: Array, *, mask: NDArray[np.bool_] | None = None, sections: bool = False) -> Labels:
    """Let seeds grow over a landscape, low places first.

    Args:
        height: (*S); 255 levels between its lowest and highest are told apart. In uint8, 254 and 255 are one.
        seeds: (*S) labels, 0 where there is none.
        mask: (*S), false where no label may be.
        sections: let no label pass from one section to another.

    Returns:
        (*S) labels. Of voxels at one level the one reached first passes its label on first.
    """
    shape = (1,) * (3 - height.ndim) + height.shape
    levels = height if height.dtype == np.uint8 else quantised(height)
    solid = None if mask is None else mask.reshape(shape)
    labels = flooded(levels.reshape(shape), seeds.astype(np.int32).reshape(shape), mask=solid, sections=sections)
    return labels.reshape(height.shape)


def flooded(
    levels: Bytes,
    seeds: Labels,
    *,
    mask: NDArray[np.bool_] | None = None,
    sections: bool = False,
    threads: int | None = None,
) -> Labels:
    """Let `seeds` grow over `levels`, both (Z, Y, X), in place, where the mask is true; by sections on all cores."""
    steps = [(-1, 0, 0), (0, -1, 0), (0, 0, -1)][sections:]
    parts = [(z, z + 1) for z in range(len(levels))] if sections else [(0, len(levels))]

    def within(part: tuple[int, int]) -> None:
        inside = slice(*part)
        _flood(levels[inside], seeds[inside], mask=None if mask is None else mask[inside], steps=steps)

    each(within, parts, threads=threads)
    return seeds


def _flood(
    levels: Bytes, seeds: Labels, *, mask: NDArray[np.bool_] | None, steps: Sequence[tuple[int, int, int]]
) -> None:
    """Let `seeds` grow over `levels`, both (Z, Y, X), in place, by `steps` and their opposites."""
    from limner.instances.kernels import flooding

    inner = tuple(slice(1, -1) for _ in range(3))
    heights = np.full([size + 2 for size in levels.shape], 255, np.uint8)
    np.minimum(levels, 254, out=heights[inner])
    if mask is not None:
        heights[inner][~mask] = 255
    labels = np.zeros(heights.shape, np.int32)
    labels[inner] = seeds
    before = sorted(int(np.dot(step, heights.strides)) for step in steps)
    around = np.array(before + [-step for step in reversed(before)], np.int64)
    flooding.flood(heights.reshape(-1), labels.reshape(-1), around)
    np.multiply(labels[inner], True if mask is None else mask, out=seeds)


def interior(graph: Edges, *, threads: int | None = None) -> Bytes:
    """Return the lowest affinity of each voxel's edges, those stored there and those at its partners, in 255ths."""
    from limner.instances.kernels import flooding

    out = np.empty(graph.values.shape[1:], np.uint8)
    parts = slabs(len(out))
    each(lambda part: flooding.inside(graph.values, graph.offsets, *part, out), parts, threads=threads)
    return out


def quantised(values: Array) -> Bytes:
    """Return values (*S) in 255ths of the way from the lowest to the highest finite one; infinite ones at the ends."""
    values = values if values.dtype.kind == "f" else values.astype(np.float32)
    finite = np.isfinite(values)
    low, high = (float(values.min(where=finite, initial=np.inf)), float(values.max(where=finite, initial=-np.inf)))
    if not low < high:
        return np.where(values == np.inf, 255, 0).astype(np.uint8)
    scaled = np.clip(values, low, high).astype(np.float32, copy=False)
    scaled -= np.float32(low)
    scaled *= np.float32(255 / (high - low))
    steps: Bytes = np.rint(scaled, out=scaled).astype(np.uint8)
    return steps
