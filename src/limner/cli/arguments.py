"""What commands are given: files, folders of them, and label tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from limner import check

if TYPE_CHECKING:
    from limner.space import LabelTable

Scans = Annotated[list[Path], typer.Argument(metavar="SCANS", help="Image files, or folders of them.")]
Labels = Annotated[
    Path | None, typer.Option("--labels", metavar="TABLE", help="CSV or TSV: id, name[, structure, tissue].")
]


def expanded(paths: Sequence[Path]) -> list[Path]:
    """Return the files (and Zarr stores) among the paths, folders replaced by the volumes directly inside them, sorted.

    Hidden files are no volumes: a process that was killed may have left a half-written one.

    Raises:
        InputError: for a folder that holds none.
    """
    from limner.files import STORES, SUFFIXES, is_volume

    files: list[Path] = []
    for path in paths:
        inside = [path]
        if path.is_dir() and not path.name.lower().endswith(STORES):
            inside = sorted(file for file in path.iterdir() if is_volume(file) and not file.name.startswith("."))
        if not inside:
            raise check.no_scans(path, SUFFIXES)
        files += inside
    return files


def label_maps(paths: Sequence[Path]) -> list[Path]:
    """Return label maps: of a folder written by `limner segment`, those that end in _labels."""
    from limner.files import stem

    files = expanded(paths)
    named = [path for path in files if stem(path).endswith("_labels")]
    return named or files


def table_of(path: Path | None) -> LabelTable:
    """Return the user's label table, or FreeSurfer's."""
    from limner.space import LabelTable

    return LabelTable.read(path) if path else LabelTable.freesurfer()
