"""The one loop that trains every method."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import cast

from lightning_fabric import Fabric
from torch import nn
from torch.optim import Adadelta, Adam, AdamW, Optimizer

from limner import check
from limner.data.loader import Loaded, Loader, prefetched
from limner.methods.method import Trainable
from limner.training.checkpoints import latest_checkpoint, load_checkpoint
from limner.training.log import Log
from limner.training.processes import average_buffers, average_gradients, longest, seed_noise, share_weights
from limner.training.progress import Progress
from limner.training.recipe import Stage
from limner.training.turns import agreed, turns
from limner.training.watch import Examine, Watch

#: Steps in a row without any gradient, after which a player has collapsed: discriminators that have won, for one.
STILL = 200


def fit(
    method: Trainable,
    loader: Loader,
    *,
    stage: Stage,
    fabric: Fabric,
    folder: Path,
    log: Log,
    seed: int = 0,
    examine: Examine | None = None,
) -> None:
    """Train a method through one stage, and write its weights to `folder`/STAGE.safetensors.

    Goes on from the last checkpoint of the stage in `folder`, if there is one: data and noise are functions of the
    seed and the step, so that the weights become the same, bit for bit on the CPU, as if nobody had stopped it.
    Several processes share each step: together they do what one would do with all of their scans in its batch.

    Args:
        method: on the device of `fabric`, not wrapped.
        loader: makes this process's batches.
        stage: steps, learning rate and so on.
        fabric: launched; the device, the precision and the other processes.
        folder: for checkpoints.
        log: told of losses and scores.
        seed: of the noise.
        examine: scores the method on scans with labels. Only if labels teach it does that decide anything.

    Raises:
        InputError: for a loss that is not finite, a player without any gradient for long, or a checkpoint that is
            damaged or of something else.
    """
    players = method.players()
    optimisers = {name: _optimiser(player, stage) for name, player in players.items()}
    progress = _begun(method, optimisers, folder=folder, stage=stage, log=log)
    share_weights(method, fabric)
    watch = Watch(method, optimisers, stage, fabric, folder, log, examine)
    method.train()
    method.zero_grad()
    numbers = range(progress.step * stage.accumulate, stage.steps * stage.accumulate)
    ahead = cast("Generator[Loaded]", prefetched(loader, numbers))
    with closing(ahead) as batches, log.shown(stage.name, step=progress.step, steps=stage.steps):
        while not watch.ended(progress):
            begun = time.perf_counter()
            terms: dict[str, float] = {}
            gradients: dict[str, float] = {}
            seed_noise(fabric, seed, progress.step)
            share = 1 / stage.accumulate
            parts = [turns(method, next(batches), fabric=fabric, share=share) for _ in range(stage.accumulate)]
            # In each round, every part of the step's data has its turn with one player, and then that player steps.
            for taken in zip(*parts, strict=True):
                player = taken[0].player
                found, gradients[player] = agreed(taken, fabric=fabric, stage=stage.name, step=progress.step)
                terms |= found
                if not gradients[player] and progress.still.get(player, 0) >= STILL:
                    raise check.nothing_learned(player, found, stage=stage.name, step=progress.step + 1, still=STILL)
                average_gradients(players[player], fabric)
                nn.utils.clip_grad_norm_(players[player].parameters(), stage.clip or math.inf)
                optimisers[player].param_groups[0]["lr"] = _rate(stage, progress)
                optimisers[player].step()
                method.zero_grad()  # of all players: the losses of one leave gradients on the others
            method.after_step()
            average_buffers(method, fabric)
            seconds = longest(time.perf_counter() - begun, fabric) if stage.minutes else time.perf_counter() - begun
            progress = watch.looked(progress.stepped(terms, gradients=gradients, seconds=seconds))
    watch.end()


def _optimiser(player: nn.Module, stage: Stage) -> Optimizer:
    """Return a player's optimiser: Adam with weight decay apart from the gradient, AMSGrad, or Adadelta."""
    learning = [parameter for parameter in player.parameters() if parameter.requires_grad]
    if stage.optimiser == "amsgrad":
        return Adam(learning, lr=stage.learning_rate, betas=(0.5, 0.999), weight_decay=stage.weight_decay, amsgrad=True)
    kind = AdamW if stage.optimiser == "adam" else Adadelta
    return kind(learning, lr=stage.learning_rate, weight_decay=stage.weight_decay)


def _rate(stage: Stage, progress: Progress) -> float:
    """Return the learning rate after the part of a stage that is done, by its steps or its minutes."""
    if stage.schedule == "constant":
        return stage.learning_rate
    done = max(progress.step / stage.steps, progress.seconds / (60 * stage.minutes) if stage.minutes else 0)
    return stage.learning_rate * (1 + math.cos(math.pi * min(1, done))) / 2


def _begun(method: Trainable, optimisers: dict[str, Optimizer], *, folder: Path, stage: Stage, log: Log) -> Progress:
    """Return how far the stage has come, with the method and its optimisers as they were then."""
    path = latest_checkpoint(folder, stage.name)
    progress = load_checkpoint(path, method=method, optimisers=optimisers) if path else Progress()
    log.cut(stage.name, progress.step)
    return progress
