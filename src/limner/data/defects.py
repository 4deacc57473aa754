"""What is wrong with single sections of real electron microscopy, done to sections that are sound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from limner.config import Settings
from limner.data.batch import IGNORE

Share = Annotated[float, Field(ge=0, le=1)]
#: Edges of the pieces of a section that have a blur of their own, as shares of it.
PATCHES = 4


class Defects(Settings):
    """How many of the sections have which defect; in each, its strength is drawn.

    Args:
        blurred: blurred all over or in parts, as by charging or a moving stage.
        unfocused: out of focus, several sections in a row.
        darkened: darker, and of less contrast, all over or in parts.
        noisy: with the noise of a fast scan.
        missing: nothing but one grey value.
        misaligned: moved to the side, sometimes with all that follow.
        farthest: that sections are moved along each axis, voxels.
    """

    blurred: Share = 0.0
    unfocused: Share = 0.0
    darkened: Share = 0.0
    noisy: Share = 0.0
    missing: Share = 0.0
    misaligned: Share = 0.0
    farthest: Annotated[int, Field(ge=1)] = 6


def damaged(image: Tensor, labels: Tensor, *, by: Defects) -> tuple[Tensor, Tensor]:
    """Return images (B, C, Z, Y, X) some of whose sections have defects, as torch's generator draws, and their labels.

    Labels (B, Z, Y, X) move with what they show; what came from beyond the border is IGNORE.

    Source: Lee et al. 2017 (arXiv 1706.00120) for missing, misaligned and unfocused sections; blur and darkness after
    Wiese 2018.
    """
    if by.misaligned:
        image, labels = _moved(image, labels, share=by.misaligned, farthest=by.farthest)
    # What was lost shows nothing of other defects, and so comes last.
    ways: tuple[tuple[float, Callable[[Tensor], Tensor], int], ...] = (
        (by.blurred, blurred, 1),
        (by.unfocused, unfocused, 3),
        (by.darkened, darkened, 1),
        (by.noisy, noisy, 1),
        (by.missing, missing, 1),
    )
    for share, way, run in ways:
        image = _where(image, way, share=share, run=run)
    return image, labels


def blurred(sections: Tensor) -> Tensor:
    """Return sections (N, C, Y, X) blurred by a Gaussian of sd 1 to 3 voxels, each all over or in parts."""
    widths = _uniform(sections, (1.0, 3.0))
    return _in_parts(
        sections, torch.stack([_smoothed(one, width) for one, width in zip(sections, widths, strict=True)])
    )


def unfocused(sections: Tensor) -> Tensor:
    """Return sections (N, C, Y, X) in which every point has become a disc of a radius of 2 to 4 voxels."""
    radii = _uniform(sections, (2.0, 4.0))
    return torch.stack([_as_discs(one, radius) for one, radius in zip(sections, radii, strict=True)])


def darkened(sections: Tensor) -> Tensor:
    """Return sections (N, C, Y, X) darker by 0.5 to 2 standard deviations and of half the contrast or more."""
    shape = (len(sections), 1, 1, 1)
    contrast = _uniform(sections, (0.5, 1.0)).reshape(shape)
    fall = _uniform(sections, (0.5, 2.0)).reshape(shape)
    return _in_parts(sections, sections * contrast - fall)


def noisy(sections: Tensor) -> Tensor:
    """Return sections (N, C, Y, X) with normal noise of 0.3 to 1 standard deviations."""
    amount = _uniform(sections, (0.3, 1.0)).reshape(-1, 1, 1, 1)
    return sections + amount * torch.randn_like(sections)


def missing(sections: Tensor) -> Tensor:
    """Return sections (N, C, Y, X) of one grey value each, mostly dark."""
    grey = _uniform(sections, (-3.0, 1.0)).reshape(-1, 1, 1, 1)
    return grey.expand_as(sections).clone()


def _where(image: Tensor, way: Callable[[Tensor], Tensor], *, share: float, run: int) -> Tensor:
    """Return images (B, C, Z, Y, X) with a share of the sections changed, in rows of up to `run`."""
    if not share:
        return image
    # So often that as many are in a row as were asked for.
    begun = torch.rand(image.shape[0], 1, image.shape[2], device=image.device) < 1 - (1 - share) ** (1 / run)
    chosen = functional.max_pool1d(begun.float(), run, stride=1, padding=run // 2)[:, 0] > 0 if run > 1 else begun[:, 0]
    sections = image.movedim(2, 1).clone()
    if chosen.any():
        sections[chosen] = way(sections[chosen])
    return sections.movedim(1, 2)


def _in_parts(before: Tensor, after: Tensor) -> Tensor:
    """Return sections (N, C, Y, X): half of them changed all over, half in parts with soft borders."""
    drawn = torch.rand(len(before), 1, PATCHES, PATCHES, device=before.device)
    soft = functional.interpolate(drawn, size=before.shape[2:], mode="bilinear", align_corners=True)
    whole = torch.rand(len(before), 1, 1, 1, device=before.device) < 0.5
    weight = torch.where(whole, 1.0, ((soft - 0.45) * 8).clamp(0, 1))
    return before + weight * (after - before)


def _smoothed(section: Tensor, width: Tensor) -> Tensor:
    """Return a section (C, Y, X) smoothed by a Gaussian of an sd in voxels."""
    places = torch.arange(-9, 10, device=section.device, dtype=section.dtype)
    weights = torch.exp(-0.5 * (places / width) ** 2)
    weights = weights / weights.sum()
    return _convolved(_convolved(section, weights[:, None]), weights[None])


def _as_discs(section: Tensor, radius: Tensor) -> Tensor:
    """Return a section (C, Y, X) in which each point has become a disc of a radius in voxels."""
    places = torch.arange(-4, 5, device=section.device, dtype=section.dtype)
    disc = (radius + 0.5 - torch.hypot(places[:, None], places[None])).clamp(0, 1)
    return _convolved(section, disc / disc.sum())


def _convolved(section: Tensor, kernel: Tensor) -> Tensor:
    """Return a section (C, Y, X) convolved with a kernel (H, W), its border values going on beyond it."""
    height, width = (size // 2 for size in kernel.shape)
    wide = functional.pad(section[:, None], (width, width, height, height), mode="replicate")
    return functional.conv2d(wide, kernel[None, None])[:, 0]


def _moved(image: Tensor, labels: Tensor, *, share: float, farthest: int) -> tuple[Tensor, Tensor]:
    """Return images (B, C, Z, Y, X) and labels with a share of the sections moved: alone, or with all that follow."""
    B, _, Z, Y, X = image.shape
    drawn = torch.randint(-farthest, farthest + 1, (B, Z, 2), device=image.device)
    slips = torch.rand(B, Z, 1, device=image.device) < share
    alone = torch.rand(B, Z, 1, device=image.device) < 0.5
    shifts = drawn * (slips & alone) + (drawn * (slips & ~alone)).cumsum(1)
    rows, columns = (
        torch.arange(size, device=image.device) + shift[..., None]
        for size, shift in zip((Y, X), shifts.unbind(-1), strict=True)
    )
    inside = ((rows >= 0) & (rows < Y))[..., None] & ((columns >= 0) & (columns < X))[..., None, :]
    places = (rows.clamp(0, Y - 1)[..., None] * X + columns.clamp(0, X - 1)[..., None, :]).flatten(2)
    moved = image.flatten(3).gather(3, places[:, None].expand(-1, image.shape[1], -1, -1)).reshape(image.shape)
    found = labels.flatten(2).gather(2, places).reshape(labels.shape)
    return moved, torch.where(inside, found, IGNORE)


def _uniform(sections: Tensor, between: tuple[float, float]) -> Tensor:
    """Return a number for each section, drawn between two."""
    low, high = between
    return low + (high - low) * torch.rand(len(sections), device=sections.device, dtype=sections.dtype)
