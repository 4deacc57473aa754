"""What a shape model adds to one scan, prior by prior, and what its samples leave open: cells of anatomy.py."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from scipy import ndimage, stats
from torch import Tensor

from limner.data.batch import IGNORE, Batch
from limner.data.loader import Loaded
from limner.evaluation.overlap import contingency, dice
from limner.inference.samples import collected, entropy
from limner.losses import log_shares
from limner.methods.anatomy import Anatomy, Look
from limner.networks.rows import spread
from limner.priors.dense import DensePrior
from limner.priors.shape import divergence
from limner.space import Array

#: Mean and log-variance of a scan's codes, (1, codes, Z) each.
Code: TypeAlias = tuple[Tensor, Tensor]
#: A code's number says something of a scan if its divergence, nats, is more than this.
ACTIVE = 0.01
#: Segmentations that are drawn of a scan.
DRAWS = 20
#: The rows, in the table's order.
PRIOR, LIKELIHOOD = "prior alone", "likelihood alone"
ATLAS, ATLAS_BESIDE = "prior, likelihood", "prior, likelihood, neighbours"
DECODER, DECODER_OTHER, DECODER_NONE = "decoder alone", "decoder alone, another's code", "decoder alone, no code"
SHAPE, SHAPE_BESIDE = "decoder, likelihood", "decoder, likelihood, neighbours"
SHAPE_OTHER, AGAIN = "decoder, likelihood, another's code", "decoder, Gaussians fitted again, neighbours"
ROWS = (
    LIKELIHOOD,
    PRIOR,
    ATLAS,
    ATLAS_BESIDE,
    DECODER,
    DECODER_OTHER,
    DECODER_NONE,
    SHAPE,
    SHAPE_OTHER,
    SHAPE_BESIDE,
    AGAIN,
)


def varied(method: Anatomy, **options: Any) -> Anatomy:
    """Return the method with other options for segmenting, its weights shared."""
    other = copy.copy(method)
    other.options = method.options.model_copy(update=options)
    return other


def looked(method: Anatomy, loaded: Loaded) -> tuple[Batch, DensePrior, Look]:
    """Return a scan, the prior on it, and what is known of it before any code, on the method's device."""
    device = next(method.parameters()).device
    batch, prior = loaded[0].to(device), loaded[1].to(device)
    return batch, prior, method.looked(batch.image, batch.mask, prior=prior, world=batch.world)


@torch.no_grad()
def coded(method: Anatomy, loaded: Loaded) -> Code:
    """Return a scan's code."""
    batch, _, look = looked(method, loaded)
    mean, log_variance = method.inferred(look, batch.image)
    return mean.cpu(), log_variance.cpu()


@torch.no_grad()
def rows(method: Anatomy, loaded: Loaded, *, own: Code, other: Code, quick: bool = False) -> dict[str, list[float]]:
    """Return the Dice of each structure by each row.

    Args:
        method: trained.
        loaded: a scan with labels.
        own: its code.
        other: another scan's.
        quick: whether neighbours are left out.
    """
    batch, prior, look = looked(method, loaded)
    mean, another = own[0].to(batch.image), other[0].to(batch.image)
    decoder, posterior = varied(method, answer="decoder"), varied(method, answer="posterior")
    alone: dict[str, Callable[[], Tensor]] = {
        LIKELIHOOD: lambda: look.evidence - look.location,
        PRIOR: lambda: look.location,
        ATLAS: lambda: look.evidence,
        DECODER: lambda: decoder.shares(mean, look),
        DECODER_OTHER: lambda: decoder.shares(another, look),
        DECODER_NONE: lambda: decoder.shares(torch.zeros_like(mean), look),
        SHAPE: lambda: posterior.shares(mean, look),
        SHAPE_OTHER: lambda: posterior.shares(another, look),
    }
    found = {name: _scored(spread(made(), look.mask), batch) for name, made in alone.items()}
    if quick:
        return found
    again = method.looked(batch.image, batch.mask, prior=method.shaped(mean, prior), world=batch.world)
    beside: dict[str, Callable[[], tuple[Tensor, Look]]] = {
        ATLAS_BESIDE: lambda: (log_shares(look.evidence).exp(), look),
        SHAPE_BESIDE: lambda: (posterior.shares(mean, look), look),
        AGAIN: lambda: (log_shares(again.evidence).exp(), again),
    }
    return found | {name: _scored(posterior.swept(*made(), prior=prior), batch) for name, made in beside.items()}


def _scored(shares: Tensor, batch: Batch) -> list[float]:
    """Return the Dice of each structure but background and rest, whose likeliest places (1, K, *S) are given."""
    found, true = shares.argmax(1)[0].cpu().numpy(), batch.labels[0].cpu().numpy()
    known = true != IGNORE
    values = dice(contingency(found[known], true[known], ids=range(shares.shape[1])))
    return values[1:-1].tolist()


@torch.no_grad()
def left_open(method: Anatomy, loaded: Loaded, *, own: Code) -> dict[str, Any]:
    """Return how well entropy tells of errors, and how often the volumes' intervals hold the reference's.

    Areas are those under the ROC curve inside the brain: of the entropy of the samples' mean, of the voxel posterior's
    own, and of the distance to the nearest border between labels, which knows nothing but the labels. Background and
    rest count as one: the references do not label the fluid around the brain. "brain" is the entropy's area where the
    reference has a structure.
    """
    batch, _, look = looked(method, loaded)
    mean, log_variance = (part.to(batch.image) for part in own)
    drawing, generator = varied(method, answer="posterior"), torch.Generator().manual_seed(0)
    draws = [torch.randn(mean.shape, generator=generator).to(mean) for _ in range(DRAWS)]
    samples = (_scorable(drawing.shares(mean + (log_variance / 2).exp() * draw, look)) for draw in draws)
    voxel = float(torch.linalg.det(batch.world[0, :-1, :-1]).abs())
    found = collected(samples, identified=lambda classes: classes, voxel=voxel)
    likeliest = _scorable(drawing.shares(mean, look))
    labels, true = likeliest.argmax(0).cpu().numpy(), batch.labels[batch.mask].cpu().numpy()
    wrong = labels != np.where(true == len(likeliest), 0, true)
    brain = (true > 0) & (true < len(likeliest))
    doubt = found.uncertainty.cpu().numpy()
    everywhere = np.zeros(batch.mask.shape[1:], labels.dtype)
    everywhere[batch.mask[0].cpu().numpy()] = labels
    distance = from_border(everywhere)[batch.mask[0].cpu().numpy()]
    sizes = torch.bincount(batch.labels[batch.labels != IGNORE], minlength=len(likeliest) + 1).cpu().numpy() * voxel
    intervals = [(*found.intervals.get(k, (0.0, 0.0)), sizes[k]) for k in range(1, len(likeliest)) if sizes[k]]
    return {
        "entropy": area(doubt, wrong),
        "brain": area(doubt[brain], wrong[brain]),
        "shape": area(found.shape.cpu().numpy(), wrong),
        "posterior": area(entropy(likeliest).cpu().numpy(), wrong),
        "distance": area(-distance, wrong),
        "held": [bool(low <= size <= high) for low, high, size in intervals],
        "widths": [float(2 * (high - low) / max(high + low, 1.0)) for low, high, _ in intervals],
    }


def _scorable(shares: Tensor) -> Tensor:
    """Return probabilities (K-1, N) of the background or the rest, and of the structures, given those of all (N, K)."""
    return torch.cat([(shares[:, 0] + shares[:, -1])[None], shares[:, 1:-1].T])


def area(scores: Array, wrong: Array) -> float:
    """Return the area under the ROC curve of scores (N,) that tell what is wrong, (N,) bool.

    Source: Mann and Whitney 1947; equal scores share their ranks.
    """
    ranks, count = stats.rankdata(scores), np.count_nonzero(wrong)
    return float((ranks[wrong].sum() - count * (count + 1) / 2) / (count * (len(wrong) - count)))


def from_border(labels: Array) -> Array:
    """Return the distance in voxels of each voxel (*S) from the nearest that has a neighbour of another label."""
    border = np.zeros(labels.shape, bool)
    for axis in range(labels.ndim):
        change = np.diff(labels, axis=axis) != 0
        ahead = [slice(None)] * labels.ndim
        behind = ahead.copy()
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        border[tuple(ahead)] |= change
        border[tuple(behind)] |= change
    return ndimage.distance_transform_edt(~border)


def numbers_used(codes: list[Code]) -> list[float]:
    """Return the divergence, nats, of each number of a code: the mean over scans of the sum over a scan's codes."""
    return torch.stack([divergence(*code)[0].sum(0) for code in codes]).mean(0).tolist()


@torch.no_grad()
def seconds(method: Anatomy, loaded: Loaded) -> dict[str, float]:
    """Return the seconds to label a scan that is placed, and to draw 100 samples, on the method's device."""
    batch, prior, _ = looked(method, loaded)  # once for nothing: what is done first takes longer
    began = time.perf_counter()
    method.segment(method.predict(batch.image, prior, mask=batch.mask))
    labelled = time.perf_counter() - began
    few = varied(method, samples=DRAWS)
    began = time.perf_counter()
    for sample in few.samples(batch.image, prior, mask=batch.mask):
        sample.argmax(1).cpu()
    return {"labels": labelled, "samples": (time.perf_counter() - began) * 100 / DRAWS}
