# ruff: noqa: ARG002 -- toys need no prior and no mask
"""Methods and data small enough to be watched step by step; imported by processes that tests start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from limner.config import Settings
from limner.data.batch import IGNORE, Batch
from limner.data.sampling import case_at, positions
from limner.methods.method import Task, Trainable
from limner.training.log import Log
from limner.training.loop import fit
from limner.training.recipe import Stage

TASK = Task(channels=1, classes=2, dimensions=3)
SHAPE = (4, 4, 4)


class Nothing(Settings):
    """No options."""


class OnePlayer(Trainable):
    """Learns to tell the bright voxels, and on the way the mean loss, without gradients."""

    Options = Nothing

    def __init__(self, task: Task = TASK, options: Settings | None = None) -> None:
        super().__init__(task, options or Nothing())
        self.network = nn.Sequential(nn.Conv3d(task.channels, 3, 1), nn.Tanh(), nn.Conv3d(3, task.classes, 1))
        self.register_buffer("usual", torch.zeros(()))

    def losses(self, batch: Batch, prior: object) -> Iterator[tuple[str, dict[str, Tensor]]]:
        likelihood = nn.functional.cross_entropy(self.network(batch.image), batch.labels, ignore_index=IGNORE)
        with torch.no_grad():
            self.usual += 0.1 * (likelihood.detach() - self.usual)
        weight = sum(parameter.square().sum() for parameter in self.parameters())
        yield "model", {"likelihood": likelihood, "weight": 1e-3 * weight}

    def predict(self, image: Tensor, prior: object, *, mask: Tensor | None = None) -> Tensor:
        return self.network(image).softmax(1).float()


class Noisy(OnePlayer):
    """Sees another noise in every step."""

    def losses(self, batch: Batch, prior: object) -> Iterator[tuple[str, dict[str, Tensor]]]:
        likelihood = nn.functional.cross_entropy(
            self.network(batch.image + torch.randn_like(batch.image)), batch.labels, ignore_index=IGNORE
        )
        yield "model", {"likelihood": likelihood}


class TwoPlayers(Trainable):
    """One makes images of images, the other tells them apart; both share a forward pass, and step in turns."""

    Options = Nothing

    def __init__(self, task: Task = TASK, options: Settings | None = None) -> None:
        super().__init__(task, options or Nothing())
        self.painter = nn.Conv3d(1, 1, 3, padding=1)
        self.critic = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv3d(4, 1, 1))
        self.steps = 0

    def players(self) -> dict[str, nn.Module]:
        return {"critic": self.critic, "painter": self.painter}

    def losses(self, batch: Batch, prior: object) -> Iterator[tuple[str, dict[str, Tensor]]]:
        painted = self.painter(batch.image)
        real, made = self.critic(batch.image), self.critic(painted.detach())
        yield "critic", {"real": (real - 1).square().mean(), "made": made.square().mean()}
        # The critic has stepped: the painter plays against its new weights, and leaves gradients on them.
        yield "painter", {"fooled": (self.critic(painted) - 1).square().mean()}

    def after_step(self) -> None:
        self.steps += 1


class Won(TwoPlayers):
    """Has a critic that is content from its fourth step on."""

    done: Tensor

    def __init__(self, task: Task = TASK, options: Settings | None = None) -> None:
        super().__init__(task, options)
        self.register_buffer("done", torch.zeros(()))

    def losses(self, batch: Batch, prior: object) -> Iterator[tuple[str, dict[str, Tensor]]]:
        for player, terms in super().losses(batch, prior):
            content = player == "critic" and bool(self.done >= 3)
            yield player, {name: term * (not content) for name, term in terms.items()}

    def after_step(self) -> None:
        super().after_step()
        self.done += 1


class Poisoned(OnePlayer):
    """Chokes on one scan."""

    def losses(self, batch: Batch, prior: object) -> Iterator[tuple[str, dict[str, Tensor]]]:
        for player, terms in super().losses(batch, prior):
            fate = float("nan") if "scan 3" in batch.case else 0.0
            yield player, terms | {"poison": terms["likelihood"] * fate}


class Steep(OnePlayer):
    """Has a finite loss whose gradient is not."""

    def losses(self, batch: Batch, prior: object) -> Iterator[tuple[str, dict[str, Tensor]]]:
        yield "model", {"root": (0 * self.network(batch.image)).sum().sqrt()}


class Half(OnePlayer):
    """Has weights that no loss reaches, as a network has whose finest level waits."""

    def __init__(self, task: Task = TASK, options: Settings | None = None) -> None:
        super().__init__(task, options)
        self.waiting = nn.Conv3d(1, 1, 1)

    def losses(self, batch: Batch, prior: object) -> Iterator[tuple[str, dict[str, Tensor]]]:
        yield "model", {"likelihood": self.network(batch.image).square().mean()}


class Taught(OnePlayer):
    """Lets labels decide."""

    supervised = True


METHODS = {kind.__name__: kind for kind in (OnePlayer, Noisy, TwoPlayers, Won, Poisoned, Steep, Half, Taught)}


class Scans:
    """Makes the batches of five scans, as a loader does."""

    def __init__(self, *, batch: int = 1, process: tuple[int, int] = (0, 1)) -> None:
        self.size, self.process = batch, process

    def batch(self, step: int) -> tuple[Batch, None]:
        rank, ranks = self.process
        places = positions(step, batch=self.size, rank=rank, ranks=ranks)
        cases = [case_at(place, cases=5, seed=0) for place in places]
        image = torch.stack([self.image(case) for case in cases])
        labels = (image[:, 0] > 0.3).long()
        shape = (self.size, *SHAPE)
        return Batch(
            image,
            labels,
            present=torch.zeros(self.size, 0, dtype=torch.int64),
            mask=torch.ones(shape, dtype=torch.bool),
            world=torch.eye(4, dtype=torch.float64).repeat(self.size, 1, 1),
            case=tuple(f"scan {case}" for case in cases),
        ), None

    @staticmethod
    def image(case: int) -> Tensor:
        return torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(case)) + 0.1 * case


def stage(**values: object) -> Stage:
    return Stage(**{"name": "only", "steps": 6, "learning_rate": 1e-2, "log_every": 1, "checkpoint_every": 4} | values)


def started(name: str) -> Trainable:
    """A method with the same weights each time."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return METHODS[name]()


def trained(fabric: Fabric, folder: Path, *, name: str, batch: int = 1, **options: object) -> dict[str, Tensor]:
    """Train a toy in this process, and return its weights."""
    examine = options.pop("examine", None)
    method = started(name)
    loader = Scans(batch=batch, process=(fabric.global_rank, fabric.world_size))
    folder.mkdir(exist_ok=True)
    log = Log(folder / "metrics.jsonl" if fabric.is_global_zero else None)
    fit(method, loader, stage=stage(**options), fabric=fabric, folder=folder, log=log, examine=examine)
    return method.state_dict()


def launched(devices: int, folder: Path, **options: object) -> dict[str, Tensor]:
    """Train a toy in as many processes on the CPU."""
    strategy = "ddp_spawn" if devices > 1 else "auto"
    fabric = Fabric(accelerator="cpu", devices=devices, strategy=strategy)
    if devices == 1:
        fabric.launch()
        return trained(fabric, folder, **options)
    weights = fabric.launch(_in_process, folder, options)
    return {name: torch.from_numpy(value) for name, value in weights.items()}


def _in_process(fabric: Fabric, folder: Path, options: dict[str, object]) -> dict[str, object]:
    if options.pop("apart", False) and fabric.global_rank:
        # What it begins with must not matter: the first process's weights do.
        started("OnePlayer")
        METHODS[str(options["name"])] = _other(METHODS[str(options["name"])])
    return {name: value.numpy() for name, value in trained(fabric, folder, **options).items()}


def _other(kind: type[Trainable]) -> type[Trainable]:
    """The same method, begun with other weights."""

    def made() -> Trainable:
        method = kind()
        for parameter in method.parameters():
            nn.init.constant_(parameter, 3.0)
        return method

    return made
