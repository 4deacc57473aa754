"""What happens between the steps of a stage: lines of metrics, scores, checkpoints, and when to end it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from lightning_fabric import Fabric
from torch.optim import Optimizer

from limner.methods.method import Trainable
from limner.training.checkpoints import SUFFIX, forget_checkpoints, load_weights, save_checkpoint, save_weights
from limner.training.log import Log
from limner.training.progress import Progress
from limner.training.recipe import Stage

#: Scores a method on scans with labels: Dice by structure, the same in all processes.
Examine = Callable[[Trainable], Mapping[str, float]]


@dataclass(frozen=True, eq=False)
class Watch:
    """Looks at a stage after each of its steps.

    Args:
        method: that is trained.
        optimisers: of its players.
        stage: how often to look.
        fabric: the first process writes.
        folder: for checkpoints.
        log: for losses and scores.
        examine: scores the method. Only if labels teach it does a score choose weights, or end the stage.
    """

    method: Trainable
    optimisers: Mapping[str, Optimizer]
    stage: Stage
    fabric: Fabric
    folder: Path
    log: Log
    examine: Examine | None = None

    def looked(self, progress: Progress) -> Progress:
        """Return the progress after whatever is due at its step: a score, a line of metrics, a checkpoint."""
        stage = self.stage
        self.log.stepped(progress)
        if self.examine and self._due(stage.evaluate_every, progress):
            progress = self._scored(self.examine, progress)
        if self._due(stage.log_every, progress):
            self.log.terms(stage.name, progress)
            progress = progress.logged()
            if not self._taught and progress.average is not None:
                progress = progress.judged(-progress.average)
        if progress.step % stage.checkpoint_every == 0 and self.fabric.is_global_zero:
            save_checkpoint(self.folder, stage.name, method=self.method, optimisers=self.optimisers, progress=progress)
        return progress

    def ended(self, progress: Progress) -> bool:
        """Tell whether the stage's steps are done, or its minutes or its patience are at an end."""
        patience = self.stage.patience
        return self._over(progress) or (patience is not None and progress.waited >= patience)

    def end(self) -> None:
        """Leave the method with the weights that the stage has found, and write them."""
        self.fabric.barrier()
        if self._best.exists():
            load_weights(self.method, self._best)
        self.fabric.barrier()
        if self.fabric.is_global_zero:
            save_weights(self.method, self.folder / f"{self.stage.name}{SUFFIX}")
            forget_checkpoints(self.folder, self.stage.name)
            self._best.unlink(missing_ok=True)
        self.fabric.barrier()

    @property
    def _taught(self) -> bool:
        """Whether scores on labels may decide anything."""
        return self.method.supervised and self.examine is not None and self.stage.evaluate_every > 0

    @property
    def _best(self) -> Path:
        """The weights with the best score so far, if labels teach the method."""
        return self.folder / f"{self.stage.name}.best{SUFFIX}"

    def _due(self, every: int, progress: Progress) -> bool:
        """Tell whether something that is done every so many steps, and after the last, is due."""
        return every > 0 and (progress.step % every == 0 or self._over(progress))

    def _over(self, progress: Progress) -> bool:
        """Tell whether the stage's steps are done, or its minutes."""
        minutes = self.stage.minutes
        return progress.step >= self.stage.steps or (minutes is not None and progress.seconds >= 60 * minutes)

    def _scored(self, examine: Examine, progress: Progress) -> Progress:
        """Return the progress after the method was scored; the best weights are kept where that may decide."""
        dice = examine(self.method)
        if not dice:  # the labels show none of the structures
            return progress
        self.log.dice(self.stage.name, progress, dice=dice)
        if not self._taught:
            return progress
        judged = progress.judged(fmean(dice.values()))
        if judged.waited == 0 and self.fabric.is_global_zero:
            save_weights(self.method, self._best)
        return judged
