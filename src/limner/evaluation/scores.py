"""Score one segmentation against its reference, structure by structure.

Source: Yu et al., MIDL 2020, for the structures, left and right merged, and the mean over them; the scores name theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from limner import check
from limner.evaluation import overlap, surface
from limner.space import Array, LabelTable, Volume
from limner.space.labels import REST

METRICS = {"dice": "", "hd95": "mm", "asd": "mm", "volume": "mm3", "reference_volume": "mm3", "structures": ""}
"""Unit of each metric that `evaluate` gives, "" where it has none."""

MEAN = "mean"


class Row(TypedDict):
    """One number: how one case scored on one structure by one metric."""

    case: str
    structure: str
    metric: str
    value: float


def evaluate(
    prediction: Volume,
    reference: Volume,
    *,
    table: LabelTable,
    case: str,
    structures: Sequence[str] | None = None,
    merged: bool = True,
    distances: bool = True,
) -> list[Row]:
    """Score a label map against a reference on the same grid.

    A structure that both maps lack has nan for every score; one that a single map lacks has Dice 0 and infinite
    distances. Voxels of labels that belong to no scored structure count as outside all of them.

    Args:
        prediction: labels.
        reference: labels.
        table: names both maps' labels and ties them into structures.
        case: name in the rows and in messages.
        structures: which to score; by default every one but background and "rest" or, if not merged, every label but
            0 that either map has.
        merged: score the table's structures (left and right together); otherwise each label by its own name.
        distances: whether to measure surfaces too, which takes most of the time.

    Returns:
        For each structure its "dice", "hd95" and "asd" in mm (see `surface`), "volume" and "reference_volume" in mm3;
        then for the structure "mean" the mean of the first three over the structures that either map has, and under
        "structures" how many those are.

    Raises:
        InputError: if a volume is no label map, the grids differ, a map has labels that the table does not know, or
            the table has no such structure.
    """
    check.same_grid(prediction.grid, reference.grid, case=case, names=("prediction", "reference"))
    names = table.structures if merged else table.names
    class_of = table.structure_of if merged else np.arange(len(table))
    # One byte a voxel where there are few classes: comparing them is most of what follows.
    class_of = class_of.astype(np.min_scalar_type(len(names)))
    predicted = class_of[_rows(prediction, f"prediction of '{case}'", table=table)]
    true = class_of[_rows(reference, f"reference of '{case}'", table=table)]

    counts = overlap.contingency(predicted, true, ids=range(len(names)))
    found = (counts.sum(axis=0) + counts.sum(axis=1))[:-1] > 0
    chosen = _default(names, found | merged) if structures is None else _named(names, structures)
    scores = {"dice": overlap.dice(counts)[chosen]}
    if distances:
        scores |= _distances(predicted, true, classes=chosen, axes=prediction.grid.affine[:-1, :-1])
    volumes = overlap.volumes(counts, prediction.grid.voxel_volume)
    columns = scores | {"volume": volumes[0][chosen], "reference_volume": volumes[1][chosen]}
    means = _means(scores) | {"structures": int(found[chosen].sum())}
    blocks = [(names[k], {metric: values[i] for metric, values in columns.items()}) for i, k in enumerate(chosen)]
    return [
        {"case": case, "structure": structure, "metric": metric, "value": float(value)}
        for structure, values in [*blocks, (MEAN, means)]
        for metric, value in values.items()
    ]


def _rows(volume: Volume, name: str, *, table: LabelTable) -> NDArray[np.int32]:
    """Return the row in the table of each voxel's label, (*S); `name` is for messages."""
    check.label_map(volume.kind, name)
    return table.rows(volume.data, name)


def _default(names: Sequence[str], wanted: NDArray[np.bool_]) -> list[int]:
    """Return the indices in `names` of what is `wanted` (N,), without background, which comes first, and rest."""
    return [index for index, name in enumerate(names) if index > 0 and name != REST and wanted[index]]


def _named(names: Sequence[str], structures: Iterable[str]) -> list[int]:
    """Return the indices in `names` of the structures asked for."""
    index_of = {name: index for index, name in enumerate(names)}
    for structure in structures:
        if structure not in index_of:
            raise check.unknown_structure(structure, names)
    return [index_of[structure] for structure in structures]


def _distances(
    predicted: Array, true: Array, *, classes: Iterable[int], axes: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Return the surface scores of each class, (N,) in mm."""
    measured = [surface.surface_distances(predicted == k, true == k, spacing=axes) for k in classes]
    return {
        "hd95": np.array([surface.hausdorff(distances) for distances in measured]),
        "asd": np.array([surface.average_distance(distances) for distances in measured]),
    }


def _means(scores: dict[str, NDArray[np.float64]]) -> dict[str, float]:
    """Return the mean of each score over the structures that have one; nan if none has."""
    known = {metric: values[~np.isnan(values)] for metric, values in scores.items()}
    return {metric: float(values.mean()) if len(values) else np.nan for metric, values in known.items()}
