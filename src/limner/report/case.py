"""What the report is told of one scan."""

from __future__ import annotations

from dataclasses import dataclass

from limner.evaluation import Row
from limner.space import Volume


@dataclass(frozen=True, eq=False)
class CaseReport:
    """One scan and what came of it; all volumes lie on one grid.

    Args:
        name: unique in its report.
        image: the scan; without it the labels are shown alone.
        labels: what was found.
        uncertainty: nats per voxel.
        reference: labels to compare with, shown beside.
        scores: of the labels against the reference, as `evaluation.evaluate` gives them.
        notes: what was tolerated, and how the scan was aligned.
        verdict: whether to believe it: "pass", "look", "fail", or nothing.
        reason: of a verdict that is no pass.
        error: why the scan failed, if it did.
        seconds: time it took.
    """

    name: str
    image: Volume | None = None
    labels: Volume | None = None
    uncertainty: Volume | None = None
    reference: Volume | None = None
    scores: tuple[Row, ...] = ()
    notes: tuple[str, ...] = ()
    verdict: str = ""
    reason: str = ""
    error: str | None = None
    seconds: float | None = None

    @property
    def trouble(self) -> str | None:
        """Why nothing is to be made of the scan: it failed, or its labels are not to be believed."""
        return f"not to be believed: {self.reason}" if self.error is None and self.verdict == "fail" else self.error
