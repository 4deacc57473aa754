"""Local shape descriptors: what the object at a voxel looks like nearby, as a target that teaches a network shape.

Source: Sheridan et al., Nature Methods 2023 (local shape descriptors). Their Gaussian window over all voxels is a
lattice of partners here, so that a descriptor is a weighted sum of long-range affinities: no object is looked at by
itself, and it costs the same however many there are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from limner.data.batch import IGNORE
from limner.instances import ends

#: The lattice of partners along each axis, in sds of the window.
LATTICE = (-1.8, -0.6, 0.6, 1.8)


def count(dimensions: int) -> int:
    """Return how many numbers describe a place: size, mean, and covariance, 10 in a volume."""
    return 1 + dimensions + dimensions * (dimensions + 1) // 2


def descriptors(labels: Tensor, width: float) -> tuple[Tensor, Tensor]:
    """Return the descriptors (B, N, *S) of each voxel's object, about 0 to 1, and where they are known (B, 1, *S).

    They are the share of the window that the object fills; the mean of its voxels there, relative to the place, and
    their variances and covariances, in sds and variances of the window.

    Args:
        labels: (B, *S) ids of instances; 0 is no object and IGNORE unknown.
        width: sd of the window, voxels.
    """
    B, *shape = labels.shape
    objects, somebody = labels > 0, (labels != IGNORE).float()
    sums, whole = torch.zeros(B, count(len(shape)), *shape, device=labels.device), torch.zeros_like(somebody)
    for offset, place, weight in _lattice(len(shape), width):
        here, there = ends(offset, shape)
        same = (labels[:, *here] == labels[:, *there]) & objects[:, *here]
        moments = sums.new_tensor(_moments(place)).mul_(weight).reshape(-1, *[1] * len(shape))
        sums[:, :, *here] += same[:, None] * moments
        whole[:, *here] += somebody[:, *there] * weight
    return _described(sums.unbind(1), whole, dimensions=len(shape)), objects[:, None]


def _lattice(dimensions: int, width: float) -> Iterator[tuple[tuple[int, ...], tuple[float, ...], float]]:
    """Yield each partner's offset in voxels, its place in sds of the window, and its weight."""
    for drawn in itertools.product(LATTICE, repeat=dimensions):
        offset = tuple(round(step * width) for step in drawn)
        place = tuple(step / width for step in offset)
        yield offset, place, math.exp(-0.5 * sum(step * step for step in place))


def _moments(place: tuple[float, ...]) -> list[float]:
    """Return what a partner adds to each sum: 1, its place, and the products of its coordinates."""
    pairs = itertools.combinations_with_replacement(place, 2)
    return [1.0, *place, *(one * other for one, other in pairs)]


def _described(sums: Sequence[Tensor], whole: Tensor, *, dimensions: int) -> Tensor:
    """Return descriptors (B, N, *S) from the weighted sums (B, *S) of an object's voxels and of all known ones."""
    size = sums[0].clamp_min(1e-3)
    mean = [one / size for one in sums[1 : 1 + dimensions]]
    pairs = list(itertools.combinations_with_replacement(range(dimensions), 2))
    spread = [
        total / size - mean[one] * mean[other]
        for total, (one, other) in zip(sums[1 + dimensions :], pairs, strict=True)
    ]
    centred = [0.5 + one / 2 for one in mean]
    shaped = [value if one == other else 0.5 + value / 2 for value, (one, other) in zip(spread, pairs, strict=True)]
    return torch.stack([sums[0] / whole.clamp_min(1e-3), *centred, *shaped], 1).clamp(0, 1)
