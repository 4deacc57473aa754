"""Supervised: the network learns from the voxels that somebody labelled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from torch import Tensor

from limner.data.batch import IGNORE, Batch
from limner.losses import batch_dice, cross_entropy, soft_dice
from limner.methods.presence import labelled
from limner.methods.scoring import Scoring, ScoringOptions, class_probability
from limner.networks.rows import rows_within
from limner.priors.prior import PlacedPrior


class SupervisedOptions(ScoringOptions):
    """What a recipe may say about supervised learning: of the prior it needs nothing, and rules out nothing.

    Args:
        support: classes less likely than this at a place, says the prior, are ruled out there; 0 rules out none.
        objective: "dice and entropy" of each scan, or "batch dice": over all labelled voxels of the batch together, as
            translation and its rivals were published with.
    """

    support: float = 0.0
    objective: Literal["dice and entropy", "batch dice"] = "dice and entropy"


class Supervised(Scoring):
    """Segmenter that learns from labels alone: what more labels, or other methods, are compared with.

    Source: soft Dice (Milletari et al. 2016) and cross-entropy in equal parts, as is usual since nnU-Net (Isensee et
    al. 2021); the network is that of the other methods. With the network "codec" and the objective "batch dice" it is
    the segmentation alone of Vorontsov et al. 2022.
    """

    Options: ClassVar[type[SupervisedOptions]] = SupervisedOptions
    options: SupervisedOptions
    supervised = needs_labels = True

    def losses(self, batch: Batch, prior: PlacedPrior | None) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Yield what the labelled voxels inside the mask teach."""
        yield "model", self.taught(self.network(batch.image), batch, prior=prior)

    def taught(self, maps: Tensor, batch: Batch, *, prior: PlacedPrior | None) -> dict[str, Tensor]:
        """Return the loss terms of scores (B, K, *S) where the batch has labels."""
        if self.options.objective == "batch dice":
            return {"dice": batch_dice(maps.float().softmax(1), batch.labels, known=labelled(batch))}
        known = batch.mask & (batch.labels != IGNORE)
        scores = rows_within(maps, known)
        if prior is not None and self.options.location > 0:
            scores = self.located(scores, class_probability(prior.parts_within(known), prior.parts))
        voxels = known.flatten(1).sum(1).tolist()
        each = list(zip(torch.split(scores, voxels), torch.split(batch.labels[known], voxels), strict=True))
        dice = torch.stack([soft_dice(rows, labels) for rows, labels in each])
        entropy = torch.stack([cross_entropy(rows, labels) for rows, labels in each])
        return {"dice": dice.mean(), "cross-entropy": entropy.mean()}
