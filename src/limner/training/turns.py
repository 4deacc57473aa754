"""What a batch says to each player of a method in turn, and whether it can be believed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from limner import check
from limner.data.loader import Loaded
from limner.methods.method import Trainable
from limner.training.processes import gathered


class Turn(NamedTuple):
    """What one batch says to one player.

    Args:
        player: whose losses these are.
        terms: of the loss, by name.
        gradient: norm of the player's gradients so far in this step.
        cases: names of the scans in the batch.
    """

    player: str
    terms: dict[str, Tensor]
    gradient: Tensor
    cases: tuple[str, ...]


def turns(method: Trainable, loaded: Loaded, *, fabric: Fabric, share: float) -> Iterator[Turn]:
    """Yield each player's loss terms on a batch, a share of their gradients having been added to the parameters'.

    Args:
        method: whose losses.
        loaded: the batch, and the prior on it.
        fabric: where to compute, and how precisely.
        share: of the step that this batch is.
    """
    batch, prior = loaded
    losses = method.losses(batch.to(fabric.device), prior.to(fabric.device) if prior else None)
    while True:
        with fabric.autocast():
            found = next(losses, None)
        if found is None:
            return
        player, terms = found
        torch.autograd.backward(share * torch.stack(list(terms.values())).sum())
        gradient = _norm(method.players()[player])
        yield Turn(player, {name: term.detach() for name, term in terms.items()}, gradient, batch.case)


def agreed(taken: Sequence[Turn], *, fabric: Fabric, stage: str, step: int) -> tuple[dict[str, float], float]:
    """Return the mean of each term over a player's turns in all processes, and that of its gradient's norm.

    Args:
        taken: one turn for each batch of this process.
        fabric: knows the other processes.
        stage: for messages.
        step: for messages; steps done before this one.

    Raises:
        InputError: in all processes, if a term or a gradient of any of them is not finite.
    """
    names = [*taken[0].terms, "gradient"]
    mine = torch.stack([torch.stack([*turn.terms.values(), turn.gradient]).float() for turn in taken])
    everyone = gathered(mine, fabric).cpu()
    wrong = (~everyone.isfinite()).nonzero().tolist()
    if wrong:
        process, batch, name = wrong[0]
        cases = fabric.broadcast(taken[batch].cases, src=process)
        value = float(everyone[process, batch, name])
        raise check.not_finite(names[name], value, stage=stage, step=step + 1, cases=cases)
    *terms, gradient = everyone.double().mean((0, 1)).tolist()
    return dict(zip(names, terms, strict=False)), gradient


def _norm(player: nn.Module) -> Tensor:
    """Return the norm of a player's gradients."""
    norms = [torch.linalg.vector_norm(one.grad) for one in player.parameters() if one.grad is not None]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return norm
