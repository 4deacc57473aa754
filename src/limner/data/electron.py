"""Electron microscopy seen otherwise: turned, bent, brighter or darker, and with the defects of real sections."""

from __future__ import annotations

import itertools
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from limner.config import Settings
from limner.data.augmentation import MODES
from limner.data.batch import IGNORE
from limner.data.defects import Defects, damaged

Amount = Annotated[float, Field(ge=0)]
INTERPOLATION = "bilinear"


class Microscopy(Settings):
    """How pieces of a volume are changed before they are learned from, at random; nothing is, unless it is asked for.

    Args:
        flips: whether every axis may be turned round.
        exchanged: axes that may change places, as groups of equal voxel size: [[0, 1, 2]] for cubes, [[1, 2]] for
            thick sections.
        elastic: sd of each component of a smooth displacement, voxels.
        smooth: distance over which the displacement changes, voxels.
        brightness: sd of what is added to the whole piece, and to each section, in sds of the image.
        contrast: sd of the log of the factor of the whole piece, and of each section.
        noise: highest sd of normal noise, in sds of the image.
        defects: of single sections.
    """

    flips: bool = False
    exchanged: tuple[tuple[int, ...], ...] = ()
    elastic: Amount = 0.0
    smooth: Annotated[float, Field(gt=0)] = 16.0
    brightness: Amount = 0.0
    contrast: Amount = 0.0
    noise: Amount = 0.0
    defects: Defects = Defects()


def varied(image: Tensor, labels: Tensor, *, by: Microscopy) -> tuple[Tensor, Tensor]:
    """Return images (B, C, *S) and labels (B, *S), each scan changed as torch's generator draws.

    Labels are moved before anything is made of them: the edges of a flipped volume lie elsewhere. What comes from
    beyond the piece is IGNORE.

    Args:
        image: of mean 0 and sd 1.
        labels: ids of instances, or IGNORE.
        by: how.

    Source: flips, exchanged axes, elastic deformation and intensity as in Funke et al. 2019.
    """
    with torch.autocast(image.device.type, enabled=False):  # in bfloat16, places would be voxels off
        image, labels = turned(image, labels, by=by)
        if by.elastic:
            image, labels = bent(image, labels, by=by)
        return _harmed(_toned(image, by), labels, by=by.defects)


def spoiled(image: Tensor, *, by: Microscopy) -> Tensor:
    """Return images (B, C, *S) of another tone, with noise and defects, whose voxels stay where they are."""
    with torch.autocast(image.device.type, enabled=False):
        still = by.defects.model_copy(update={"misaligned": 0.0})
        return _harmed(_toned(image, by), image.new_zeros(image[:, 0].shape, dtype=torch.long), by=still)[0]


def _harmed(image: Tensor, labels: Tensor, *, by: Defects) -> tuple[Tensor, Tensor]:
    """Return images (B, C, *S) with defects of sections, and labels (B, *S); a flat image is a section."""
    if image.ndim == 5:
        return damaged(image, labels, by=by)
    sections, found = damaged(image[:, :, None], labels[:, None], by=by)
    return sections[:, :, 0], found[:, 0]


def turned(image: Tensor, labels: Tensor, *, by: Microscopy) -> tuple[Tensor, Tensor]:
    """Return images and labels, each scan with axes turned round and exchanged, where its sizes allow."""
    if not by.flips and not by.exchanged:
        return image, labels
    seen = [_turned(torch.cat([one, ids[None].to(one)]), by) for one, ids in zip(image, labels, strict=True)]
    both = torch.stack(seen)
    return both[:, :-1].contiguous(), both[:, -1].round().long()


def _turned(values: Tensor, by: Microscopy) -> Tensor:
    """Return one scan's maps (C, *S) with axes turned round and exchanged."""
    axes = list(range(values.ndim - 1))
    for group in by.exchanged:
        orders = [
            order
            for order in itertools.permutations(group)
            if all(values.shape[1 + old] == values.shape[1 + new] for old, new in zip(group, order, strict=True))
        ]
        chosen = orders[int(torch.randint(len(orders), (), device="cpu"))]
        for place, axis in zip(group, chosen, strict=True):
            axes[place] = axis
    values = values.permute(0, *(1 + axis for axis in axes))
    round_ = [1 + axis for axis, coin in enumerate(torch.rand(len(axes), device="cpu")) if by.flips and coin < 0.5]
    return values.flip(round_)


def bent(image: Tensor, labels: Tensor, *, by: Microscopy) -> tuple[Tensor, Tensor]:
    """Return images, interpolated linearly, and labels, of the nearest voxel, each scan displaced smoothly."""
    B, *shape = labels.shape
    nodes = [2 + int(size / by.smooth) for size in shape]
    drawn = by.elastic * torch.randn(B, len(shape), *nodes, device=image.device)
    field = functional.interpolate(drawn, size=shape, mode=MODES[len(shape)], align_corners=True).movedim(1, -1)
    axes = [torch.arange(size, dtype=torch.float32, device=image.device) for size in shape]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1) + field
    halves = places.new_tensor([max((size - 1) / 2, 0.5) for size in shape])
    points = (places / halves - 1).flip(-1)
    seen = functional.grid_sample(image, points, mode=INTERPOLATION, padding_mode="reflection", align_corners=True)
    # Shifted by what IGNORE lies below 0, so that the zeros beyond the piece mean it.
    ids = (labels - IGNORE).float()[:, None]
    found = functional.grid_sample(ids, points, mode="nearest", align_corners=True)[:, 0]
    return seen, found.round().long() + IGNORE


def _toned(image: Tensor, by: Microscopy) -> Tensor:
    """Return images (B, C, *S), whole scans and each of their sections brighter or darker, and noisy."""
    for sections in (1, image.shape[2] if image.ndim == 5 else 1):
        shape = (len(image), 1, sections, *[1] * (image.ndim - 3))
        if by.contrast:
            image = image * (by.contrast * torch.randn(shape, device=image.device)).exp()
        if by.brightness:
            image = image + by.brightness * torch.randn(shape, device=image.device)
    if by.noise:
        amount = by.noise * torch.rand(len(image), *[1] * (image.ndim - 1), device=image.device)
        image = image + amount * torch.randn_like(image)
    return image
