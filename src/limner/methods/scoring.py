"""What methods share whose network gives every voxel a score for each class."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from limner.config import Settings
from limner.losses import RULED_OUT, log_shares
from limner.methods.method import Task, Trainable
from limner.networks.options import NetworkOptions
from limner.networks.rows import rows_within, spread
from limner.priors.prior import Parts, PlacedPrior


class ScoringOptions(Settings):
    """What a recipe may say about any of them.

    Args:
        network: that gives the scores.
        level: finest level of a pyramid that is used: 1 at twice the voxel size that the model is for.
        location: weight of the log of the prior's probability, which is added to the network's scores.
        support: classes less likely than this at a place, says the prior, are ruled out there; 0 rules out none.
    """

    network: NetworkOptions = NetworkOptions()
    level: Literal[0, 1] = 0
    location: Annotated[float, Field(ge=0)] = 0.0
    support: Annotated[float, Field(ge=0, lt=1)] = 1e-3


class Scoring(Trainable):
    """A method that labels voxels by the scores of one network.

    Source: our own; the prior's support as in the public code of Yu et al. 2020 (SAE), where it is 1e-8, and its log
    added to the scores as in Dalca et al. 2018.
    """

    Options = ScoringOptions
    options: ScoringOptions

    def __init__(self, task: Task, options: Settings) -> None:
        super().__init__(task, options)
        made, level = self.options.network.made, self.options.level
        self.network = made(task.channels, task.classes, dimensions=task.dimensions, level=level)

    @property
    def local(self) -> bool:
        """Whether a scan may be seen in pieces."""
        return self.options.network.local

    @property
    def stride(self) -> int:
        """Image sizes are padded to multiples of this, in voxels."""
        return self.network.stride

    @property
    def context(self) -> int:
        """Voxels around a voxel, on each side, that its prediction depends on."""
        return self.network.context

    def predict(self, image: Tensor, prior: PlacedPrior | None, *, mask: Tensor | None = None) -> Tensor:
        """Return (B, K, *S) float32 probabilities; outside the mask all is background.

        Args:
            image: (B, C, *S), standardised as in a batch.
            prior: on the same voxels, for what it rules out.
            mask: (B, *S) bool, what is to be segmented.
        """
        inside = torch.ones_like(image[:, 0], dtype=torch.bool) if mask is None else mask
        scores = rows_within(self.network(image), inside)
        if prior is not None and (self.options.support > 0 or self.options.location > 0):
            scores = self.informed(scores, class_probability(prior.parts_within(inside), prior.parts))
        return spread(log_shares(scores).exp_(), inside)

    def informed(self, scores: Tensor, location: Tensor) -> Tensor:
        """Return scores (N, K) with what the prior's probability of each class (N, K) adds to them or rules out."""
        return self.ruled(self.located(scores, location), location)

    def ruled(self, scores: Tensor, location: Tensor) -> Tensor:
        """Return scores (N, K) without classes that are too unlikely where they are, (N, K) says the prior."""
        # The likeliest class stays, so that something does.
        least = location.amax(1, keepdim=True).clamp_max(self.options.support)
        return scores.masked_fill(location < least, RULED_OUT)

    def located(self, scores: Tensor, location: Tensor) -> Tensor:
        """Return scores (N, K) with what the prior's probability of each class (N, K) adds to them."""
        return scores + self.options.location * location.log() if self.options.location > 0 else scores


def class_probability(parts: Tensor, of: Parts) -> Tensor:
    """Return (N, K) probabilities of the classes, given those (N, P) of their parts."""
    with torch.autocast(parts.device.type, enabled=False):
        return parts @ torch.nn.functional.one_hot(of.class_of).to(parts)


def per_scan(mask: Tensor) -> Tensor:
    """Return (N,) weights of the voxels of a mask (B, *S), with which a sum is the mean over scans of a scan's mean."""
    voxels = mask.flatten(1).sum(1)
    return (1 / (len(mask) * voxels.clamp_min(1))).repeat_interleave(voxels)


def class_balanced(location: Tensor, mask: Tensor) -> Tensor:
    """Return (N,) weights like `per_scan`, but all classes of a scan weigh the same, whatever their volume.

    Args:
        location: (N, K) the prior's probabilities of the classes, positive.
        mask: (B, *S), whose N voxels they are at.
    """
    scans = torch.split(location, mask.flatten(1).sum(1).tolist())
    each = [(classes / classes.sum(0)).mean(1) for classes in scans]
    return torch.cat(each) / len(mask)
