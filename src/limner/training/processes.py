"""What the processes of a run must agree on: weights, gradients, numbers. With one process, nothing happens here."""

from __future__ import annotations

from typing import Literal, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn


def seed_noise(fabric: Fabric, *numbers: int) -> None:
    """Seed what a method draws from while it computes its losses: another in each process, the same in every run.

    A step's noise is then a function of the step, so that a run that was stopped needs no generator's state. It is
    torch's own generator that is seeded, because torch's layers and samplers draw from no other.

    Args:
        fabric: of this process.
        numbers: what the noise is a function of, from 0.
    """
    drawn = np.random.SeedSequence([*numbers, fabric.global_rank]).generate_state(1, np.uint64)
    torch.default_generator.manual_seed(int(drawn[0]))
    if fabric.device.type == "cuda":
        torch.cuda.default_generators[fabric.device.index or 0].manual_seed(int(drawn[0]))


def share_weights(method: nn.Module, fabric: Fabric) -> None:
    """Give every process the parameters and buffers of the first."""
    if fabric.world_size > 1:
        weights = {name: tensor.cpu() for name, tensor in method.state_dict().items()}
        method.load_state_dict(fabric.broadcast(weights))


def average_gradients(player: nn.Module, fabric: Fabric) -> None:
    """Replace a player's gradients by their mean over all processes."""
    if fabric.world_size == 1:
        return
    learning = [parameter for parameter in player.parameters() if parameter.requires_grad]
    reached = summed(torch.tensor([one.grad is not None for one in learning], device=fabric.device).float(), fabric)
    # What no process has a gradient of is left alone, as one process would leave it: weight decay would shrink it.
    parameters = [one for one, processes in zip(learning, reached.tolist(), strict=True) if processes > 0]
    gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in parameters]
    mean = _reduced(torch.cat([gradient.flatten() for gradient in gradients]), fabric, how="mean")
    for one, gradient in zip(parameters, torch.split(mean, [one.numel() for one in parameters]), strict=True):
        one.grad = gradient.view_as(one)


def average_buffers(method: nn.Module, fabric: Fabric) -> None:
    """Replace what a method learns without gradients, such as a variance, by its mean over all processes."""
    if fabric.world_size > 1:
        for buffer in method.buffers():
            if buffer.is_floating_point():
                buffer.copy_(_reduced(buffer.clone(), fabric, how="mean"))


def gathered(values: Tensor, fabric: Fabric) -> Tensor:
    """Return the values of every process, (processes, *S), from what each has, (*S)."""
    everyone = values.new_zeros(fabric.world_size, *values.shape)
    everyone[fabric.global_rank] = values
    return summed(everyone, fabric)


def summed(values: Tensor, fabric: Fabric) -> Tensor:
    """Return the sum of all processes' values."""
    return _reduced(values, fabric, how="sum")


def longest(seconds: float, fabric: Fabric) -> float:
    """Return the most seconds that any process took, so that all of them end together."""
    if fabric.world_size == 1:
        return seconds
    return float(gathered(torch.tensor(seconds, dtype=torch.float64, device=fabric.device), fabric).max())


def _reduced(values: Tensor, fabric: Fabric, *, how: Literal["mean", "sum"]) -> Tensor:
    """Return the mean or the sum of all processes' values."""
    return cast("Tensor", fabric.all_reduce(values, reduce_op=how))
