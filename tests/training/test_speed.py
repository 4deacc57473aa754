"""What is asked of a process while it trains, and no longer."""

from __future__ import annotations

import pytest
import torch

from limner.training.speed import flushing, hurried


def test_numbers_near_zero_are_zero_while_it_hurries_and_known_afterwards() -> None:
    tiny = torch.tensor(1e-40)

    @hurried()
    def failing() -> None:
        with hurried():
            assert tiny * 1.0 == 0
        assert flushing()
        raise ValueError

    with pytest.raises(ValueError, match="^$"):
        failing()
    assert not flushing()
    assert tiny * 1.0 > 0
