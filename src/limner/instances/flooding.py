"""Watershed: fragments that grow from seeds until they meet.

Source: Meyer, "Color image segmentation" (1992), flooding by queues; seeds where the distance to the membrane is the
largest around, as in Funke et al., IEEE TPAMI 41 (2019).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from limner import check
from limner.instances.affinities import Edges, edges
from limner.instances.slabs import each, slabs
from limner.space import Array, Offsets

Labels = NDArray[np.int32]
Bytes = NDArray[np.uint8]


def fragments(
    values: Array,
    offsets: Offsets,
    *,
    threshold: float = 0.5,
    separation: float = 5,
    spacing: Sequence[float] | None = None,
    sections: bool = False,
    fill: bool = True,
    threads: int | None = None,
) -> Labels:
    """Oversegment the interior of objects: what is nearest to a place that is far from all membranes.

    Args:
        values: (C, *S) affinities; other channels than those of direct neighbours are not looked at.
        offsets: (C, D) voxels.
        threshold: from 0 to 1; voxels with an edge that is no higher are membrane, and grow no seeds.
        separation: a seed is the farthest place within this distance, in units of `spacing`.
        spacing: (D,) sizes of a voxel, in any unit; all 1 if None.
        sections: look at each section by itself, as suits thick ones.
        fill: let what has grown inside grow into the membranes too, which else stay 0 and keep fragments apart.
        threads: at most; None: one per core. The labels are the same for any number.

    Returns:
        (*S) labels from 1 on.

    Raises:
        InputError: for affinities that cannot be decoded (see `edges`).
    """
    graph = edges(values, offsets, threads=threads).nearest()
    inside = interior(graph, threads=threads)
    mask = inside > round(threshold * 255)
    sizes = np.ones(3) if spacing is None else np.array([1.0, *spacing][-3:])
    depth = quantised(distances(mask, sizes, sections=sections, threads=threads))
    radius = np.floor(separation / sizes + 1e-6).astype(int)
    if sections:
        radius[0] = 0
    seeds = _labelled(peaks(depth, radius) & mask, sections=sections)
    if not seeds.any():
        warnings.warn(check.no_segment(f"a threshold of {threshold:g}"), stacklevel=2)
    np.subtract(255, depth, out=depth)
    labels = flooded(depth, seeds, mask=mask, sections=sections, threads=threads)
    del mask, depth  # a byte a voxel each
    if fill:
        labels = flooded(np.subtract(255, inside, out=inside), labels, sections=sections, threads=threads)
    return labels.reshape(graph.shape)


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


def distances(
    mask: NDArray[np.bool_], spacing: Sequence[float] | Array, *, sections: bool = False, threads: int | None = None
) -> NDArray[np.float32]:
    """Return the distance from each true voxel of `mask` (Z, Y, X) to the nearest false one, in units of `spacing`.

    Infinite where there is no false one. With `sections`, in its own section.
    """
    from limner.instances.kernels import distance

    Z, Y, X = mask.shape
    squared = np.empty((Z, Y, X), np.float32)
    sizes = np.asarray(spacing, np.float32)

    def in_plane(part: tuple[int, int]) -> None:
        flat = squared[slice(*part)]
        distance.along_rows(mask[slice(*part)].reshape(-1, X), sizes[2], flat.reshape(-1, X))
        distance.along_middle(flat, sizes[1], 0, X)

    each(in_plane, slabs(Z), threads=threads)
    if not sections:
        columns = squared.reshape(1, Z, Y * X)
        each(lambda part: distance.along_middle(columns, sizes[0], *part), slabs(Y * X, 64 * X), threads=threads)
    return np.sqrt(squared, out=squared)


def peaks(depth: Bytes, radius: Sequence[int] | Array) -> NDArray[np.bool_]:
    """Return where `depth` (Z, Y, X) is positive and the largest in the box of `radius` (3,) voxels around."""
    highest = depth
    for axis, reach in enumerate(radius):
        highest = _highest(highest, axis, reach=int(reach))
    found: NDArray[np.bool_] = (depth == highest) & (depth > 0)
    return found


def _highest(depth: Bytes, axis: int, *, reach: int) -> Bytes:
    """Return the largest of the voxels up to `reach` before and behind each one along an axis."""
    lines = np.moveaxis(np.pad(depth, [(reach * (axis == other),) * 2 for other in range(3)]), axis, 0)
    width, wanted = 1, 2 * reach + 1
    while width < wanted:
        step = min(width, wanted - width)
        lines = np.maximum(lines[:-step], lines[step:])
        width += step
    return np.moveaxis(lines, 0, axis)


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


def _labelled(mask: NDArray[np.bool_], *, sections: bool) -> Labels:
    """Return face-connected components of the few true voxels of `mask` (Z, Y, X), 1, 2, ...; by sections or not."""
    from limner.instances.kernels import forest

    places = np.flatnonzero(mask)
    parents = np.arange(len(places), dtype=np.int32)
    for axis, size in list(enumerate(mask.shape))[sections:]:
        stride = int(np.prod(mask.shape[axis + 1 :]))
        inner = np.flatnonzero(places // stride % size)
        before = np.searchsorted(places, places[inner] - stride)
        touch = places[before] == places[inner] - stride
        forest.join_all(parents, inner[touch], before[touch])
    forest.number(parents)
    labels = np.zeros(mask.shape, np.int32)
    labels.reshape(-1)[places] = parents
    return labels
