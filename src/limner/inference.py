"""One scan from file to file: open, align, predict, segment, write; and many, of which a bad one stops none."""

from __future__ import annotations

import csv
import io
import json
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from limner import check
from limner.files import is_volume, open_volume, replacing, save_volume, suffix
from limner.files.names import case_names
from limner.methods.mixture import Mixture
from limner.methods.placement import Placement, place_scan
from limner.priors.atlas import Atlas, PlacedAtlas
from limner.priors.storage import load_prior, prior_hash
from limner.space import Array, Box, Grid, Label, LabelTable, Volume, led, resampled

MANIFEST = "manifest.json"
VOLUMES = "volumes.csv"
#: The prior that ships with the package.
SHIPPED = Path(__file__).parent / "atlases" / "brain"
#: More than this inside the mask, in mm3, is no brain alone.
LARGEST_BRAIN = 2.6e6
#: Share of the voxels that a background of one value fills at least.
EMPTY_SHARE = 0.05
CITATIONS = (
    "Van Leemput K et al. Automated model-based tissue classification of MR images of the brain. IEEE TMI 1999.",
    "Yu E et al. An auto-encoder strategy for adaptive image segmentation. MIDL 2020 (neighbour prior).",
)
#: Name of the class of voxels that look like no tissue.
OUTLIERS = "outliers"
Step = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What was found in one scan, on its own grid.

    Args:
        labels: ids of the prior's table.
        uncertainty: entropy of the classes' probabilities, nats.
        posteriors: by structure, its probability; empty unless asked for.
        placement: where the scan lies in the prior's world.
        grid: the scan's, with its axes as they were given or believed: what the placement starts from.
        orientation: where the scan's axes lead, as given or found; None if its file says so.
        table: names the ids.
    """

    labels: Volume
    uncertainty: Volume
    posteriors: dict[str, Volume]
    placement: Placement
    grid: Grid
    orientation: str | None
    table: LabelTable

    def volumes(self) -> list[dict[str, Any]]:
        """Return the id, name, structure and volume in mm3 of every label of the table but the background."""
        found, counts = np.unique(self.labels.data, return_counts=True)
        voxels = dict(zip(found.tolist(), counts.tolist(), strict=True))
        size = self.labels.grid.voxel_volume
        return [
            {
                "id": label.id,
                "name": label.name,
                "structure": label.structure,
                "volume_mm3": round(voxels.get(label.id, 0) * size, 3),
            }
            for label in self.table.labels[1:]
        ]


def segment_volume(
    image: Volume,
    *,
    prior: Atlas | None = None,
    method: Mixture | None = None,
    channels: Sequence[Volume] = (),
    mask: Volume | None = None,
    orientation: str | None = None,
    posteriors: bool = False,
    progress: Step = lambda _: None,
) -> Segmentation:
    """Segment one scan.

    Args:
        image: 3-D, without its skull: all around the brain has one value, or `mask` says where the brain is.
        prior: the one that ships with the package, unless given.
        method: how to segment.
        channels: further images of the same person in the same place, resampled onto the first one's grid.
        mask: non-zero where the brain is, on the image's grid.
        orientation: where the image's axes lead, such as "LIA", if its file does not say; without it they are found.
        posteriors: whether to return the structures' probabilities.
        progress: told each step in words.

    Raises:
        InputError: for an image that is not 3-D, has no background and no mask, or is far from the prior's size, or a
            mask on another grid.
    """
    check.solid(image.data.shape)
    atlas = prior or load_prior(SHIPPED)
    inside = _brain(image) if mask is None else _given(mask, image.grid)
    box = Box.around(inside).grown(3).clipped(inside.shape)
    lost = lost_orientation(image)
    believed = led(image.grid, orientation) if lost and orientation else image.grid
    others = [resampled(channel, image.grid).data for channel in channels]
    tensor = torch.from_numpy(np.stack([_cropped(data, box) for data in (image.data, *others)]))
    where = torch.from_numpy(_cropped(inside, box))
    progress("aligning")
    found = lost and not orientation
    grid, rng = believed.cropped(box), np.random.default_rng(0)
    placement = place_scan(tensor, where, grid=grid, atlas=atlas, rng=rng, oriented=not found)
    check.like_sized(1 / float(np.cbrt(abs(np.linalg.det(placement.transform)))))
    placed = atlas.place(grid.moved(placement.transform))
    if found:
        warnings.warn(check.found_orientation(placed.grid.orientation), check.InputWarning, stacklevel=2)
    progress("fitting tissues")
    segmenter = method or Mixture()
    prediction = segmenter.predict(tensor[None], placed, mask=where[None])
    progress("labelling")
    frame = _Frame(image, box, placed)
    return Segmentation(
        labels=frame.labels(segmenter.segment(prediction)[0]),
        uncertainty=frame.pasted(-torch.xlogy(prediction[0], prediction[0]).sum(0)),
        posteriors=frame.maps(prediction[0]) if posteriors else {},
        placement=placement,
        grid=believed,
        orientation=(orientation or placed.grid.orientation) if lost else None,
        table=frame.table,
    )


@dataclass(frozen=True, eq=False)
class _Frame:
    """The way back from a box around the brain to the whole image."""

    image: Volume
    box: Box
    prior: PlacedAtlas

    @property
    def table(self) -> LabelTable:
        """The prior's labels, and one for outliers."""
        return with_outliers(self.prior.atlas.table)

    def pasted(self, values: torch.Tensor) -> Volume:
        """Return values (*box) as an image on the whole grid, zero elsewhere."""
        data = np.zeros(self.image.grid.shape, np.float32)
        data[self.box.slices] = values.numpy()
        return Volume(data, self.image.grid, "image", self.image.header)

    def labels(self, classes: Array) -> Volume:
        """Return ids on the whole grid, given classes (*box); the class after the prior's last is that of outliers."""
        structures = len(self.prior.atlas.table.structures)
        data = np.zeros(self.image.grid.shape, np.int32)
        ids = self.prior.identified(np.where(classes < structures, classes, 0))
        data[self.box.slices] = np.where(classes < structures, ids, outlier_label(self.prior.atlas.table).id)
        return Volume(data, self.image.grid, "labels", self.image.header)

    def maps(self, prediction: torch.Tensor) -> dict[str, Volume]:
        """Return the probability of each structure on the whole grid; outside the box all is background."""
        names = (*self.prior.atlas.table.structures, OUTLIERS)
        found = {name: self.pasted(share) for name, share in zip(names, prediction, strict=False)}
        outside = np.ones(self.image.grid.shape, bool)
        outside[self.box.slices] = False
        found[names[0]].data[outside] = 1
        return found


def outlier_label(table: LabelTable) -> Label:
    """Return the label of voxels that look like no tissue: FreeSurfer's 99, or the next free id."""
    number = 99 if 99 not in table else int(table.ids[-1]) + 1
    return Label(number, OUTLIERS, (255, 165, 0), OUTLIERS, OUTLIERS)


def with_outliers(table: LabelTable) -> LabelTable:
    """Return the table with a label for outliers."""
    return LabelTable((*table.labels, outlier_label(table)), table.structures)


def _brain(image: Volume) -> Array:
    """Return where a stripped image differs from its background, holes filled.

    The background is the value of most of the image's border.
    """
    from scipy import ndimage

    faces = [image.data.take(end, axis) for axis in range(image.data.ndim) for end in (0, -1)]
    values, counts = np.unique(np.concatenate([face.ravel() for face in faces]), return_counts=True)
    inside = image.data != values[counts.argmax()]
    share = 1 - float(inside.mean())
    check.has_background(share, EMPTY_SHARE)
    inside = np.asarray(ndimage.binary_fill_holes(inside))
    if inside.sum() * image.grid.voxel_volume > LARGEST_BRAIN:
        warnings.warn(check.large_brain(inside.sum() * image.grid.voxel_volume / 1e6), stacklevel=3)
    return inside


def _given(mask: Volume, grid: Grid) -> Array:
    """Return the user's mask as booleans.

    Raises:
        InputError: if it lies on another grid, or is empty.
    """
    check.same_grid(mask.grid, grid, case="the scan", names=("mask", "image"))
    check.mask_not_empty(int(np.count_nonzero(mask.data)))
    return np.asarray(mask.data != 0)


def lost_orientation(image: Volume) -> bool:
    """Tell whether nothing says where an image's axes lead: an identity affine from a file that stores none."""
    return image.header is None and bool((image.grid.affine == np.eye(image.data.ndim + 1)).all())


def _cropped(data: Array, box: Box) -> Array:
    """Return a contiguous copy of the data in a box."""
    return np.ascontiguousarray(data[box.slices])


@dataclass(frozen=True)
class Case:
    """One scan of a run, as the manifest records it.

    Args:
        name: unique in the run.
        image: path of the scan, absolute.
        labels: file name in the output folder.
        uncertainty: file name in the output folder.
        orientation: where the scan's axes lead, if its file does not say.
        notes: what was tolerated, and how well the scan was aligned.
        error: why it failed, if it did.
        seconds: time taken.
    """

    name: str
    image: str
    labels: str = ""
    uncertainty: str = ""
    orientation: str | None = None
    notes: tuple[str, ...] = ()
    error: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Options:
    """What a run of scans is to do, beyond which scans and which prior.

    Args:
        method: how to segment.
        channels: further images of the one scan.
        mask: where the one scan's brain is.
        orientation: of scans whose files do not say.
        posteriors: whether to write NAME_posteriors, a folder of the structures' probabilities.
    """

    method: Mixture = field(default_factory=Mixture)
    channels: tuple[Path, ...] = ()
    mask: Path | None = None
    orientation: str | None = None
    posteriors: bool = False


def segment_scans(
    scans: Sequence[Path],
    out: Path,
    *,
    prior: Path | None = None,
    options: Options | None = None,
    progress: Callable[[str, str], None] = lambda *_: None,
) -> list[Case]:
    """Segment scans into a folder: labels and uncertainty for each, `volumes.csv` and `manifest.json` for all.

    A scan that fails is recorded with its reason, and the others go on. The tables are up to date after every scan.

    Args:
        scans: files, at least one.
        out: folder, made if need be; or a file with a volume's suffix for one scan, which gets the labels alone.
        prior: folder of a prior; the one that ships with the package, unless given.
        options: what else to do.
        progress: told the case and the step in words.

    Raises:
        InputError: if the prior, the options or the folder cannot be used; then nothing was done.
    """
    options = options or Options()
    atlas = load_prior(prior or SHIPPED)
    check.one_scan(len(scans), has_mask=options.mask is not None, has_channels=bool(options.channels))
    if is_volume(out) and not out.is_dir():
        check.one_file(scans, out)
        _make_folder(out.parent)
        found = _segmented(scans[0], atlas, options=options, progress=lambda step: progress(out.name, step))
        save_volume(found.labels, out)
        return [Case(out.name, str(scans[0].absolute()), labels=str(out))]
    names = case_names(scans)
    run = _Run(out, atlas, prior=prior or SHIPPED, options=options)
    for name, path in zip(names, scans, strict=True):
        run.add(name, path, progress=lambda step, name=name: progress(name, step))  # type: ignore[misc]
    return run.cases


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise check.unwritable(folder, error) from error


def _segmented(path: Path, atlas: Atlas, *, options: Options, progress: Step) -> Segmentation:
    """Open one scan, with what belongs to it, and segment it."""
    progress("reading")
    return segment_volume(
        open_volume(path),
        prior=atlas,
        method=options.method,
        channels=[open_volume(channel) for channel in options.channels],
        mask=None if options.mask is None else open_volume(options.mask, kind="labels"),
        orientation=options.orientation,
        posteriors=options.posteriors,
        progress=progress,
    )


class _Run:
    """A folder that fills with the results of one scan after another."""

    def __init__(self, out: Path, atlas: Atlas, *, prior: Path, options: Options) -> None:
        """Make the folder and begin its tables."""
        self.out, self.atlas, self.options = out, atlas, options
        self.cases: list[Case] = []
        self.rows: list[dict[str, Any]] = []
        _make_folder(out)
        self.prior = {"name": prior.name, "hash": prior_hash(prior), "provenance": dict(atlas.provenance)}
        self._write_tables()

    def add(self, name: str, path: Path, *, progress: Step) -> None:
        """Segment a scan and write what was found, or record why not."""
        began = time.perf_counter()
        case = Case(name, str(path.absolute()))
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always", check.InputWarning)
            try:
                case = self._written(case, _segmented(path, self.atlas, options=self.options, progress=progress))
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
        names = {kind: f"{case.name}_{kind}{ending}" for kind in ("labels", "uncertainty")}
        save_volume(found.labels, self.out / names["labels"])
        save_volume(found.uncertainty, self.out / names["uncertainty"])
        if found.posteriors:
            folder = self.out / f"{case.name}_posteriors"
            folder.mkdir(exist_ok=True)
            for structure, volume in found.posteriors.items():
                save_volume(volume, folder / f"{structure.replace(' ', '-')}{ending}")
        self.rows += [{"case": case.name, **row} for row in found.volumes()]
        notes = (f"aligned to the prior at {found.placement.score:.3f} nats",)
        labels, uncertainty = names.values()
        return replace(case, labels=labels, uncertainty=uncertainty, orientation=found.orientation, notes=notes)

    def _write_tables(self) -> None:
        """Write `volumes.csv` and `manifest.json`, each whole or not at all."""
        text = io.StringIO()
        writer = csv.DictWriter(text, ["case", "id", "name", "structure", "volume_mm3"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        manifest = {
            "limner": version("limner"),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "method": "mixture",
            "prior": self.prior,
            "options": json.loads(json.dumps(asdict(self.options), default=str)),
            "citation": CITATIONS,
            "table": with_outliers(self.atlas.table).as_dict(),
            "cases": [asdict(case) for case in self.cases],
        }
        for name, content in ((VOLUMES, text.getvalue()), (MANIFEST, json.dumps(manifest, indent=1) + "\n")):
            with replacing(self.out / name) as temporary:
                temporary.write_text(content, encoding="utf-8")
