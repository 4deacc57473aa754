"""What is done and what is not: a folder with one marker per item, written whole, and after the item's data.

`facts.json` holds what all items have in common: how they are made, by which version. `NAME.done` is an item's marker:
its key (the hash of all that it was made from), its inputs as they were, its files and its outcome.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from limner import check
from limner.cluster.inputs import appearance, contents
from limner.files import replacing

FACTS = "facts.json"
DONE = ".done"
#: Names of files that a process which was killed left half-written, and how old they must be to be nobody's, s.
HALF_WRITTEN, ABANDONED = re.compile(r"\.[0-9a-f]{8}-"), 600.0

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Item:
    """One piece of work.

    Args:
        name: unique in its ledger, and fit for a file's name.
        inputs: files and folders that it is made from.
        facts: what else is its own, JSON-ready.
    """

    name: str
    inputs: tuple[Path, ...] = ()
    facts: Record = field(default_factory=dict)


@dataclass(frozen=True)
class Made:
    """What work on an item made.

    Args:
        record: what is to be told of it, JSON-ready.
        files: that hold its data; without one of them, the item is not done.
    """

    record: Record = field(default_factory=dict)
    files: Sequence[Path] = ()


@dataclass(frozen=True)
class Outcome:
    """What came of an item.

    Args:
        name: of the item.
        record: what its work told; of an item that failed, nothing.
        notes: what was tolerated.
        seconds: that it took.
        error: why it failed, if it did.
        full: whether it failed because the disk was full, so that others would too.
        known: whether it was done before.
    """

    name: str
    record: Record = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    error: str | None = None
    full: bool = False
    known: bool = False


@dataclass(frozen=True)
class Identity:
    """What an item was made from.

    Args:
        key: hash of all of it.
        inputs: paths, absolute.
        appearance: names, bytes and times of change of the files in each.
        contents: hash of what they hold.
    """

    key: str
    inputs: list[str]
    appearance: list[list[list[str | int]]]
    contents: str


@dataclass(frozen=True)
class Ledger:
    """A folder of markers.

    Args:
        folder: of the markers.
        facts: what all its items have in common, JSON-ready.
    """

    folder: Path
    facts: Record

    @classmethod
    def opened(cls, folder: Path, facts: Record, *, redo: bool = False) -> Ledger:
        """Make a ledger's folder, or take up one that is there.

        Args:
            folder: of the markers, in the folder of the results.
            facts: what all items have in common.
            redo: whether to forget what was done, by whatever facts.

        Raises:
            InputError: for a folder of other facts, if they are not to be forgotten; or if it cannot be written.
        """
        facts = json.loads(json.dumps(facts))
        path = folder / FACTS
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _sweep(folder.parent)
            _sweep(folder)
            if redo:
                for marker in folder.glob(f"*{DONE}"):
                    marker.unlink()
        except OSError as error:
            raise check.unwritable(folder, error) from error
        found = None if redo else _read(path)
        if found is not None:
            check.same_facts(folder.parent, found, given=facts)
        else:
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        return cls(folder, facts)

    @staticmethod
    def known(folder: Path) -> Record | None:
        """Return what the items of the ledger in a folder have in common; None if there is none."""
        return _read(folder / FACTS)

    def remembered(self, item: Item) -> Outcome | None:
        """Return what came of an item that is done: what it was made from, and its files, are as they were."""
        marker = self._marker(item)
        if marker is None or not self._stands(item, marker):
            return None
        outcome = marker["outcome"]
        return Outcome(**(outcome | {"notes": tuple(outcome["notes"]), "known": True}))

    def changed(self, item: Item) -> bool:
        """Tell whether an item was done but must be done again: what it was made from changed, or its files are gone.

        Raises:
            InputError: if what was done is of inputs elsewhere that hold something else, and only have the same name.
        """
        marker = self._marker(item)
        if marker is None or self._stands(item, marker):
            return False
        before, now = marker["inputs"], [str(path.absolute()) for path in item.inputs]
        if before != now and marker["contents"] != contents(item.inputs):
            raise check.another_item(item.name, before, given=now, folder=self.folder.parent)
        return True

    def identity(self, item: Item) -> Identity:
        """Return what an item is now, before work on it begins."""
        paths = [str(path.absolute()) for path in item.inputs]
        found = contents(item.inputs)
        return Identity(self._key(item, found), paths, [appearance(path) for path in item.inputs], found)

    def mark(self, outcome: Outcome, identity: Identity, *, files: Sequence[Path]) -> None:
        """Write the marker of an item whose data are written.

        Args:
            outcome: of the item.
            identity: of the item before the work.
            files: that hold its data.

        Raises:
            InputError: if it cannot be written.
        """
        home = self.folder.parent.absolute()
        sizes = {str(path.absolute().relative_to(home)): path.stat().st_size for path in files}
        marker = asdict(identity) | {"files": sizes, "outcome": asdict(outcome)}
        with replacing(self._path(outcome.name)) as temporary:
            temporary.write_text(json.dumps(marker) + "\n", encoding="utf-8")

    def _key(self, item: Item, contents: str) -> str:
        """Return the hash of all that an item is made from: common facts, its own, and what its inputs hold."""
        whole = {"facts": self.facts, "own": item.facts, "contents": contents}
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{DONE}"

    def _marker(self, item: Item) -> dict[str, Any] | None:
        """Return an item's marker; one that is damaged is none."""
        marker = _read(self._path(item.name))
        return marker if marker and {"files", "outcome", *Identity.__annotations__} <= marker.keys() else None

    def _stands(self, item: Item, marker: Mapping[str, Any]) -> bool:
        """Tell whether nothing changed since a marker was written."""
        for name, size in marker["files"].items():
            path = self.folder.parent / name
            if not path.is_file() or path.stat().st_size != size:
                return False
        # What looks the same is not read again.
        same = marker["appearance"] == [appearance(path) for path in item.inputs]
        return bool(marker["key"] == self._key(item, marker["contents"] if same else contents(item.inputs)))


def _read(path: Path) -> dict[str, Any] | None:
    """Return the object that a JSON file holds; None if there is none."""
    with suppress(OSError, ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else None
    return None


def _sweep(folder: Path) -> None:
    """Delete what a process that was killed left half-written in a folder."""
    for path in folder.glob(".*"):
        if HALF_WRITTEN.match(path.name) and path.is_file() and time.time() - path.stat().st_mtime > ABANDONED:
            path.unlink(missing_ok=True)
