"""Find where a scan lies in a prior's world: an affine map that maximises the mixture's likelihood, coarse to fine."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from limner.data.scan import standardised
from limner.methods.gaussians import GaussianSettings, fit_gaussians
from limner.priors.alignment import Evidence, interpolated, refined
from limner.priors.atlas import Atlas
from limner.space import Array, Grid

#: Blur of the prior in mm, stage by stage.
STAGES = (8.0, 4.0, 2.0, 0.0)
#: Steps of the optimiser at each stage, at most.
ROUNDS = 20
#: Spacing in mm of the prior's maps during alignment.
SPACING = 2.0
#: Points inside the mask, and outside near it.
INSIDE, OUTSIDE = 60_000, 20_000
#: How far around the mask, in mm, the scan still says that there is no brain.
SHELL = 6.0
#: Likelihood, outside the mask, of parts that a stripped scan shows, relative to those that it lacks.
STRIPPED = 1e-3
#: Enough to tell tissues apart at a few thousand points: with fluid's four, made heads came to lie a millimetre worse.
GAUSSIANS = GaussianSettings(components={"background": 2, "csf": 2})
#: Tissues that stripping may take away.
OUTER_TISSUES = ("background", "outside", "csf")


@dataclass(frozen=True, eq=False)
class Placement:
    """Where a scan lies.

    Args:
        transform: (4, 4) from the scan's world to the prior's, mm.
        score: mean log evidence in nats per voxel, of intensities scaled to unit variance; it compares placements of
            one scan.
    """

    transform: Array
    score: float


@dataclass(frozen=True, eq=False)
class _Points:
    """Scattered voxels of a scan: positions (N, 3) mm and scaled values (C, N) in the mask, positions alone outside."""

    inside: Array
    values: Tensor
    outside: Array

    def fewer(self, every: int) -> _Points:
        """Return one in `every` of the points."""
        return _Points(self.inside[::every], self.values[:, ::every], self.outside[::every])

    def moved(self, transform: Array) -> _Points:
        """Return the points carried along by an affine map (4, 4)."""
        return _Points(_moved(transform, self.inside), self.values, _moved(transform, self.outside))


def place_scan(
    image: Tensor,
    mask: Tensor,
    *,
    grid: Grid,
    atlas: Atlas,
    rng: np.random.Generator,
    settings: GaussianSettings = GAUSSIANS,
    oriented: bool = True,
) -> Placement:
    """Align a scan of any contrast to an atlas.

    At each stage the atlas is a little sharper; Gaussians are fitted where it lies, and the affine map is moved to
    where they explain the image best. Every class counts the same, whatever its volume: by volume, the cortex would
    decide alone, and small deep structures would be off by a millimetre or two.

    Args:
        image: (C, *S) intensities.
        mask: (*S) bool, the brain.
        grid: (*S) of the scan.
        atlas: to align to.
        rng: draws the points that are looked at.
        settings: of the Gaussians.
        oriented: whether the grid's axes can be believed; if not, all 48 orders and directions are tried.

    Source: our own; EM and registration in turns as in Ashburner and Friston 2005 (unified segmentation).
    """
    points, maps = _drawn(image, mask, grid=grid, rng=rng), _Maps(atlas)
    if oriented:
        return _staged(points, maps, start=_started(points, maps), stages=STAGES, settings=settings)
    begun = [_started(points.moved(turn), maps) @ turn for turn in _turns()]
    # A look at all ways, a coarse alignment of the likeliest, and a full one of the last, which differ by a mirror.
    looks = [_looked(points.fewer(8), maps, transform=start, sd=STAGES[0], settings=settings).score for start in begun]
    likely = [begun[number] for number in np.argsort(looks)[::-1][:8]]
    coarse = [_staged(points.fewer(4), maps, start=start, stages=STAGES[:2], settings=settings) for start in likely]
    last = sorted(coarse, key=lambda found: -found.score)[:2]
    found = [_staged(points, maps, start=one.transform, stages=STAGES[1:], settings=settings) for one in last]
    return max(found, key=lambda one: one.score)


class _Maps:
    """An atlas's maps at the spacing and blur of each stage."""

    def __init__(self, atlas: Atlas) -> None:
        self.parts = atlas.parts
        self.grid = atlas.grid.spaced(SPACING)
        placed = atlas.place(self.grid)
        self.sharp = _by_voxel(placed.part_probability())
        lost = [self.parts.tissues[tissue] in OUTER_TISSUES for tissue in self.parts.tissue_of.tolist()]
        self.lost = torch.tensor(lost)
        self._blurred = {0.0: self.sharp}

    def blurred(self, sd: float) -> Tensor:
        """Return (P, *S) probabilities blurred by `sd` mm, in memory one voxel after the other."""
        from scipy.ndimage import gaussian_filter1d

        if sd not in self._blurred:
            maps = self.sharp
            for axis, size in enumerate(self.grid.shape, start=1):
                # A product with a small matrix along each axis: twice as quick as a filter part by part.
                blur = gaussian_filter1d(np.eye(size, dtype=np.float32), sd / SPACING, axis=1, mode="nearest")
                maps = (maps.movedim(axis, -1) @ torch.from_numpy(blur)).movedim(-1, axis)
            self._blurred[sd] = _by_voxel(maps)
        return self._blurred[sd]


def _by_voxel(maps: Tensor) -> Tensor:
    """Return maps (P, *S) that lie in memory voxel by voxel."""
    return maps.movedim(0, -1).contiguous().movedim(-1, 0)


def _drawn(image: Tensor, mask: Tensor, *, grid: Grid, rng: np.random.Generator) -> _Points:
    """Return random voxels of the mask and of the shell around it."""
    from scipy import ndimage

    where = mask.numpy()
    distance = ndimage.distance_transform_edt(~where, sampling=grid.voxel_sizes)
    inside = _some(np.flatnonzero(where), INSIDE, rng=rng)
    outside = _some(np.flatnonzero((distance > 0) & (distance <= SHELL)), OUTSIDE, rng=rng)
    positions = [grid.world(np.stack(np.unravel_index(voxels, where.shape), axis=-1)) for voxels in (inside, outside)]
    return _Points(positions[0], standardised(image.flatten(1)[:, torch.from_numpy(inside)]), positions[1])


def _some(voxels: Array, count: int, *, rng: np.random.Generator) -> Array:
    """Return `count` of the voxels, or all if there are fewer."""
    return np.sort(rng.choice(voxels, count, replace=False)) if len(voxels) > count else voxels


def _started(points: _Points, maps: _Maps) -> Array:
    """Return the map that matches centre and size of the mask to those of what the atlas labels."""
    labelled = maps.sharp[~maps.lost].sum(0).numpy()
    target = maps.grid.world(np.argwhere(labelled > 0.5))
    scale = np.full(3, (target.std(0) / points.inside.std(0)).mean())
    transform = np.diag([*scale, 1.0])
    transform[:3, 3] = target.mean(0) - scale * points.inside.mean(0)
    return transform


@dataclass(frozen=True, eq=False)
class _Look:
    """What the Gaussians fitted at one place say: evidence for moving on, and the mean log evidence (nats) so far."""

    evidence: Evidence
    score: float


def _looked(points: _Points, maps: _Maps, *, transform: Array, sd: float, settings: GaussianSettings) -> _Look:
    """Fit Gaussians where the atlas lies now, and return what the scan then says at each point."""
    parts, everywhere = maps.parts, np.concatenate([points.inside, points.outside])
    here = interpolated(maps.blurred(sd), maps.grid, points=_moved(transform, everywhere))
    inner, outer = here[:, : len(points.inside)], here[:, len(points.inside) :]
    tissues = torch.zeros(len(parts.tissues), inner.shape[1]).index_add_(0, parts.tissue_of, inner)
    gaussians, score = fit_gaussians(points.values, tissues, tissues=parts.tissues, settings=settings)
    density = gaussians.log_density(points.values)
    likelihood = (density - density.amax(0)).exp()[parts.tissue_of]
    stripped = torch.where(maps.lost, 1.0, STRIPPED)
    emptiness = float((stripped @ outer).log().mean()) if outer.shape[1] else 0.0
    unseen = stripped[:, None].expand(-1, outer.shape[1])
    evidence = Evidence(everywhere, torch.cat([likelihood, unseen], 1), _balanced(here, parts.class_of))
    return _Look(evidence, score + emptiness)


def _staged(
    points: _Points, maps: _Maps, *, start: Array, stages: Sequence[float], settings: GaussianSettings
) -> Placement:
    """Return the placement after fitting Gaussians and the affine map in turns, stage by stage."""
    transform = start
    for sd in stages:
        look = _looked(points, maps, transform=transform, sd=sd, settings=settings)
        transform, _ = refined(maps.blurred(sd), maps.grid, evidence=look.evidence, start=transform, rounds=ROUNDS)
    return Placement(transform, _looked(points, maps, transform=transform, sd=stages[-1], settings=settings).score)


def _balanced(parts: Tensor, class_of: Tensor) -> Tensor:
    """Return weights (N,) of points that sum to 1 and give every class the same weight in all."""
    classes = torch.zeros(int(class_of.max()) + 1, parts.shape[1]).index_add_(0, class_of, parts)
    weights = (classes / classes.sum(1, keepdim=True).clamp_min(1e-6)).sum(0)
    return weights / weights.sum()


def _moved(transform: Array, points: Array) -> Array:
    """Return points (N, 3) after an affine map (4, 4)."""
    return np.asarray(points @ transform[:3, :3].T + transform[:3, 3])


def _turns() -> list[Array]:
    """Return the 48 maps (4, 4) that permute and mirror the axes."""
    turns = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            turn = np.eye(4)
            turn[:3, :3] = np.eye(3)[list(order)] * signs
            turns.append(turn)
    return turns
