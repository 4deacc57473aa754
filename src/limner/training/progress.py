"""How far a stage has come: what a checkpoint holds beside tensors, so that a run goes on as if never stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

#: Weight of the present in the moving average of the loss.
NEWEST = 0.05


@dataclass(frozen=True)
class Progress:
    """A stage's bookkeeping after some steps, JSON-ready.

    Args:
        step: steps done.
        seconds: spent on them, those before the run was stopped too.
        sums: of each loss term since the last line of metrics.
        counted: steps in the sums.
        still: of each player, steps in a row that left it without any gradient.
        average: moving average of the whole loss.
        best: the best score so far: Dice where labels teach, else the negative loss.
        waited: times in a row that the score was no better.
    """

    step: int = 0
    seconds: float = 0.0
    sums: Mapping[str, float] = field(default_factory=dict)
    counted: int = 0
    still: Mapping[str, int] = field(default_factory=dict)
    average: float | None = None
    best: float | None = None
    waited: int = 0

    @property
    def terms(self) -> dict[str, float]:
        """Mean of each loss term since the last line of metrics."""
        return {name: total / self.counted for name, total in self.sums.items()}

    def stepped(self, terms: Mapping[str, float], *, gradients: Mapping[str, float], seconds: float) -> Progress:
        """Return the progress after one more step.

        Args:
            terms: loss terms of that step.
            gradients: norm of each player's gradient.
            seconds: it took.
        """
        loss = sum(terms.values())
        average = loss if self.average is None else (1 - NEWEST) * self.average + NEWEST * loss
        sums = {name: self.sums.get(name, 0.0) + value for name, value in terms.items()}
        return replace(
            self,
            step=self.step + 1,
            seconds=self.seconds + seconds,
            sums=sums,
            counted=self.counted + 1,
            still={player: 0 if norm else self.still.get(player, 0) + 1 for player, norm in gradients.items()},
            average=average,
        )

    def logged(self) -> Progress:
        """Return the progress after a line of metrics: the sums begin again."""
        return replace(self, sums={}, counted=0)

    def judged(self, score: float) -> Progress:
        """Return the progress with a score, the larger the better."""
        if self.best is None or score > self.best:
            return replace(self, best=score, waited=0)
        return replace(self, waited=self.waited + 1)
