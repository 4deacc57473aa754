"""Score instances of one volume against its reference, wherever either begins and ends.

Source: the scores name theirs, in `partition` and `proofreading`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limner import check
from limner.evaluation import partition
from limner.evaluation.proofreading import Merger, Split, mergers, splits
from limner.evaluation.scores import Row
from limner.space import Array, Box, Grid, Volume

INSTANCE_METRICS = {
    "vi_split": "bits",
    "vi_merge": "bits",
    "vi": "bits",
    "adapted_rand_error": "",
    "cremi_score": "",
    "rand_f": "",
    "information_f": "",
    "ap50": "",
    "ap75": "",
    "objects": "",
    "segments": "",
    "largest_segment": "",
    "mergers_through_z": "",
    "mergers_in_section": "",
}
"""Unit of each metric that `evaluate_instances` gives, "" where it has none."""

WHOLE = "volume"
NANOMETRES = 1e6


@dataclass(frozen=True)
class InstanceScores:
    """How well one volume was segmented, and what to look at first.

    Args:
        rows: one for each of `INSTANCE_METRICS`.
        splits: the objects whose splits cost most.
        mergers: the pairs of objects whose mergers cost most.
    """

    rows: list[Row]
    splits: list[Split]
    mergers: list[Merger]


def evaluate_instances(
    prediction: Volume, reference: Volume, *, case: str, tolerance: float = 0, worst: int = 10
) -> InstanceScores:
    """Score segments against true objects, on the voxels that both volumes have.

    Voxels without a true object (0) are ignored. A prediction may begin elsewhere and be larger or smaller than the
    reference, as padded ones are, but their voxels must coincide.

    Args:
        prediction: instances.
        reference: instances.
        case: name in the rows and in messages.
        tolerance: nm in a section within which of a border nothing counts; 0 ignores nothing, and 25 is CREMI's.
        worst: how many splits and mergers to name.

    Returns:
        "largest_segment" is the share of the voxels that count which it has. A pair of objects that merge counts as
        "mergers_through_z" if they touch inside segments at more faces between sections than within them, and otherwise
        as "mergers_in_section"; the tolerance plays no part in these two.

    Warns about a prediction without any segment.

    Raises:
        InputError: if a volume has no instances, voxels do not coincide, none is common to both, or none counts.
    """
    for volume, name in ((prediction, "prediction"), (reference, "reference")):
        check.instances(volume.kind, f"{name} of '{case}'")
    segments, truth, grid = common(prediction, reference, case=case)
    if not segments.any():
        warnings.warn(check.all_background(f"prediction of '{case}'"), stacklevel=2)
    ignored = _ignored(truth, grid, tolerance=tolerance)
    table = partition.shared(segments, truth, ignored=ignored)
    check.some_reference(table.total, case=case)
    merged = mergers(segments, truth, table=table)
    rows: list[Row] = [
        {"case": case, "structure": WHOLE, "metric": metric, "value": float(value)}
        for metric, value in _scores(table, merged).items()
    ]
    return InstanceScores(rows, splits(table, count=worst), merged[:worst])


def common(prediction: Volume, reference: Volume, *, case: str) -> tuple[Array, Array, Grid]:
    """Return the voxels that both volumes have, of each of them, and their grid.

    Raises:
        InputError: if their voxels do not coincide, or none is common.
    """
    there, here = common_boxes(prediction.grid, reference.grid, case=case)
    return prediction.data[there.slices], reference.data[here.slices], reference.grid.cropped(here)


def common_boxes(
    there: Grid, here: Grid, *, case: str, names: tuple[str, str] = ("prediction", "reference")
) -> tuple[Box, Box]:
    """Return the box of the voxels that two grids have in common, in the voxels of each of them.

    Args:
        there: a grid.
        here: another.
        case: for messages.
        names: what lies on each of them, for messages.

    Raises:
        InputError: if their voxels do not coincide, or none is common.
    """
    axes = np.linalg.solve(here.affine[:-1, :-1], there.affine[:-1, :-1])
    check.same_axes(np.asarray(axes, np.float64), case=case, names=names)
    shift = here.indices(there.affine[:-1, -1])
    check.same_lattice(shift, case=case, names=names)
    steps = np.rint(shift).astype(int)
    box = Box(tuple(steps), tuple(steps + there.shape)).clipped(here.shape)
    check.overlapping(box.size, case=case, names=names)
    return Box(tuple(np.subtract(box.start, steps)), tuple(np.subtract(box.stop, steps))), box


def _ignored(truth: Array, grid: Grid, *, tolerance: float) -> NDArray[np.bool_] | None:
    """Return the voxels that do not count for being close to a border, None if no tolerance is given."""
    if not tolerance:
        return None
    along_y, along_x = (grid.voxel_sizes[-2:] * NANOMETRES).tolist()
    solid = (1,) * (3 - truth.ndim) + truth.shape
    return partition.near_borders(truth.reshape(solid), tolerance, spacing=(along_y, along_x)).reshape(truth.shape)


def _scores(table: partition.Shared, merged: Sequence[Merger]) -> dict[str, float]:
    """Return the value of each of `INSTANCE_METRICS`."""
    split, merge = partition.variation_of_information(table)
    real = table.of_segment[table.segments > 0]
    through_z = sum(pair.through_z > pair.in_section for pair in merged)
    values = (
        split,
        merge,
        split + merge,
        partition.adapted_rand_error(table),
        partition.cremi_score(table),
        partition.rand_f(table),
        partition.information_f(table),
        partition.average_precision(table, 0.5),
        partition.average_precision(table, 0.75),
        len(table.objects),
        len(real),
        real.max(initial=0) / table.total,
        through_z,
        len(merged) - through_z,
    )
    return dict(zip(INSTANCE_METRICS, values, strict=True))
