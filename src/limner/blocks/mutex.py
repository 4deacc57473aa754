"""The mutex watershed, block by block, by overlap and agreement: not quite what the whole at once gives.

Its decisions come in one order for the whole volume, so that no part of it can be known from the part alone. Blocks
are decoded with some voxels around. Where a block and the next one have both labelled the same voxels, labels that have
more than half of each other's voxels are alike, and become one, those that share most voxels first, unless that would
join two that touch in a block, where they were told apart (see `instances.settled`).

Source: Wolf et al., ECCV 2018, whose algorithm decides in the blocks and again between their labels; overlap and
agreement are our own.
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from limner.blocks.stages import CONTACTS, FRAGMENTS, Blocks, table
from limner.blocks.working import name_at
from limner.cluster import Item, Made
from limner.instances import agreed, fragments_of, mutex_watershed, region_graph
from limner.space import Box, Offsets


def overlap(offsets: Offsets) -> int:
    """Return how many voxels around a block are decoded with it: twice as far as the farthest edge reaches."""
    return 2 * max(max(map(abs, offset)) for offset in offsets)


class Settled(Blocks):
    """Labels each block, and what lies around it, by itself."""

    name, dtype = FRAGMENTS, np.uint32

    def made(self, box: Box, item: Item) -> Made:
        """Write the labels of a box, which of them touch, and how they go on into the blocks after it."""
        around, threads = self._around(box), self.threads or None
        away, strides = [-first for first in around.start], self.plan.wanted.by.strides or None
        labels = mutex_watershed(self.source.read(around), self.source.offsets, strides=strides, threads=threads)
        inner = box.moved(away).slices
        names = _numbered(labels[inner], int(labels.max(initial=0)))
        own = names[labels[inner]]
        found = fragments_of(own, box, shape=self.source.grid.shape)
        values, offsets = self.read(box)
        apart = region_graph(values, offsets, fragments=own, threads=threads).ends
        beyond = {_key(axis): self.beyond(box, axis).moved(away).slices for axis in range(len(box.start))}
        told = {**asdict(found), "apart": apart, **{key: names[labels[place]] for key, place in beyond.items()}}
        return self.kept(item, told, files=self.write(box, own), fragments=len(found.sizes))

    def _around(self, box: Box) -> Box:
        """Return a box with what is decoded around it; it begins where strides do, as in the whole."""
        wide = box.grown(overlap(self.source.offsets)).clipped(self.source.grid.shape)
        strides = (1, 1, 1, *self.plan.wanted.by.strides)[-len(box.start) :]
        return Box(tuple(first - first % stride for first, stride in zip(wide.start, strides, strict=True)), wide.stop)

    def beyond(self, box: Box, axis: int) -> Box:
        """Return what lies behind a box along an axis, half as far as it is decoded, where that is still well known."""
        far = min(overlap(self.source.offsets) // 2, self.plan.size[axis])
        start, stop = list(box.start), list(box.stop)
        start[axis], stop[axis] = box.stop[axis], box.stop[axis] + far
        return Box(tuple(start), tuple(stop)).clipped(self.source.grid.shape)


class Agreed(Blocks):
    """Finds which labels of a block mean the same as those of the blocks before it."""

    name = CONTACTS

    def made(self, box: Box, item: Item) -> Made:
        """Write the pairs of labels that are alike, and their voxels, by the name of the block before."""
        pairs: dict[str, NDArray[np.int64]] = {}
        for axis in np.flatnonzero(box.start):
            name = name_at(np.array(box.start) - np.eye(len(box.start), dtype=int)[axis] * self.plan.size)
            with np.load(table(self.plan.work, FRAGMENTS, block=name)) as told:
                theirs = told[_key(int(axis))]
            shared = Box(box.start, tuple(first + size for first, size in zip(box.start, theirs.shape, strict=True)))
            pairs[name] = agreed(theirs, self.fragments(shared))
        return self.kept(item, pairs)


def _key(axis: int) -> str:
    """Return the name of the labels behind a block along an axis."""
    return f"beyond-{axis}"


def _numbered(labels: NDArray[np.int32], last: int) -> NDArray[np.int32]:
    """Return new names of labels up to the last, (last + 1,): 1, 2, ... by first voxels in `labels` (*S), or 0."""
    there, firsts = np.unique(labels, return_index=True)
    there = there[np.argsort(firsts)]
    there = there[there > 0]
    names = np.zeros(last + 1, np.int32)
    names[there] = np.arange(1, len(there) + 1, dtype=np.int32)
    return names
