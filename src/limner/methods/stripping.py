"""Find the brain in a head with its skull: a mixture of the whole head, under an atlas of what surrounds the brain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from limner.data.scan import standardised
from limner.losses import log_shares
from limner.methods.gaussians import GaussianSettings, class_evidence, fit_to_parts
from limner.methods.placement import place_scan
from limner.priors.atlas import Atlas, Placement
from limner.space import Array, Box, Grid

#: Voxels that the Gaussians are fitted on; more change nothing but the time.
FITTED_ON = 250_000
#: Where the prior says less than this of brain and fluid, there is none.
POSSIBLE = 0.01
#: Share of the belief that makes a voxel none of the brain's: what is lost here is lost for good, and what is kept
#: besides may still turn out to be background.
OUTSIDE = 0.9
#: Fluid's Gaussians that are mostly grey matter speak for fluid: both are inside.
GAUSSIANS = GaussianSettings(shared={})
#: Spacing in mm at which it is looked where that is.
COARSE = 4.0
#: Radius in mm of bridges that are cut, and of gaps that are closed.
BRIDGES, GAPS = 2.0, 5.0
#: Thickness in mm of the dura, which is taken along: label maps count it to the skull, or to the fluid.
DURA = 1.0


def find_brain(
    image: Tensor, *, grid: Grid, atlas: Atlas, rng: np.random.Generator, oriented: bool = True
) -> tuple[Tensor, Placement]:
    """Return where brain and the fluid around it are, (*S) bool, and where the head lies in the atlas's world.

    Args:
        image: (C, *S) intensities of a head of any contrast.
        grid: (*S) of the scan, its last axis leading up if `oriented`.
        atlas: of the whole head.
        rng: draws the points that are looked at.
        oriented: whether the grid's axes can be believed.

    Source: our own; whole heads by one mixture as in Puonti et al. 2016 (SAMSEG), for the sake of the mask alone.
    """
    head = _head(image[0].numpy(), grid, height=_height(atlas) if oriented else None)
    placement = place_scan(image, torch.from_numpy(head), grid=grid, atlas=atlas, rng=rng, oriented=oriented)
    bent, world = replace(atlas, warp=placement.warp), grid.moved(placement.transform)
    box = _possible(bent, world)
    placed = bent.place(world.cropped(box))
    parts = placed.part_probability()
    inside = parts[placed.parts.class_of != 0].sum(0)
    where = torch.from_numpy(head[box.slices]) & (inside > POSSIBLE)
    even = placement.evened(image[(slice(None), *box.slices)], grid.cropped(box))
    values, shares = standardised(even[:, where]), parts[:, where].T.contiguous()
    del parts, inside
    gaussians = fit_to_parts(values, shares, of=placed.parts, settings=GAUSSIANS, voxels=FITTED_ON)
    classes = int(placed.parts.class_of.max()) + 1
    evidence = class_evidence(gaussians, values, parts=shares, of=placed.parts, classes=classes)
    found = np.zeros(box.shape, bool)
    found[where.numpy()] = (log_shares(evidence)[:, 0].exp() < OUTSIDE).numpy()
    mask = np.zeros(grid.shape, bool)
    mask[box.slices] = _whole(found, grid.voxel_sizes)
    return torch.from_numpy(mask), placement


def _height(atlas: Atlas) -> float:
    """Return how far the atlas reaches down from the top of its head, mm."""
    labelled = (atlas.maps.rows[0] > 0).any((0, 1))
    return float((np.flatnonzero(labelled)[-1] + 1) * atlas.grid.voxel_sizes[2])


def _head(image: Array, grid: Grid, *, height: float | None) -> Array:
    """Return the head (*S): what is brighter than air, without holes, down to a height (mm) below its top."""
    from scipy import ndimage

    bright = image > _threshold(image)
    bright = _largest(ndimage.binary_opening(bright))
    if height is not None:
        top = int(np.flatnonzero(bright.any((0, 1)))[-1])
        bright[:, :, : max(0, top - int(height / grid.voxel_sizes[2]))] = False
    for axis in range(3):
        for plane in np.moveaxis(bright, axis, 0):
            plane[...] = ndimage.binary_fill_holes(plane)
    return bright


def _threshold(image: Array) -> float:
    """Return the intensity that parts air from head: half of Otsu's, which may part dark tissue from bright."""
    counts, edges = np.histogram(np.clip(image, None, np.percentile(image[::2, ::2, ::2], 99)), 256)
    below = np.cumsum(counts)
    sums = np.cumsum(counts * (edges[:-1] + edges[1:]) / 2)
    share = below / below[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (sums[-1] * share - sums) ** 2 / (share * (1 - share))
    otsu = edges[1:][np.nanargmax(np.where(np.isfinite(between), between, np.nan))]
    return float((edges[0] + otsu) / 2)


def _largest(mask: Array) -> Array:
    """Return the largest connected piece of a mask."""
    from scipy import ndimage

    pieces, count = ndimage.label(mask)
    if count < 2:
        return mask
    return np.asarray(pieces == 1 + np.bincount(pieces.ravel())[1:].argmax())


def _possible(atlas: Atlas, world: Grid) -> Box:
    """Return the box of a scan's voxels in which brain or fluid are possible; `world` leads to the atlas's world."""
    steps = np.maximum(1, (COARSE / world.voxel_sizes).astype(int))
    coarse = Grid(
        tuple(-(-size // step) for size, step in zip(world.shape, steps, strict=True)),
        world.affine @ np.diag([*steps, 1.0]),
    )
    placed = atlas.place(coarse)
    inside = placed.part_probability()[placed.parts.class_of != 0].sum(0).numpy()
    box = Box.around(inside > POSSIBLE)
    start, stop = np.array(box.start) * steps - steps, np.array(box.stop) * steps + steps
    return Box(tuple(start.tolist()), tuple(stop.tolist())).clipped(world.shape)


def _whole(mask: Array, sizes: Array) -> Array:
    """Return the largest piece of a mask without thin bridges, its gaps closed, its holes filled, and the dura."""
    from scipy import ndimage

    core = _largest(_eroded(mask, BRIDGES, sizes=sizes))
    kept = mask & _dilated(core, BRIDGES, sizes=sizes)
    room = int(np.ceil(GAPS / sizes.min())) + 1
    closed = _eroded(_dilated(np.pad(kept, room), GAPS, sizes=sizes), GAPS, sizes=sizes)
    inner = (slice(room, -room),) * mask.ndim
    return _dilated(ndimage.binary_fill_holes(closed[inner] | kept), DURA, sizes=sizes)


def _eroded(mask: Array, radius: float, *, sizes: Array) -> Array:
    """Return the voxels farther than `radius` mm from all outside a mask."""
    from scipy import ndimage

    return np.asarray(ndimage.distance_transform_edt(mask, sampling=sizes) > radius)


def _dilated(mask: Array, radius: float, *, sizes: Array) -> Array:
    """Return the voxels at most `radius` mm from a mask."""
    return ~_eroded(~mask, radius, sizes=sizes)
