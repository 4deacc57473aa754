"""The report of a folder that `limner segment` wrote, from its manifest and the files this names."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from limner import check
from limner.evaluation import evaluate
from limner.files import open_volume
from limner.files.names import paired
from limner.report.case import CaseReport
from limner.report.manifest import Entry, read_manifest
from limner.report.page import write_report
from limner.report.run import is_run, report_run
from limner.report.stacks import are_volumes, report_volumes
from limner.space import Kind, LabelTable, Volume, led

REPORT = "report.html"


def report_folder(
    folder: str | Path,
    *,
    references: Sequence[Path] = (),
    progress: Callable[[Sequence[Entry]], Iterable[Entry]] = iter,
) -> Path:
    """Write the report of a segmentation beside its manifest, of a training run, or of the sections of volumes.

    A scan that is no longer where it was is shown by its labels alone, and one whose reference does not fit without
    it; notes say so. A scan whose labels cannot be read is shown as failed.

    Args:
        folder: what `limner segment` or `limner train` wrote.
        references: label maps to compare with, paired with the scans' labels by name.
        progress: passes on the scans one by one, and may show how far it got.

    Returns:
        Where the report is.

    Raises:
        InputError: if the folder has no manifest or a damaged one, a scan has no reference or several, or the report
            cannot be written.
    """
    folder = Path(folder)
    if is_run(folder):
        return report_run(folder)
    if are_volumes(folder):
        return report_volumes(folder)
    manifest = read_manifest(folder)
    reference_of = _references(manifest.entries, references) if references else {}
    cases = (
        _compared(
            _opened(entry), reference_of.get(entry.case.name), table=manifest.table, orientation=entry.orientation
        )
        for entry in progress(manifest.entries)
    )
    title = _title([entry.case for entry in manifest.entries])
    write_report(folder / REPORT, cases, table=manifest.table, title=title, facts=manifest.facts)
    return folder / REPORT


def _references(entries: Sequence[Entry], references: Sequence[Path]) -> dict[str, Path]:
    """Return the reference of each scan that was segmented, by the scan's name.

    Raises:
        InputError: if a scan has none, or several.
    """
    name_of = {entry.files["labels"]: entry.case.name for entry in entries if entry.case.error is None}
    return {name_of[labels]: path for _, labels, path in paired(list(name_of), references)}


def _title(cases: Sequence[CaseReport]) -> str:
    """Return what the page is called."""
    failed = sum(case.error is not None for case in cases)
    what = cases[0].name if len(cases) == 1 else f"{len(cases)} scans"
    return f"Segmentation of {what}" + (f", {failed} failed" if failed else "")


def _opened(entry: Entry) -> CaseReport:
    """Return a scan with its labels and, as far as they can be read and fit, its image and its uncertainty."""
    case = entry.case
    if case.error is not None:
        return case
    try:
        case = replace(case, labels=_volume(entry.files["labels"], "labels", orientation=entry.orientation))
    except check.InputError as error:
        return replace(case, error=str(error))
    for layer in ("image", "uncertainty"):
        if layer in entry.files:
            case = _added(case, layer, path=entry.files[layer], orientation=entry.orientation)
    return case


def _compared(case: CaseReport, reference: Path | None, *, table: LabelTable, orientation: str | None) -> CaseReport:
    """Return a scan with its reference and scores, if there is a reference and it fits."""
    if reference is None or case.labels is None:
        return case
    compared = _added(case, "reference", path=reference, orientation=orientation)
    if compared.reference is None:
        return compared
    try:
        scores = evaluate(case.labels, compared.reference, table=table, case=case.name)
    except check.InputError as error:
        return _noted(case, "reference", error=error)
    return replace(compared, scores=tuple(scores))


def _added(case: CaseReport, layer: str, *, path: Path, orientation: str | None) -> CaseReport:
    """Return a scan with one more layer, or with a note of why it is not shown."""
    kind: Kind = "labels" if layer == "reference" else "image"
    try:
        volume = _volume(path, kind, orientation=orientation)
        if case.labels is not None:
            check.same_grid(volume.grid, case.labels.grid, case=case.name, names=(layer, "labels"))
    except check.InputError as error:
        return _noted(case, layer, error=error)
    added: dict[str, Any] = {layer: volume}
    return replace(case, **added)


def _noted(case: CaseReport, layer: str, *, error: check.InputError) -> CaseReport:
    """Return a scan with a note that a layer is not shown."""
    return replace(case, notes=(*case.notes, f"{layer} not shown: {error}"))


def _volume(path: Path, kind: Kind, *, orientation: str | None) -> Volume:
    """Return a volume whose axes lead where its file says, or else where `orientation` does.

    Raises:
        InputError: if it cannot be read.
    """
    with warnings.catch_warnings():
        # Whoever segmented the scan was warned, and has passed it on as a note.
        warnings.simplefilter("ignore", check.InputWarning)
        volume = open_volume(path, kind=kind)
    return volume if orientation is None else replace(volume, grid=led(volume.grid, orientation))
