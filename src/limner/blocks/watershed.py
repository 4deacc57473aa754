"""Watershed and agglomeration, block by block: fragments, where they go on, and which touch.

A block's fragments are parts of whole ones, and those are the ones of `instances.fragments`: what decides where a voxel
climbs to lies within a few voxels, which are read around the block, and membranes are flooded in the same parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

from limner.blocks.stages import (
    CONTACTS,
    FRAGMENTS,
    GRAPH,
    LABELS,
    WHOLE,
    Blocks,
    segments,
    starts,
    table,
    wholes,
)
from limner.blocks.working import name_at
from limner.cluster import Item, Made
from limner.instances import REACH, assembled, fragments_of, fragments_within, grown, region_graph
from limner.space import Array, Block, Box


class Climbed(Blocks):
    """Lets the voxels of each block climb."""

    name, dtype = FRAGMENTS, np.uint32

    def made(self, box: Box, item: Item) -> Made:
        """Write the fragments in a box, their sizes and first voxels, and into which voxels beyond it they go on."""
        climb, shape = self.plan.wanted.by.climb, self.source.grid.shape
        around = box.grown(climb.context).clipped(shape)
        values, offsets = self.read(around)
        inner = box.moved([-first for first in around.start])
        labels, own, there = fragments_within(values, offsets, by=climb, inner=inner, threads=self.threads or None)
        found = fragments_of(labels, box, shape=shape)
        beyond = np.ravel_multi_index(tuple((there + around.start).T), shape)
        links = np.unique(np.stack([own, beyond], axis=1), axis=0)
        told = {**asdict(found), "links": links}
        return self.kept(item, told, files=self.write(box, labels), fragments=len(found.sizes))


class Linked(Blocks):
    """Finds which fragments lie where those of a block go on."""

    name = CONTACTS

    def made(self, box: Box, item: Item) -> Made:  # noqa: ARG002
        """Write the pairs of fragments that are one, by the name of the other block, whose fragment comes first."""
        with np.load(table(self.plan.work, FRAGMENTS, block=item.name)) as told:
            own, beyond = told["links"].T
        places = np.stack(np.unravel_index(beyond, self.source.grid.shape), axis=1)
        others, which = np.unique(places // self.plan.size, axis=0, return_inverse=True)
        pairs = {}
        for number, other in enumerate(others):
            some = places[which == number]
            region = Box(tuple(some.min(axis=0)), tuple(some.max(axis=0) + 1))
            theirs = self.fragments(region)[tuple((some - region.start).T)]
            pairs[name_at(other * self.plan.size)] = np.unique(np.stack([theirs, own[which == number]], axis=1), axis=0)
        return self.kept(item, pairs)


class Whole(Blocks):
    """Lets whole fragments grow into membranes, in parts that do not depend on the blocks."""

    name, dtype = WHOLE, np.uint32

    def made(self, box: Box, item: Item) -> Made:
        """Write the whole fragments in a box, grown, and how many voxels of it each has."""
        by, part = self.plan.wanted.by, Block(box.grown(REACH).clipped(self.source.grid.shape), box)
        numbers, names = self._numbered(part.read)
        values, offsets = self.read(part.read)
        found = grown(numbers, values, offsets=offsets, sections=by.sections, threads=self.threads or None)[part.inner]
        sizes = np.bincount(found.reshape(-1), minlength=len(names))
        told = {"fragments": names[sizes > 0], "sizes": sizes[sizes > 0]}
        return self.kept(item, told, files=self.write(box, names[found].astype(np.uint32)))

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """How many fragments the blocks before each one have."""
        found: NDArray[np.int64] = np.load(starts(self.plan.work))
        return found

    def _numbered(self, box: Box) -> tuple[NDArray[np.int32], Array]:
        """Return the whole fragments in a box, numbered from 1 on (*box), and their labels, (F + 1,), 0 first."""
        whole, pieces = np.load(wholes(self.plan.work), mmap_mode="r"), list(self._pieces(box))
        tables = [np.append(np.uint64(0), whole[self.starts[number] : self.starts[number + 1]]) for number, _ in pieces]
        names = np.unique(np.concatenate(tables))
        numbers = np.empty(box.shape, np.int32)
        for (_, part), labels in zip(pieces, tables, strict=True):
            place = part.moved([-first for first in box.start]).slices
            numbers[place] = np.searchsorted(names, labels).astype(np.int32)[self.fragments(part)]
        return numbers, names

    def _pieces(self, box: Box) -> Iterator[tuple[int, Box]]:
        """Yield the numbers of the blocks that a box has voxels of, and where these lie."""
        size, shape = np.array(self.plan.size), self.source.grid.shape
        first, last = np.array(box.start) // size, -(-np.array(box.stop) // size)
        for there in product(*map(range, first, last)):
            start = tuple(there * size)
            part = Box(start, tuple(start + size)).intersected(box)
            yield int(np.ravel_multi_index(there, tuple(-(-np.array(shape) // size)))), part


class Touching(Blocks):
    """Finds which whole fragments touch, and the affinities between them."""

    name = GRAPH

    def made(self, box: Box, item: Item) -> Made:
        """Write the graph of the edges that are stored in a box."""
        shape, quantiles = self.source.grid.shape, self.plan.wanted.by.kind == "quantile"
        around = box.grown(1).clipped(shape)
        labels, parts = self.stored(WHOLE, around).astype(np.int32), []
        for channel in self.near:
            offsets = [self.source.offsets[channel]]
            # Of the channel's edges within this region all are stored in the box: the others lead outside.
            region = _reached(box, offsets[0]).clipped(shape)
            some = labels[region.moved([-first for first in around.start]).slices]
            values, threads = self.source.read(region, [channel]), self.threads or None
            parts.append(region_graph(values, offsets, fragments=some, quantiles=quantiles, threads=threads))
        graph = assembled(parts, nodes=0)
        return self.kept(item, {"ends": graph.ends, "statistics": graph.statistics}, edges=len(graph.ends))


class Merged(Blocks):
    """Writes the segments of whole fragments."""

    name, dtype = LABELS, np.uint64

    def made(self, box: Box, item: Item) -> Made:  # noqa: ARG002
        """Write the segments of a box."""
        names = np.load(segments(self.plan.work), mmap_mode="r")
        return Made({}, self.write(box, np.asarray(names[self.stored(WHOLE, box)])))


def _reached(box: Box, offset: tuple[int, ...]) -> Box:
    """Return a box, grown to where an offset leads."""
    start, stop = ([*map(sum, zip(end, offset, strict=True))] for end in (box.start, box.stop))
    return Box(tuple(map(min, box.start, start)), tuple(map(max, box.stop, stop)))
