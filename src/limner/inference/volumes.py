"""How sure a label's volume is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from limner.space import Array

#: Classes that are looked at in a voxel, the likeliest first.
RANKS = 3
#: Quantiles of a probability, as those of a normal distribution, and steps of them that are told apart. What is less
#: likely than the first is not believed at all, and what is more likely than the last is certain.
FARTHEST, STEPS = 3.0, 120
#: Share of the variance of a voxel's doubt that all of a label's voxels have in common: alone, each would be right or
#: wrong for itself, and a volume of thousands far surer than it is.
SHARED = 0.05
#: What no posterior knows: by how much of its volume, as sd, a structure's outlines differ between those who draw them.
CUSTOM = 0.055
#: Of the interval, to either side.
SDS = 1.96


def volume_intervals(
    prediction: Tensor, *, identified: Callable[[Array], Array], voxel: float
) -> dict[int, tuple[float, float]]:
    """Return the 95 % interval of each label's volume, in mm3, by its id.

    Args:
        prediction: (K, *S) probabilities of the classes.
        identified: returns the id of each voxel given its class, (*S) to (*S).
        voxel: volume of one, mm3.

    Source: our own; one normal quantile in common for all voxels as in Vasicek's portfolios of loans, which gives the
    volume's distribution in closed form where one would draw samples.
    """
    from scipy.special import ndtr, ndtri

    counts: dict[int, Array] = {}
    certain, ranked = prediction.topk(min(RANKS, len(prediction)), dim=0)
    for share, classes in zip(certain.numpy(), ranked.numpy(), strict=True):
        quantiles = ndtri(share)
        believed = quantiles > -FARTHEST
        steps = ((quantiles[believed].clip(max=FARTHEST) / FARTHEST + 1) / 2 * STEPS).astype(np.int64)
        ids, places = np.unique(identified(classes)[believed], return_inverse=True)
        found = np.bincount(places * (STEPS + 1) + steps, minlength=len(ids) * (STEPS + 1)).reshape(-1, STEPS + 1)
        for label, count in zip(ids.tolist(), found, strict=True):
            counts[label] = counts.get(label, 0) + count
    middles = np.append((np.arange(STEPS) + 0.5) / STEPS * 2 - 1, np.inf) * FARTHEST
    # Of the voxels of each probability, the share that the label has if the doubt in common is low, none, or high.
    shifts = np.sqrt(SHARED) * SDS * np.array([[-1], [0], [1]])
    shares = ndtr((middles + shifts) / np.sqrt(1 - SHARED))
    intervals = {}
    for label, count in counts.items():
        volume = voxel * float(count[middles > 0].sum())
        low, middle, high = voxel * shares @ count
        custom = SDS * CUSTOM * volume
        intervals[label] = (max(0.0, volume - np.hypot(middle - low, custom)), volume + np.hypot(high - middle, custom))
    return intervals
