"""Scans from file to file: many, of which a bad one stops none, by one process or by many workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from limner import check
from limner.cluster import Executor, Item, Job, Ledger, Progress, Serial, begun, worked_through
from limner.data import cohort
from limner.files import bids, is_store, is_volume, replacing, save_volume
from limner.files.names import case_names
from limner.inference.case import Options, Scans, Segmenting, believed
from limner.inference.tables import MANIFEST, Case, Tables
from limner.space import LabelTable

#: Folder of the ledger, inside that of the results.
LEDGER = "ledger"


def segment_scans(
    scans: Sequence[Path | cohort.Case],
    out: Path,
    *,
    prior: Path | None = None,
    model: Path | None = None,
    options: Options | None = None,
    executor: Executor | None = None,
    redo: bool = False,
    progress: Progress | None = None,
) -> list[Case]:
    """Segment scans into a folder: labels and uncertainty for each, tables of volumes and verdicts, and a manifest.

    A scan that fails is recorded with its reason, and the others go on. Scans that are finished are not segmented
    again when the same is asked for once more, and all tables come out as if nothing had been interrupted.

    Args:
        scans: files, or cases with what belongs to them, as `find_cases` returns; at least one. The results of those
            that were found in a BIDS dataset go where BIDS says, and the folder is described as derivatives.
        out: folder, made if need be; or a file with a volume's suffix for one scan, which gets the labels alone.
        prior: folder of a prior; the model's own, or else the one that ships with the package, unless given.
        model: folder of a trained model; a mixture is fitted to each scan without one.
        options: what else to do.
        executor: who does it; this process, one scan after another, unless given.
        redo: whether to segment again what is finished.
        progress: told how far it has come.

    Returns:
        What came of each scan, in the order in which they were given.

    Raises:
        InputError: if the prior, the model, the options, the folder or the workers cannot be used, or the folder holds
            results of another prior, model or options; then nothing was done.
    """
    options, progress = options or Options(), progress or Progress()
    check.one_scan(len(scans), has_mask=options.mask is not None, has_channels=bool(options.channels))
    executor = executor or Serial()
    begin = Segmenting(out, prior, model, options, executor.memory)
    work = begun(begin)
    cases = _named(scans)
    if is_store(out) or (is_volume(out) and not out.is_dir()):
        check.one_file([case.images[0] for case in cases], out)
        if options.posteriors or options.samples:
            raise check.labels_alone(out, "--posteriors" if options.posteriors else "--samples")
        return [_one(cases[0], out, work=work, progress=progress)]
    facts = work.facts  # which fails, before anything is written, if prior and model do not suit each other
    _make_folder(out)
    job = Job(begin.anywhere(), Ledger.opened(out.absolute() / LEDGER, facts, redo=redo))
    _describe(out, cases, table=LabelTable.from_dict(work.told["table"]))
    tables = Tables(out, {case.name: case.images[0] for case in cases}, told=work.told)
    items = [_anywhere(work.item(case)) for case in cases]
    try:
        for outcome in worked_through(items, job, executor=executor, progress=progress):
            tables.add(outcome)
    finally:
        tables.write()
    return tables.cases


def _named(scans: Sequence[Path | cohort.Case]) -> list[cohort.Case]:
    """Return scans as cases; files get names that differ.

    Raises:
        InputError: for two scans of one name.
    """
    paths = [scan for scan in scans if isinstance(scan, Path)]
    names = iter(case_names(paths))
    cases = [cohort.Case(next(names), (scan,)) if isinstance(scan, Path) else scan for scan in scans]
    check.cases_differ([case.name for case in cases])
    return cases


def _anywhere(item: Item) -> Item:
    """Return an item whose files are found from any folder, as by workers elsewhere."""
    return replace(item, inputs=tuple(path.absolute() for path in item.inputs))


def _one(scan: cohort.Case, out: Path, *, work: Scans, progress: Progress) -> Case:
    """Segment a scan, and write its labels alone to a file."""
    _make_folder(out.parent)
    found = work.segmented(work.item(scan), step=lambda words: progress.step(out.name, words))
    save_volume(found.labels, out)
    return Case(out.name, str(scan.images[0].absolute()), labels=str(out), **believed(found))


def _describe(out: Path, cases: Sequence[cohort.Case], *, table: LabelTable) -> None:
    """Say what BIDS wants to know of derivatives, if there are scans of a BIDS dataset."""
    datasets = [case.dataset for case in cases if case.dataset]
    if not datasets:
        return
    files = {
        bids.DESCRIPTION: bids.description(version("limner"), datasets[0]),
        bids.TABLE: bids.lookup(table),
        bids.IGNORE: "".join(f"{name}\n" for name in (LEDGER, "*.csv", "*.html", MANIFEST, "*_uncertainty.nii.gz")),
    }
    for name, words in files.items():
        with replacing(out / name) as temporary:
            temporary.write_text(words, encoding="utf-8")


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise check.unwritable(folder, error) from error
