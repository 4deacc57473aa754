"""Supervised: the network learns from the voxels that somebody labelled."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from limner.data.batch import IGNORE, Batch
from limner.losses import cross_entropy, soft_dice
from limner.methods.scoring import Scoring, ScoringOptions
from limner.priors.prior import PlacedPrior


class SupervisedOptions(ScoringOptions):
    """What a recipe may say about supervised learning: of the prior it needs nothing, and rules out nothing.

    Args:
        support: classes less likely than this at a place, says the prior, are ruled out there; 0 rules out none.
    """

    support: float = 0.0


class Supervised(Scoring):
    """Segmenter that learns from labels alone: what more labels, or other methods, are compared with.

    Source: soft Dice (Milletari et al. 2016) and cross-entropy in equal parts, as is usual since nnU-Net (Isensee et
    al. 2021); the network is that of the other methods.
    """

    Options = SupervisedOptions
    supervised = True

    def losses(
        self,
        batch: Batch,
        prior: PlacedPrior | None,  # noqa: ARG002 the contract's: labels need no prior
    ) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Yield soft Dice and cross-entropy over the labelled voxels inside the mask."""
        scores = self.network(batch.image).movedim(1, -1)
        known = batch.mask & (batch.labels != IGNORE)
        dice, entropy = [], []
        for maps, labels, where in zip(scores, batch.labels, known, strict=True):
            rows, classes = maps[where].float(), labels[where]
            dice.append(soft_dice(rows, classes))
            entropy.append(cross_entropy(rows, classes))
        yield "model", {"dice": torch.stack(dice).mean(), "cross-entropy": torch.stack(entropy).mean()}
