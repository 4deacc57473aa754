"""What the loop promises of every trainable method: it may be stopped, and it may be shared by processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from contracts.heads import VARIANTS
from contracts.runs import StoppedError, alone, together


@pytest.mark.parametrize(
    ("variant", "optimiser"), [*((variant, "adam") for variant in VARIANTS), ("anatomy as published", "adadelta")]
)
def test_a_run_that_was_stopped_ends_bit_for_bit_as_one_that_was_not(
    variant: str, optimiser: str, tmp_path: Path
) -> None:
    expected = alone(tmp_path / "whole", variant=variant, optimiser=optimiser)
    with pytest.raises(StoppedError):
        alone(tmp_path / "parts", variant=variant, optimiser=optimiser, end=5)
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["only.00000003.safetensors"]
    found = alone(tmp_path / "parts", variant=variant, optimiser=optimiser)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_two_processes_do_what_one_does_with_twice_the_batch(tmp_path: Path) -> None:
    one, two = alone(tmp_path / "one", variant="sae", batch=2), together(tmp_path / "two", variant="sae")
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, msg=lambda text, name=name: f"{name}: {text}")
