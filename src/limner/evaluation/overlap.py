"""How far two label maps agree voxel by voxel: one contingency table, and the scores read off it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from limner.space import Array


def contingency(prediction: Array, reference: Array, *, ids: Iterable[int]) -> NDArray[np.int64]:
    """Count voxels by predicted and true label, in one pass over both maps.

    Args:
        prediction: (*S), integers.
        reference: (*S), integers.
        ids: the L labels to tell apart, none negative.

    Returns:
        (L+1, L+1) voxels, predicted label by true label, in the order of `ids`; the last row and column hold
        every other label.
    """
    ids = np.fromiter(ids, dtype=np.intp)
    size = len(ids) + 1
    pairs = _indices(prediction, ids) * size + _indices(reference, ids)
    return np.bincount(pairs.ravel(), minlength=size * size).reshape(size, size)


def dice(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the Dice overlap of each label of a contingency table.

    Args:
        counts: (L+1, L+1) voxels, as `contingency` gives them.

    Returns:
        (L,) from 0 to 1; 0 for a label that one map lacks, and nan for one that both lack: there is nothing to score.

    Source: Dice, Ecology 26 (1945), "coincidence index". Implementations that add a constant to numerator and
    denominator score 1 where both maps lack the label, which raises the mean over structures; this one adds none.
    """
    predicted, true, shared = counts.sum(axis=1)[:-1], counts.sum(axis=0)[:-1], counts.diagonal()[:-1]
    overlaps = np.full(len(shared), np.nan)
    np.divide(2.0 * shared, predicted + true, out=overlaps, where=predicted + true > 0)
    return overlaps


def volumes(counts: NDArray[np.int64], voxel_volume: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the volume of each label in the prediction and in the reference.

    Args:
        counts: (L+1, L+1) voxels, as `contingency` gives them.
        voxel_volume: mm3.

    Returns:
        Two arrays (L,) in mm3.
    """
    return counts.sum(axis=1)[:-1] * voxel_volume, counts.sum(axis=0)[:-1] * voxel_volume


def _indices(labels: Array, ids: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the position of each voxel's label in `ids`, and their number L for any other label; (*S) to (*S)."""
    largest = int(ids.max(initial=0))
    lookup = np.full(largest + 2, len(ids), dtype=np.intp)
    lookup[ids] = np.arange(len(ids))
    # Labels above the largest id and below 0 both meet the last entry, the latter by counting from the end.
    indices = labels.astype(np.intp)
    np.clip(indices, -1, largest + 1, out=indices)
    # Not `take`, which would bring an array stored in Fortran order into C order, at five times the cost.
    positions: NDArray[np.intp] = lookup[indices]
    return positions
