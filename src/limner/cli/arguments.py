"""What commands are given: files, folders of them, label tables, and who is to do the work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from limner.space import LabelTable

TABLES = (".csv", ".tsv")
Scans = Annotated[
    list[Path],
    typer.Argument(metavar="SCANS", help="Images, folders, BIDS roots, or tables."),
]
Labels = Annotated[
    Path | None, typer.Option("--labels", metavar="TABLE", help="CSV or TSV: id, name[, structure, tissue].")
]
#: Who does the work of many items.
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Of each worker; 1 unless given.")]
Cluster = Annotated[
    str | None, typer.Option("--cluster", metavar="ADDRESS", help="Dask scheduler whose workers do it.")
]
Slurm = Annotated[Path | None, typer.Option("--slurm", metavar="PROFILE", help="TOML file: what jobs of SLURM do it.")]


def model_folder(named: str) -> Path:
    """Return the folder of a model, or of the one of that name that ships, if there is no such folder."""
    from limner.methods.storage import MODELS

    shipped = MODELS / named
    return shipped if shipped.is_dir() and not Path(named).exists() else Path(named)


def expanded(paths: Sequence[Path]) -> list[Path]:
    """Return the files (and Zarr stores) among the paths, folders replaced by the scans that `scans_in` finds in them.

    Raises:
        InputError: for a folder that holds none.
    """
    from limner.files.folders import scans_in

    return [file for path in paths for file in (scans_in(path) if path.is_dir() else [path])]


def looked_at(path: Path) -> list[Path]:
    """Return all files that a path leads to: of a table, labels and masks too; of a folder, every DICOM series in it.

    Raises:
        InputError: for a folder that holds no scans, or a table that cannot be used.
    """
    from limner.files import store_of
    from limner.files.dicom import chosen
    from limner.files.folders import scans_in

    if path.suffix.lower() in TABLES and path.is_file():
        from limner.data.cohort import read_cohort

        cases = read_cohort(path)
        return [file for case in cases for file in (*case.images, case.labels, case.mask) if file]
    scans = scans_in(path) if path.is_dir() else [path]
    return [series for scan in scans for series in ([scan] if store_of(scan) else chosen(scan))]


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
