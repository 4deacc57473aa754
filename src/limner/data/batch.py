"""What a training step sees: images, and what is known about them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from limner.space.labels import IGNORE

__all__ = ["IGNORE", "Batch"]


@dataclass(frozen=True, eq=False)
class Batch:
    """Scans, or crops of scans, of one shape.

    Args:
        image: (B, C, *S) float32; each channel has mean 0 and sd 1 inside the scan's mask, and is 0 outside it.
        labels: (B, *S) int64 class indices, or ids of instances; IGNORE where nobody annotated, and in padding.
        present: (B, T) int64: whether each target is in the image, 1, 0 or IGNORE.
        mask: (B, *S) bool: the voxels that are to be segmented; false in padding.
        world: (B, D+1, D+1) float64, voxel indices to mm of the prior's world, or of the scan's without a prior.
        case: B names, for every message.
    """

    image: Tensor
    labels: Tensor
    present: Tensor
    mask: Tensor
    world: Tensor
    case: tuple[str, ...]

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on another device."""
        moved: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors = {name: value.to(device) for name, value in moved.items() if isinstance(value, Tensor)}
        return Batch(**(moved | tensors))
