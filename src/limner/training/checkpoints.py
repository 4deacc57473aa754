"""What a run leaves while it goes on: safetensors with a line of JSON in their header, written beside and renamed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from limner import check
from limner.files import replacing
from limner.training.progress import Progress

FORMAT = "limner checkpoint 1"
SUFFIX = ".safetensors"
#: Resumable checkpoints that are kept of a stage, so that one which the disk lost does not end the run.
KEPT = 2


def save_weights(method: nn.Module, path: Path) -> None:
    """Write a method's parameters and buffers.

    Raises:
        InputError: if the disk refuses.
    """
    _save(_weights(method), path)


def load_weights(method: nn.Module, path: Path) -> None:
    """Fill a method's parameters and buffers from a checkpoint of any kind.

    Raises:
        InputError: for a file that is damaged, of another version, or of another method.
    """
    tensors, _ = _load(path)
    _fill(method, tensors, path=path)


def save_checkpoint(
    folder: Path, stage: str, *, method: nn.Module, optimisers: Mapping[str, Optimizer], progress: Progress
) -> None:
    """Write the state of a stage so that it can go on from there, and let go of all but the last of them.

    Raises:
        InputError: if the disk refuses.
    """
    tensors = _weights(method)
    for player, optimiser in optimisers.items():
        for index, state in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser/{player}/{index}/{key}": value for key, value in state.items()}
    _save(tensors, folder / f"{stage}.{progress.step:08d}{SUFFIX}", progress=asdict(progress))
    for path in _checkpoints(folder, stage)[:-KEPT]:
        path.unlink()


def latest_checkpoint(folder: Path, stage: str) -> Path | None:
    """Return the checkpoint that a stage can go on from, if there is one."""
    return next(reversed(_checkpoints(folder, stage)), None)


def load_checkpoint(path: Path, *, method: nn.Module, optimisers: Mapping[str, Optimizer]) -> Progress:
    """Fill a method and its optimisers from a checkpoint; return the progress then.

    Raises:
        InputError: for a file that is damaged, of another version, or of another method.
    """
    tensors, header = _load(path)
    _fill(method, tensors, path=path)
    try:
        for player, optimiser in optimisers.items():
            optimiser.load_state_dict(_optimiser_state(tensors, player) | _groups(optimiser))
        return Progress(**json.loads(header["progress"]))
    except (KeyError, TypeError, ValueError) as error:
        raise check.checkpoint_damaged(path, error) from error


def forget_checkpoints(folder: Path, stage: str) -> None:
    """Delete the resumable checkpoints of a stage that has ended."""
    for path in _checkpoints(folder, stage):
        path.unlink()


def _checkpoints(folder: Path, stage: str) -> list[Path]:
    """Return the resumable checkpoints of a stage, the oldest first."""
    return sorted(folder.glob(f"{stage}.{'[0-9]' * 8}{SUFFIX}"))


def _weights(method: nn.Module) -> dict[str, Tensor]:
    """Return a method's parameters and buffers by the names they have in a file."""
    return {f"method/{name}": tensor for name, tensor in method.state_dict().items()}


def _optimiser_state(tensors: Mapping[str, Tensor], player: str) -> dict[str, Any]:
    """Return the state of a player's optimiser as torch has it."""
    state: dict[int, dict[str, Tensor]] = {}
    beginning = f"optimiser/{player}/"
    for name in (name for name in tensors if name.startswith(beginning)):
        index, _, key = name.removeprefix(beginning).partition("/")
        state.setdefault(int(index), {})[key] = tensors[name]
    return {"state": state}


def _groups(optimiser: Optimizer) -> dict[str, Any]:
    """Return an optimiser's settings, which the recipe gives anew."""
    return {"param_groups": optimiser.state_dict()["param_groups"]}


def _save(tensors: Mapping[str, Tensor], path: Path, **header: object) -> None:
    """Write tensors and a header, whole or not at all."""
    from safetensors.torch import save_file

    # Copies: tied weights would be refused.
    copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    lines = {name: json.dumps(value) for name, value in header.items()}
    with replacing(path) as temporary:
        save_file(copies, temporary, metadata={"format": FORMAT} | lines)


def _load(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the header of a file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            check.checkpoint_version(path, header.get("format"), expected=FORMAT)
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118 -- it is no mapping
    except (OSError, SafetensorError) as error:
        raise check.checkpoint_damaged(path, error) from error


def _fill(method: nn.Module, tensors: Mapping[str, Tensor], *, path: Path) -> None:
    """Copy tensors from a file into a method."""
    weights = {name.removeprefix("method/"): value for name, value in tensors.items() if name.startswith("method/")}
    try:
        method.load_state_dict(weights)
    except RuntimeError as error:
        raise check.checkpoint_of_another_method(path, error) from error
