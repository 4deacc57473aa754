"""One stage of the work on a volume's blocks, from store to store on a ledger; and what tells results from others."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from limner import check
from limner.cluster import Executor, Item, Job, Ledger, Outcome, Progress, Work, worked_through
from limner.cluster.inputs import appearance
from limner.files import ome, put, replacing_folder, suffix, zarrays
from limner.files.parts import StoredImage
from limner.space import Array, Box, blocks

#: How often a block is tried.
ATTEMPTS = 2
#: Name of the attribute that says what a store was made from.
FACTS = "limner"
#: What the voxels of a block, or of its file, are a multiple of, where the volume is smaller than a block.
STEP = 16

Facts = Mapping[str, Any]


class Asked(Protocol):
    """A stage as it is asked for: how a process begins with it, and what its blocks have in common."""

    @property
    def name(self) -> str:
        """In a word."""

    @property
    def facts(self) -> Facts:
        """What all its blocks have in common, JSON-ready."""

    def __call__(self) -> Work:
        """Load what the blocks need."""

    def __hash__(self) -> int:
        """Equal ones are one."""


@dataclass(frozen=True)
class Crew:
    """Who does the blocks, and who is told of it.

    Args:
        executor: does them.
        progress: told how far it has come.
    """

    executor: Executor
    progress: Progress

    def work(
        self, asked: Asked, boxes: Mapping[str, Box], *, home: Path, more: Mapping[str, Facts] | None = None
    ) -> list[Outcome]:
        """Do a stage: blocks that fail are tried once more, and then named.

        Args:
            asked: the stage.
            boxes: of its blocks, by name.
            home: folder of its ledger.
            more: what blocks know by name beside where they are.

        Raises:
            InputError: if a block failed again, or what was begun there was asked for otherwise.
        """
        ledger = Ledger.opened(home / "ledger", asked.facts)
        known = more or {}
        items = [
            Item(name, facts={"start": box.start, "stop": box.stop, **known.get(name, {})})
            for name, box in boxes.items()
        ]
        for _ in range(ATTEMPTS):
            job = Job(asked, ledger)
            outcomes = list(worked_through(items, job, executor=self.executor, progress=self.progress))
            failed = [one for one in outcomes if one.error]
            if not failed:
                _pass_on([one.notes for one in outcomes])
                return outcomes
        raise check.blocks_failed({one.name: str(one.error) for one in failed}, total=len(items), stage=asked.name)


@contextmanager
def told_before() -> Iterator[None]:
    """Say nothing of what is tolerated: the process in charge has said it when it looked at the same files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", check.InputWarning)
        yield


def box_of(item: Item) -> Box:
    """Return where a block writes."""
    return Box(tuple(item.facts["start"]), tuple(item.facts["stop"]))


def allocate(path: Path, shape: tuple[int, ...], *, dtype: Any, told: Facts, shards: tuple[int, ...]) -> None:
    """Make a store whose files are blocks of the shape `shards`, unless it is there.

    Raises:
        InputError: if the disk refuses.
    """
    if not path.exists():
        with replacing_folder(path) as temporary:
            zarrays.allocate(temporary, shape, dtype=dtype, told=told, shards=shards)


def write(path: Path, values: Array, *, box: Box) -> list[Path]:
    """Write what lies in a block of a store, and return its file; a store has none for zeros alone.

    Args:
        path: of the store.
        values: (*box), or (C, *box).
        box: of the block, beyond axes of channels.
    """
    import zarr

    array: Any = zarr.open_array(path, mode="r+")
    channels = values.ndim - len(box.shape)
    array[(slice(None),) * channels + box.slices] = values
    start = (0,) * channels + box.start
    place = "/".join(str(first // step) for first, step in zip(start, array.shards, strict=True))
    return [path / "c" / place] if values.any() else []


def fitted(size: int | Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    """Return the voxels of a block along each axis: `size`, or what a smaller volume takes."""
    sizes = [size] * len(shape) if isinstance(size, int) else size
    return tuple(min(one, -(-extent // STEP) * STEP) for one, extent in zip(sizes, shape, strict=True))


def name_at(start: Iterable[int]) -> str:
    """Return the name of the block that begins at a voxel."""
    return "-".join(map(str, start))


def boxes(shape: Sequence[int], size: Sequence[int]) -> dict[str, Box]:
    """Return the blocks of a volume by name."""
    return {one.name: one.write for one in blocks(shape, size)}


def state(source: Path) -> str:
    """Return a hash of the files of a store, or of a file: their names, bytes and times of change."""
    files = [[Path(str(name)).relative_to(source.absolute()).as_posix(), *rest] for name, *rest in appearance(source)]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def work_of(out: Path) -> Path:
    """Return the folder of what is kept on the way to a store."""
    return out.absolute().with_name(f"{out.name}.work")


def publish(store: Path, out: Path, *, facts: Facts, progress: Progress | None = None, **found: int) -> None:
    """Put a store that is done in its place, with what it was made from, and delete what was kept on the way.

    If `out` is to be an OME image, it gets coarser scales first.

    Raises:
        InputError: if the disk refuses.
    """
    import zarr

    for half_written in store.rglob("*.partial"):  # by processes that were killed
        half_written.unlink()
    zarr.open_array(store, mode="r+").update_attributes({FACTS: {"facts": dict(facts), **found}})
    try:
        if suffix(out) == ".ome.zarr":
            store = _with_scales(store, out, progress=progress or Progress())
        put(store, out)
    except OSError as error:
        raise check.unwritable(out, error) from error
    shutil.rmtree(work_of(out), ignore_errors=True)


def _with_scales(store: Path, out: Path, *, progress: Progress) -> Path:
    """Make an OME image with coarser scales out of a store, and return its folder."""

    def watch(done: int, total: int) -> None:
        progress.step(out.name, f"coarser scales, part {done} of {total}")

    return ome.adopted(store, work_of(out) / "image", grid=StoredImage.opened(store).grid, watch=watch)


def finished(out: Path, *, facts: Facts) -> Facts | None:
    """Return what was found when a store was made; None if there is none.

    Raises:
        InputError: for a store that was made otherwise.
    """
    if not out.exists():
        return None
    _, told = zarrays.handle(out, "")
    known = told.get(FACTS, {"facts": {}})
    check.same_facts(out, known["facts"], given=facts)
    shutil.rmtree(work_of(out), ignore_errors=True)
    return dict(known)


def _pass_on(notes: Sequence[Sequence[str]]) -> None:
    """Warn of what most blocks warn of: a single one may well be odd."""
    some = [one[0] for one in notes if one]
    if 2 * len(some) > len(notes):
        warnings.warn(check.InputWarning(some[0]), stacklevel=5)
