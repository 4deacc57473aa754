"""A volume that no memory holds, from affinities to segments: stage after stage, block after block, marked in ledgers.

What comes out is what the whole volume at once would have given, label for label, whoever does the blocks, in whatever
order, and however often it is killed on the way.
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
from limner.blocks.stages import STAGES, Blocks, Grown, Joined, Labelled, Named, Plan, Stage, Wanted, segments, store
from limner.blocks.working import STEP, Crew, Facts
from limner.cluster import Executor, Ledger, Progress, Serial
from limner.files import replacing
from limner.files.affinities import StoredAffinities
from limner.files.nanometres import attributes
from limner.instances import PART, Fragments, stitched
from limner.space import Box

#: Voxels along each axis of a block, unless memory asks for fewer.
BLOCK = 256
#: Bytes that a voxel of a block takes for each byte of its affinities, and beside them.
READ, BESIDE = 2.5, 24.0
#: What a process takes before it reads anything, bytes.
LOADED = 0.35e9


def segment_blocks(
    source: Path,
    out: Path,
    *,
    threshold: float,
    smallest: int = 1,
    block: int | None = None,
    executor: Executor | None = None,
    redo: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write the components of affinities (see `instances.components`) that may be larger than memory.

    The same call again goes on where it was stopped. What is kept on the way lies beside `out`, and goes at the end.

    Args:
        source: `.zarr` of affinities, with their offsets (see `files.affinities`).
        out: `.zarr` for the labels, uint64; it appears whole or not at all.
        threshold: from 0 to 1; edges above it connect.
        smallest: voxels of the smallest segment that stays; what is smaller becomes 0.
        block: voxels along each axis of a block; as many as the executor's memory allows, unless given. The labels do
            not depend on it.
        executor: does the blocks; this process, one after another, unless given.
        redo: whether to begin anew.
        progress: told how far it has come, stage by stage.

    Returns:
        How many segments there are.

    Raises:
        InputError: for affinities that cannot be used, an `out` that was made otherwise, a block that failed twice, or
            what the disk refuses. Nothing that is finished is lost.
    """
    check.block_output(source, out)
    check.existing_store(source)
    wanted = Wanted(threshold, smallest, fill=False, origin=(("affinities", working.state(source)),))
    crew = Crew(executor or Serial(), progress or Progress())
    return connect(source, out, wanted=wanted, crew=crew, block=block, redo=redo)


def connect(
    source: Path, out: Path, *, wanted: Wanted, crew: Crew, block: int | None = None, redo: bool = False
) -> int:
    """Write the components of affinities, and return how many there are.

    Args:
        source: `.zarr` of affinities.
        out: `.zarr` for the labels.
        wanted: which components, and what they are known to be made from.
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
    size = block or block_size(affinities, crew.executor.memory)
    shape = affinities.grid.shape
    plan = Plan(source.absolute(), working.work_of(out), working.fitted(size, shape), wanted)
    _clear(plan, redo=redo)
    run = _Run(plan, affinities, crew)
    run.through(Labelled)
    run.through(Joined)
    ranges, count = run.named()
    run.through(Named, ranges)
    if wanted.fill:
        run.through(Grown)
    working.publish(store(plan.work, (Grown if wanted.fill else Named).name), out, facts=wanted.facts, segments=count)
    return count


def block_size(affinities: StoredAffinities, memory: float | None) -> int:
    """Return how many voxels along each axis a block may have, of which a process takes `memory` bytes at most.

    Raises:
        InputError: if not even the smallest block fits.
    """
    if memory is None:
        return BLOCK
    D = len(affinities.grid.shape)
    each = READ * D * affinities.array.dtype.itemsize + BESIDE
    size = int(((memory - LOADED) / each) ** (1 / D)) if memory > LOADED else 0
    check.block_fits(memory, needed=LOADED + each * STEP**D, fits=size >= STEP)
    return min(size // STEP * STEP, BLOCK)


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

    def through(self, stage: type[Blocks], more: dict[str, Facts] | None = None) -> None:
        """Do a stage, in which blocks may know `more` by name.

        Raises:
            InputError: if a block failed again.
        """
        grid, home = self.affinities.grid, self.plan.work / stage.name
        size = working.fitted(PART, grid.shape) if stage is Grown else self.plan.size
        if stage.dtype:
            path = store(self.plan.work, stage.name)
            working.allocate(path, grid.shape, dtype=stage.dtype, told=attributes(grid), shards=size)
        asked = Stage(self.plan, stage.name, self.crew.executor.threads)
        self.crew.work(asked, working.boxes(grid.shape, size), home=home, more=more)

    def named(self) -> tuple[dict[str, Facts], int]:
        """Write which segment each fragment is of; return each block's fragments by name, and the segments' number."""
        sizes = list(self._known("sizes"))
        starts = np.cumsum([0, *map(len, sizes)])
        first = dict(zip(self.boxes, starts.tolist(), strict=False))
        whole = Fragments(np.concatenate(sizes), np.concatenate(list(self._known("firsts"))))
        del sizes
        smallest = self.plan.wanted.smallest
        found, count = stitched(whole, self._pairs(first), smallest=smallest)
        if not count:
            warnings.warn(check.no_segment(f"a smallest size of {smallest} voxels"), stacklevel=4)
        with replacing(segments(self.plan.work)) as temporary:
            np.save(temporary, found)
        ranges = zip(self.boxes, starts[:-1].tolist(), starts[1:].tolist(), strict=True)
        return {name: {"fragments": [begin, end]} for name, begin, end in ranges}, count

    def _known(self, key: str) -> Iterator[NDArray[np.int64]]:
        """Yield what each block has kept of its fragments, one file open at a time."""
        for name in self.boxes:
            with np.load(self._table(Labelled, name)) as table:
                yield table[key]

    def _pairs(self, first: dict[str, int]) -> Iterator[NDArray[np.int64]]:
        """Yield the fragments that belong together across each face, numbered throughout from 0 on."""
        names = {box.start: name for name, box in self.boxes.items()}
        for name, box in self.boxes.items():
            with np.load(self._table(Joined, name)) as table:
                for axis, found in table.items():
                    before = list(box.start)
                    before[int(axis)] -= self.plan.size[int(axis)]
                    yield found + np.array([first[names[tuple(before)]], first[name]]) - 1

    def _table(self, stage: type[Blocks], name: str) -> Path:
        return stage(self.plan, self.affinities, self.crew.executor.threads).table(name)


def _clear(plan: Plan, *, redo: bool) -> None:
    """Delete what is half done if it is to be done anew, or was begun with other blocks, after a warning of that."""
    known = Ledger.known(plan.work / Labelled.name / "ledger")
    now = plan.facts(Labelled.name)
    other = known is not None and known["block"] != now["block"] and {**known, "block": now["block"]} == now
    if other and known:
        warnings.warn(check.other_blocks(known["block"], now["block"]), stacklevel=4)
    if redo or other:
        for stage in STAGES:
            shutil.rmtree(plan.work / stage, ignore_errors=True)
