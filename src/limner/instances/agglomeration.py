"""Agglomeration: fragments that merge where the affinities between them are high.

Source: Lee et al., arXiv 1706.00120, mean affinity; Funke et al., IEEE TPAMI 41 (2019), quantiles. Scores are exact
after every merge, where implementations with queues of buckets let some be out of date.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limner.instances.affinities import edges
from limner.instances.slabs import each, slabs
from limner.space import Array, Offsets

#: Steps from 0 to 1 that quantiles tell apart.
STEPS = 256
MEAN = 2


@dataclass(frozen=True, eq=False)
class RegionGraph:
    """Which fragments touch, and the affinities between them.

    Args:
        ends: (E, 2) int32, the two fragments, in ascending order.
        statistics: (E, 2) number and sum of the affinities, or (E, 256) how many lie in each step from 0 to 1.
        nodes: one more than the largest fragment's label.
    """

    ends: NDArray[np.int32]
    statistics: Array
    nodes: int


@dataclass(frozen=True, eq=False)
class Merges:
    """Who merged with whom, in order; it can be undone from the end.

    Args:
        pairs: (M, 2) int32, a fragment of each side.
        scores: (M,) from 0 to 1.
        nodes: one more than the largest fragment's label.
    """

    pairs: NDArray[np.int32]
    scores: NDArray[np.float64]
    nodes: int

    def until(self, threshold: float) -> NDArray[np.int32]:
        """Return each fragment's segment if merging had stopped at a threshold, (nodes,) from 1 on, 0 for 0."""
        from limner.instances.kernels import forest

        stops = np.flatnonzero(self.scores <= threshold)
        pairs = self.pairs[: stops[0] if len(stops) else None]
        parents = np.arange(self.nodes, dtype=np.int32)
        forest.join_all(parents, pairs[:, 0], pairs[:, 1])
        forest.number(parents)
        segments: NDArray[np.int32] = parents - 1
        return segments


def region_graph(
    values: Array, offsets: Offsets, *, fragments: Array, quantiles: bool = False, threads: int | None = None
) -> RegionGraph:
    """Return the fragments that touch and what lies between them.

    Args:
        values: (C, *S) affinities; other channels than those of direct neighbours are not looked at.
        offsets: (C, D) voxels.
        fragments: (*S) labels from 1 on; 0 touches nothing.
        quantiles: keep histograms, 1 kB for each pair, instead of means.
        threads: at most; None: one per core. The sums are the same for any number.

    Raises:
        InputError: for affinities that cannot be decoded (see `edges`).
    """
    from limner.instances.kernels import graph as kernels

    graph = edges(values, offsets, threads=threads).nearest()
    solid = np.ascontiguousarray(fragments, np.int32).reshape(graph.values.shape[1:])
    width, dtype = (STEPS, np.uint32) if quantiles else (MEAN, np.float64)

    def within(part: tuple[int, int]) -> tuple[Array, Array]:
        keys, statistics = kernels.touching(solid, graph.values, graph.offsets, *part, np.empty((64, width), dtype))
        return keys, statistics

    found = each(within, slabs(len(solid)), threads=threads)
    keys, statistics = (np.concatenate(columns) for columns in zip(*found, strict=True))
    return _added(keys, statistics, nodes=int(solid.max(initial=0)) + 1)


def assembled(parts: Sequence[RegionGraph], *, nodes: int) -> RegionGraph:
    """Return the graph of a volume from those of its parts, whose fragments have the same labels.

    Args:
        parts: of each edge between voxels one part has taken note.
        nodes: one more than the largest fragment's label.
    """
    keys = [part.ends.astype(np.uint64) for part in parts]
    pairs = [ends[:, 0] << np.uint64(32) | ends[:, 1] for ends in keys]
    return _added(np.concatenate(pairs), np.concatenate([part.statistics for part in parts]), nodes=nodes)


def _added(keys: NDArray[np.uint64], statistics: Array, *, nodes: int) -> RegionGraph:
    """Return a graph of pairs of fragments (P,), as `kernels.pairs` has them, whose (P, W) statistics add up."""
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    firsts = np.flatnonzero(np.diff(keys, prepend=~keys[:1]))
    ordered = statistics[order]
    merged = np.add.reduceat(ordered, firsts, axis=0, dtype=ordered.dtype) if len(keys) else ordered
    pairs = np.stack([keys[firsts] >> np.uint64(32), keys[firsts] & np.uint64(2**32 - 1)], axis=1)
    return RegionGraph(pairs.astype(np.int32), merged, nodes)


def merges(graph: RegionGraph, *, threshold: float = 0, quantile: float = 0.5) -> Merges:
    """Merge the two fragments with the highest score, again and again, while it exceeds a threshold.

    Args:
        graph: left as it is.
        threshold: from 0 to 1.
        quantile: of the affinities between two fragments, if the graph has histograms: 0.5 is their median, and 0.25
            asks that three quarters of them be high.
    """
    from limner.instances.kernels import graph as kernels

    pairs, scores = kernels.merge(graph.ends, graph.statistics.copy(), graph.nodes, quantile, threshold)
    return Merges(pairs, scores, graph.nodes)


def agglomerated(
    values: Array,
    offsets: Offsets,
    *,
    fragments: Array,
    threshold: float,
    quantile: float | None = None,
    threads: int | None = None,
) -> NDArray[np.int32]:
    """Return fragments merged while the mean, or a quantile, of the affinities between them exceeds a threshold.

    Args:
        values: (C, *S) affinities; other channels than those of direct neighbours are not looked at.
        offsets: (C, D) voxels.
        fragments: (*S) labels from 1 on; 0 stays.
        threshold: from 0 to 1.
        quantile: see `merges`; None takes the mean.
        threads: at most; None: one per core. The labels are the same for any number.

    Returns:
        (*S) labels from 1 on, in the order of the fragments' labels.

    Raises:
        InputError: for affinities that cannot be decoded (see `edges`).
    """
    graph = region_graph(values, offsets, fragments=fragments, quantiles=quantile is not None, threads=threads)
    segments = merges(graph, threshold=threshold, quantile=quantile or 0).until(threshold)
    return segments[fragments]
