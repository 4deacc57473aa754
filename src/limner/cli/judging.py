"""Commands that look at what there is: evaluate, report, check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from limner import check
from limner.cli.arguments import Labels, label_maps, looked_at, table_of
from limner.cli.terminal import MISUSED, SOME_FAILED, progress, told

if TYPE_CHECKING:
    from limner.evaluation import Summary
    from limner.files.inspection import Finding
    from limner.inference.needs import Needs


def evaluate(
    predictions: Annotated[Path, typer.Argument(metavar="PREDICTIONS", help="Label map, or folder of them.")],
    references: Annotated[list[Path], typer.Argument(metavar="REFERENCES", help="Label maps, or a folder of them.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="TABLE", help="Rows as .csv or .json.")] = None,
    labels: Labels = None,
    each: Annotated[bool, typer.Option("--each", help="Score each label: left and right apart.")] = False,
    instances: Annotated[
        bool | None,
        typer.Option(
            "--instances/--structures", help="What ids mean; by default instances in .hdf, .tif, .zarr and .n5."
        ),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(metavar="NM", help="Of instances: ignore what is this close to a border in its section.")
    ] = 0,
) -> None:
    """Compare label maps with references: Dice, HD95, mean surface distance and volumes, per structure.

    Instances are compared as partitions: variation of information, Rand, CREMI score, matches, and the worst mistakes.
    They are paired by name, or by the folder that the prediction's name begins with.
    """
    from limner.evaluation import evaluate as scored
    from limner.files import open_volume
    from limner.files.names import paired

    table, rows = table_of(labels), []
    if out:
        _claim_table(out)
    with told():
        pairs = paired(label_maps([predictions]), label_maps(references))
        with progress(len(pairs), "evaluating") as (tell, advance):
            for case, prediction, reference in pairs:
                tell(case)
                if _is_partition(reference) if instances is None else instances:
                    rows += _instances(prediction, reference, case=case, tolerance=tolerance)
                else:
                    volumes = [open_volume(path, kind="labels") for path in (prediction, reference)]
                    rows += scored(*volumes, table=table, case=case, merged=not each)
                advance()
    if out:
        _save_rows(rows, out)
    _show_partitions(rows)
    _show_scores(rows)


def report(
    folder: Annotated[Path, typer.Argument(metavar="PATH", help="Folder from `limner segment` or `limner train`.")],
    references: Annotated[
        list[Path] | None, typer.Argument(metavar="REFERENCES", help="Reference labels to compare with.")
    ] = None,
) -> None:
    """Write report.html: pictures and volumes of segmentations, scores if references are given; or a run's curves."""
    from limner.report import report_folder

    with told():
        path = report_folder(folder, references=label_maps(references or []))
    print(f"report: {path}")


def check_paths(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATHS", help="Images, label maps, folders, BIDS roots, tables.")
    ],
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="TABLE", help="A line for each, as .csv.")] = None,
    labels: Labels = None,
) -> None:
    """Look at files without segmenting: geometry, intensities, labels, bad sections, oddities, what it would take."""
    from limner.files.inspection import inspected

    if out:
        _claim_table(out, kinds=(".csv",))
    table, rows = table_of(labels), []
    with told():
        files = [file for path in paths for file in looked_at(path)]
    with progress(len(files), "looking") as (tell, advance):
        for path in files:
            tell(path.name)
            finding = _sections_too(inspected(path, table), path)
            needed = None if _is_partition(path) else _needs(finding)
            lines = [*finding.lines(), *([("to segment", str(needed))] if needed else [])]
            print(f"{path}\n" + "\n".join(f"  {name:<12} {value}" for name, value in lines))
            estimate = {"memory_gb": f"{needed.memory / 1e9:.1f}", "minutes": f"{needed.minutes:.1f}"} if needed else {}
            rows.append(finding.row(path) | estimate)
            advance()
    if out:
        _save_rows(rows, out)
    failed = sum(bool(row["error"]) for row in rows)
    if failed:
        raise typer.Exit(SOME_FAILED if failed < len(rows) else MISUSED)


def _needs(finding: Finding) -> Needs | None:
    """Return what segmenting would take, if it is a scan."""
    from limner.inference.needs import needs

    return needs(finding.image) if finding.image and finding.image.data.ndim == 3 else None


def _sections_too(finding: Finding, path: Path) -> Finding:
    """Return a finding with notes on the sections of a microscope's volume that will fail."""
    from limner.preparation.overview import judged

    found = judged(finding.image.data) if finding.image and _is_partition(path) else None
    notes = [f"section {one.section} is {one}" for one in found[1]] if found else []
    return replace(finding, notes=(*finding.notes, *notes))


def _is_partition(path: Path) -> bool:
    """Tell whether ids in a file of this name mean instances, as they do in microscopes' formats."""
    from limner.files import storing, suffix

    return suffix(path) in storing.MICROSCOPES


def _instances(prediction: Path, reference: Path, *, case: str, tolerance: float) -> list[Any]:
    """Return the scores of instances, and print what costs most."""
    from limner.evaluation import evaluate_instances
    from limner.files import open_volume

    volumes = [open_volume(path, kind="instances") for path in (prediction, reference)]
    found = evaluate_instances(*volumes, case=case, tolerance=tolerance, worst=5)
    for split in found.splits:
        print(f"{case}: object {split.object} lies in {len(split.segments)} segments, {split.bits:.3f} bits")
    for merger in found.mergers:
        faces = f"{merger.through_z} faces through z, {merger.in_section} in sections"
        print(f"{case}: objects {merger.objects[0]} and {merger.objects[1]} merge, {merger.bits:.3f} bits; {faces}")
    return found.rows


def _claim_table(path: Path, *, kinds: Sequence[str] = (".csv", ".json")) -> None:
    """Make sure that a table can be written, before the time is spent: refuse other kinds, make its folder."""
    if path.suffix not in kinds:
        raise check.table_suffix(path, kinds)
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


def _show_partitions(rows: Sequence[Any]) -> None:
    """Print the mean and standard error over cases of each score of instances, if there are any."""
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    from limner.evaluation import INSTANCE_METRICS, summarised

    summaries = summarised([row for row in rows if row["metric"] in INSTANCE_METRICS], rng=np.random.default_rng(0))
    shown = Table("instances", "", "unit", "cases")
    for (_, metric), summary in summaries.items():
        shown.add_row(metric, _score(summary), INSTANCE_METRICS[metric], str(summary.cases))
    if summaries:
        Console().print(shown)


def _show_scores(rows: Sequence[Any]) -> None:
    """Print the mean and standard error over cases of each structure, if there are any."""
    import numpy as np
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from limner.evaluation import summarised

    summaries = summarised(rows, rng=np.random.default_rng(0))
    shown = Table("structure", "Dice", "HD95 mm", "ASD mm", "cases")
    for structure in dict.fromkeys(row["structure"] for row in rows if row["metric"] == "dice"):
        scores = [summaries.get((structure, metric)) for metric in ("dice", "hd95", "asd")]
        shown.add_row(escape(structure), *map(_score, scores), str(scores[0].cases) if scores[0] else "")
    if shown.rows:
        Console().print(shown)


def _score(score: Summary | None) -> str:
    """Return the mean of a score and, if there are several cases, its standard error."""
    if score is None:
        return ""
    return f"{score.mean:.3f}" + (f" ± {score.standard_error:.3f}" if score.cases > 1 else "")
