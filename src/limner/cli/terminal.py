"""What every command says and shows on the way."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from limner import check

SOME_FAILED, MISUSED, INTERRUPTED = 1, 2, 130
#: Parts from which their writing is shown.
SEVERAL = 8


def fail(message: str, code: int) -> NoReturn:
    """Print a message and leave."""
    print(f"limner: {message}", file=sys.stderr)
    sys.exit(code)


@contextmanager
def progress(total: int, title: str) -> Iterator[Any]:
    """Show a progress bar on stderr; yield functions that tell the present step and advance it."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(title), BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeElapsedColumn())
    words = TextColumn("{task.description}", markup=False)
    with Progress(*columns, words, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total)
        yield lambda words: bar.update(task, description=words), lambda: bar.advance(task)


@contextmanager
def counting(title: str) -> Iterator[Any]:
    """Show a progress bar on stderr once there are several parts; yield what is told how many are done, and of many."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn(title), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    bar = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True))

    def watch(done: int, total: int) -> None:
        if total < SEVERAL:
            return
        bar.start()
        task = bar.task_ids[0] if bar.task_ids else bar.add_task("")
        bar.update(task, completed=done, total=total)

    try:
        yield watch
    finally:
        if bar.task_ids:
            bar.stop()


@contextmanager
def told() -> Iterator[None]:
    """Print what was tolerated as one line each, without Python's file and line."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", check.InputWarning)
        yield
    for message in dict.fromkeys(str(warning.message) for warning in heard if warning.category is check.InputWarning):
        print(f"limner: {message}", file=sys.stderr)
