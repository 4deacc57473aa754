"""Losses: pure functions, means over what is known."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

#: Voxels worked on at a time: what is computed of them stays in the processor's cache.
CHUNK = 1 << 15
#: Score of a class that is ruled out: its probability is 0, and finite sums stay finite.
RULED_OUT = -1e30


def log_shares(scores: Tensor) -> Tensor:
    """Return the log of softmax(scores) over the classes, nats, (N, K) like the scores.

    Source: the log-softmax of torch, which takes five times as long where K is no multiple of 16.
    """
    return scores - scores.logsumexp(1, keepdim=True)


def free_energy(scores: Tensor, evidence: Tensor) -> tuple[Tensor, Tensor]:
    """Return sum_k q_k (ln q_k - evidence_k) of each voxel, and q = softmax(scores).

    Its least value is that of the posterior, q_k proportional to exp(evidence_k), where it is minus the log of the sum
    of exp(evidence). Gradients are written out, so that forward keeps two tensors as large as the scores and backward
    makes one; the evidence gets none.

    Args:
        scores: (N, K); RULED_OUT for a class that cannot be.
        evidence: (N, K) nats, finite: the log of p(class) p(value | class), up to a constant.

    Returns:
        (N,) nats and (N, K) probabilities, both differentiable.

    Source: Yu et al. 2020 (SAE), the KL term and the reconstruction term of its loss, with the expectation over q taken
    exactly where the reconstruction of a voxel depends on its own class alone.
    """
    energy, q = _FreeEnergy.apply(scores, evidence)  # type: ignore[no-untyped-call]
    return energy, q


class _FreeEnergy(torch.autograd.Function):
    """The free energy by chunks of voxels."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, evidence: Tensor) -> tuple[Tensor, Tensor]:
        q, slope = torch.empty_like(scores), torch.empty_like(scores)
        energy = scores.new_empty(len(scores))
        parts = (torch.split(part, CHUNK) for part in (scores, evidence, q, slope, energy))
        for score, known, share, gap, total in zip(*parts, strict=True):
            log_share = log_shares(score)
            torch.exp(log_share, out=share)
            torch.sub(log_share, known, out=gap)
            torch.sum(share * gap, 1, out=total)
        ctx.save_for_backward(q, slope)
        return energy, q

    @staticmethod
    def backward(ctx: Any, to_energy: Tensor, to_q: Tensor) -> tuple[Tensor, None]:
        q, slope = ctx.saved_tensors
        gradient = torch.empty_like(q)
        parts = (torch.split(part, CHUNK) for part in (q, slope, to_energy[:, None], to_q, gradient))
        for share, gap, weight, other, target in zip(*parts, strict=True):
            pull = torch.addcmul(other, gap, weight)
            pull = pull.sub_((share * pull).sum(1, keepdim=True))
            torch.mul(share, pull, out=target)
        return gradient, None


def explanation(
    scores: Tensor, *, location: Tensor, evidence: Tensor, exact: bool = True, labels: Tensor | None = None
) -> Tensor:
    """Return minus the log-likelihood of each voxel's value given a shape, (N,) nats.

    With f = softmax(scores + location), it is -ln sum_k f_k p(value | k), or its Jensen bound, minus the mean of
    ln p(value | k) under f; where somebody labelled the voxel, it is -ln f_label p(value | label).

    Args:
        scores: (N, K) of the shape model.
        location: (N, K) nats, log p(class | place).
        evidence: (N, K) nats, log p(class, value | place).
        exact: whether to take the logarithm of the sum.
        labels: (N,) int64 class indices, negative where nobody labelled.

    Source: Dalca et al. 2018, eqs. 12 and 14 with the square and the variance's logarithm that print lost; the exact
    form is our own.
    """
    prior = scores + location
    total = prior.logsumexp(1)
    if exact:
        found = total - (scores + evidence).logsumexp(1)
    else:
        found = -((prior - total[:, None]).exp() * (evidence - location)).sum(1)
    if labels is None:
        return found
    joint = (scores + evidence).gather(1, labels.clamp_min(0)[:, None])[:, 0]
    return torch.where(labels < 0, found, total - joint)


def cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the mean of -ln p(label) over voxels, nats; 0, with gradients of 0, if there are none.

    Args:
        scores: (N, K) of the voxels that somebody labelled.
        labels: (N,) int64 class indices.

    Source: maximum likelihood.
    """
    total = torch.nn.functional.cross_entropy(scores, labels, reduction="sum")
    return total / max(1, len(labels))


def soft_dice(scores: Tensor, labels: Tensor) -> Tensor:
    """Return 1 - the soft Dice, the mean over the classes but the background that the labels show; 0 if none.

    Args:
        scores: (N, K) of the voxels of one scan that somebody labelled.
        labels: (N,) int64 class indices.

    Source: Milletari et al. 2016 (V-Net), with squares in the denominator as printed there.
    """
    shares = log_shares(scores).exp()
    voxels = torch.bincount(labels, minlength=scores.shape[1]).to(shares)
    right = shares.gather(1, labels[:, None])[:, 0]
    overlap = torch.zeros_like(voxels).index_add(0, labels, right)
    dice = 2 * overlap / (shares.square().sum(0) + voxels).clamp_min(1e-6)
    there = (voxels > 0).to(shares)[1:]
    return ((1 - dice[1:]) * there).sum() / there.sum().clamp_min(1)


def balanced_cross_entropy(scores: Tensor, targets: Tensor, *, known: Tensor, rarest: float = 0.05) -> Tensor:
    """Return the mean of -ln p(target) over what is known, nats, where yes and no weigh the same in every channel.

    It is a mean over scans of means over channels; a channel of which nothing is known counts as 0.

    Args:
        scores: (B, C, *S); the sigmoid of one is the probability of yes.
        targets: (B, C, *S) bool.
        known: (B, C, *S) bool, what counts.
        rarest: share of an answer below which its weight grows no further.

    Source: cross-entropy; balanced in each patch as is usual for affinities (Funke et al. 2019, Sheridan et al. 2023).
    """
    each = torch.nn.functional.binary_cross_entropy_with_logits(scores, targets.to(scores), reduction="none")
    axes = tuple(range(2, scores.ndim))
    count = known.sum(axes, keepdim=True).clamp_min(1).to(scores)
    yes = (targets & known).sum(axes, keepdim=True) / count
    weight = torch.where(targets, 0.5 / yes.clamp_min(rarest), 0.5 / (1 - yes).clamp_min(rarest)) * known
    return ((each * weight).sum(axes, keepdim=True) / count).mean()


def known_square(found: Tensor, targets: Tensor, *, known: Tensor) -> Tensor:
    """Return the mean squared difference where it is known: over scans, of means over channels and voxels.

    Args:
        found: (B, C, *S).
        targets: (B, C, *S).
        known: (B, 1, *S) bool, what counts.

    Source: least squares.
    """
    axes = tuple(range(1, found.ndim))
    total = ((found - targets).square() * known).sum(axes)
    return (total / (found.shape[1] * known.sum(axes)).clamp_min(1)).mean()


def batch_dice(shares: Tensor, labels: Tensor, *, known: Tensor) -> Tensor:
    """Return 1 - the soft Dice over all known voxels of a batch together, the mean over classes but the background.

    Without any, it is 0, and so are its gradients.

    Args:
        shares: (B, K, *S) probabilities.
        labels: (B, *S) int64 class indices.
        known: (B, *S) bool, where they count.

    Source: Vorontsov et al. 2022 and its public code: sums over the batch, without squares, smoothed by 1.
    """
    classes = torch.arange(1, shares.shape[1], device=labels.device).view(1, -1, *[1] * (labels.ndim - 1))
    counts = known[:, None].to(shares)
    right = (labels[:, None] == classes).to(shares) * counts
    found, axes = shares[:, 1:] * counts, [0, *range(2, shares.ndim)]
    dice = (2 * (found * right).sum(axes) + 1) / (found.sum(axes) + right.sum(axes) + 1)
    return (1 - dice).mean()


def difference(found: Tensor, expected: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Return the mean absolute difference of each of a batch's members, (B,).

    Args:
        found: (B, C, *S).
        expected: like it.
        mask: (B, *S) bool, the voxels that count; all of them without it.

    Source: L1 reconstruction, as in Vorontsov et al. 2022.
    """
    gaps = (found - expected).abs()
    gaps = gaps.mean(1, dtype=torch.promote_types(gaps.dtype, torch.float32))
    if mask is None:
        return gaps.flatten(1).mean(1)
    weights = mask.to(gaps)
    return (gaps * weights).flatten(1).sum(1) / weights.flatten(1).sum(1).clamp_min(1)


def hinge(real: Tensor, made: Tensor) -> Tensor:
    """Return what a discriminator minimises, given how real it holds real images (N,) and made ones (M,) to be.

    Source: hinge loss of adversarial training, as in Vorontsov et al. 2022.
    """
    return torch.relu(1 - real).mean() + torch.relu(1 + made).mean()
