"""One scan: made ready, aligned, segmented, and brought back to where it came from."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

from limner import check
from limner.data.scan import (
    LARGEST_BRAIN,
    SMALLEST_BRAIN,
    Scan,
    found_axes,
    lost_orientation,
    prepared,
    shows_head,
)
from limner.inference.approach import OUTLIERS, Approach, approach
from limner.inference.quality import Quality, quality
from limner.inference.samples import Samples, collected, entropy
from limner.inference.volumes import volume_intervals
from limner.methods.mixture import Mixture
from limner.methods.placement import place_scan
from limner.methods.storage import Model
from limner.methods.stripping import find_brain
from limner.priors.atlas import Atlas, PlacedAtlas, Placement
from limner.space import Array, Grid, LabelTable, Volume

#: Name of the volume inside the skull.
INTRACRANIAL = "intracranial"
#: Name of the part of the uncertainty that lies in how samples differ.
SHAPE = "shape"
NOTHING = (0.0, 0.0)

Step: TypeAlias = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What was found in one scan, on its own grid.

    Args:
        labels: ids of the table.
        uncertainty: entropy of the classes' probabilities, nats.
        posteriors: by structure, its probability; empty unless asked for.
        placement: where the scan lies in the prior's world; None for a model without a prior.
        grid: the scan's, with its axes as they were given or found: what the placement starts from.
        orientation: where the scan's axes lead, as given or found; None if its file says so.
        table: names the ids.
        intervals: of each label's volume, mm3, by its id: 95 %.
        quality: what tells whether to believe it; None for a model without a prior.
        mask: 1 where brain and the fluid around it were found in a head with its skull; None if they were known.
        samples: further labels that are as likely, by number, and "shape", the part of the uncertainty that lies in how
            they differ, nats; empty if the method draws none.
    """

    labels: Volume
    uncertainty: Volume
    posteriors: dict[str, Volume]
    placement: Placement | None
    grid: Grid
    orientation: str | None
    table: LabelTable
    intervals: Mapping[int, tuple[float, float]]
    quality: Quality | None
    mask: Volume | None = None
    samples: Mapping[str, Volume] = field(default_factory=dict)

    def volumes(self) -> list[dict[str, Any]]:
        """Return the id, name, structure, volume in mm3, its 95 % interval and share of every label but the background.

        The share is that of the volume inside the skull, if it was found; that one comes last, and has neither id nor
        interval.
        """
        found, counts = np.unique(self.labels.data, return_counts=True)
        size = self.labels.grid.voxel_volume
        volumes = {label: count * size for label, count in zip(found.tolist(), counts.tolist(), strict=True)}
        inside = np.count_nonzero(self.mask.data) * size if self.mask else None
        rows: list[dict[str, Any]] = [
            {
                "id": label.id,
                "name": label.name,
                "structure": label.structure,
                "volume_mm3": round(volumes.get(label.id, 0), 3),
                "low_mm3": round(self.intervals.get(label.id, NOTHING)[0], 3),
                "high_mm3": round(self.intervals.get(label.id, NOTHING)[1], 3),
                "intracranial_share": round(volumes.get(label.id, 0) / inside, 6) if inside else "",
            }
            for label in self.table.labels[1:]
        ]
        if inside:
            row = dict.fromkeys(("id", "low_mm3", "high_mm3"), "") | dict.fromkeys(("name", "structure"), INTRACRANIAL)
            rows.append(row | {"volume_mm3": round(inside, 3), "intracranial_share": 1})
        return rows


def segment_volume(
    image: Volume,
    *,
    prior: Atlas | None = None,
    method: Mixture | Model | None = None,
    channels: Sequence[Volume] = (),
    mask: Volume | None = None,
    orientation: str | None = None,
    posteriors: bool = False,
    progress: Step = lambda _: None,
) -> Segmentation:
    """Segment one scan.

    Args:
        image: a head, if the prior knows what surrounds the brain; else without its skull: all around the brain has one
            value, or `mask` says where the brain is.
        prior: the model's own, or else the one that ships with the package, unless given.
        method: how to segment: a mixture, which is fitted to this scan alone, or a trained model.
        channels: further images of the same person in the same place, resampled onto the first one's grid.
        mask: non-zero where the brain is, on the image's grid.
        orientation: where the image's axes lead, such as "LIA", if its file does not say; without it they are found.
        posteriors: whether to return the structures' probabilities.
        progress: told each step in words.

    Raises:
        InputError: for an image that has no background and no mask, or is far from the prior's size; a mask on another
            grid; a model that was trained on other images or structures.
    """
    how = approach(method, prior)
    how.check(image, channels)
    head = None
    if mask is None and how.atlas and how.atlas.head and shows_head(image):
        progress("finding the brain")
        whole = Volume(np.ones(image.data.shape, np.uint8), image.grid, "labels")
        head = _stripped(prepared(image, channels=channels, mask=whole, orientation=orientation), how.atlas.head)
        mask, orientation = head.mask, orientation or head.orientation
    make = partial(prepared, image, channels=channels, mask=mask)
    start = head.transform if head else None
    scan, placement = _aligned(make, how, orientation=orientation, start=start, progress=progress)
    progress("predicting")
    ready = _ready(make, how, scan=scan, placement=placement)
    around = _placed(ready, how, placement=placement)
    prediction = _native(how.predict(ready, around), ready, scan=scan)
    progress("labelling")
    identified = partial(how.identified, placed=_placed(scan, how, placement=placement))
    samples = collected(
        (_native(one, ready, scan=scan) for one in how.draw(ready, around)),
        identified=identified,
        voxel=scan.native.voxel_volume,
    )
    ids = identified(how.segmenter.segment(prediction[None])[0])
    return Segmentation(
        labels=Volume(scan.pasted(ids), image.grid, "labels", image.header),
        uncertainty=_pasted(scan, samples.uncertainty if samples else entropy(prediction)),
        posteriors=_posteriors(scan, prediction, table=how.known) if posteriors else {},
        placement=placement,
        grid=scan.believed,
        orientation=scan.believed.orientation if scan.oriented and lost_orientation(image) else None,
        table=how.table,
        intervals=samples.intervals
        if samples
        else volume_intervals(prediction, identified=identified, voxel=scan.native.voxel_volume),
        quality=quality(scan, placement, atlas=how.atlas) if placement and how.atlas else None,
        mask=head.mask if head else None,
        samples=_sampled(scan, samples) if samples else {},
    )


@dataclass(frozen=True, eq=False)
class _Head:
    """What was found in a head: the brain, on the image's grid, its axes, and where it lies in the prior's world."""

    mask: Volume
    orientation: str | None
    transform: Array


def _stripped(scan: Scan, atlas: Atlas) -> _Head:
    """Return where the brain is in a head."""
    mask, placement = find_brain(
        scan.image, grid=scan.grid, atlas=atlas, rng=np.random.default_rng(0), oriented=scan.oriented
    )
    check.like_sized(placement.scale)
    check.brain_found(float(mask.sum()) * scan.grid.voxel_volume, sizes=(SMALLEST_BRAIN, LARGEST_BRAIN))
    volume = Volume(scan.pasted(mask.numpy().astype(np.uint8)), scan.source.grid, "labels", scan.source.header)
    if scan.oriented:
        return _Head(volume, None, placement.transform)
    found, change = found_axes(scan, placement.transform)
    warnings.warn(check.found_orientation(found), check.InputWarning, stacklevel=3)
    return _Head(volume, found, placement.before(change).transform)


def _aligned(
    make: Callable[..., Scan], how: Approach, *, orientation: str | None, start: Array | None, progress: Step
) -> tuple[Scan, Placement | None]:
    """Return a scan in its own voxels, and where it lies in the prior's world."""
    own = how.preparation.native()
    scan = make(orientation=orientation, preparation=own)
    if how.atlas is None:
        return scan, None
    progress("aligning")
    placement = place_scan(
        scan.image,
        scan.mask,
        grid=scan.grid,
        atlas=how.atlas,
        rng=np.random.default_rng(0),
        oriented=scan.oriented,
        start=start,
    )
    check.like_sized(placement.scale)
    if scan.oriented:
        return scan, placement
    found, change = found_axes(scan, placement.transform)
    warnings.warn(check.found_orientation(found), check.InputWarning, stacklevel=3)
    return make(orientation=found, preparation=own), placement.before(change)


def _ready(make: Callable[..., Scan], how: Approach, *, scan: Scan, placement: Placement | None) -> Scan:
    """Return a scan as the method is to see it."""
    ready = scan
    if how.preparation.spaced(scan.grid) is not scan.grid:
        ready = make(orientation=scan.believed.orientation, preparation=how.preparation)
    if placement:
        ready = replace(ready, image=placement.evened(ready.image, ready.grid))
    return ready


def _native(prediction: Tensor, ready: Scan, *, scan: Scan) -> Tensor:
    """Return the probabilities of the classes in the scan's own voxels, (K, *S): outside its mask all is background."""
    if ready.grid is not scan.grid:
        # What was said outside the mask has no part in what is said inside it.
        prediction = ready.unspaced(prediction * ready.mask)
        prediction /= prediction.sum(0).clamp_min(1e-6)
    prediction *= scan.mask
    prediction[0, prediction.sum(0) == 0] = 1
    return prediction


def _placed(scan: Scan, how: Approach, *, placement: Placement | None) -> PlacedAtlas | None:
    """Return the atlas where a scan lies, if there is one."""
    if how.atlas is None or placement is None:
        return None
    return placement.placed(how.atlas, grid=scan.grid, mask=scan.mask)


def _sampled(scan: Scan, samples: Samples) -> dict[str, Volume]:
    """Return samples on the scan's whole grid, by number, and the uncertainty that lies in how they differ."""
    source = scan.source
    labels = {
        str(number): Volume(scan.pasted(ids), source.grid, "labels", source.header)
        for number, ids in enumerate(samples.labels, start=1)
    }
    return labels | {SHAPE: _pasted(scan, samples.shape)}


def _posteriors(scan: Scan, prediction: Tensor, *, table: LabelTable) -> dict[str, Volume]:
    """Return the probability of each structure; outside the scan's box all is background."""
    names = (*table.structures, OUTLIERS)
    return {
        name: _pasted(scan, share, outside=float(name == names[0]))
        for name, share in zip(names, prediction, strict=False)
    }


def _pasted(scan: Scan, values: Tensor, *, outside: float = 0) -> Volume:
    """Return values (*S) in the scan's own voxels as an image on its whole grid."""
    return Volume(scan.pasted(values.numpy(), outside=outside), scan.source.grid, "image", scan.source.header)
