"""Components, block by block: what edges above a threshold connect, in each and across their faces."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from limner.blocks.stages import CONTACTS, FRAGMENTS, LABELS, Blocks, segments
from limner.blocks.working import name_at
from limner.cluster import Item, Made
from limner.instances import components, contacts, fragments_of, limit_of, without_dust
from limner.space import Box


class Labelled(Blocks):
    """Labels each block by itself."""

    name, dtype = FRAGMENTS, np.uint32

    def made(self, box: Box, item: Item) -> Made:
        """Write the components of a box that may be of a segment, their sizes and their first voxels."""
        values, offsets = self.read(box)
        by = self.plan.wanted.by
        labels = components(values, offsets, threshold=by.threshold, threads=self.threads or None)
        labels = without_dust(labels, self._open(box), smallest=by.smallest)
        found = fragments_of(labels, box, shape=self.source.grid.shape)
        return self.kept(item, asdict(found), files=self.write(box, labels), fragments=len(found.sizes))

    def _open(self, box: Box) -> list[tuple[int, int]]:
        """Return axis and index, 0 or -1, of the faces of a box beyond which the volume goes on."""
        ends = enumerate(zip(box.start, box.stop, self.source.grid.shape, strict=True))
        faces = [((axis, 0, start > 0), (axis, -1, stop < size)) for axis, (start, stop, size) in ends]
        return [(axis, index) for pair in faces for axis, index, inner in pair if inner]


class Joined(Blocks):
    """Finds what belongs together across the faces between a block and those before it."""

    name = CONTACTS

    def made(self, box: Box, item: Item) -> Made:
        """Write the pairs of fragments that an edge connects, by the name of the block before."""
        pairs: dict[str, NDArray[np.int64]] = {}
        for channel in self.near:
            (axis,) = np.flatnonzero(self.source.offsets[channel])
            if box.start[axis]:
                found = self._across(box, int(axis), channel=channel)
                name = name_at(
                    first - (self.plan.size[axis] if along == axis else 0) for along, first in enumerate(box.start)
                )
                pairs[name] = np.unique(np.concatenate([pairs.get(name, found), found]), axis=0)
        return self.kept(item, pairs)

    def _across(self, box: Box, axis: int, *, channel: int) -> NDArray[np.int64]:
        """Return the pairs across the face at the beginning of an axis, (P, 2): the fragment before comes first."""
        after = _section(box, axis, index=box.start[axis])
        before = _section(box, axis, index=box.start[axis] - 1)
        # An edge is stored at the voxel from which its offset leads to the other.
        values = self.source.read(after if self.source.offsets[channel][axis] < 0 else before, [channel])[0]
        joined = values > limit_of(self.plan.wanted.by.threshold, values.dtype)
        return contacts(self.fragments(before), self.fragments(after), edges=joined)


class Named(Blocks):
    """Writes the segments of fragments that are numbered block by block."""

    name, dtype = LABELS, np.uint64

    def made(self, box: Box, item: Item) -> Made:
        """Write the segments of a box."""
        names = np.load(segments(self.plan.work), mmap_mode="r")
        first, last = item.facts["fragments"]
        return Made({}, self.write(box, np.append(np.uint64(0), names[first:last])[self.fragments(box)]))


def _section(box: Box, axis: int, *, index: int) -> Box:
    """Return the part of a box at an index along an axis."""
    start, stop = list(box.start), list(box.stop)
    start[axis], stop[axis] = index, index + 1
    return Box(tuple(start), tuple(stop))
