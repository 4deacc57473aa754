"""What is done with each block of a volume on the way from affinities to segments, from file to file.

Each stage is work on the blocks: `fragments` labels each by itself, `contacts` finds what belongs together across their
faces, and `labels` writes the segments that became of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from limner.blocks.working import box_of, told_before, write
from limner.cluster import Item, Made
from limner.cluster.work import Step
from limner.files import replacing, zarrays
from limner.files.affinities import StoredAffinities
from limner.instances import REACH, components, contacts, fragments_of, grown, limit_of, without_dust
from limner.space import Array, Block, Box


@dataclass(frozen=True)
class Wanted:
    """Which segments are wanted: all that labels depend on, whatever the blocks.

    Args:
        threshold: from 0 to 1; edges above it connect.
        smallest: voxels of the smallest segment that stays.
        fill: whether segments grow into what is smaller.
        origin: what the affinities are made from, name by name: hashes of how files looked at the beginning.
    """

    threshold: float
    smallest: int
    fill: bool
    origin: tuple[tuple[str, str], ...]

    @property
    def facts(self) -> dict[str, Any]:
        """The same, JSON-ready."""
        chosen = {"threshold": self.threshold, "smallest": self.smallest, "fill": self.fill}
        return {"limner": version("limner"), **dict(self.origin), **chosen}


@dataclass(frozen=True)
class Plan:
    """What is to be done with a store of affinities.

    Args:
        source: the store, absolute.
        work: folder of what is kept on the way, absolute.
        size: (D,) voxels of a block.
        wanted: of it.
    """

    source: Path
    work: Path
    size: tuple[int, ...]
    wanted: Wanted

    def facts(self, stage: str) -> dict[str, Any]:
        """Return what all blocks of a stage have in common, JSON-ready."""
        return {**self.wanted.facts, "block": list(self.size), "stage": stage}


@dataclass(frozen=True)
class Stage:
    """How a process begins to do a stage of a plan, and with how many threads; 0 for one per core."""

    plan: Plan
    name: str
    threads: int = 0

    @property
    def facts(self) -> dict[str, Any]:
        """What all blocks of the stage have in common."""
        return self.plan.facts(self.name)

    def __call__(self) -> Blocks:
        """Open the store."""
        with told_before():
            return STAGES[self.name](self.plan, StoredAffinities.opened(self.plan.source), self.threads)


@dataclass(frozen=True, eq=False)
class Blocks(ABC):
    """Does one stage, block after block.

    Args:
        plan: of all of it.
        source: the affinities.
        threads: that it computes with; 0 for one per core.
    """

    plan: Plan
    source: StoredAffinities
    threads: int
    name: ClassVar[str]
    #: Of what it writes into its store, if it has one.
    dtype: ClassVar[type[np.unsignedinteger[Any]] | None] = None

    @property
    def facts(self) -> Mapping[str, Any]:
        """What all blocks of the stage have in common."""
        return self.plan.facts(self.name)

    @property
    def home(self) -> Path:
        """Folder of the stage."""
        return self.plan.work / self.name

    @cached_property
    def near(self) -> list[int]:
        """The channels of direct neighbours."""
        return [channel for channel, offset in enumerate(self.source.offsets) if sum(map(abs, offset)) == 1]

    def __call__(self, item: Item, *, step: Step) -> Made:
        """Do a block."""
        step(self.name)
        return self.made(box_of(item), item)

    @abstractmethod
    def made(self, box: Box, item: Item) -> Made:
        """Write what comes of a box."""

    def table(self, name: str) -> Path:
        """Return where the numbers of a block are kept."""
        return self.home / f"{name}.npz"

    def fragments(self, box: Box) -> Array:
        """Return the fragments that the voxels of a box are of, numbered block by block, (*box)."""
        return self.stored(Labelled, box)

    def stored(self, stage: type[Blocks], box: Box) -> Array:
        """Return what another stage has written in a box, (*box)."""
        path = store(self.plan.work, stage.name)
        return zarrays.region(zarrays.handle(path, "")[0], box.slices, path=path)

    def write(self, box: Box, labels: Array) -> list[Path]:
        """Write labels (*box) into the stage's store, and return their file; a store has none for zeros alone."""
        return write(store(self.plan.work, self.name), labels, box=box)


class Labelled(Blocks):
    """Labels each block by itself."""

    name, dtype = "fragments", np.uint32

    def made(self, box: Box, item: Item) -> Made:
        """Write the components of a box that may be of a segment, their sizes and their first voxels."""
        offsets = [self.source.offsets[channel] for channel in self.near]
        labels = components(
            self.source.read(box, self.near),
            offsets,
            threshold=self.plan.wanted.threshold,
            threads=self.threads or None,
        )
        labels = without_dust(labels, self._open(box), smallest=self.plan.wanted.smallest)
        found = fragments_of(labels, box, shape=self.source.grid.shape)
        save(self.table(item.name), asdict(found))
        return Made({"fragments": len(found.sizes)}, [self.table(item.name), *self.write(box, labels)])

    def _open(self, box: Box) -> list[tuple[int, int]]:
        """Return axis and index, 0 or -1, of the faces of a box beyond which the volume goes on."""
        ends = enumerate(zip(box.start, box.stop, self.source.grid.shape, strict=True))
        faces = [((axis, 0, start > 0), (axis, -1, stop < size)) for axis, (start, stop, size) in ends]
        return [(axis, index) for pair in faces for axis, index, inner in pair if inner]


class Joined(Blocks):
    """Finds what belongs together across the faces between a block and those before it."""

    name = "contacts"

    def made(self, box: Box, item: Item) -> Made:
        """Write the pairs of fragments that an edge connects, axis by axis."""
        pairs: dict[str, NDArray[np.int64]] = {}
        for channel in self.near:
            (axis,) = np.flatnonzero(self.source.offsets[channel])
            if box.start[axis]:
                found = self._across(box, int(axis), channel=channel)
                pairs[str(axis)] = np.unique(np.concatenate([pairs.get(str(axis), found), found]), axis=0)
        save(self.table(item.name), pairs)
        return Made({}, [self.table(item.name)])

    def _across(self, box: Box, axis: int, *, channel: int) -> NDArray[np.int64]:
        """Return the pairs across the face at the beginning of an axis, (P, 2): the fragment before comes first."""
        after = _section(box, axis, index=box.start[axis])
        before = _section(box, axis, index=box.start[axis] - 1)
        # An edge is stored at the voxel from which its offset leads to the other.
        values = self.source.read(after if self.source.offsets[channel][axis] < 0 else before, [channel])[0]
        joined = values > limit_of(self.plan.wanted.threshold, values.dtype)
        return contacts(self.fragments(before), self.fragments(after), edges=joined)


class Named(Blocks):
    """Writes the segments."""

    name, dtype = "labels", np.uint64

    def made(self, box: Box, item: Item) -> Made:
        """Write the segments of a box."""
        names = np.load(segments(self.plan.work), mmap_mode="r")
        first, last = item.facts["fragments"]
        return Made({}, self.write(box, np.append(np.uint64(0), names[first:last])[self.fragments(box)]))


class Grown(Blocks):
    """Lets segments grow into what was too small to stay, in parts that do not depend on the blocks."""

    name, dtype = "filled", np.uint64

    def made(self, box: Box, item: Item) -> Made:  # noqa: ARG002
        """Write the segments of a box, grown."""
        part = Block(box.grown(REACH).clipped(self.source.grid.shape), box)
        labels = self.stored(Named, part.read)
        names, numbers = np.unique(np.append(labels, np.uint64(0)), return_inverse=True)
        found = grown(
            numbers[:-1].reshape(labels.shape).astype(np.int32),
            self.source.read(part.read, self.near),
            offsets=[self.source.offsets[channel] for channel in self.near],
            threads=self.threads or None,
        )
        return Made({}, self.write(box, names[found[part.inner]]))


STAGES: dict[str, type[Blocks]] = {stage.name: stage for stage in (Labelled, Joined, Named, Grown)}


def store(work: Path, stage: str) -> Path:
    """Return the store of what a stage labels."""
    return work / stage / "voxels.zarr"


def segments(work: Path) -> Path:
    """Return the file of the segment of each fragment."""
    return work / "segments.npy"


def save(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays by name, whole or not at all."""
    with replacing(path) as temporary:
        np.savez(temporary, **arrays)  # type: ignore[arg-type]


def _section(box: Box, axis: int, *, index: int) -> Box:
    """Return the part of a box at an index along an axis."""
    start, stop = list(box.start), list(box.stop)
    start[axis], stop[axis] = index, index + 1
    return Box(tuple(start), tuple(stop))
