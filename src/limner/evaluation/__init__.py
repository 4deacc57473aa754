"""How good a segmentation is: overlap, surface distances, volumes, and statistics over cases. No torch."""

from __future__ import annotations

from limner.evaluation.overlap import contingency, dice, volumes
from limner.evaluation.scores import METRICS, Row, evaluate
from limner.evaluation.statistics import Comparison, Summary, bootstrap_interval, compared, paired_tests, summarised
from limner.evaluation.surface import Distances, average_distance, hausdorff, surface_distances

__all__ = [
    "METRICS",
    "Comparison",
    "Distances",
    "Row",
    "Summary",
    "average_distance",
    "bootstrap_interval",
    "compared",
    "contingency",
    "dice",
    "evaluate",
    "hausdorff",
    "paired_tests",
    "summarised",
    "surface_distances",
    "volumes",
]
