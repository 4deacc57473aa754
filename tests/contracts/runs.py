"""Runs of the loop on heads; imported by processes that tests start."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from contracts.heads import VARIANTS, made, seen
from limner.data.batch import Batch
from limner.data.sampling import case_at, positions
from limner.priors.dense import DensePrior
from limner.training.log import Log
from limner.training.loop import fit
from limner.training.recipe import Stage

STAGE = Stage(name="only", steps=6, learning_rate=1e-3, checkpoint_every=3)


class StoppedError(Exception):
    """The power went."""


class Heads:
    """Makes the batches of five people, as a loader does."""

    def __init__(self, *, batch: int, process: tuple[int, int], end: int | None = None) -> None:
        self.size, self.process, self.end = batch, process, end

    def batch(self, step: int) -> tuple[Batch, DensePrior]:
        if step == self.end:
            raise StoppedError
        rank, ranks = self.process
        places = positions(step, batch=self.size, rank=rank, ranks=ranks)
        return seen(*[case_at(place, cases=5, seed=0) for place in places])


def trained(
    fabric: Fabric, folder: Path, *, variant: str, batch: int = 1, end: int | None = None, optimiser: str = "adam"
) -> dict[str, Tensor]:
    """Train a method in this process, and return its weights; the power goes before step `end`."""
    method = made(VARIANTS[variant], seed=fabric.global_rank)
    loader = Heads(batch=batch, process=(fabric.global_rank, fabric.world_size), end=end)
    folder.mkdir(exist_ok=True)
    stage = STAGE.model_copy(update={"optimiser": optimiser})
    fit(method, loader, stage=stage, fabric=fabric, folder=folder, log=Log(None))
    return method.state_dict()


def alone(folder: Path, **options: object) -> dict[str, Tensor]:
    """Train a method in one process."""
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    return trained(fabric, folder, **options)


def together(folder: Path, **options: object) -> dict[str, Tensor]:
    """Train a method in two processes."""
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp_spawn")
    weights = fabric.launch(_in_process, folder, options)
    return {name: torch.from_numpy(value) for name, value in weights.items()}


def _in_process(fabric: Fabric, folder: Path, options: dict[str, object]) -> dict[str, object]:
    torch.set_num_threads(1)
    return {name: value.numpy() for name, value in trained(fabric, folder, **options).items()}
