"""Find where a scan lies in a prior's world, and its gain: affine map, warp and bias field of highest likelihood."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from limner.data.scan import standardised
from limner.methods.gaussians import Gaussians, GaussianSettings, fit_gaussians
from limner.priors.alignment import Evidence, bent, blurred, interpolated, moved, refined
from limner.priors.atlas import Atlas, Placement
from limner.priors.bias import Bias
from limner.priors.deformation import Warp, Warps
from limner.space import Array, Grid

#: Blur of the prior in mm, stage by stage.
STAGES = (8.0, 4.0, 2.0, 0.0)
#: The first stage of a scan of which it is known where it lies, but for some millimetres.
KNOWN = 2
#: The same while the prior bends.
BENDING = (2.0, 1.0, 0.0)
#: Steps of the optimiser at each stage, at most: of the affine map, and of the warp.
ROUNDS, BENDING_ROUNDS = 20, 12
#: Blur in mm from which on the atlas is sharp enough to tell the gain of the scan's coils, and points it is told by.
EVENED_FROM, EVENED_BY = 4.0, 30_000
#: Share of negative intensities from which on they are not what a coil gave: nothing multiplies them.
NEGATIVE = 0.01
#: Edge in mm of the cubes that count as one voxel against the stiffness of the prior: what lies nearer shares noise,
#: bias and what the model lacks.
APART = 6.5
#: Spacing in mm of the prior's maps during alignment.
SPACING = 2.0
#: Points inside the mask, and outside near it.
INSIDE, OUTSIDE = 150_000, 50_000
#: One in so many of them is enough for an affine map.
AFFINE_EVERY = 2
#: How far around the mask, in mm, the scan still says that there is no brain.
SHELL = 6.0
#: Likelihood, outside the mask, of parts that a stripped scan shows, relative to those that it lacks.
STRIPPED = 1e-3
#: Enough to tell tissues apart at a few thousand points: with fluid's four, made heads came to lie a millimetre worse.
GAUSSIANS = GaussianSettings(components={"background": 2, "csf": 2})
#: Tissues that stripping may take away.
OUTER_TISSUES = ("background", "outside", "csf")


@dataclass(frozen=True, eq=False)
class _Points:
    """Scattered voxels of a scan: positions (N, 3) mm and intensities (C, N) in the mask, positions alone outside.

    `volume` is that of the mask, mm3; `rarer` how much rarer points are in it, for its volume, than outside; `bias` the
    gain as far as it is known, if there can be one.
    """

    inside: Array
    intensities: Tensor
    outside: Array
    volume: float
    rarer: float
    bias: Bias | None

    @cached_property
    def even(self) -> Tensor:
        """Intensities (C, N) without the gain."""
        return self.intensities if self.bias is None else self.intensities * torch.exp(-self.bias.at(self.inside))

    @cached_property
    def values(self) -> Tensor:
        """The same with mean 0 and sd 1 per channel."""
        return standardised(self.even)

    @property
    def independent(self) -> float:
        """Number of voxels that all of them count as against the stiffness of the prior."""
        return self.volume / APART**3 * (1 + len(self.outside) / len(self.inside))

    def fewer(self, every: int) -> _Points:
        """Return one in `every` of the points."""
        return replace(
            self, inside=self.inside[::every], intensities=self.intensities[:, ::every], outside=self.outside[::every]
        )

    def moved(self, transform: Array) -> _Points:
        """Return the points carried along by an affine map (4, 4)."""
        return replace(self, inside=moved(transform, self.inside), outside=moved(transform, self.outside))

    def evened(self, look: _Look) -> _Points:
        """Return the points with the gain that follows from Gaussians fitted to them."""
        if self.bias is None:
            return self
        every = slice(None, None, max(1, len(self.inside) // EVENED_BY))
        values, positions = self.values[:, every], self.inside[every]
        precisions, expected = look.gaussians.expected(values, look.tissues[:, every])
        # Standardised values are the intensities in units of `spread` above `mean`.
        spread, mean = self.even.std(1, correction=0, keepdim=True), self.even.mean(1, keepdim=True)
        bias = self.bias.refined(
            positions,
            residuals=values - expected,
            slopes=expected + mean / spread.clamp_min(1e-12),
            precisions=precisions * (self.volume / APART**3 / len(positions)),
        )
        return replace(self, bias=bias)


def place_scan(
    image: Tensor,
    mask: Tensor,
    *,
    grid: Grid,
    atlas: Atlas,
    rng: np.random.Generator,
    settings: GaussianSettings = GAUSSIANS,
    oriented: bool = True,
    start: Array | None = None,
) -> Placement:
    """Align a scan of any contrast to an atlas, bend the atlas to it, if it can be bent, and find the scan's gain.

    At each stage the atlas is a little sharper; Gaussians are fitted where it lies, and the affine map is moved to
    where they explain the image best. Every class counts the same, whatever its volume: by volume, the cortex would
    decide alone, and small deep structures would be off by a millimetre or two. Then it bends in the same way, every
    voxel counting the same: what is seen of a small structure must not outweigh the stiffness around it. Between the
    stages the gain is found that makes each tissue look the same everywhere.

    Args:
        image: (C, *S) intensities.
        mask: (*S) bool, the brain.
        grid: (*S) of the scan.
        atlas: to align to.
        rng: draws the points that are looked at.
        settings: of the Gaussians.
        oriented: whether the grid's axes can be believed; if not, all 48 orders and directions are tried.
        start: (4, 4) from the scan's world to the atlas's, if it is known to some millimetres.

    Source: our own; EM and registration in turns as in Ashburner and Friston 2005 (unified segmentation).
    """
    every, maps = _drawn(image, mask, grid=grid, rng=rng), _Maps(atlas)
    few = every.fewer(AFFINE_EVERY)
    if start is None:
        found = _aligned(few, maps, settings=settings, oriented=oriented)
    else:
        found = _staged(few, maps, start=start, stages=STAGES[KNOWN:], settings=settings)
    every = replace(every, bias=found.bias)
    if atlas.warps:
        found = _bent(every, maps, start=found, warps=atlas.warps, settings=settings)
        every = replace(every, bias=found.bias)
    look = _looked(every, maps, transform=found.transform, sd=0.0, settings=settings, warp=found.warp, near=True)
    return replace(found, score=look.score, told=look.gaussians.told(every.values, look.tissues))


def told_sides(
    image: Tensor,
    mask: Tensor,
    *,
    grid: Grid,
    atlas: Atlas,
    placement: Placement,
    rng: np.random.Generator,
    settings: GaussianSettings = GAUSSIANS,
) -> float:
    """Return by how much a scan is likelier where it was placed, before any bending, than its mirror image, nats.

    Both are aligned anew from there, in the same few stages, so that neither is ahead.

    Args:
        image: (C, *S) intensities.
        mask: (*S) bool, the brain.
        grid: (*S) of the scan.
        atlas: that it was placed in.
        placement: where.
        rng: draws the points that are looked at.
        settings: of the Gaussians.

    Source: our own.
    """
    points = _drawn(image, mask, grid=grid, rng=rng).fewer(AFFINE_EVERY)
    points, maps = replace(points, bias=placement.bias), _Maps(atlas)
    as_it_is, mirrored = (
        _staged(points, maps, start=start, stages=STAGES[KNOWN:], settings=settings).score
        for start in (placement.transform, _mirror(atlas.grid) @ placement.transform)
    )
    return as_it_is - mirrored


def _aligned(points: _Points, maps: _Maps, *, settings: GaussianSettings, oriented: bool) -> Placement:
    """Return the placement by an affine map."""
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
        self.sharp = placed.part_probability()
        lost = [self.parts.tissues[tissue] in OUTER_TISSUES for tissue in self.parts.tissue_of.tolist()]
        self.lost = torch.tensor(lost)
        self._blurred: dict[float, Tensor] = {}

    def blurred(self, sd: float) -> Tensor:
        """Return (P, *S) probabilities blurred by `sd` mm."""
        if sd not in self._blurred:
            self._blurred[sd] = blurred(self.sharp, sd / SPACING)
        return self._blurred[sd]

    def at(self, points: Array, *, sd: float, warp: Warp | None) -> Tensor:
        """Return the blurred maps at points (N, 3) mm, (P, N), which a warp moves before."""
        if warp is not None:
            points = warp.moved(points)
        return interpolated(self.blurred(sd), self.grid, points=points)


def _drawn(image: Tensor, mask: Tensor, *, grid: Grid, rng: np.random.Generator) -> _Points:
    """Return random voxels of the mask and of the shell around it."""
    from scipy import ndimage

    where = mask.numpy()
    distance = ndimage.distance_transform_edt(~where, sampling=grid.voxel_sizes)
    mask_voxels, shell = np.flatnonzero(where), np.flatnonzero((distance > 0) & (distance <= SHELL))
    inside, outside = _some(mask_voxels, INSIDE, rng=rng), _some(shell, OUTSIDE, rng=rng)
    positions = [grid.world(np.stack(np.unravel_index(voxels, where.shape), axis=-1)) for voxels in (inside, outside)]
    intensities = image.flatten(1)[:, torch.from_numpy(inside)]
    multiplied = float((intensities < 0).float().mean(1).max()) < NEGATIVE
    bias = Bias.around(positions[0], channels=len(image)) if multiplied else None
    rarer = len(mask_voxels) / len(inside) * len(outside) / max(len(shell), 1)
    return _Points(positions[0], intensities, positions[1], len(mask_voxels) * grid.voxel_volume, rarer, bias)


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
    """What the Gaussians fitted at one place say: evidence for moving on, and the mean log evidence (nats) so far.

    `tissues` (T, N) is where the atlas expected them inside the mask.
    """

    evidence: Evidence
    score: float
    gaussians: Gaussians
    tissues: Tensor


def _looked(
    points: _Points,
    maps: _Maps,
    *,
    transform: Array,
    sd: float,
    settings: GaussianSettings,
    warp: Warp | None = None,
    near: bool = False,
) -> _Look:
    """Fit Gaussians where the atlas lies now, and return what the scan then says at each point.

    Every class counts the same, or every point once the atlas lies near. Then what the mask left of each part can be
    told too: by Bayes' rule background counts little inside, and all else outside.
    """
    parts, everywhere = maps.parts, np.concatenate([points.inside, points.outside])
    here = maps.at(moved(transform, everywhere), sd=sd, warp=warp)
    inner, outer = here[:, : len(points.inside)], here[:, len(points.inside) :]
    kept, unseen = torch.ones(len(here)), torch.where(maps.lost, 1.0, STRIPPED)
    weights = _balanced(here, parts.class_of)
    if near:
        kept = _kept(inner, outer, rarer=points.rarer)
        unseen, inner = 1 - kept, inner * kept[:, None]
        inner /= inner.sum(0)
        weights = torch.full((len(everywhere),), 1 / len(everywhere))
    tissues = torch.zeros(len(parts.tissues), inner.shape[1]).index_add_(0, parts.tissue_of, inner)
    gaussians, score = fit_gaussians(points.values, tissues, tissues=parts.tissues, settings=settings)
    density = gaussians.log_density(points.values)
    likelihood = (density - density.amax(0)).exp()[parts.tissue_of] * kept[:, None]
    emptiness = float((unseen @ outer).log().mean()) if outer.shape[1] else 0.0
    seen = torch.cat([likelihood, unseen[:, None].expand(-1, outer.shape[1])], 1)
    return _Look(Evidence(everywhere, seen, weights), score + emptiness, gaussians, tissues)


def _kept(inner: Tensor, outer: Tensor, *, rarer: float) -> Tensor:
    """Return the share of each part (P,) that lies in the mask, of what lies there or near it."""
    inside = inner.sum(1) * rarer
    return (inside / (inside + outer.sum(1)).clamp_min(1e-9)).clamp(STRIPPED, 1 - STRIPPED)


def _staged(
    points: _Points, maps: _Maps, *, start: Array, stages: Sequence[float], settings: GaussianSettings
) -> Placement:
    """Return the placement after fitting Gaussians and the affine map in turns, stage by stage."""
    transform = start
    for sd in stages:
        look = _looked(points, maps, transform=transform, sd=sd, settings=settings)
        points = points.evened(look) if sd <= EVENED_FROM else points
        transform, _ = refined(maps.blurred(sd), maps.grid, evidence=look.evidence, start=transform, rounds=ROUNDS)
    score = _looked(points, maps, transform=transform, sd=stages[-1], settings=settings).score
    return Placement(transform, score, bias=points.bias)


def _bent(points: _Points, maps: _Maps, *, start: Placement, warps: Warps, settings: GaussianSettings) -> Placement:
    """Return the placement after fitting Gaussians, gain and warp in turns, stage by stage."""
    coefficients = np.zeros(warps.size)
    for sd in BENDING:
        warp = warps.warp(coefficients)
        look = _looked(points, maps, transform=start.transform, sd=sd, settings=settings, warp=warp, near=True)
        points = points.evened(look)
        coefficients, _ = bent(
            maps.blurred(sd),
            maps.grid,
            evidence=replace(look.evidence, weights=points.independent * look.evidence.weights),
            transform=start.transform,
            warps=warps,
            start=coefficients,
            rounds=BENDING_ROUNDS,
        )
    return replace(start, warp=warps.warp(coefficients), bias=points.bias)


def _balanced(parts: Tensor, class_of: Tensor) -> Tensor:
    """Return weights (N,) of points that sum to 1 and give every class the same weight in all."""
    classes = torch.zeros(int(class_of.max()) + 1, parts.shape[1]).index_add_(0, class_of, parts)
    weights = (classes / classes.sum(1, keepdim=True).clamp_min(1e-6)).sum(0)
    return weights / weights.sum()


def _mirror(grid: Grid) -> Array:
    """Return the map (4, 4) that swaps left and right about the middle of a grid."""
    mirror = np.diag([-1.0, 1, 1, 1])
    mirror[0, 3] = 2 * grid.centre[0]
    return mirror


def _turns() -> list[Array]:
    """Return the 48 maps (4, 4) that permute and mirror the axes."""
    turns = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            turn = np.eye(4)
            turn[:3, :3] = np.eye(3)[list(order)] * signs
            turns.append(turn)
    return turns
