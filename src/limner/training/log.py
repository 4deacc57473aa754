"""What a run tells on its way: lines of metrics.jsonl, events for TensorBoard, and a progress bar on stderr."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

from limner import check
from limner.files import replacing
from limner.training.progress import Progress

Item = TypeVar("Item")


class Log:
    """Writes what it is told.

    A line of metrics has `stage`, `step`, `seconds` and either `terms`, the mean of each loss term since the line
    before, or `dice`, the mean over cases of each structure and of all (`mean`).

    Args:
        path: of the metrics; lines are added. Nothing is written without it.
        events: folder for TensorBoard, if wanted.
        bar: whether to show progress.

    Raises:
        InputError: if events are wanted but tensorboard is not installed.
    """

    def __init__(self, path: Path | None = None, *, events: Path | None = None, bar: bool = False) -> None:
        self._path, self._bar = path, _bar(shown=bar)
        self._task: Any = None
        self._events = _writer(events) if events else None

    def terms(self, stage: str, progress: Progress) -> None:
        """Write the loss terms of the last steps."""
        self._write(stage, progress, terms=progress.terms)
        words = "  ".join(f"{name} {value:.4g}" for name, value in progress.terms.items())
        self._show(description=words)

    def dice(self, stage: str, progress: Progress, *, dice: Mapping[str, float]) -> None:
        """Write scores by structure."""
        self._write(stage, progress, dice={"mean": fmean(dice.values()), **dice})

    def stepped(self, progress: Progress) -> None:
        """Move the progress bar."""
        self._show(completed=progress.step)

    def cut(self, stage: str, step: int) -> None:
        """Take away the lines of a stage after a step: they will be written again.

        Raises:
            InputError: if the disk refuses.
        """
        if self._path is None or not self._path.exists():
            return
        # A line without an end was being written when the run was stopped.
        lines = [line for line in self._path.read_text(encoding="utf-8").splitlines(keepends=True) if line[-1] == "\n"]
        kept = [line for line in lines if (entry := json.loads(line))["stage"] != stage or entry["step"] <= step]
        with replacing(self._path) as temporary:
            temporary.write_text("".join(kept), encoding="utf-8")

    @contextmanager
    def shown(self, stage: str, *, step: int, steps: int) -> Iterator[None]:
        """Show how far a stage is while the context lasts."""
        self._task = self._bar.add_task("", total=steps, completed=step, stage=stage)
        with self._bar:
            yield
        self._bar.remove_task(self._task)
        self._task = None

    def close(self) -> None:
        """Finish the files."""
        if self._events:
            self._events.close()

    def _show(self, **values: Any) -> None:
        """Change what the bar shows, if there is one now."""
        if self._task is not None:
            self._bar.update(self._task, **values)

    def _write(self, stage: str, progress: Progress, **values: Mapping[str, float]) -> None:
        """Add a line."""
        if self._path is None:
            return
        line = {"stage": stage, "step": progress.step, "seconds": round(progress.seconds, 3), **values}
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise check.unwritable(self._path, error) from error
        self._draw(stage, progress, values=values)

    def _draw(self, stage: str, progress: Progress, *, values: Mapping[str, Mapping[str, float]]) -> None:
        """Add a point to each curve in the event files, if there are any."""
        if self._events:
            for kind, numbers in values.items():
                for name, value in numbers.items():
                    self._events.add_scalar(f"{stage}/{kind}/{name}", value, progress.step)


def _bar(*, shown: bool) -> Any:
    """Return a progress bar: stage, steps, steps a second, time that remains, and the last loss terms."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text(f"{task.speed:.2g}/s" if task.speed else "")

    words = TextColumn("{task.description}", markup=False)
    columns = (TextColumn("{task.fields[stage]}"), BarColumn(), MofNCompleteColumn(), Speed(), TimeRemainingColumn())
    return Progress(*columns, words, console=Console(stderr=True), disable=not shown)


def _writer(folder: Path) -> Any:
    """Return a writer of event files."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise check.without_tensorboard() from error
    return SummaryWriter(folder)


def shown(items: Sequence[Item], words: str, *, bar: bool) -> Iterator[Item]:
    """Yield items, and show on stderr how many are done, if wanted."""
    from rich.console import Console
    from rich.progress import track

    yield from track(items, description=words, console=Console(stderr=True), disable=not bar)
