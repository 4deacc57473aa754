"""Affinities of any network to segments, whatever their size: decode."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from limner.cli.cohorts import chosen_executor, cohort_progress
from limner.cli.terminal import told


def decode(
    affinities: Annotated[Path, typer.Argument(metavar="AFFINITIES", help="A .zarr with the attribute offsets.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="LABELS", help="Another .zarr.")],
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Edges above it connect.")] = 0.5,
    smallest: Annotated[int, typer.Option(min=1, help="Voxels of the smallest segment that stays.")] = 1,
    block: Annotated[
        int | None, typer.Option(min=1, help="Edge of a block, voxels; by the memory unless given.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Blocks at a time, each in a process of its own.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of each worker; 1 unless given.")] = None,
    cluster: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Dask scheduler whose workers do it.")] = None,
    slurm: Annotated[Path | None, typer.Option(metavar="PROFILE", help="TOML file: what jobs of SLURM do it.")] = None,
    max_memory: Annotated[float | None, typer.Option(min=0.1, metavar="GB", help="Of each worker, at most.")] = None,
    redo: Annotated[bool, typer.Option("--redo", help="Begin anew.")] = False,
) -> None:
    """Connect voxels by affinities, block by block: components of a volume that may be larger than memory.

    They are those of the whole volume at once. The same command again goes on where it was stopped.
    """
    from limner.blocks import segment_blocks

    executor = chosen_executor(workers, threads=threads, cluster=cluster, slurm=slurm, memory=max_memory)
    asked: dict[str, Any] = {"threshold": threshold, "smallest": smallest, "block": block}
    with cohort_progress("blocks") as progress, told():
        count = segment_blocks(affinities, out, **asked, executor=executor, redo=redo, progress=progress)
    print(f"{count} segments: {out}")
