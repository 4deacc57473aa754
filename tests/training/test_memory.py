"""The estimate of a step's memory, against what a step keeps in truth."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from limner.training.memory import BESIDE, _fitting, bytes_per_voxel
from training.toys import SHAPE, OnePlayer, Scans, TwoPlayers


def test_what_a_small_network_keeps() -> None:
    method = OnePlayer()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    found = bytes_per_voxel(method, Scans().batch(0)) / (1 + BESIDE)
    # By hand, for each voxel: the image, three features after tanh, two log-probabilities (all 4 bytes), and a label.
    assert found == pytest.approx(4 * (1 + 3 + 2) + 8, rel=0.1)
    assert all(torch.equal(method.state_dict()[name], value) for name, value in before.items())
    assert all(parameter.grad is None for parameter in method.parameters())


def test_all_players_count() -> None:
    assert bytes_per_voxel(TwoPlayers(), Scans().batch(0)) > 2 * 4 * len(SHAPE)


def test_a_wider_network_keeps_more() -> None:
    wide = OnePlayer()
    wide.network = nn.Sequential(nn.Conv3d(1, 30, 1), nn.Tanh(), nn.Conv3d(30, 2, 1))
    piece = Scans().batch(0)
    assert bytes_per_voxel(wide, piece) - bytes_per_voxel(OnePlayer(), piece) == (1 + BESIDE) * 4 * 27


def test_the_crop_that_fits() -> None:
    assert _fitting(64**3, (160, 192, 224), stride=16) == (64, 64, 64)
    assert _fitting(64**3 - 1, (160, 192, 224), stride=16) == (48, 48, 48)
    assert _fitting(1, (160, 192, 224), stride=16) == (16, 16, 16)
    assert _fitting(32 * 64 * 64, (32, 192, 224), stride=16) == (32, 64, 64)
