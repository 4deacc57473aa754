"""Images of which half show a bright square, and the methods that learn from knowing which; imported by processes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from limner.data.batch import IGNORE, Batch
from limner.methods import method_class
from limner.methods.method import Task, Trainable
from limner.training.log import Log
from limner.training.loop import fit
from limner.training.recipe import Stage

FEATURES = (4, 8, 16)
CODEC = {"kind": "codec", "codec": {"features": FEATURES}}
DISCRIMINATORS = {"features": (6, 8), "scales": 2}


@dataclass(frozen=True)
class Weak:
    """A method as a recipe may ask for it."""

    method: str
    options: dict[str, Any] = field(default_factory=dict)


def student(**codec: Any) -> dict[str, Any]:
    """Options of a mean teacher whose student is a codec."""
    network = {"kind": "codec", "codec": {"features": FEATURES} | codec}
    return {"options": {"network": network, "objective": "batch dice"}, "consistency": 0.1}


WEAK = {
    "supervised": Weak("supervised", {"network": CODEC, "objective": "batch dice"}),
    "autoencoder": Weak("autoencoder", {"network": CODEC}),
    "mean teacher": Weak("mean_teacher", student()),
    "mean teacher with dropout": Weak("mean_teacher", student(dropout=0.4)),
    "mean teacher with dropout alone": Weak("mean_teacher", student(dropout=0.4, encoder="none", decoder="none")),
    "translation": Weak(
        "translation",
        {"codec": {"features": FEATURES}, "discriminators": DISCRIMINATORS, "weights": {"segmentation": 10}},
    ),
}


def scene(count: int = 6, *, size: int = 16, dimensions: int = 2, targets: int = 1, seed: int = 3) -> Batch:
    """Images of noise; the first half have a bright square each, whose place the first two of them have as labels."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, *[size] * dimensions)
    image = 0.2 * torch.randn(count, 1, *shape[1:], generator=generator)
    labels = torch.full(shape, IGNORE)
    present = torch.zeros(count, targets, dtype=torch.int64)
    for number in range(count // 2):
        target = number % targets
        present[number, target] = 1
        place = square(number, dimensions)
        image[number, 0][place] += 0.8 * (-1) ** target
        if number < 2:
            labels[number] = 0
            labels[number][place] = 1 + target
    world = torch.eye(dimensions + 1, dtype=torch.float64).repeat(count, 1, 1)
    return Batch(image, labels, present, torch.ones(shape, dtype=torch.bool), world, tuple(map(str, range(count))))


def square(number: int, dimensions: int = 2) -> tuple[slice, ...]:
    """Where an image's square is."""
    return (slice(4 + number, 9 + number),) * dimensions


def made(name: str, *, dimensions: int = 2, seed: int = 0) -> Trainable:
    """A method whose weights are those of the seed."""
    kind = method_class(WEAK[name].method)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return kind(Task(1, 2, dimensions), kind.Options(**WEAK[name].options))


def stepped(method: Trainable, batch: Batch, *, steps: int, rate: float = 3e-3) -> None:
    """Train a method on one batch."""
    learning = {
        name: torch.optim.Adam([one for one in player.parameters() if one.requires_grad], rate)
        for name, player in method.players().items()
    }
    for step in range(steps):
        torch.manual_seed(step)
        for name, terms in method.losses(batch, None):
            torch.stack(list(terms.values())).sum().backward()
            learning[name].step()
            method.zero_grad()
        method.after_step()


class StoppedError(Exception):
    """The power went."""


class Scenes:
    """Makes a batch for each step."""

    def __init__(self, end: int | None = None) -> None:
        self.end = end

    def batch(self, step: int) -> tuple[Batch, None]:
        if step == self.end:
            raise StoppedError
        return scene(seed=step), None


def trained(folder: Path, name: str, *, end: int | None = None) -> dict[str, Tensor]:
    """Train a method by the loop; the power goes before step `end`."""
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    folder.mkdir(exist_ok=True)
    method = made(name)
    stage = Stage(name="only", steps=6, learning_rate=1e-3, checkpoint_every=3, optimiser="amsgrad", weight_decay=1e-4)
    fit(method, Scenes(end), stage=stage, fabric=fabric, folder=folder, log=Log(None))
    return method.state_dict()
