"""A volume that no memory holds, from affinities to segments: stage after stage, block after block, marked in ledgers.

What comes out is what the whole volume at once would have given, label for label, whoever does the blocks, in whatever
order, and however often it is killed on the way.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limner import check
from limner.blocks.stages import Blocks, Joined, Labelled, Named, Plan, Stage, segments, store
from limner.cluster import Executor, Item, Job, Ledger, Progress, Serial, worked_through
from limner.cluster.inputs import appearance
from limner.files import put, replacing, replacing_folder, zarrays
from limner.files.affinities import StoredAffinities
from limner.files.nanometres import attributes
from limner.instances import Fragments, stitched
from limner.space import Box, blocks

#: Voxels along each axis of a block, unless memory asks for fewer, and what their number is a multiple of.
BLOCK, STEP = 256, 16
#: Bytes that a voxel of a block takes for each byte of its affinities, and beside them.
READ, BESIDE = 2.5, 24.0
#: What a process takes before it reads anything, bytes.
LOADED = 0.35e9
#: How often a block is tried.
ATTEMPTS = 2
#: Name of the attribute that says what labels were made from.
FACTS = "limner"


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
        block: voxels along each axis of a block; as many as the executor's memory allows, unless given.
        executor: does the blocks; this process, one after another, unless given.
        redo: whether to begin anew.
        progress: told how far it has come, stage by stage.

    Returns:
        How many segments there are.

    Raises:
        InputError: for affinities that cannot be used, an `out` that was made otherwise, a block that failed twice, or
            what the disk refuses. Nothing that is finished is lost.
    """
    executor, progress = executor or Serial(), progress or Progress()
    affinities = StoredAffinities.opened(source)
    check.block_output(source, out)
    size = block or block_size(affinities, executor.memory)
    work = out.absolute().with_name(f"{out.name}.work")
    plan = Plan(source.absolute(), work, _clipped(size, affinities), threshold, smallest, _state(source))
    if out.exists() and not redo:
        return _finished(out, plan)
    if redo:
        shutil.rmtree(work, ignore_errors=True)
    run = _Run(plan, affinities, executor, progress)
    run.through(Labelled, {})
    run.through(Joined, {})
    ranges, count = run.named()
    run.through(Named, ranges)
    _publish(plan, out, count=count)
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
    executor: Executor
    progress: Progress

    @cached_property
    def boxes(self) -> dict[str, Box]:
        """The blocks by name."""
        return {one.name: one.write for one in blocks(self.affinities.grid.shape, self.plan.size)}

    def through(self, stage: type[Blocks], more: dict[str, dict[str, Any]]) -> None:
        """Do a stage: blocks that fail are tried once more, and then named.

        Args:
            stage: to do.
            more: what its blocks know by name beside where they are.

        Raises:
            InputError: if a block failed again.
        """
        asked = Stage(self.plan, stage.name, self.executor.threads)
        home = self.plan.work / stage.name
        ledger = Ledger.opened(home / "ledger", asked().facts)
        if stage is not Joined:
            self._allocate(stage)
        items = [
            Item(name, facts={"start": box.start, "stop": box.stop, **more.get(name, {})})
            for name, box in self.boxes.items()
        ]
        for _ in range(ATTEMPTS):
            outcomes = list(worked_through(items, Job(asked, ledger), executor=self.executor, progress=self.progress))
            failed = [one for one in outcomes if one.error]
            if not failed:
                return _pass_on([one.notes for one in outcomes])
        raise check.blocks_failed({one.name: str(one.error) for one in failed}, total=len(items), stage=stage.name)

    def named(self) -> tuple[dict[str, dict[str, Any]], int]:
        """Write which segment each fragment is of; return each block's fragments by name, and the segments' number."""
        tables = {name: np.load(self._table(Labelled, name)) for name in self.boxes}
        starts = np.cumsum([0, *(len(table["sizes"]) for table in tables.values())])
        first = dict(zip(tables, starts.tolist(), strict=False))
        whole = Fragments(*(np.concatenate([table[key] for table in tables.values()]) for key in ("sizes", "firsts")))
        found, count = stitched(whole, self._pairs(first), smallest=self.plan.smallest)
        if not count:
            warnings.warn(check.no_segment(f"a smallest size of {self.plan.smallest} voxels"), stacklevel=3)
        with replacing(segments(self.plan.work)) as temporary:
            np.save(temporary, found)
        ranges = zip(self.boxes, starts[:-1].tolist(), starts[1:].tolist(), strict=True)
        return {name: {"fragments": [begin, end]} for name, begin, end in ranges}, count

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
        return stage(self.plan, self.affinities, self.executor.threads).table(name)

    def _allocate(self, stage: type[Blocks]) -> None:
        """Make the store of a stage, unless it is there."""
        path, grid = store(self.plan.work, stage.name), self.affinities.grid
        if path.exists():
            return
        dtype = np.uint64 if stage is Named else np.uint32
        with replacing_folder(path) as temporary:
            zarrays.allocate(temporary, grid.shape, dtype=dtype, told=attributes(grid), shards=self.plan.size)


def _pass_on(notes: Sequence[Sequence[str]]) -> None:
    """Warn of what most blocks warn of: a single one may well be odd."""
    some = [one[0] for one in notes if one]
    if 2 * len(some) > len(notes):
        warnings.warn(check.InputWarning(some[0]), stacklevel=4)


def _clipped(size: int, affinities: StoredAffinities) -> tuple[int, ...]:
    """Return the voxels of a block along each axis: no more than the volume has."""
    return tuple(min(size, extent) for extent in affinities.grid.shape)


def _state(source: Path) -> str:
    """Return a hash of the files of a store: their names, bytes and times of change."""
    files = [[Path(str(name)).relative_to(source.absolute()).as_posix(), *rest] for name, *rest in appearance(source)]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def _publish(plan: Plan, out: Path, *, count: int) -> None:
    """Put the labels in their place, and delete what was kept on the way."""
    import zarr

    labels = store(plan.work, Named.name)
    zarr.open_array(labels, mode="r+").update_attributes({FACTS: {"facts": plan.facts, "segments": count}})
    put(labels, out)
    shutil.rmtree(plan.work, ignore_errors=True)


def _finished(out: Path, plan: Plan) -> int:
    """Return how many segments labels have that are there already.

    Raises:
        InputError: if they were made otherwise.
    """
    _, told = zarrays.handle(out, "")
    known = told.get(FACTS, {"facts": {}})
    check.same_facts(out, known["facts"], given=plan.facts)
    shutil.rmtree(plan.work, ignore_errors=True)
    return int(known["segments"])
