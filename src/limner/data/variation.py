"""Scans as they might have been: turned, scaled, bent, mirrored, a little brighter or darker."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from limner.config import Settings
from limner.data.batch import IGNORE
from limner.data.store import Prepared

Amount = Annotated[float, Field(ge=0)]
#: Control points of the warp along each axis, those on the border included; they stay where they are.
NODES = 6


class Variation(Settings):
    """How far scans are varied, at random.

    Args:
        rotation: largest angle about each axis, degrees.
        zoom: largest change of size along each axis, as a share of it.
        brightness: largest shift of each channel, in the image's own unit.
        flips: axes that are mirrored in half of the cases, counted from 0.
        warp: sd of the displacement of control points, voxels.
    """

    rotation: Amount = 3.0
    zoom: Annotated[float, Field(ge=0, lt=1)] = 0.1
    brightness: Amount = 0.1
    flips: tuple[Annotated[int, Field(ge=0, le=2)], ...] = (0, 1)
    warp: Amount = 5.0


def varied(scan: Prepared, by: Variation, *, rng: np.random.Generator) -> Prepared:
    """Return a scan as it might have been, of the same size; what comes from beyond its border is its mirror image.

    Args:
        scan: prepared; of a prior on it, nothing is known any more.
        by: how far.
        rng: draws.

    Source: Vorontsov et al. 2022 and its public code (rotation, zoom, intensity, flips, spline warp with a fixed
    border), but images are interpolated linearly, and brightness is limited to the range of the image.
    """
    image = torch.from_numpy(np.asarray(scan.image))
    points = _points(scan.shape, by, rng=rng)
    moved = _sampled(image, points, mode="bilinear")
    labels = _sampled(torch.from_numpy(scan.labels.astype(np.float32) - IGNORE)[None], points, mode="nearest")[0]
    mask = _sampled(torch.from_numpy(scan.mask.astype(np.float32))[None], points, mode="nearest")[0] > 0.5
    shift = torch.from_numpy(rng.uniform(-by.brightness, by.brightness, (len(image), *[1] * len(scan.shape)))).float()
    low, high = image.flatten(1).aminmax(dim=1)
    limits = [limit.view(-1, *[1] * len(scan.shape)) for limit in (low, high)]
    bright = (moved + shift).clamp(*limits) * mask
    whole = (labels.round() + IGNORE).to(torch.int16)
    return replace(scan, image=bright.numpy(), labels=whole.numpy(), mask=mask.numpy(), parts=None)


def _points(shape: Sequence[int], by: Variation, *, rng: np.random.Generator) -> Tensor:
    """Return where every voxel comes from, (*S, D), -1 to 1 from the first voxel to the last of each axis."""
    axes = [torch.linspace(-1, 1, size) if size > 1 else torch.zeros(1) for size in shape]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    halves = torch.tensor([max((size - 1) / 2, 0.5) for size in shape])
    turned = (places * halves) @ _linear(len(shape), by, rng=rng) / halves
    signs = torch.tensor([-1.0 if axis in by.flips and rng.random() < 0.5 else 1.0 for axis in range(len(shape))])
    return turned * signs + _bent(shape, by, rng=rng) / halves


def _linear(dimensions: int, by: Variation, *, rng: np.random.Generator) -> Tensor:
    """Return a matrix (D, D) that turns and scales."""
    turn = np.zeros((dimensions, dimensions))
    for first in range(dimensions):
        for second in range(first + 1, dimensions):
            turn[first, second] = math.radians(rng.uniform(-by.rotation, by.rotation))
    scale = rng.uniform(1 - by.zoom, 1 + by.zoom, dimensions)
    return torch.matrix_exp(torch.from_numpy(turn - turn.T).float()) / torch.from_numpy(scale).float()


def _bent(shape: Sequence[int], by: Variation, *, rng: np.random.Generator) -> Tensor:
    """Return a smooth displacement (*S, D), voxels, that is 0 on the border."""
    dimensions = len(shape)
    drawn = torch.zeros(1, dimensions, *[NODES] * dimensions)
    inner = (slice(1, -1),) * dimensions
    jitter = rng.normal(0, by.warp, (1, dimensions, *[NODES - 2] * dimensions))
    drawn[:, :, *inner] = torch.from_numpy(jitter).float()
    modes = {2: "bicubic", 3: "trilinear"}
    field = functional.interpolate(drawn, size=tuple(shape), mode=modes[dimensions], align_corners=True)
    return field[0].movedim(0, -1)


def _sampled(values: Tensor, points: Tensor, *, mode: str) -> Tensor:
    """Return values (C, *S) at points (*S, D)."""
    found = functional.grid_sample(
        values[None].float(), points.flip(-1)[None], mode=mode, padding_mode="reflection", align_corners=True
    )
    return found[0]
