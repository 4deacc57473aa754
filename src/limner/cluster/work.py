"""What is done with an item, wherever it is done; and how many are worked through."""

from __future__ import annotations

import errno
import json
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol, TypeAlias, TypeVar, cast

from limner import check
from limner.cluster.ledger import Item, Ledger, Made, Outcome

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

Step: TypeAlias = Callable[[str], None]


class Work(Protocol):
    """Does one item after another, in one process."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What all items have in common: how they are made, by which version; JSON-ready."""

    def __call__(self, item: Item, *, step: Step) -> Made:
        """Do an item: write its data, and return what is to be told of it.

        Args:
            item: to do.
            step: told each step in words.
        """


Work_co = TypeVar("Work_co", bound=Work, covariant=True)


class Begin(Hashable, Protocol[Work_co]):
    """Returns the work: loads what all items need, once in each process. It travels there, and equal ones are one."""

    def __call__(self) -> Work_co: ...


@dataclass(frozen=True)
class Job:
    """What it takes to do an item of a ledger anywhere.

    Args:
        begin: returns the work.
        ledger: where it is marked.
    """

    begin: Begin[Work]
    ledger: Ledger


class Progress:
    """Is told how far the work has come; this one says nothing of it to anybody."""

    def begun(self, total: int, *, known: int, changed: Sequence[str]) -> None:
        """Take note of how many items there are, how many were done before, and which of those must be done again."""

    def step(self, name: str, words: str) -> None:
        """Take note of what is being done with an item."""

    def finished(self, outcome: Outcome) -> None:
        """Take note of what came of an item that was not done before."""


class Executor(Protocol):
    """Does items somewhere: here, in other processes, on other machines."""

    @property
    def memory(self) -> float | None:
        """What each worker may take, bytes; None for no limit."""

    @property
    def threads(self) -> int:
        """How many threads each worker computes with; 0 for as many as it likes."""

    def outcomes(self, items: Iterable[Item], job: Job, *, progress: Progress) -> Iterator[Outcome]:
        """Yield what came of each item, in the order in which they end.

        Items, of which there is at least one, are taken when there is somebody to do them. When whoever iterates has
        stopped, what still runs is ended, or ends by itself.

        Raises:
            InputError: if nobody can do them.
        """


def begun(begin: Begin[Work_co]) -> Work_co:
    """Return the work in this process: what it needs is loaded the first time."""
    return cast("Work_co", _kept(begin))


@lru_cache(maxsize=1)
def _kept(begin: Begin[Work]) -> Work:
    return begin()


def worked_through(items: Sequence[Item], job: Job, *, executor: Executor, progress: Progress) -> Iterator[Outcome]:
    """Yield what came of each item: first those that were done before, then the others in the order in which they end.

    An item that fails is named with its reason, and the others go on; but when the disk is full, nothing more is begun.

    Args:
        items: all of different names.
        job: how they are done, and where it is marked.
        executor: does them.
        progress: told how far it has come.

    Raises:
        InputError: if results of something else would be replaced, or nobody can do the work.
    """
    changed = [item.name for item in items if job.ledger.changed(item)]
    known = {item.name: outcome for item in items if (outcome := job.ledger.remembered(item))}
    progress.begun(len(items), known=len(known), changed=changed)
    yield from known.values()
    waiting = _Waiting([item for item in items if item.name not in known])
    if not waiting.left:
        return
    for outcome in executor.outcomes(waiting, job, progress=progress):
        progress.finished(outcome)
        yield outcome
        waiting.closed |= outcome.full
    for item in waiting.left:
        yield Outcome(item.name, error=check.disk_full())


class _Waiting:
    """Items that are handed out until that is closed."""

    def __init__(self, items: Iterable[Item]) -> None:
        self.left = deque(items)
        self.closed = False

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        if self.closed or not self.left:
            raise StopIteration
        return self.left.popleft()

    def __length_hint__(self) -> int:
        """Return how many may still be handed out."""
        return len(self.left)


def limit_threads(count: int) -> None:
    """Have the libraries that the work has loaded compute with so many threads; with 0, with as many as they like."""
    if not count:
        return
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(count)
    if numba := sys.modules.get("numba"):
        numba.set_num_threads(min(count, numba.get_num_threads()))  # which the environment may have lowered


def done(item: Item, job: Job, *, step: Step) -> Outcome:
    """Do an item here, and write its marker, unless it was done already: a worker may have died right after that.

    Raises:
        InputError: if this process would do it otherwise than it was asked for.
    """
    work = begun(job.begin)
    check.worker_agrees(json.loads(json.dumps(work.facts)), given=job.ledger.facts)
    known = job.ledger.remembered(item)
    if known:
        return known
    return _tried(item, job, work=work, step=step)


def _tried(item: Item, job: Job, *, work: Work, step: Step) -> Outcome:
    """Return what came of an item: its record, with its marker written, or its error."""
    began = time.perf_counter()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", check.InputWarning)
        try:
            identity = job.ledger.identity(item)
            made = work(item, step=step)
            # What is told now and what is read from the marker later must be the same to the digit.
            record = json.loads(json.dumps(made.record, default=str))
            outcome = _told(Outcome(item.name, record), heard, began=began)
            job.ledger.mark(outcome, identity, files=made.files)
        except Exception as error:  # noqa: BLE001 one item must not stop the others; its outcome says what happened
            outcome = _told(Outcome(item.name, error=_words(error), full=_full(error)), heard, began=began)
    return outcome


def _told(outcome: Outcome, heard: Sequence[warnings.WarningMessage], *, began: float) -> Outcome:
    """Return an outcome with what was tolerated and the time that it took."""
    notes = dict.fromkeys(str(one.message) for one in heard if issubclass(one.category, check.InputWarning))
    return replace(outcome, notes=tuple(notes), seconds=round(time.perf_counter() - began, 1))


def _words(error: Exception) -> str:
    """Return what is said of an error: a mistake of ours is named by its kind too."""
    return str(error) if isinstance(error, check.InputError) else f"{type(error).__name__}: {error}"


def _full(error: BaseException | None) -> bool:
    """Tell whether an error comes from a disk without room."""
    return error is not None and ((isinstance(error, OSError) and error.errno in FULL) or _full(error.__cause__))
