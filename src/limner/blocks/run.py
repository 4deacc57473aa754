"""A volume that no memory holds, from affinities to segments: stage after stage, block after block, marked in ledgers.

Which segment each fragment is of is decided between stages, in one process: by a union-find, and for agglomeration on
the graph of the whole volume.

What comes out is what the whole volume at once would have given, label for label (with the mutex watershed, nearly),
whoever does the blocks, in whatever order, and however often it is killed on the way.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limner import check
from limner.blocks import working
from limner.blocks.components import Joined, Labelled, Named
from limner.blocks.mutex import Agreed, Settled, overlap
from limner.blocks.stages import (
    CONTACTS,
    FILLED,
    FRAGMENTS,
    GRAPH,
    LABELS,
    STAGES,
    WHOLE,
    Blocks,
    Grown,
    Plan,
    Stage,
    Wanted,
    segments,
    starts,
    store,
    table,
    wholes,
)
from limner.blocks.watershed import Climbed, Linked, Merged, Touching, Whole
from limner.blocks.working import STEP, Crew, Facts
from limner.cluster import Executor, Ledger, Outcome, Progress, Serial
from limner.files import replacing
from limner.files.affinities import StoredAffinities
from limner.files.nanometres import attributes
from limner.instances import PART, REACH, Fragments, RegionGraph, assembled, merges, settled, stitched
from limner.instances.decoding import Decoder
from limner.space import Array, Box

#: Voxels along each axis of a block, unless memory asks for fewer.
BLOCK = 256
#: Bytes that a voxel of a block takes for each byte of its affinities, and beside them.
READ, BESIDE = 2.5, 24.0
#: What a voxel of a block takes beside these where histograms are kept, bytes.
HISTOGRAMS = 20.0
#: What the mutex watershed takes for a voxel and an affinity, bytes.
MUTEX = 6.0
#: What a process takes before it reads anything, bytes.
LOADED = 0.35e9
#: What an edge between two fragments takes in the process that merges them, bytes.
EDGE = {"mean": 250.0, "quantile": 4500.0}

#: The stages of decoders that only join what blocks have labelled.
JOINED: dict[str, tuple[type[Blocks], type[Blocks]]] = {"components": (Labelled, Joined), "mutex": (Settled, Agreed)}


def segment_blocks(
    source: Path,
    out: Path,
    *,
    by: Decoder,
    block: int | None = None,
    executor: Executor | None = None,
    redo: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write the segments of affinities that may be larger than memory.

    They are those of the whole at once, label for label; with the mutex watershed, nearly those.

    The same call again goes on where it was stopped. What is kept on the way lies beside `out`, and goes at the end.

    Args:
        source: `.zarr` of affinities, with their offsets (see `files.affinities`).
        out: `.zarr` for the labels, uint64; it appears whole or not at all.
        by: the decoder. What is smaller than its smallest segment becomes 0.
        block: voxels along each axis of a block; as many as the executor's memory allows, unless given. The labels do
            not depend on it.
        executor: does the blocks; this process, one after another, unless given.
        redo: whether to begin anew.
        progress: told how far it has come, stage by stage.

    Returns:
        How many segments there are.

    Raises:
        InputError: for affinities that cannot be used, an `out` that was made otherwise, a block that failed twice, or
            what the disk refuses, or a graph of fragments that memory does not hold. Nothing that is finished is lost.
    """
    check.block_output(source, out)
    check.existing_store(source)
    wanted = Wanted(by, fill=False, origin=(("affinities", working.state(source)),))
    crew = Crew(executor or Serial(), progress or Progress())
    return connect(source, out, wanted=wanted, crew=crew, block=block, redo=redo)


def connect(
    source: Path, out: Path, *, wanted: Wanted, crew: Crew, block: int | None = None, redo: bool = False
) -> int:
    """Write the segments of affinities, and return how many there are.

    Args:
        source: `.zarr` of affinities.
        out: `.zarr` for the labels.
        wanted: which segments, and what they are known to be made from.
        crew: does it.
        block: voxels along each axis of a block, if it is not for memory to say.
        redo: whether to begin anew.

    Raises:
        InputError: as `segment_blocks` does.
    """
    found = None if redo else working.finished(out, facts=wanted.facts)
    if found:
        return int(found["segments"])
    affinities = StoredAffinities.opened(source)
    if not any(sum(map(abs, offset)) == 1 for offset in affinities.offsets):
        raise check.no_nearest(affinities.offsets)
    size = block or block_size(affinities, crew.executor.memory, by=wanted.by)
    shape = affinities.grid.shape
    plan = Plan(source.absolute(), working.work_of(out), working.fitted(size, shape), wanted)
    _clear(plan, redo=redo)
    run = _Run(plan, affinities, crew)
    count = run.agglomerated() if wanted.by.kind in EDGE else run.joined()
    if not count:
        least = f"a smallest size of {wanted.by.smallest} voxels"
        warnings.warn(
            check.no_segment(least if wanted.by.smallest > 1 else f"membrane {wanted.by.membrane:g}"), stacklevel=3
        )
    if wanted.fill:
        run.through(Grown)
    last = store(plan.work, FILLED if wanted.fill else LABELS)
    working.publish(last, out, facts=wanted.facts, progress=crew.progress, segments=count)
    return count


def block_size(affinities: StoredAffinities, memory: float | None, *, by: Decoder) -> int:
    """Return how many voxels along each axis a block may have, of which a process takes `memory` bytes at most.

    Raises:
        InputError: if not even the smallest block fits.
    """
    if memory is None:
        return BLOCK
    sizes = range(BLOCK, 0, -STEP)
    needed = {size: block_memory(affinities, size, by=by) for size in sizes}
    check.block_fits(memory, needed=needed[STEP], fits=needed[STEP] <= memory)
    return next(size for size in sizes if needed[size] <= memory)


def block_memory(affinities: StoredAffinities, size: int, *, by: Decoder) -> float:
    """Return about how many bytes a process takes that does blocks of `size` voxels along each axis."""
    D = len(affinities.grid.shape)
    each: float = READ * D * affinities.array.dtype.itemsize + BESIDE
    if by.kind == "components":
        return LOADED + each * float(size**D)
    if by.kind == "mutex":
        each = len(affinities.offsets) * (READ * affinities.array.dtype.itemsize + MUTEX) + BESIDE
        return LOADED + each * float((size + 2 * overlap(affinities.offsets)) ** D)
    # Voxels that climb look around, and so do the parts in which membranes are flooded.
    read: int = max((size + 2 * by.climb.context) ** D, (PART + 2 * REACH) ** D)
    return LOADED + each * read + (HISTOGRAMS * size**D if by.kind == "quantile" else 0)


@dataclass(frozen=True, eq=False)
class _Run:
    """A plan on its way."""

    plan: Plan
    affinities: StoredAffinities
    crew: Crew

    @cached_property
    def boxes(self) -> dict[str, Box]:
        """The blocks by name."""
        return working.boxes(self.affinities.grid.shape, self.plan.size)

    def through(self, stage: type[Blocks], more: dict[str, Facts] | None = None) -> list[Outcome]:
        """Do a stage, in which blocks may know `more` by name, and return what came of them.

        Raises:
            InputError: if a block failed again.
        """
        grid, home = self.affinities.grid, self.plan.work / stage.name
        if stage.dtype:
            path = store(self.plan.work, stage.name)
            working.allocate(path, grid.shape, dtype=stage.dtype, told=attributes(grid), shards=self._size(stage))
        asked = Stage(self.plan, stage, self.crew.executor.threads)
        return self.crew.work(asked, self._boxes(stage), home=home, more=more)

    def joined(self) -> int:
        """Write what the labels of blocks become where they are joined, and return how many segments there are."""
        by = self.plan.wanted.by
        for stage in JOINED[by.kind]:
            self.through(stage)
        begins, told = self._told()
        if by.kind == "mutex":
            apart, alike = self._apart(begins), np.concatenate([np.empty((0, 3), np.int64), *self._pairs(begins)])
            found, count = settled(told, apart=apart, alike=alike, smallest=by.smallest)
        else:
            found, count = stitched(told, self._pairs(begins), smallest=by.smallest)
        _save(segments(self.plan.work), found)
        ranges = zip(self.boxes, begins[:-1].tolist(), begins[1:].tolist(), strict=True)
        self.through(Named, {name: {"fragments": [begin, end]} for name, begin, end in ranges})
        return count

    def _apart(self, begins: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the fragments that a block told apart, (R, 2), numbered throughout from 0 on."""
        found = []
        for name, begin in zip(self.boxes, begins.tolist(), strict=False):
            with np.load(table(self.plan.work, FRAGMENTS, block=name)) as told:
                found.append(told["apart"].astype(np.int64) + (begin - 1))
        return np.concatenate(found)

    def agglomerated(self) -> int:
        """Write what fragments merge into, and return how many segments there are."""
        self.through(Climbed)
        self.through(Linked)
        begins, told = self._told()
        whole, number = stitched(told, self._pairs(begins))
        check.countable(number)
        _save(wholes(self.plan.work), whole)
        _save(starts(self.plan.work), begins)
        self.through(Whole)
        edges = sum(one.record["edges"] for one in self.through(Touching))
        if memory := self.crew.executor.memory:
            check.graph_fits(memory, needed=EDGE[self.plan.wanted.by.kind] * edges, edges=edges)
        found, count = self._merged(number + 1)
        _save(segments(self.plan.work), found)
        self.through(Merged)
        return count

    def _size(self, stage: type[Blocks]) -> tuple[int, ...]:
        """Return the voxels of a stage's blocks."""
        return working.fitted(PART, self.affinities.grid.shape) if stage in {Grown, Whole} else self.plan.size

    def _boxes(self, stage: type[Blocks]) -> dict[str, Box]:
        """Return a stage's blocks by name."""
        return working.boxes(self.affinities.grid.shape, self._size(stage))

    def _told(self) -> tuple[NDArray[np.int64], Fragments]:
        """Return how many fragments the blocks before each one have, and what is told of all of them."""
        sizes, firsts = [], []
        for name in self.boxes:
            with np.load(table(self.plan.work, FRAGMENTS, block=name)) as found:
                sizes.append(found["sizes"])
                firsts.append(found["firsts"])
        begins = np.cumsum([0, *map(len, sizes)])
        return begins, Fragments(np.concatenate(sizes), np.concatenate(firsts))

    def _pairs(self, begins: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """Yield the fragments of two blocks that belong together, numbered throughout from 0 on, and what is told."""
        first = dict(zip(self.boxes, begins.tolist(), strict=False))
        for name in self.boxes:
            with np.load(table(self.plan.work, CONTACTS, block=name)) as found:
                for other, pairs in found.items():
                    pairs[:, :2] += np.array([first[other], first[name]]) - 1
                    yield pairs

    def _merged(self, nodes: int) -> tuple[NDArray[np.uint64], int]:
        """Return the segment that each whole fragment is of, (nodes,), and how many segments there are."""
        by = self.plan.wanted.by
        graph = assembled([self._graph(name) for name in self.boxes], nodes=nodes)
        names = merges(graph, threshold=by.threshold, quantile=by.quantile).until(by.threshold)
        voxels = np.zeros(nodes, np.int64)
        for name in self._boxes(Whole):
            with np.load(table(self.plan.work, WHOLE, block=name)) as found:
                np.add.at(voxels, names[found["fragments"]], found["sizes"])
        kept = voxels >= by.smallest
        kept[0] = False
        return np.where(kept, np.cumsum(kept), 0).astype(np.uint64)[names], int(kept.sum())

    def _graph(self, name: str) -> RegionGraph:
        """Return the graph of a block."""
        with np.load(table(self.plan.work, GRAPH, block=name)) as found:
            return RegionGraph(found["ends"], found["statistics"], 0)


def _save(path: Path, array: Array) -> None:
    """Write an array, whole or not at all."""
    with replacing(path) as temporary:
        np.save(temporary, array)


def _clear(plan: Plan, *, redo: bool) -> None:
    """Delete what is half done if it is to be done anew, or was begun with other blocks, after a warning of that."""
    known = Ledger.known(plan.work / FRAGMENTS / "ledger")
    now = plan.facts(FRAGMENTS)
    other = known is not None and known["block"] != now["block"] and {**known, "block": now["block"]} == now
    if other and known:
        warnings.warn(check.other_blocks(known["block"], now["block"]), stacklevel=4)
    if redo or other:
        for stage in STAGES:
            shutil.rmtree(plan.work / stage, ignore_errors=True)
