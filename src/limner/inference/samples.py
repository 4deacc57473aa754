"""Several segmentations of one scan, all of them likely: what they agree on, and what they leave open."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from limner.inference.volumes import CUSTOM, SDS
from limner.space import Array


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples of a segmentation, in the voxels of a box (*N).

    Args:
        labels: ids of each sample.
        uncertainty: (*N) entropy of the samples' mean probability, nats.
        shape: (*N) nats of it that lie in how samples differ: in the code, not in the voxel.
        intervals: of each label's volume, mm3, by its id: 95 %.
    """

    labels: tuple[Array, ...]
    uncertainty: Tensor
    shape: Tensor
    intervals: Mapping[int, tuple[float, float]]


def collected(samples: Iterable[Tensor], *, identified: Callable[[Array], Array], voxel: float) -> Samples | None:
    """Return what samples say together; nothing if there are none.

    Args:
        samples: probabilities (K, *N), one at a time, on any device.
        identified: returns the id of each voxel given its class, (*N) to (*N).
        voxel: volume of one, mm3.

    Source: Dalca et al. 2018, eq. 15: the entropy of the mean probability. Its part that is the mean of the samples'
    entropies is a voxel's own, as in Depeweg et al. 2018; the rest is the code's. To the spread of the volumes comes
    what outlines differ by between those who draw them.
    """
    labels, total, own = [], torch.zeros(()), torch.zeros(())
    for sample in samples:
        labels.append(identified(sample.argmax(0).cpu().numpy()))
        total, own = total + sample, own + entropy(sample)
    if not labels:
        return None
    uncertainty = entropy(total / len(labels))
    shape = (uncertainty - own / len(labels)).clamp_min(0)
    return Samples(tuple(labels), uncertainty, shape, _intervals(labels, voxel=voxel))


def entropy(probability: Tensor) -> Tensor:
    """Return the entropy of probabilities (K, *S) in nats, (*S)."""
    found = torch.zeros_like(probability[0])
    for share in probability:
        found -= torch.xlogy(share, share)
    return found


def _intervals(samples: list[Array], *, voxel: float) -> dict[int, tuple[float, float]]:
    """Return the 95 % interval of each label's volume, mm3."""
    counts = [dict(zip(*map(np.ndarray.tolist, np.unique(ids, return_counts=True)), strict=True)) for ids in samples]
    intervals = {}
    for label in sorted(set().union(*counts)):
        volumes = voxel * np.array([count.get(label, 0) for count in counts])
        middle = float(volumes.mean())
        away = float(np.hypot(SDS * volumes.std(ddof=min(1, len(counts) - 1)), SDS * CUSTOM * middle))
        intervals[label] = (max(0.0, middle - away), middle + away)
    return intervals
