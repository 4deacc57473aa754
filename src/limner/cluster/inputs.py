"""What a file or a folder holds, so that a change of it is noticed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from limner.files.dicom import on_disk


def appearance(path: Path) -> list[list[str | int]]:
    """Return name, bytes and time of change (ns) of a file, or of all files in a folder: equal, and nothing changed.

    What does not exist has none.
    """
    stats = [(file, file.stat()) for file in _files(on_disk(path))]
    return [[str(file.absolute()), stat.st_size, stat.st_mtime_ns] for file, stat in stats]


def contents(paths: Sequence[Path]) -> str:
    """Return the hash of what files, and those in folders, hold; where they lie is no matter."""
    total = hashlib.sha256()
    for path in map(on_disk, paths):
        for file in _files(path):
            total.update(f"{file.relative_to(path).as_posix()} {_digest(file)}\n".encode())
        total.update(b"\n")
    return total.hexdigest()


def _digest(file: Path) -> str:
    """Return the hash of what a file holds; of one that cannot be read, which whoever needs it will tell, nothing."""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""


def _files(path: Path) -> list[Path]:
    """Return the files in a folder and below, in order, or the file itself, if it exists."""
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    return [path] if path.is_file() else []
