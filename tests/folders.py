"""Folders of files that nobody opens."""

from __future__ import annotations

from pathlib import Path


def touched(folder: Path, *names: str) -> Path:
    """A folder, with files of these names in it and below."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder
