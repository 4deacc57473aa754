"""Whether to believe a segmentation: what a scan that went wrong gives away, and the verdict on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from torch import Tensor

from limner.data.scan import Scan
from limner.methods.placement import OUTER_TISSUES, told_sides
from limner.priors.atlas import APART, LATTICE, Atlas, Placement
from limner.space import Array

Verdict: TypeAlias = Literal["pass", "look", "fail"]

#: Distance in mm at which neighbours are compared.
NEIGHBOURS = 3.0


@dataclass(frozen=True)
class Range:
    """What a measure may be: outside `usual` somebody should look, outside `possible` it went wrong."""

    usual: tuple[float, float]
    possible: tuple[float, float]
    low: str
    high: str = ""


#: Set on seven T1 scans, two people's T1, T2 and FLAIR, and what three of them became spoiled (docs/design/0008).
RANGES = {
    "told_nats": Range((0.16, np.inf), (0.08, np.inf), "the prior tells next to nothing of the image"),
    "sharpness": Range((0.18, np.inf), (0.13, np.inf), "neighbours look alike, as in a blurred image"),
    "filled": Range(
        (0.9, 1.25),
        (0.75, 1.35),
        "a part of what the prior shows is missing from the scan",
        "the prior had to grow beyond itself to fill the scan",
    ),
    "smallest_scale": Range((0.7, np.inf), (0.55, np.inf), "the scan is far smaller than the prior along one axis"),
    "largest_scale": Range((0, 1.4), (0, 1.8), "", "the scan is far larger than the prior along one axis"),
    # Not from those scans either: heads lie up to some 30 degrees aslant; beyond, it is the header that is wrong.
    "turned_degrees": Range((0, 45), (0, 90), "", "the scan lies far from how its header says, as if axes were wrong"),
    "sides_nats": Range((-0.008, np.inf), (-0.1, np.inf), "left and right may be swapped"),
    "smallest_jacobian": Range((0.3, np.inf), (0.15, np.inf), "the prior was shrunk beyond what people differ by"),
    "largest_jacobian": Range((0, 4.0), (0, 6.0), "", "the prior was stretched beyond what people differ by"),
    # Not from those scans: a hundredth is often cut off on purpose.
    "saturated": Range((0, 0.02), (0, 0.1), "", "much of the image has its largest value, as if it were cut off there"),
}


@dataclass(frozen=True)
class Quality:
    """What tells whether to believe a segmentation.

    Args:
        told_nats: what the prior, where it lies, tells of an intensity beyond the scan's histogram, mean over voxels.
        sharpness: 1 minus the correlation of voxels 3 mm apart.
        filled: volume of what the prior shows inside the mask, the affine scale taken out, relative to the prior's.
        smallest_scale: size of the scan relative to the prior along the axis where it is least.
        largest_scale: the same where it is most.
        turned_degrees: by how much the scan is turned against the prior; 180 if it is a mirror image.
        sides_nats: by how much the scan is likelier, per voxel, than with left and right swapped.
        smallest_jacobian: by how much bending shrinks a piece of the prior at most.
        largest_jacobian: the same for growing.
        saturated: share of the mask's voxels that have the largest value in it, of the channel where it is largest.
    """

    told_nats: float
    sharpness: float
    filled: float
    smallest_scale: float
    largest_scale: float
    turned_degrees: float = 0.0
    sides_nats: float = 0.0
    smallest_jacobian: float = 1.0
    largest_jacobian: float = 1.0
    saturated: float = 0.0

    @property
    def verdict(self) -> Verdict:
        """The worst of what the measures say."""
        values = asdict(self)
        if any(not _within(values[name], one.possible) for name, one in RANGES.items()):
            return "fail"
        return "look" if any(self._odd()) else "pass"

    @property
    def reason(self) -> str:
        """Why the verdict is not a pass, in words; nothing if it is."""
        return "; ".join(self._odd())

    def _odd(self) -> Iterator[str]:
        """Yield what is unusual."""
        values = asdict(self)
        for name, one in RANGES.items():
            value = values[name]
            if not _within(value, one.usual):
                high = value > one.usual[1]
                words, limit = (one.high, f"below {one.usual[1]:g}") if high else (one.low, f"above {one.usual[0]:g}")
                yield f"{words} ({name.replace('_', ' ')} {value:.3g}, usually {limit})"


def quality(scan: Scan, placement: Placement, *, atlas: Atlas) -> Quality:
    """Return what tells whether to believe what an atlas says of a scan where it was placed."""
    scales = np.linalg.svd(np.linalg.inv(placement.transform[:3, :3]), compute_uv=False)
    measures = {
        "told_nats": placement.told,
        "sharpness": _sharpness(scan.image[0], scan.mask, sizes=scan.grid.voxel_sizes),
        "filled": _filled(scan, placement, atlas=atlas),
        "smallest_scale": float(scales[-1]),
        "largest_scale": float(scales[0]),
        "turned_degrees": _turned(placement.transform[:3, :3]),
        "sides_nats": told_sides(
            scan.image, scan.mask, grid=scan.grid, atlas=atlas, placement=placement, rng=np.random.default_rng(0)
        ),
        "saturated": _saturated(scan.image[:, scan.mask]),
    }
    if placement.warp:
        jacobian = placement.warp.jacobian()
        measures |= {"smallest_jacobian": float(jacobian.min()), "largest_jacobian": float(jacobian.max())}
    return Quality(**measures)


def _within(value: float, limits: tuple[float, float]) -> bool:
    """Tell whether a value lies within limits; one that is no number does not."""
    return limits[0] <= value <= limits[1]


def _turned(matrix: Array) -> float:
    """Return the angle of a linear map's rotation, degrees; 180 for one that reflects."""
    left, _, right = np.linalg.svd(matrix)
    rotation = left @ right
    if np.linalg.det(rotation) < 0:
        return 180.0
    return float(np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))))


def _saturated(values: Tensor) -> float:
    """Return the largest share of the values of a channel (C, N) that equal its largest."""
    return float((values == values.amax(1, keepdim=True)).float().mean(1).max())


def _sharpness(image: Tensor, mask: Tensor, *, sizes: Array) -> float:
    """Return 1 minus the correlation of the mask's voxels with those 3 mm, or one voxel, away, mean over the axes."""
    from scipy import ndimage

    # The edge of the mask is none of the image's.
    inner = ndimage.binary_erosion(mask.numpy(), iterations=2)
    found = []
    for axis, size in enumerate(sizes):
        step = max(1, round(NEIGHBOURS / float(size)))
        first, second = ([slice(None)] * 3 for _ in range(2))
        first[axis], second[axis] = slice(0, -step), slice(step, None)
        both = inner[tuple(first)] & inner[tuple(second)]
        values = [image.numpy()[tuple(part)][both] for part in (first, second)]
        found.append(1 - np.corrcoef(values)[0, 1] if both.any() else np.nan)
    return float(np.nanmean(found)) if np.isfinite(found).any() else 0.0


def _filled(scan: Scan, placement: Placement, *, atlas: Atlas) -> float:
    """Return how much of the prior's volume, but for what stripping may take away, the mask holds."""
    left, coarse = scan.grid.moved(placement.transform).thinned(LATTICE, apart=APART)
    kept = np.array([label.tissue not in OUTER_TISSUES for label in atlas.table.labels])
    parts = replace(atlas, warp=placement.warp, kept=None).sampled(coarse)
    inner = np.array([atlas.parts.tissues[tissue] not in OUTER_TISSUES for tissue in atlas.parts.tissue_of.tolist()])
    held = float(parts[inner][:, scan.mask[left]].sum()) * coarse.voxel_volume
    whole = float((kept[atlas.maps.rows] * (atlas.maps.weights / 255.0)).sum()) * atlas.grid.voxel_volume
    return held / whole
