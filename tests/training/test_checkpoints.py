"""Checkpoints: what they keep, and what is refused of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from limner.check import InputError
from limner.training.checkpoints import (
    forget_checkpoints,
    latest_checkpoint,
    load_checkpoint,
    load_weights,
    save_checkpoint,
    save_weights,
)
from limner.training.progress import Progress
from training.toys import OnePlayer, TwoPlayers, started

PROGRESS = Progress(step=3, seconds=1.5, sums={"likelihood": 0.1 + 0.2}, counted=2, average=1 / 3, best=-0.7, waited=1)


def stepped(method: torch.nn.Module) -> dict[str, torch.optim.Optimizer]:
    """An optimiser that has made a step with gradients of its own."""
    optimiser = torch.optim.AdamW(method.parameters(), 0.1)
    for number, parameter in enumerate(method.parameters()):
        parameter.grad = torch.full_like(parameter, 0.1 + number)
    optimiser.step()
    return {"model": optimiser}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    method = started("OnePlayer")
    save_checkpoint(tmp_path, "fine", method=method, optimisers=stepped(method), progress=PROGRESS)
    return tmp_path / "fine.00000003.safetensors"


def test_everything_comes_back(path: Path) -> None:
    expected, found = started("OnePlayer"), OnePlayer()
    optimisers = {"model": torch.optim.AdamW(found.parameters(), 0.1)}
    assert latest_checkpoint(path.parent, "fine") == path
    assert load_checkpoint(path, method=found, optimisers=optimisers) == PROGRESS
    moments = stepped(expected)["model"].state_dict()["state"]
    for number, state in optimisers["model"].state_dict()["state"].items():
        assert all(torch.equal(state[key], moments[number][key]) for key in ("step", "exp_avg", "exp_avg_sq"))
    assert all(torch.equal(*pair) for pair in zip(found.parameters(), expected.parameters(), strict=True))


def test_the_last_two_are_kept_of_each_stage(tmp_path: Path) -> None:
    method = started("OnePlayer")
    for stage in ("fine", "fine-2"):
        for step in (5, 40, 300):
            save_checkpoint(tmp_path, stage, method=method, optimisers={}, progress=Progress(step=step))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"{stage}.00000{step}.safetensors" for stage in ("fine-2", "fine") for step in ("040", "300")]
    assert latest_checkpoint(tmp_path, "fine") == tmp_path / "fine.00000300.safetensors"
    assert latest_checkpoint(tmp_path, "coarse") is None
    forget_checkpoints(tmp_path, "fine")
    assert [path.name for path in sorted(tmp_path.iterdir())] == names[:2]


def test_tied_weights_are_kept(tmp_path: Path) -> None:
    method = torch.nn.ModuleDict({"encoder": (layer := torch.nn.Linear(2, 2)), "decoder": layer})
    save_weights(method, tmp_path / "tied.safetensors")
    again = torch.nn.ModuleDict({"encoder": (other := torch.nn.Linear(2, 2)), "decoder": other})
    load_weights(again, tmp_path / "tied.safetensors")
    assert torch.equal(other.weight, layer.weight)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_truncated_checkpoint(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=f"checkpoint '{path}' is damaged (.*); expected the file as .* delete it"):
        load_checkpoint(path, method=OnePlayer(), optimisers={})


def test_a_checkpoint_of_another_version(path: Path) -> None:
    save_file(load_file(path), path, metadata={"format": "limner checkpoint 9"})
    words = f"checkpoint '{path}' is of format 'limner checkpoint 9' but this limner reads 'limner checkpoint 1'"
    with pytest.raises(InputError, match=words):
        load_checkpoint(path, method=OnePlayer(), optimisers={})


def test_weights_are_no_state_to_go_on_from(tmp_path: Path) -> None:
    path = tmp_path / "fine.safetensors"
    save_weights(OnePlayer(), path)
    with pytest.raises(InputError, match="is damaged"):
        load_checkpoint(path, method=OnePlayer(), optimisers={})


def test_a_checkpoint_of_another_method(path: Path) -> None:
    with pytest.raises(InputError, match=f"checkpoint '{path}' does not fit the method .*painter"):
        load_weights(TwoPlayers(), path)
