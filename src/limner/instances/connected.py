"""Components: whatever affinities above a threshold connect is one segment.

Source: Wiese, "Segmenting Brain Images: A Deep Learning Approach" (2018): threshold, components, size filter, fill.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limner import check
from limner.instances.affinities import Edges, edges
from limner.instances.slabs import each, slabs
from limner.space import Array, Block, Offsets, blocks

Labels = NDArray[np.int32]

#: Voxels along each axis of the parts in which what was dropped is filled, and how far around a part is looked: no
#: farther, so that volumes which are filled block by block get the same labels.
PART, REACH = 128, 16


def components(
    values: Array,
    offsets: Offsets,
    *,
    threshold: float,
    smallest: int = 1,
    fill: bool = False,
    threads: int | None = None,
) -> Labels:
    """Label what edges between direct neighbours connect, by their affinities alone.

    Args:
        values: (C, *S) affinities; other channels than those of direct neighbours are not looked at.
        offsets: (C, D) voxels.
        threshold: from 0 to 1; edges above it connect.
        smallest: voxels of the smallest segment that stays; what is smaller becomes 0.
        fill: let what stays grow into what became 0, where the affinities are high first; part by part, see `PART`.
        threads: at most; None: one per core. The labels are the same for any number.

    Returns:
        (*S) labels from 1 on, in the order of their first voxels.

    Raises:
        InputError: for affinities that cannot be decoded (see `edges`).
    """
    graph = edges(values, offsets, threads=threads).nearest()
    labels = _connected(graph, threshold, threads=threads)
    sized(labels, smallest)
    if fill and smallest > 1:
        labels = grown_by_parts(graph, labels, threads=threads)
    return labels.reshape(graph.shape)


def limit_of(threshold: float, dtype: Any) -> Any:
    """Return what affinities of a type, uint8 or float32, must exceed to connect."""
    return threshold * 255 if dtype == np.uint8 else np.float32(threshold)


def sized(labels: Labels, smallest: int) -> int:
    """Drop segments of fewer than `smallest` voxels from `labels` (*S), 1 to L, in place; return how many stay.

    Those that stay are numbered anew, in the same order; a warning says if there is none.
    """
    from limner.instances.kernels import forest

    flat = labels.reshape(-1)
    counts = forest.sizes(flat, int(flat.max(initial=0)))
    kept = counts >= smallest
    kept[0] = False
    if not kept.any():
        warnings.warn(check.no_segment(f"a smallest size of {smallest} voxels"), stacklevel=3)
    if not kept[1:].all():
        forest.rename(flat, np.where(kept, np.cumsum(kept), 0).astype(np.int32))
    return int(kept.sum())


def _connected(graph: Edges, threshold: float, *, threads: int | None) -> Labels:
    """Return the components (Z, Y, X): within each slab first, side by side, and then across their seams."""
    from limner.instances.kernels import forest

    shape = graph.values.shape[1:]
    parents = np.arange(np.prod(shape), dtype=np.int32)
    limit = limit_of(threshold, graph.values.dtype)
    # Channels of the longest runs of memory first: x, y, z.
    channels = list(zip(graph.values, graph.offsets, strict=True))[::-1]

    def within(slab: tuple[int, int]) -> None:
        start, stop = slab
        for channel, offset in channels:
            forest.connect(channel, limit, offset, parents, max(start, start - offset[0]), min(stop, stop - offset[0]))

    parts = slabs(shape[0])
    each(within, parts, threads=threads)
    for start, _ in parts[1:]:
        for channel, offset in channels:
            forest.connect(channel, limit, offset, parents, start - max(0, offset[0]), start - min(0, offset[0]))
    forest.number(parents)
    return parents.reshape(shape)


def grown(
    labels: Labels, values: Array, *, offsets: Offsets, sections: bool = False, threads: int | None = None
) -> Labels:
    """Return labels (*S) that have grown into what is 0, from where all edges are high to where one is low.

    Args:
        labels: from 1 on; 0 where there is room.
        values: (C, *S) affinities, of direct neighbours among others.
        offsets: (C, D) voxels.
        sections: let no label pass from one section to another.
        threads: at most; None: one per core.

    Raises:
        InputError: for affinities that cannot be decoded (see `edges`).
    """
    graph = edges(values, offsets, threads=threads).nearest()
    solid = labels.reshape(graph.values.shape[1:])
    return _grown(graph, solid, sections=sections, threads=threads).reshape(labels.shape)


def filled(labels: Labels, values: Array, *, offsets: Offsets, threads: int | None = None) -> Labels:
    """Return labels (*S) that have grown, as `grown` has it, part by part, each of which looks `REACH` voxels around.

    Args:
        labels: from 1 on; 0 where there is room. A part that sees no label stays 0.
        values: (C, *S) affinities, of direct neighbours among others.
        offsets: (C, D) voxels.
        threads: at most; None: one per core.

    Raises:
        InputError: for affinities that cannot be decoded (see `edges`).
    """
    graph = edges(values, offsets, threads=threads).nearest()
    return grown_by_parts(graph, labels.reshape(graph.values.shape[1:]), threads=threads).reshape(labels.shape)


def _grown(graph: Edges, labels: Labels, *, sections: bool, threads: int | None) -> Labels:
    """Return the same of labels (Z, Y, X)."""
    from limner.instances.flooding import flooded, interior

    levels = interior(graph, threads=threads)
    return flooded(np.subtract(255, levels, out=levels), labels.copy(), sections=sections, threads=threads)


def grown_by_parts(graph: Edges, labels: Labels, *, sections: bool = False, threads: int | None = None) -> Labels:
    """Return labels (Z, Y, X) that have grown into what is 0, part by part."""
    found = labels.copy()

    def within(part: Block) -> None:
        around = part.read.slices
        near = graph._replace(values=np.ascontiguousarray(graph.values[:, *around]))
        found[part.write.slices] = _grown(near, labels[around], sections=sections, threads=1)[part.inner]

    each(within, blocks(labels.shape, (PART,) * 3, context=REACH), threads=threads)
    return found
