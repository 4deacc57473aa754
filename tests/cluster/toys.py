"""Work that takes no time, and fails or dies as the names of its items say; imported by workers too."""

from __future__ import annotations

import errno
import os
import signal
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limner.check import InputError, InputWarning
from limner.cluster import Item, Job, Ledger, Made


@dataclass(frozen=True)
class Copying:
    """How a process begins to copy the inputs of items to a folder; `setting` is what copies depend on."""

    out: Path
    setting: str = "plain"

    def __call__(self) -> Copies:
        with (self.out / "begun").open("a") as file:
            file.write(f"{os.getpid()}\n")
        return Copies(self.out, {"setting": self.setting})


@dataclass(frozen=True)
class Copies:
    """Copies the inputs of items, and keeps a list of what it began."""

    out: Path
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, item: Item, *, step: Callable[[str], None]) -> Made:
        step("copying")
        with (self.out / "tried").open("a") as file:
            file.write(f"{item.name}\n")
        TROUBLE.get(item.name.partition("-")[0], lambda _: None)(self.out / item.name)
        path = self.out / f"{item.name}.txt"
        path.write_text("".join(one.read_text() for one in item.inputs))
        return Made({"length": path.stat().st_size, "third": 1 / 3, "pair": (1, 2)}, [path])


def refused(_: Path) -> None:
    raise InputError("this one cannot be copied")


def curious(path: Path) -> None:
    path.with_suffix(".threads").write_text(os.environ.get("OPENBLAS_NUM_THREADS", ""))


def mistaken(_: Path) -> None:
    raise ZeroDivisionError("oh")


def full(_: Path) -> None:
    try:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise InputError("it cannot be written") from error


def odd(_: Path) -> None:
    warnings.warn(InputWarning("it is odd"), stacklevel=2)


def dying(_: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def weak(path: Path) -> None:
    """Die the first time."""
    if not path.exists():
        path.touch()
        dying(path)


def slow(_: Path) -> None:
    time.sleep(60)


TROUBLE = {one.__name__: one for one in (refused, curious, mistaken, full, odd, dying, weak, slow)}


def items(folder: Path, *names: str) -> list[Item]:
    """Items whose inputs are files of their names, with their names in them."""
    folder.mkdir(exist_ok=True)
    found = []
    for name in names:
        path = folder / f"{name}.in"
        if not path.exists():
            path.write_text(name)
        found.append(Item(name, (path,)))
    return found


def job(out: Path, setting: str = "plain", *, redo: bool = False) -> Job:
    """A job of copying to a folder."""
    out.mkdir(exist_ok=True)
    return Job(Copying(out, setting), Ledger.opened(out / "ledger", {"setting": setting}, redo=redo))


def tried(out: Path) -> list[str]:
    """What was begun, in that order."""
    return (out / "tried").read_text().split() if (out / "tried").exists() else []
