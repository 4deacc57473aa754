"""How good a segmentation is: overlap, surface distances, volumes, and statistics over cases. No torch."""

from __future__ import annotations

from limner.evaluation.instances import INSTANCE_METRICS, InstanceScores, common_boxes, evaluate_instances
from limner.evaluation.overlap import contingency, dice, volumes
from limner.evaluation.partition import (
    Shared,
    adapted_rand_error,
    average_precision,
    cremi_score,
    information_f,
    joined,
    matched,
    near_borders,
    rand_f,
    shared,
    shared_by_parts,
    variation_of_information,
)
from limner.evaluation.proofreading import Merger, Split, mergers, splits
from limner.evaluation.scores import METRICS, Row, evaluate
from limner.evaluation.statistics import Comparison, Summary, bootstrap_interval, compared, paired_tests, summarised
from limner.evaluation.surface import Distances, average_distance, hausdorff, surface_distances

__all__ = [
    "INSTANCE_METRICS",
    "METRICS",
    "Comparison",
    "Distances",
    "InstanceScores",
    "Merger",
    "Row",
    "Shared",
    "Split",
    "Summary",
    "adapted_rand_error",
    "average_distance",
    "average_precision",
    "bootstrap_interval",
    "common_boxes",
    "compared",
    "contingency",
    "cremi_score",
    "dice",
    "evaluate",
    "evaluate_instances",
    "hausdorff",
    "information_f",
    "joined",
    "matched",
    "mergers",
    "near_borders",
    "paired_tests",
    "rand_f",
    "shared",
    "shared_by_parts",
    "splits",
    "summarised",
    "surface_distances",
    "variation_of_information",
    "volumes",
]
