"""Scans from file to file: many, of which a bad one stops none; and what is told of them in tables."""

from __future__ import annotations

import csv
import io
import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from limner import check
from limner.files import is_volume, open_volume, replacing, save_volume, suffix
from limner.files.names import case_names
from limner.inference.approach import Approach, approach
from limner.inference.quality import Quality
from limner.inference.segmentation import Segmentation, Step, segment_volume
from limner.methods.mixture import Mixture
from limner.methods.storage import PRIOR, Model, load_model, model_hash
from limner.priors.atlas import Atlas, Placement
from limner.priors.storage import SHIPPED, load_prior, prior_hash
from limner.space import Volume

MANIFEST = "manifest.json"
VOLUMES = "volumes.csv"
VERDICTS = "qc.csv"
COLUMNS = ("id", "name", "structure", "volume_mm3", "low_mm3", "high_mm3")
MIXTURE = "mixture"
#: What to cite, by method.
CITATIONS = {
    MIXTURE: (
        "Van Leemput K et al. Automated model-based tissue classification of MR images of the brain. IEEE TMI 1999.",
        "Yu E et al. An auto-encoder strategy for adaptive image segmentation. MIDL 2020 (neighbour prior).",
    ),
    "anatomy": ("Dalca AV et al. Anatomical priors in CNNs for unsupervised biomedical segmentation. CVPR 2018.",),
    "sae": ("Yu E et al. An auto-encoder strategy for adaptive image segmentation. MIDL 2020.",),
}


@dataclass(frozen=True)
class Case:
    """One scan of a run, as the manifest records it.

    Args:
        name: unique in the run.
        image: path of the scan, absolute.
        labels: file name in the output folder.
        uncertainty: file name in the output folder.
        mask: file name in the output folder, if the brain was found in a head.
        orientation: where the scan's axes lead, if its file does not say.
        notes: what was tolerated, and how well the scan was aligned.
        verdict: whether to believe the labels: "pass", "look" or "fail"; nothing if there is no telling.
        reason: of a verdict that is no pass.
        error: why it failed, if it did.
        seconds: time taken.
    """

    name: str
    image: str
    labels: str = ""
    uncertainty: str = ""
    mask: str = ""
    orientation: str | None = None
    notes: tuple[str, ...] = ()
    verdict: str = ""
    reason: str = ""
    error: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Options:
    """What a run of scans is to do, beyond which scans, which prior and which model.

    Args:
        method: how to segment without a model.
        channels: further images of the one scan.
        mask: where the one scan's brain is.
        orientation: of scans whose files do not say.
        posteriors: whether to write NAME_posteriors, a folder of the structures' probabilities.
        samples: to draw and write into NAME_samples, a folder, by a model that can.
    """

    method: Mixture = field(default_factory=Mixture)
    channels: tuple[Path, ...] = ()
    mask: Path | None = None
    orientation: str | None = None
    posteriors: bool = False
    samples: int = 0


def segment_scans(
    scans: Sequence[Path],
    out: Path,
    *,
    prior: Path | None = None,
    model: Path | None = None,
    options: Options | None = None,
    progress: Callable[[str, str], None] = lambda *_: None,
) -> list[Case]:
    """Segment scans into a folder: labels and uncertainty for each, tables of volumes and verdicts, and a manifest.

    A scan that fails is recorded with its reason, and the others go on. The tables are up to date after every scan.

    Args:
        scans: files, at least one.
        out: folder, made if need be; or a file with a volume's suffix for one scan, which gets the labels alone.
        prior: folder of a prior; the model's own, or else the one that ships with the package, unless given.
        model: folder of a trained model; a mixture is fitted to each scan without one.
        options: what else to do.
        progress: told the case and the step in words.

    Raises:
        InputError: if the prior, the model, the options or the folder cannot be used; then nothing was done.
    """
    options = options or Options()
    check.one_scan(len(scans), has_mask=options.mask is not None, has_channels=bool(options.channels))
    work = _Work.begun(prior, model, options=options)
    if is_volume(out) and not out.is_dir():
        check.one_file(scans, out)
        if options.posteriors or options.samples:
            raise check.labels_alone(out, "--posteriors" if options.posteriors else "--samples")
        _make_folder(out.parent)
        found = work.segmented(scans[0], progress=lambda step: progress(out.name, step))
        save_volume(found.labels, out)
        return [_believed(Case(out.name, str(scans[0].absolute()), labels=str(out)), found)]
    names = case_names(scans)
    run = _Run(out, work)
    for name, path in zip(names, scans, strict=True):
        run.add(name, path, progress=lambda step, name=name: progress(name, step))  # type: ignore[misc]
    return run.cases


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise check.unwritable(folder, error) from error


@dataclass(frozen=True, eq=False)
class _Work:
    """What is done with every scan: a method, a prior if one was given or is needed, options; `facts` tells of them."""

    method: Mixture | Model
    atlas: Atlas | None
    options: Options
    facts: Mapping[str, Any]

    @classmethod
    def begun(cls, prior: Path | None, model: Path | None, *, options: Options) -> _Work:
        """Load prior and model, and see to it that they suit each other."""
        method = _on_device(load_model(model)) if model else options.method
        if options.samples:
            _draw(method, options.samples)
        atlas = None if model and not prior else load_prior(prior or SHIPPED)
        home = prior or (model / PRIOR if model else SHIPPED)
        facts = _facts(options, approach(method, atlas), model=model, prior=home)
        name = method.name if isinstance(method, Model) else MIXTURE
        return cls(method, atlas, options, {"method": name} | facts | {"citation": CITATIONS.get(name, ())})

    def segmented(self, path: Path, *, progress: Step) -> Segmentation:
        """Open one scan, with what belongs to it, and segment it."""
        progress("reading")
        options = self.options
        return segment_volume(
            open_volume(path),
            prior=self.atlas,
            method=self.method,
            channels=[open_volume(channel) for channel in options.channels],
            mask=None if options.mask is None else open_volume(options.mask, kind="labels"),
            orientation=options.orientation,
            posteriors=options.posteriors,
            progress=progress,
        )


def _facts(options: Options, how: Approach, *, model: Path | None, prior: Path) -> dict[str, Any]:
    """Return what the manifest tells of options, model and prior, and the table of the labels."""
    return {
        "model": model and {"name": model.name, "hash": model_hash(model)},
        "prior": how.atlas and {"name": prior.name, "hash": prior_hash(prior), "provenance": how.atlas.provenance},
        "options": {key: value for key, value in asdict(options).items() if not (model and key == "method")},
        "table": how.table.as_dict(),
    }


def _draw(method: Mixture | Model, count: int) -> None:
    """Let a model draw samples.

    Raises:
        InputError: if it cannot.
    """
    if not isinstance(method, Model):
        raise check.draws_nothing(MIXTURE)
    options = method.method.options
    if "samples" not in type(options).model_fields:
        raise check.draws_nothing(method.name)
    method.method.options = options.model_copy(update={"samples": count})


def _on_device(model: Model) -> Model:
    """Move a model to the GPU, if there is one."""
    model.method.to("cuda" if torch.cuda.is_available() else "cpu")
    return model


class _Run:
    """A folder that fills with the results of one scan after another."""

    def __init__(self, out: Path, work: _Work) -> None:
        """Make the folder and begin its tables."""
        self.out, self.work = out, work
        self.cases: list[Case] = []
        self.rows: list[dict[str, Any]] = []
        self.judged: list[dict[str, Any]] = []
        _make_folder(out)
        self._write_tables()

    def add(self, name: str, path: Path, *, progress: Step) -> None:
        """Segment a scan and write what was found, or record why not."""
        began = time.perf_counter()
        case = Case(name, str(path.absolute()))
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always", check.InputWarning)
            try:
                case = self._written(case, self.work.segmented(path, progress=progress))
            except check.InputError as error:
                case = replace(case, error=str(error))
            except Exception as error:  # noqa: BLE001 one scan must not stop the others; its report says what happened
                case = replace(case, error=f"{type(error).__name__}: {error}")
        told = tuple(str(warning.message) for warning in heard if issubclass(warning.category, check.InputWarning))
        seconds = round(time.perf_counter() - began, 1)
        self.cases.append(replace(case, notes=(*dict.fromkeys(told), *case.notes), seconds=seconds))
        self._write_tables()

    def _written(self, case: Case, found: Segmentation) -> Case:
        """Write a scan's files, in its own format."""
        ending = suffix(case.image)
        labels, uncertainty = (f"{case.name}_{kind}{ending}" for kind in ("labels", "uncertainty"))
        folder = self.out / f"{case.name}_posteriors"
        maps = {folder / f"{name.replace(' ', '-')}{ending}": volume for name, volume in found.posteriors.items()}
        drawn = self.out / f"{case.name}_samples"
        maps |= {drawn / f"{name}{ending}": volume for name, volume in found.samples.items()}
        mask = f"{case.name}_mask{ending}" if found.mask else ""
        if found.mask:
            maps[self.out / mask] = found.mask
        # The labels last: where they are, everything is.
        _save(maps | {self.out / uncertainty: found.uncertainty, self.out / labels: found.labels})
        self.rows += [{"case": case.name, **row} for row in found.volumes()]
        notes = (_told(found.placement),) if found.placement else ()
        self.judged.append({"case": case.name, **_judged(found)})
        case = _believed(replace(case, labels=labels, uncertainty=uncertainty, mask=mask), found)
        return replace(case, orientation=found.orientation, notes=notes)

    def _write_tables(self) -> None:
        """Write `volumes.csv`, `qc.csv` and `manifest.json`, each whole or not at all."""
        volumes = _csv(["case", *COLUMNS], self.rows)
        judged = _csv(["case", "verdict", "reason", *(measure.name for measure in fields(Quality))], self.judged)
        manifest = {
            "limner": version("limner"),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            **self.work.facts,
            "cases": [asdict(case) for case in self.cases],
        }
        content = json.dumps(manifest, indent=1, default=str) + "\n"
        for name, words in ((VOLUMES, volumes), (VERDICTS, judged), (MANIFEST, content)):
            with replacing(self.out / name) as temporary:
                temporary.write_text(words, encoding="utf-8")


def _believed(case: Case, found: Segmentation) -> Case:
    """Return a case with the verdict on it."""
    return replace(case, verdict=found.quality.verdict, reason=found.quality.reason) if found.quality else case


def _judged(found: Segmentation) -> dict[str, Any]:
    """Return the verdict on a scan, its reason, and what was measured."""
    if found.quality is None:
        return {}
    measures = {name: round(value, 4) for name, value in asdict(found.quality).items()}
    return {"verdict": found.quality.verdict, "reason": found.quality.reason, **measures}


def _csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as comma-separated values."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _told(placement: Placement) -> str:
    """Return in words where a scan lies."""
    words = f"aligned to the prior at {placement.score:.3f} nats"
    if placement.warp is None:
        return words
    volumes = placement.warp.jacobian()
    return f"{words}, which was bent: volumes by {float(volumes.min()):.2f} to {float(volumes.max()):.2f}"


def _save(volumes: Mapping[Path, Volume]) -> None:
    """Write all volumes, or leave none of them."""
    written = []
    try:
        for path, volume in volumes.items():
            path.parent.mkdir(exist_ok=True)
            save_volume(volume, path)
            written.append(path)
    except BaseException:
        for path in written:
            path.unlink()
        raise
