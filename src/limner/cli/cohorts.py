"""How far the work on many items has come: a bar on a terminal, a line for each in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from limner import check

if TYPE_CHECKING:
    from limner.cluster import Executor, Outcome, Progress

#: What a worker takes at least, for a brain at any resolution, GB.
SMALLEST = 2.2
#: Names that are listed before the rest is counted.
LISTED = 3


def chosen_executor(
    workers: int | None, *, threads: int | None, cluster: str | None, slurm: Path | None, memory: float | None
) -> Executor:
    """Return who does the work.

    Args:
        workers: processes on this machine, if it is to be them.
        threads: of each.
        cluster: address of a Dask scheduler, if it is to be its workers.
        slurm: file of a profile, if it is to be jobs.
        memory: of each, GB.

    Raises:
        InputError: for more than one of them, or for more workers than the machine has memory for.
    """
    from limner.cluster import Cluster, Processes, Serial, Slurm

    named = {"--workers": workers, "--cluster": cluster, "--slurm": slurm}
    check.one_executor([option for option, value in named.items() if value is not None])
    each = None if memory is None else memory * 1e9
    if cluster is not None:
        return Cluster(cluster, threads or 1, each)
    if slurm is not None:
        check.settled_by_profile([name for name, value in (("--threads", threads), ("--max-memory", memory)) if value])
        return Slurm.of(slurm)
    if workers is None and memory is None:
        return Serial(threads or 0)
    _check_machine(workers or 1, memory or SMALLEST)
    # Without --workers, memory alone asks for a process of its own, which may use all of the machine.
    return Processes(workers or 1, threads or (1 if workers else 0), each)


def _check_machine(workers: int, each: float) -> None:
    """Refuse more workers than the machine has memory for, GB each."""
    import torch

    from limner.training.memory import available

    check.workers_fit(workers, each * 1e9, available=available(torch.device("cpu")))


@contextmanager
def cohort_progress(title: str) -> Iterator[Progress]:
    """Show how far it has come on stderr; yield what is to be told of it."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn(title), BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeElapsedColumn())
    words = TextColumn("{task.description}", markup=False)
    console = Console(stderr=True)
    with Bar(*columns, words, console=console) as bar:
        task = bar.add_task("", total=None)

        def show(pace: Pace, words: str) -> None:
            told = ", ".join(filter(None, [str(pace), words]))
            bar.update(task, total=pace.total, completed=pace.completed, description=told)

        def say(words: str) -> None:
            console.print(words, markup=False, highlight=False, soft_wrap=True)

        yield _shown(show, say, each=not console.is_terminal)


class Pace:
    """How many items are done, and how fast."""

    def __init__(self, total: int, *, known: int) -> None:
        self.total, self.known, self.completed = total, known, known
        self.began = time.monotonic()

    def __str__(self) -> str:
        """Rate and remaining time; nothing before the first item is done."""
        here, seconds = self.completed - self.known, time.monotonic() - self.began
        if not here or not seconds:
            return ""
        left = timedelta(seconds=round(seconds / here * (self.total - self.completed)))
        hourly = 3600 * here / seconds
        return f"{hourly:.0f} an hour, {left} left" if hourly >= 10 else f"{hourly:.1f} an hour, {left} left"


def _shown(show: Callable[[Pace, str], None], say: Callable[[str], None], *, each: bool) -> Progress:
    """Return what is told of progress and passes it on.

    Args:
        show: shows it for now.
        say: leaves a line.
        each: whether every item leaves one, as nobody sees what is shown for now.
    """
    from limner.cluster import Progress

    class Shown(Progress):
        pace = Pace(0, known=0)

        def begun(self, total: int, *, known: int, changed: Sequence[str]) -> None:
            self.pace = Pace(total, known=known)
            if known:
                say(f"{known} of {total} were finished before")
            if changed:
                more = f" and {len(changed) - LISTED} more" if len(changed) > LISTED else ""
                say(f"changed since they were finished, and done again: {', '.join(changed[:LISTED])}{more}")
            show(self.pace, "")

        def step(self, name: str, words: str) -> None:
            show(self.pace, f"{name}: {words}")

        def finished(self, outcome: Outcome) -> None:
            self.pace.completed += 1
            show(self.pace, "")
            if each:
                came = "failed" if outcome.error else f"{outcome.seconds:.0f} s"
                say(f"{self.pace.completed}/{self.pace.total} {outcome.name}: {came} ({self.pace})")

    return Shown()
