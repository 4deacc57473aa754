"""Commands that compare methods: task, study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from limner.cli.arguments import Cluster, Slurm, Threads
from limner.cli.cohorts import chosen_executor, cohort_progress
from limner.cli.terminal import MISUSED, SOME_FAILED, told


def task(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Task to build; a wrong name lists those there are.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="New folder for it.")],
    source: Annotated[
        Path | None, typer.Option(help="File of digits (.npz), or folder of scans, it is made of.")
    ] = None,
    pairs: Annotated[int, typer.Option(min=1, help="Of images with and without digits to train on.")] = 6000,
    validation: Annotated[int, typer.Option(min=1, help="Pairs to choose weights by.")] = 200,
    test: Annotated[int, typer.Option(min=1, help="Pairs to test on.")] = 2000,
    size: Annotated[int, typer.Option(min=8, help="Edge of slices that are cut from scans, pixels.")] = 128,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")] = 0,
    fold: Annotated[int, typer.Option(min=0, max=3, help="Of liver: which quarter of the people is to test on.")] = 0,
    rule: Annotated[
        Literal["brain", "slice"],
        typer.Option(help="Of hemispheres: a tumour counts from a share of the brain, or as in the public code."),
    ] = "brain",
) -> None:
    """Build a task that methods are compared on: images, labels, and a table of who is in which split; or films."""
    from limner.data.tasks import TaskOptions, build_task

    options = TaskOptions(pairs, validation, test, size, seed, fold, rule)
    print(f"made: {build_task(name, out, source=source, options=options)}")


def study(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="TOML file: one recipe for all, and the methods.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Folder for the study.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe; repeat for more.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Cells at a time, each in a process of its own.")] = None,
    threads: Threads = None,
    cluster: Cluster = None,
    slurm: Slurm = None,
) -> None:
    """Compare methods with few labels: each by several seeds, on the same images and labels.

    The same command again goes on where it was stopped.
    """
    from limner.study import load_study, run_study

    chosen = load_study(recipe, overrides=settings or ())
    executor = chosen_executor(workers, threads=threads, cluster=cluster, slurm=slurm, memory=None)
    with cohort_progress("comparing") as progress, told():
        outcomes = run_study(chosen, out, executor=executor, progress=progress)
    failed = [outcome for outcome in outcomes if outcome.error]
    for outcome in failed:
        print(f"{outcome.name} failed: {outcome.error}")
    if len(failed) < len(outcomes):
        print(f"table: {out / 'table.md'}")
    if failed:
        raise typer.Exit(MISUSED if len(failed) == len(outcomes) else SOME_FAILED)
