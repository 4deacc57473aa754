from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from limner.data.batch import IGNORE
from limner.methods import descriptors


def pairs(dimensions: int) -> list[tuple[int, int]]:
    return list(itertools.combinations_with_replacement(range(dimensions), 2))


def slow(labels: NDArray[np.int64], width: float) -> NDArray[np.float64]:
    """The descriptors of each voxel, voxel by voxel and partner by partner."""
    D = labels.ndim
    steps = [round(step * width) for step in descriptors.LATTICE]
    found = np.zeros((descriptors.count(D), *labels.shape))
    # Of an object that no partner is of, its mean is the place, and it has no extent.
    found[1 : 1 + D] = 0.5
    found[[1 + D + number for number, (one, other) in enumerate(pairs(D)) if one != other]] = 0.5
    for voxel in itertools.product(*map(range, labels.shape)):
        places, weights, whole = [], [], 0.0
        for offset in itertools.product(steps, repeat=D):
            partner = tuple(int(a + b) for a, b in zip(voxel, offset, strict=True))
            if not all(0 <= index < size for index, size in zip(partner, labels.shape, strict=True)):
                continue
            place = np.array(offset) / width
            weight = math.exp(-0.5 * float(place @ place))
            whole += weight * (labels[partner] != IGNORE)
            if labels[partner] == labels[voxel] > 0:
                places.append(place)
                weights.append(weight)
        if weights:
            mean, spread = np.average(places, 0, weights), np.cov(np.array(places).T, aweights=weights, ddof=0)
            spread = spread.reshape(D, D) - 0.0
            shape = [spread[one, other] if one == other else 0.5 + spread[one, other] / 2 for one, other in pairs(D)]
            found[(slice(None), *voxel)] = [sum(weights) / whole, *(0.5 + mean / 2), *shape]
    return found.clip(0, 1)


@pytest.mark.parametrize("shape", [(12, 9), (6, 7, 5)])
def test_they_are_those_of_a_slow_twin(shape: tuple[int, ...]) -> None:
    labels = np.random.default_rng(0).integers(IGNORE, 3, shape)
    found, known = descriptors.descriptors(torch.from_numpy(labels)[None], 1.5)
    np.testing.assert_array_equal(known[0, 0], labels > 0)
    expected = slow(labels, 1.5)
    np.testing.assert_allclose(found[0].numpy()[:, labels > 0], expected[:, labels > 0], atol=1e-4)


def test_the_middle_of_a_ball_is_balanced_and_its_edge_is_not() -> None:
    places = torch.stack(torch.meshgrid(*[torch.arange(33.0) - 16] * 2, indexing="ij"))
    ball = (places.square().sum(0) < 100).long()[None]
    (middle, edge), _ = (descriptors.descriptors(ball, 5.0)[0][0, :, 16, column] for column in (16, 24)), None
    torch.testing.assert_close(middle[1:3], torch.full((2,), 0.5), atol=1e-4, rtol=0)
    torch.testing.assert_close(middle[3], middle[5])
    assert edge[2] < 0.4 < edge[1]
    assert edge[0] < middle[0]
