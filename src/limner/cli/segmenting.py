"""Commands that label scans: segment, demo."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from limner import check
from limner.cli.arguments import Cluster, Scans, Slurm, Threads, model_folder
from limner.cli.cohorts import chosen_executor, cohort_progress
from limner.cli.objects import segment_instances, tells_objects
from limner.cli.terminal import MISUSED, SOME_FAILED, told

if TYPE_CHECKING:
    from limner.inference import Case


def demo(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the results.")] = Path("limner-demo"),
) -> None:
    """Segment the MNI152 T1 template, an average of 152 people, with the prior that ships."""
    from nilearn.datasets import load_mni152_template

    from limner.files import replacing

    scan = out / "mni152_t1.nii.gz"
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise check.unwritable(out, error) from error
    with replacing(scan) as temporary:
        load_mni152_template(resolution=1).to_filename(temporary)
    print("segmenting the MNI152 T1 template (an average of 152 people, from nilearn)")
    cases = _segmented([scan], out, prior=None)
    _show_volumes(out)
    _finish(cases, out)


def segment(
    scans: Scans,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder, or a file for the labels of one scan.")],
    prior: Annotated[Path | None, typer.Option(help="Prior from `limner atlas`; or else the one that ships.")] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="MODEL",
            parser=model_folder,
            help="From `limner train`, or the shape model that ships: anatomy. A mixture, untrained, unless given.",
        ),
    ] = None,
    mask: Annotated[Path | None, typer.Option(help="Where the one scan's brain is.")] = None,
    channel: Annotated[list[Path] | None, typer.Option(help="Another image of the one scan; repeat for more.")] = None,
    orientation: Annotated[
        str | None, typer.Option(help="Where the axes of scans without an affine lead, such as LIA.")
    ] = None,
    outliers: Annotated[float, typer.Option(min=0, max=0.5, help="Share of voxels like no tissue, as lesions.")] = 0.0,
    posteriors: Annotated[bool, typer.Option("--posteriors", help="Write each structure's probability too.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Scans, or blocks of a volume, at a time, each in a process of its own.")
    ] = None,
    threads: Threads = None,
    cluster: Cluster = None,
    slurm: Slurm = None,
    max_memory: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="GB", help="Of each worker; a volume that takes more goes block by block."),
    ] = None,
    redo: Annotated[bool, typer.Option("--redo", help="Segment again what is finished.")] = False,
    n4: Annotated[bool, typer.Option("--n4", help="Take out the coils' gain by N4 first.")] = False,
    samples: Annotated[int, typer.Option(min=0, help="Labels to draw beside the likeliest, by a model that can.")] = 0,
    mirrored: Annotated[
        bool | None,
        typer.Option("--mirrored/--plain", help="Average affinities over flips [default: as the model was trained]."),
    ] = None,
) -> None:
    """Label brain scans, with skull or without, each on its own grid: of any contrast untrained, or by a model.

    The same command again goes on where it was stopped. With a model that tells objects apart, volumes are segmented
    into instances, by the decoder that `limner tune` chose: at once if --max-memory or the machine allows, else block
    by block.
    """
    executor = chosen_executor(workers, threads=threads, cluster=cluster, slurm=slurm, memory=max_memory)
    if model and tells_objects(model):
        given = {
            "--prior": prior,
            "--mask": mask,
            "--channel": channel,
            "--orientation": orientation,
            "--outliers": outliers,
            "--posteriors": posteriors,
            "--n4": n4,
            "--samples": samples,
        }
        segment_instances(
            scans,
            out,
            model=model,
            mirrored=mirrored,
            executor=executor if workers or cluster or slurm else None,
            memory=max_memory,
            redo=redo,
            given=given,
        )
        return
    if mirrored is not None:
        raise check.only_instances("--mirrored" if mirrored else "--plain")
    if model and outliers:
        raise check.outliers_of_a_model()
    from limner.data.cohort import find_cases
    from limner.files import is_store
    from limner.inference import Options
    from limner.methods.mixture import Mixture

    chosen = Options(
        method=Mixture(outliers=outliers),
        channels=tuple(channel or ()),
        mask=mask,
        orientation=orientation,
        posteriors=posteriors,
        n4=n4,
        samples=samples,
    )
    with told():
        found = find_cases(scans)
    cases = _segmented(found, out, prior=prior, model=model, options=chosen, executor=executor, redo=redo)
    if out.is_dir() and not is_store(out):
        print(f"labels: {out}")
        _finish(cases, out)
    else:
        _tell(cases)
        print(f"labels: {out}")
        _leave(cases)


def _segmented(scans: Sequence[Any], out: Path, **asked: Any) -> list[Case]:
    """Segment scans, and show how far it has come."""
    from limner.inference import segment_scans

    with cohort_progress("segmenting") as progress, told():
        return segment_scans(scans, out, progress=progress, **asked)


def _finish(cases: Sequence[Case], out: Path) -> None:
    """Tell what failed, write the report, and leave with the exit code that says so."""
    from limner.report import report_folder

    _tell(cases)
    print(f"report: {report_folder(out)}")
    _leave(cases)


def _tell(cases: Sequence[Case]) -> None:
    """Print what is to be said of each scan."""
    for case in cases:
        for note in case.notes:
            print(f"{case.name}: {note}")
        if case.verdict == "look":
            print(f"{case.name}: look at it: {case.reason}")
        if case.verdict == "fail":
            print(f"limner: {case.name} is not to be believed: {case.reason}", file=sys.stderr)
        if case.error:
            print(f"limner: {case.name} failed: {case.error}", file=sys.stderr)


def _leave(cases: Sequence[Case]) -> None:
    """Leave with the exit code that says what failed, if anything did."""
    failed = sum(case.error is not None for case in cases)
    if failed == len(cases):
        raise typer.Exit(MISUSED)
    if failed or any(case.verdict == "fail" for case in cases):
        raise typer.Exit(SOME_FAILED)


def _show_volumes(out: Path) -> None:
    """Print the volumes of the structures of one scan, left and right together."""
    import pandas as pd
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    rows = pd.read_csv(out / "volumes.csv")
    shown = Table("structure", "volume mL")
    for structure, volume in rows.groupby("structure", sort=False)["volume_mm3"].sum().items():
        if volume:
            shown.add_row(escape(str(structure)), f"{volume / 1000:.1f}")
    Console().print(shown)
