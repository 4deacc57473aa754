"""Which images show what, as somebody said or as their labels show.

Source: our own; weak labels as in Vorontsov et al. 2022.
"""

from __future__ import annotations

import torch
from torch import Tensor

from limner.data.batch import IGNORE, Batch


def marked(batch: Batch, targets: int) -> Tensor:
    """Return (B, T) int64 whether each target is in each image: 1, 0, or IGNORE where nobody knows.

    Where nobody said, labels tell what is there; that something is not there they tell if all of the image is labelled.
    """
    said = batch.present if batch.present.shape[1] else batch.present.new_full((len(batch.labels), targets), IGNORE)
    labels = batch.labels.flatten(1)
    shown = torch.stack([(labels == target).any(1) for target in range(1, targets + 1)], 1)
    whole = ((labels != IGNORE) | ~batch.mask.flatten(1)).all(1, keepdim=True)
    told = torch.where(shown, 1, torch.where(whole, 0, IGNORE))
    return torch.where(said == IGNORE, told, said)


def showing(marks: Tensor) -> Tensor:
    """Return (B,) bool, which images show a target, given marks (B, T)."""
    return (marks == 1).any(1)


def without(marks: Tensor) -> Tensor:
    """Return (B,) bool, which images show no target, given marks (B, T)."""
    return (marks == 0).all(1)


def labelled(batch: Batch) -> Tensor:
    """Return (B, *S) bool, the voxels inside the mask that somebody labelled, of images not marked to be without."""
    known = batch.mask & (batch.labels != IGNORE)
    if batch.present.shape[1]:
        known = known & ~without(batch.present).view(-1, *[1] * (known.ndim - 1))
    return known
