"""What is done with each block of a volume on the way from affinities to segments, from file to file.

Each stage is work on the blocks. Decoders begin with two of their own (`components`, `watershed`, `mutex`): `fragments`
labels each block, and `contacts` finds what belongs together across their faces. When it is decided which segment each
of the fragments is of, `labels` writes the segments.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from limner.blocks.working import box_of, told_before, write
from limner.cluster import Item, Made
from limner.cluster.work import Step
from limner.files import replacing, zarrays
from limner.files.affinities import StoredAffinities
from limner.instances import REACH, grown
from limner.instances.decoding import Decoder
from limner.space import Array, Block, Box

#: The stages, in their order; those in the middle are of agglomeration alone.
FRAGMENTS, CONTACTS, WHOLE, GRAPH, LABELS, FILLED = STAGES = (
    "fragments",
    "contacts",
    "whole",
    "graph",
    "labels",
    "filled",
)


@dataclass(frozen=True)
class Wanted:
    """Which segments are wanted: all that labels depend on, whatever the blocks.

    Args:
        by: the decoder.
        fill: whether segments grow into what is smaller than the smallest that stays.
        origin: what the affinities are made from, name by name: hashes of how files looked at the beginning.
    """

    by: Decoder
    fill: bool
    origin: tuple[tuple[str, str], ...]

    @property
    def facts(self) -> dict[str, Any]:
        """The same, JSON-ready."""
        return {
            "limner": version("limner"),
            **dict(self.origin),
            "decoder": self.by.kind,
            **self.by.used,
            "fill": self.fill,
        }


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
    work: type[Blocks]
    threads: int = 0

    @property
    def name(self) -> str:
        """In a word."""
        return self.work.name

    @property
    def facts(self) -> dict[str, Any]:
        """What all blocks of the stage have in common."""
        return self.plan.facts(self.name)

    def __call__(self) -> Blocks:
        """Open the store."""
        with told_before():
            return self.work(self.plan, StoredAffinities.opened(self.plan.source), self.threads)


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

    def read(self, box: Box) -> tuple[Array, list[tuple[int, ...]]]:
        """Return the affinities of direct neighbours in a box, (C, *box), and their offsets (C, D)."""
        return self.source.read(box, self.near), [self.source.offsets[channel] for channel in self.near]

    def kept(self, item: Item, arrays: Mapping[str, Array], *, files: Sequence[Path] = (), **told: int) -> Made:
        """Write arrays of a block by name, and tell of them, and of `files` that it wrote beside."""
        path = table(self.plan.work, self.name, block=item.name)
        with replacing(path) as temporary:
            np.savez(temporary, **arrays)  # type: ignore[arg-type]
        return Made(told, [path, *files])

    def fragments(self, box: Box) -> Array:
        """Return the fragments that the voxels of a box are of, numbered block by block, (*box); 0 for none."""
        return self.stored(FRAGMENTS, box)

    def stored(self, stage: str, box: Box) -> Array:
        """Return what another stage has written in a box, (*box)."""
        path = store(self.plan.work, stage)
        return zarrays.region(zarrays.handle(path, "")[0], box.slices, path=path)

    def write(self, box: Box, labels: Array) -> list[Path]:
        """Write labels (*box) into the stage's store, and return their file; a store has none for zeros alone."""
        return write(store(self.plan.work, self.name), labels, box=box)


class Grown(Blocks):
    """Lets segments grow into what was too small to stay, in parts that do not depend on the blocks."""

    name, dtype = FILLED, np.uint64

    def made(self, box: Box, item: Item) -> Made:  # noqa: ARG002
        """Write the segments of a box, grown."""
        part = Block(box.grown(REACH).clipped(self.source.grid.shape), box)
        labels = self.stored(LABELS, part.read)
        names, numbers = np.unique(np.append(labels, np.uint64(0)), return_inverse=True)
        values, offsets = self.read(part.read)
        solid = numbers[:-1].reshape(labels.shape).astype(np.int32)
        found = grown(solid, values, offsets=offsets, threads=self.threads or None)
        return Made({}, self.write(box, names[found[part.inner]]))


def store(work: Path, stage: str) -> Path:
    """Return the store of what a stage labels."""
    return work / stage / "voxels.zarr"


def segments(work: Path) -> Path:
    """Return the file of the segment of each fragment."""
    return work / "segments.npy"


def wholes(work: Path) -> Path:
    """Return the file of the whole fragment that each of a block's is a part of."""
    return work / "wholes.npy"


def starts(work: Path) -> Path:
    """Return the file of how many fragments the blocks before each one have, one more than there are blocks."""
    return work / "starts.npy"


def table(work: Path, stage: str, *, block: str) -> Path:
    """Return the file of the numbers that a stage keeps of a block."""
    return work / stage / f"{block}.npz"
