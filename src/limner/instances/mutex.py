"""Mutex watershed: the strongest edge decides first, whether two voxels join or stay apart for good.

Source: Wolf et al., ECCV 2018. Edges of equal strength go in the order of their channels and voxels, and those without
any, such as affinities of 0 between neighbours, decide nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from limner.instances.affinities import Edges, edges
from limner.instances.connected import sized
from limner.instances.slabs import each, slabs
from limner.space import Array, Offsets

#: Runs of nearly equal edges that a thread brings into order at once.
RUNS = 4096


def mutex_watershed(
    values: Array,
    offsets: Offsets,
    *,
    strides: Sequence[int] | None = None,
    smallest: int = 1,
    threads: int | None = None,
) -> NDArray[np.int32]:
    """Label voxels by edges in the order of their strength.

    Edges between direct neighbours attract, as strongly as their affinity is high; all others repel, as strongly as it
    is low.

    Args:
        values: (C, *S) affinities. uint8 is sorted as it is, float32 exactly.
        offsets: (C, D) voxels.
        strides: (D,); of the repelling edges only those count whose lower end along each axis lies at a multiple. So
            it does not matter at which end an edge is stored.
        smallest: voxels of the smallest segment that stays; what is smaller becomes 0.
        threads: at most; None: one per core. They sort; the rest is one chain of decisions, and takes one core.

    Returns:
        (*S) labels from 1 on, in the order of their first voxels.

    Raises:
        InputError: for affinities that cannot be decoded (see `edges`).
    """
    from limner.instances.kernels import mutex

    graph = edges(values, offsets, threads=threads)
    shape = graph.values.shape[1:]
    steps = graph.offsets @ np.array([shape[1] * shape[2], shape[2], 1])
    parents = np.arange(np.prod(shape), dtype=np.int32)
    mutex.settle(_sorted(graph, strides=strides, threads=threads), parents.size, steps, ~graph.near, parents)
    labels = np.zeros_like(parents)
    mutex.label(parents, labels)
    sized(labels, smallest)
    return labels.reshape(graph.shape)


def _sorted(graph: Edges, *, strides: Sequence[int] | None, threads: int | None) -> NDArray[np.uint32]:
    """Return the numbers of all edges, channel times N plus voxel, the strongest first."""
    from limner.instances.kernels import mutex

    exact = graph.values.dtype == np.float32
    volume = graph.values[0].size
    every, thinned = np.ones(3, np.int64), np.array([1, *(strides or (1, 1, 1))][-3:], np.int64)
    cursors = np.zeros(mutex.STEPS if exact else 256, np.int64)

    def passed(order: NDArray[np.uint32]) -> None:
        for channel, (values, offset, near) in enumerate(zip(graph.values, graph.offsets, graph.near, strict=True)):
            chosen = every if near else thinned
            mutex.spread(values, not near, offset, chosen, channel * volume, cursors, order)

    passed(np.empty(0, np.uint32))
    order = np.empty(cursors.sum(), np.uint32)
    cursors = np.concatenate([[0], np.cumsum(cursors)[:-1]])
    passed(order)
    if exact:
        flat = graph.values.reshape(len(graph.values), volume)
        starts = np.concatenate([[0], cursors[:-1]])
        each(
            lambda runs: mutex.refine(flat, ~graph.near, order, starts[runs[0]], cursors[slice(*runs)]),
            slabs(len(cursors), RUNS),
            threads=threads,
        )
    return order
