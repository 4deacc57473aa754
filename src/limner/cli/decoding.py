"""Affinities of any network to segments, whatever their size: decode."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from limner.cli.arguments import Cluster, Slurm, Threads
from limner.cli.cohorts import chosen_executor, cohort_progress
from limner.cli.objects import DecoderKind
from limner.cli.terminal import told


def decode(
    affinities: Annotated[Path, typer.Argument(metavar="AFFINITIES", help="A .zarr with the attribute offsets.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="LABELS", help="Another .zarr.")],
    decoder: Annotated[
        DecoderKind,
        typer.Option(help="What edges above the threshold connect; fragments that merge by mean or quantile; mutex."),
    ] = DecoderKind.COMPONENTS,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Edges, or faces, above it connect.")] = 0.5,
    quantile: Annotated[float, typer.Option(min=0, max=1, help="Of a face's affinities: 0.5 is the median.")] = 0.5,
    membrane: Annotated[float, typer.Option(min=0, max=1, help="No fragment begins at an edge that is lower.")] = 0.5,
    separation: Annotated[float, typer.Option(min=1, help="Between the seeds of fragments, voxels.")] = 5,
    sections: Annotated[bool, typer.Option("--sections", help="Fragments stay in their section.")] = False,
    strides: Annotated[
        tuple[int, int, int] | None, typer.Option(metavar="Z Y X", help="Of edges that repel, for the mutex watershed.")
    ] = None,
    smallest: Annotated[int, typer.Option(min=1, help="Voxels of the smallest segment that stays.")] = 1,
    block: Annotated[
        int | None, typer.Option(min=1, help="Edge of a block, voxels; by the memory unless given.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Blocks at a time, each in a process of its own.")] = None,
    threads: Threads = None,
    cluster: Cluster = None,
    slurm: Slurm = None,
    max_memory: Annotated[float | None, typer.Option(min=0.1, metavar="GB", help="Of each worker, at most.")] = None,
    redo: Annotated[bool, typer.Option("--redo", help="Begin anew.")] = False,
) -> None:
    """Make segments of affinities, block by block, of a volume that may be larger than memory.

    They are those of the whole volume at once, or with the mutex watershed nearly those. The same command again goes
    on where it was stopped.
    """
    from limner.blocks import segment_blocks
    from limner.instances.decoding import Decoder

    executor = chosen_executor(workers, threads=threads, cluster=cluster, slurm=slurm, memory=max_memory)
    by = Decoder(
        kind=decoder.value,
        threshold=threshold,
        quantile=quantile,
        membrane=membrane,
        separation=separation,
        sections=sections,
        strides=strides or (),
        smallest=smallest,
    )
    with cohort_progress("blocks") as progress, told():
        count = segment_blocks(affinities, out, by=by, block=block, executor=executor, redo=redo, progress=progress)
    print(f"{count} segments: {out}")
