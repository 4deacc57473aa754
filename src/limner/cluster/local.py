"""Executors of one machine: this process, or several that may die without taking the rest along."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

from limner import check
from limner.cluster.ledger import Item, Outcome
from limner.cluster.work import Job, Progress, done, limit_threads

#: Where libraries look for how many threads to use when they are loaded: some cannot be told later.
LIBRARIES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "ZARR_THREADING__MAX_WORKERS",  # which compress
)
#: How often an item is given to a worker before it is held to be what kills them.
ATTEMPTS = 2
#: How often it is looked how much memory processes take, s.
LOOK = 0.1


@dataclass(frozen=True)
class Serial:
    """Does one item after another in this process.

    Args:
        threads: that it computes with; 0 for as many as it likes.
        memory: that it may take, bytes; what works in it must keep to that.
    """

    threads: int = 0
    memory: float | None = None

    def outcomes(self, items: Iterable[Item], job: Job, *, progress: Progress) -> Iterator[Outcome]:
        """Yield what came of each item."""
        limit_threads(self.threads)
        for item in items:
            yield done(item, job, step=lambda words, name=item.name: progress.step(name, words))  # type: ignore[misc]


@dataclass(frozen=True)
class Processes:
    """Does several items at a time, each in a process of its own.

    A process that dies is replaced, and its item tried once more.

    Args:
        count: of the processes.
        threads: that each computes with; 0 for as many as it likes.
        memory: that each may take, bytes; one that takes more is ended.
    """

    count: int
    threads: int = 1
    memory: float | None = None

    def outcomes(self, items: Iterable[Item], job: Job, *, progress: Progress) -> Iterator[Outcome]:
        """Yield what came of each item.

        Raises:
            InputError: if the processes cannot do the work at all.
        """
        crew = _Crew(job, progress, threads=self.threads, memory=self.memory)
        waiting = iter(items)
        try:
            while True:
                while len(crew.busy) < self.count and (one := crew.next(waiting)):
                    crew.give(one)
                if not crew.busy:
                    return
                yield from crew.heard()
        finally:
            crew.dismiss()


@dataclass(eq=False)
class _Worker:
    """A process, the line to it, what it does, and whether it was ended because it took too much memory."""

    process: Any
    line: connection.Connection
    item: Item | None = None
    greedy: bool = False


class _Crew:
    """Processes, and who does what."""

    def __init__(self, job: Job, progress: Progress, *, threads: int, memory: float | None) -> None:
        self.job, self.progress, self.threads, self.memory = job, progress, threads, memory
        self.idle: list[_Worker] = []
        self.busy: list[_Worker] = []
        self.again: deque[Item] = deque()
        self.attempts: dict[str, int] = {}

    def next(self, waiting: Iterator[Item]) -> Item | None:
        """Return what is to be done next: what was begun in vain goes first."""
        return self.again.popleft() if self.again else next(waiting, None)

    def give(self, item: Item) -> None:
        """Give an item to a process without one, or to a new one."""
        worker = self.idle.pop() if self.idle else _hired(self.job, self.threads)
        self.attempts[item.name] = self.attempts.get(item.name, 0) + 1
        worker.item = item
        self.busy.append(worker)
        with suppress(OSError):  # it is dead, which is noticed when it is listened to
            worker.line.send(item)

    def heard(self) -> Iterator[Outcome]:
        """Wait until a process says something or dies, and yield what came of items."""
        ready = connection.wait([worker.line for worker in self.busy], timeout=LOOK if self.memory else None)
        self._end_greedy()
        for worker in [worker for worker in self.busy if worker.line in ready]:
            try:
                word = worker.line.recv()
            except (EOFError, OSError):
                yield from self._lost(worker)
                continue
            if isinstance(word, Exception):
                raise word
            if isinstance(word, Outcome):
                self.busy.remove(worker)
                self.idle.append(worker)
                yield word
            elif worker.item:
                self.progress.step(worker.item.name, word)

    def dismiss(self) -> None:
        """End all processes: what they have not finished is not marked, and is done again another time."""
        for worker in (*self.idle, *self.busy):
            worker.process.kill()
        for worker in (*self.idle, *self.busy):
            worker.process.join()
            worker.line.close()

    def _end_greedy(self) -> None:
        """End the processes that take too much memory."""
        for worker in self.busy:
            if self.memory and _resident(worker.process.pid) > self.memory:
                worker.greedy = True
                worker.process.kill()

    def _lost(self, worker: _Worker) -> Iterator[Outcome]:
        """Take note of a process that died: its item is done, is tried again, or has failed."""
        self.busy.remove(worker)
        worker.process.join()
        worker.line.close()
        item = worker.item
        if item is None:
            return
        known = self.job.ledger.remembered(item)  # it may have died right after it had marked it
        if known:
            yield known
        elif self.attempts[item.name] < ATTEMPTS:
            self.again.append(item)
        elif worker.greedy and self.memory:
            yield Outcome(item.name, error=check.worker_greedy(self.memory))
        else:
            yield Outcome(item.name, error=check.worker_died(worker.process.exitcode, ATTEMPTS))


def _resident(pid: int) -> int:
    """Return the bytes of memory that a process takes; 0 where the system does not tell."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _hired(job: Job, threads: int) -> _Worker:
    """Return a new process that waits for items."""
    context = get_context("spawn")  # a fork would inherit locks that threads of torch and numba hold
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, job), kwargs={"threads": threads}, daemon=True)
    with _environment(threads):
        process.start()
    theirs.close()  # so that the line breaks when the process dies
    return _Worker(process, ours)


@contextmanager
def _environment(threads: int) -> Iterator[None]:
    """Have processes that begin meanwhile load their libraries for so many threads, unless the environment says it."""
    missing = [name for name in LIBRARIES if threads and name not in os.environ]
    os.environ.update(dict.fromkeys(missing, str(threads)))
    try:
        yield
    finally:
        for name in missing:
            del os.environ[name]


def _serve(line: connection.Connection, job: Job, *, threads: int) -> None:
    """Do items until the line breaks."""
    # Whoever presses Ctrl-C means the whole; the process that hired this one ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    limit_threads(threads)
    with suppress(EOFError, OSError):
        while True:
            try:
                word: Outcome | Exception = done(line.recv(), job, step=line.send)
            except check.InputError as error:
                word = error
            line.send(word)


def _leave_with_parent() -> None:
    """End this process at once when the one that started it is gone: nobody would hear what came of its item."""
    parent = parent_process()
    if parent:
        connection.wait([parent.sentinel])
        os._exit(1)
