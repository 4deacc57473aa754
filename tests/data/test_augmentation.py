"""Label maps are moved and bent as far as they should be, and stay label maps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from limner.data.augmentation import Deformation, deformed
from limner.data.batch import IGNORE

STILL = {"shift": 0.0, "rotation": 0.0, "scaling": 0.0, "elastic": 0.0}
VOXEL = torch.tensor([[2.0, 2.0, 2.0]])


def ball(size: int = 24) -> tuple[Tensor, Tensor]:
    """A ball of label 2 in a block of label 1, (1, *S), and a mask of all."""
    axis = torch.arange(size) - (size - 1) / 2
    distance = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2).sqrt()
    return torch.where(distance < size / 4, 2, 1)[None], torch.ones(1, size, size, size, dtype=torch.bool)


def moved(*, seed: int = 0, **by: float) -> tuple[Tensor, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return deformed(*ball(), voxel=VOXEL, by=Deformation(**(STILL | by)))


def centre(labels: Tensor) -> Tensor:
    """Of the ball, mm."""
    return 2 * (labels[0] == 2).nonzero().double().mean(0)


def test_nothing_moves_if_nothing_is_asked_for() -> None:
    labels, mask = moved()
    assert torch.equal(labels, ball()[0])
    assert mask.all()


def test_a_shift_has_the_size_that_was_asked_for() -> None:
    shifts = torch.stack([centre(moved(seed=seed, shift=3.0)[0]) - centre(ball()[0]) for seed in range(40)])
    assert 2.4 < float(shifts.square().mean().sqrt()) < 3.6


def test_what_comes_from_beyond_the_map_is_unknown_and_not_looked_at() -> None:
    labels, mask = moved(shift=8.0)
    assert (labels == IGNORE).any()
    assert torch.equal(labels == IGNORE, ~mask)


def test_scaling_changes_volumes_as_it_should() -> None:
    logs = []
    for seed in range(40):
        labels, _ = moved(seed=seed, scaling=0.1)
        logs.append(((labels == 2).sum() / (ball()[0] == 2).sum()).log())
    assert 0.1 < float(torch.stack(logs).std()) < 0.25  # three axes of 0.1


def test_elastic_bending_moves_places_apart_but_not_far() -> None:
    labels, _ = moved(elastic=2.0, smooth=12.0)
    changed = (labels != ball()[0]) & (labels != IGNORE)
    assert 0.005 < float(changed.float().mean()) < 0.1
    assert set(labels.unique().tolist()) <= {IGNORE, 1, 2}


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_same_seed_moves_alike_and_scans_differ(dimensions: int) -> None:
    labels = torch.randint(0, 3, (2, *[12] * dimensions), generator=torch.Generator().manual_seed(0))
    labels[1] = labels[0]
    found = []
    for seed in (0, 0, 1):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            voxel = torch.ones(2, dimensions)
            found.append(deformed(labels, labels >= 0, voxel=voxel, by=Deformation())[0])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert not torch.equal(found[0][0], found[0][1])
