"""The command line: thin, one command for one public function. Heavy rooms are imported inside the commands."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from limner import __version__, check

if TYPE_CHECKING:
    from limner.evaluation import Summary
    from limner.inference import Case
    from limner.space import LabelTable, Volume

SOME_FAILED, MISUSED, INTERRUPTED = 1, 2, 130

app = typer.Typer(
    help="Outline anatomy in brain scans without training anything.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Scans = Annotated[list[Path], typer.Argument(metavar="SCANS", help="Image files, or folders of them.")]
Labels = Annotated[
    Path | None, typer.Option("--labels", metavar="TABLE", help="CSV or TSV: id, name[, structure, tissue].")
]


def main() -> None:
    """Run the command line and leave with its exit code; mistakes of input end with a message, not a traceback."""
    try:
        code = app(standalone_mode=False)
    except check.InputError as error:
        _fail(str(error), MISUSED)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        # typer's own complaints about arguments: it words them itself.
        if not hasattr(error, "show"):
            raise
        error.show()
        sys.exit(MISUSED)
    if code == INTERRUPTED:
        _fail("interrupted; what was finished is kept", INTERRUPTED)
    sys.exit(code)


def _fail(message: str, code: int) -> NoReturn:
    """Print a message and leave."""
    print(f"limner: {message}", file=sys.stderr)
    sys.exit(code)


def _version(wanted: bool) -> None:
    """Print the version and leave, if wanted."""
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Outline anatomy in brain scans without training anything."""


@app.command()
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


@app.command()
def atlas(
    maps: Annotated[list[Path], typer.Argument(metavar="MAPS", help="Label maps, or folders of them.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="PRIOR", help="Folder for the prior.")],
    labels: Labels = None,
    spacing: Annotated[float, typer.Option(min=0.2, help="Voxel size of the prior, mm.")] = 1.0,
    blur: Annotated[float | None, typer.Option(min=0, help="Gaussian sd, mm [default: 3 for one map, else 0].")] = None,
    neighbours: Annotated[int, typer.Option(help="Window of the neighbour table, voxels: 3, 5, ... 21.")] = 3,
    fold_unknown: Annotated[bool, typer.Option("--fold-unknown", help="Count unknown ids as background.")] = False,
    keep_outside: Annotated[bool, typer.Option("--keep-outside", help="Keep skull, skin and eyes as labels.")] = False,
) -> None:
    """Build a prior from label maps: an average of many, or one alone, blurred."""
    paths, table = expanded(maps), _table(labels)
    from limner.files import open_volume
    from limner.files.names import case_names
    from limner.priors.averaging import build_atlas
    from limner.priors.storage import claim, save_prior

    claim(out)
    volumes: dict[str, Callable[[], Volume]] = {
        name: partial(open_volume, path, kind="labels") for name, path in zip(case_names(paths), paths, strict=True)
    }
    with _progress(1, "building the prior") as (tell, advance), _told():
        prior = build_atlas(
            volumes,
            table,
            spacing=spacing,
            blur=blur,
            window=neighbours,
            fold_unknown=fold_unknown,
            keep_outside=keep_outside,
            progress=tell,
        )
        tell("writing")
        save_prior(prior, out)
        advance()
    count = len(paths)
    for label, absent in prior.provenance["missing_from"].items():
        print(f"{prior.table[int(label)].name} (id {label}) is missing from {len(absent)} of {count} maps: averaged")
    print(f"prior of {count} maps, {len(prior.table) - 1} labels, {prior.grid.shape} voxels of {spacing:g} mm: {out}")


@app.command()
def segment(
    scans: Scans,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder, or a file for the labels of one scan.")],
    prior: Annotated[Path | None, typer.Option(help="Prior from `limner atlas` [default: the one that ships].")] = None,
    mask: Annotated[Path | None, typer.Option(help="Where the one scan's brain is, if it is not stripped.")] = None,
    channel: Annotated[list[Path] | None, typer.Option(help="Another image of the one scan; repeat for more.")] = None,
    orientation: Annotated[
        str | None, typer.Option(help="Where the axes of scans without an affine lead, such as LIA.")
    ] = None,
    outliers: Annotated[float, typer.Option(min=0, max=0.5, help="Share of voxels like no tissue, as lesions.")] = 0.0,
    posteriors: Annotated[bool, typer.Option("--posteriors", help="Write each structure's probability too.")] = False,
) -> None:
    """Label skull-stripped brain scans of any contrast, each on its own grid; no training."""
    paths = expanded(scans)
    from limner.inference import Options
    from limner.methods.mixture import Mixture

    chosen = Options(
        method=Mixture(outliers=outliers),
        channels=tuple(channel or ()),
        mask=mask,
        orientation=orientation,
        posteriors=posteriors,
    )
    cases = _segmented(paths, out, prior=prior, options=chosen)
    if out.is_dir():
        _finish(cases, out)
    print(f"labels: {out}")


@app.command()
def evaluate(
    predictions: Annotated[Path, typer.Argument(metavar="PREDICTIONS", help="Label map, or folder of them.")],
    references: Annotated[list[Path], typer.Argument(metavar="REFERENCES", help="Label maps, or a folder of them.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="TABLE", help="Rows as .csv or .json.")] = None,
    labels: Labels = None,
    each: Annotated[bool, typer.Option("--each", help="Score each label: left and right apart.")] = False,
) -> None:
    """Compare label maps with references: Dice, HD95, mean surface distance and volumes, per structure.

    They are paired by name, or by the folder that the prediction's name begins with.
    """
    from limner.evaluation import evaluate as scored
    from limner.files import open_volume
    from limner.files.names import paired

    table, rows = _table(labels), []
    if out:
        _claim_table(out)
    with _told():
        pairs = paired(_label_maps([predictions]), _label_maps(references))
        with _progress(len(pairs), "evaluating") as (tell, advance):
            for case, prediction, reference in pairs:
                tell(case)
                volumes = [open_volume(path, kind="labels") for path in (prediction, reference)]
                rows += scored(*volumes, table=table, case=case, merged=not each)
                advance()
    if out:
        _save_rows(rows, out)
    _show_scores(rows)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="PATH", help="Folder written by `limner segment`.")],
    references: Annotated[
        list[Path] | None, typer.Argument(metavar="REFERENCES", help="Reference labels to compare with.")
    ] = None,
) -> None:
    """Write report.html for a folder of segmentations: pictures, volumes, and scores where references are given."""
    from limner.report import report_folder

    with _told():
        path = report_folder(folder, references=_label_maps(references or []))
    print(f"report: {path}")


@app.command("check")
def check_paths(
    paths: Annotated[list[Path], typer.Argument(metavar="PATHS", help="Images or label maps, or folders of them.")],
    labels: Labels = None,
) -> None:
    """Look at files without segmenting: geometry, intensities, labels."""
    from limner.files.inspection import inspected

    failed = 0
    for path in expanded(paths):
        finding = inspected(path, _table(labels))
        failed += finding.error is not None
        print(f"{path}\n" + "\n".join(f"  {name:<12} {value}" for name, value in finding.lines()))
    if failed:
        raise typer.Exit(SOME_FAILED if failed < len(expanded(paths)) else MISUSED)


def expanded(paths: Sequence[Path]) -> list[Path]:
    """Return the files among the paths, folders replaced by the volumes directly inside them, sorted.

    Hidden files are no volumes: a process that was killed may have left a half-written one.

    Raises:
        InputError: for a folder that holds none.
    """
    from limner.files import SUFFIXES, is_volume

    files: list[Path] = []
    for path in paths:
        inside = [path]
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if is_volume(file) and not file.name.startswith("."))
        if not inside:
            raise check.no_scans(path, SUFFIXES)
        files += inside
    return files


def _label_maps(paths: Sequence[Path]) -> list[Path]:
    """Return label maps: of a folder written by `limner segment`, those that end in _labels."""
    from limner.files import stem

    files = expanded(paths)
    named = [path for path in files if stem(path).endswith("_labels")]
    return named or files


def _table(path: Path | None) -> LabelTable:
    """Return the user's label table, or FreeSurfer's."""
    from limner.space import LabelTable

    return LabelTable.read(path) if path else LabelTable.freesurfer()


def _segmented(scans: Sequence[Path], out: Path, *, prior: Path | None, options: Any = None) -> list[Case]:
    """Segment scans under a progress bar."""
    from limner.inference import segment_scans

    with _progress(len(scans), "segmenting") as (tell, advance), _told():
        before = [""]

        def step(case: str, words: str) -> None:
            if before[0] not in ("", case):
                advance()
            before[0] = case
            tell(f"{case}: {words}")

        cases = segment_scans(scans, out, prior=prior, options=options, progress=step)
        advance()
    return cases


def _finish(cases: Sequence[Case], out: Path) -> None:
    """Tell what failed, write the report, and leave with the exit code that says so."""
    from limner.report import report_folder

    for case in cases:
        for note in case.notes:
            print(f"{case.name}: {note}")
        if case.error:
            print(f"limner: {case.name} failed: {case.error}", file=sys.stderr)
    print(f"report: {report_folder(out)}")
    failed = sum(case.error is not None for case in cases)
    if failed:
        raise typer.Exit(SOME_FAILED if failed < len(cases) else MISUSED)


@contextmanager
def _progress(total: int, title: str) -> Iterator[Any]:
    """Show a progress bar on stderr; yield functions that tell the present step and advance it."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(title), BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeElapsedColumn())
    words = TextColumn("{task.description}", markup=False)
    with Progress(*columns, words, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total)
        yield lambda words: bar.update(task, description=words), lambda: bar.advance(task)


@contextmanager
def _told() -> Iterator[None]:
    """Print what was tolerated as one line each, without Python's file and line."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", check.InputWarning)
        yield
    for message in dict.fromkeys(str(warning.message) for warning in heard if warning.category is check.InputWarning):
        print(f"limner: {message}", file=sys.stderr)


def _claim_table(path: Path) -> None:
    """Make sure that a table can be written, before the time is spent: refuse other kinds, make its folder."""
    if path.suffix not in (".csv", ".json"):
        raise check.table_suffix(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise check.unwritable(path, error) from error


def _save_rows(rows: Sequence[Any], path: Path) -> None:
    """Write rows as JSON or CSV, by suffix; JSON has null where there is no finite number."""
    import json
    import math

    import pandas as pd

    from limner.files import replacing

    with replacing(path) as temporary:
        if path.suffix == ".csv":
            pd.DataFrame(rows).to_csv(temporary, index=False)
        else:
            finite = [{**row, "value": row["value"] if math.isfinite(row["value"]) else None} for row in rows]
            temporary.write_text(json.dumps(finite, indent=1) + "\n", encoding="utf-8")


def _show_scores(rows: Sequence[Any]) -> None:
    """Print the mean and standard error over cases of each structure."""
    import numpy as np
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from limner.evaluation import summarised

    summaries = summarised(rows, rng=np.random.default_rng(0))
    shown = Table("structure", "Dice", "HD95 mm", "ASD mm", "cases")
    for structure in dict.fromkeys(row["structure"] for row in rows):
        scores = [summaries.get((structure, metric)) for metric in ("dice", "hd95", "asd")]
        shown.add_row(escape(structure), *map(_score, scores), str(scores[0].cases) if scores[0] else "")
    Console().print(shown)


def _score(score: Summary | None) -> str:
    """Return the mean of a score and, if there are several cases, its standard error."""
    if score is None:
        return ""
    return f"{score.mean:.3f}" + (f" ± {score.standard_error:.3f}" if score.cases > 1 else "")


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
