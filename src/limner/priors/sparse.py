"""Probability maps of many labels, kept sparse: at each voxel only the few labels that are likely there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from limner.space import Box

#: A matrix (3, 4) to the voxels of a field, and the field (*C, 3), in voxels of the maps.
Bend: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float32]]

#: Labels kept per voxel. Of sixteen affinely aligned heads 99.98 % of the probability lies in the six likeliest.
DEPTH = 6
#: Weights are stored as whole numbers that sum to this at a voxel.
WHOLE = 255
#: Moves nothing.
STILL = (np.eye(3, 4), np.zeros((1, 1, 1, 3), np.float32))


@dataclass(frozen=True, eq=False)
class SparseMaps:
    """The likeliest labels of each voxel and their probabilities.

    Args:
        rows: (M, *S) unsigned integers: rows of a label table, the likeliest first; 0 (background) where none is left.
        weights: (M, *S) uint8 in 255ths; sums to 255 over M.

    Source: our own.
    """

    rows: NDArray[Any]
    weights: NDArray[np.uint8]

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along each axis."""
        return self.rows.shape[1:]

    @classmethod
    def gathered(
        cls, maps: Iterable[tuple[int, Box, NDArray[np.float32]]], shape: tuple[int, ...], *, labels: int
    ) -> SparseMaps:
        """Keep the likeliest labels of dense maps that come one at a time.

        Args:
            maps: row of the label, the box its map fills, and the map, probabilities of the box's shape. The background
                is not among them: it is what the others leave.
            shape: of the whole grid.
            labels: number of rows that the table has.
        """
        values = np.zeros((DEPTH, *shape), np.float32)
        rows = np.zeros((DEPTH, *shape), np.uint8 if labels <= 256 else np.uint16)
        total = np.zeros(shape, np.float32)
        for row, box, probability in maps:
            total[box.slices] += probability
            _inserted(values[(slice(None), *box.slices)], rows[(slice(None), *box.slices)], row=row, value=probability)
        _inserted(values, rows, row=0, value=np.clip(1 - total, 0, 1))
        return cls(rows, _quantised(values))

    def ragged(self) -> dict[str, NDArray[Any]]:
        """Return what is stored without its zeros: how many labels each voxel has, and all rows and weights in line."""
        stored = self.weights > 0
        return {"count": stored.sum(0, dtype=np.uint8), "rows": self.rows[stored], "weights": self.weights[stored]}

    @classmethod
    def from_ragged(cls, arrays: dict[str, NDArray[Any]]) -> SparseMaps:
        """Return the maps that `ragged` described."""
        count = arrays["count"]
        stored = count > np.arange(DEPTH).reshape(-1, *[1] * count.ndim)
        rows, weights = np.zeros(stored.shape, arrays["rows"].dtype), np.zeros(stored.shape, np.uint8)
        rows[stored], weights[stored] = arrays["rows"], arrays["weights"]
        return cls(rows, weights)

    def sampled(
        self,
        matrix: NDArray[np.float64],
        shape: tuple[int, ...],
        *,
        group_of: NDArray[Any],
        groups: int,
        bend: Bend = STILL,
    ) -> NDArray[np.float32]:
        """Interpolate linearly the probabilities of groups of labels on another grid; outside, the border continues.

        Args:
            matrix: (4, 4) from the other grid's voxel indices to this one's.
            shape: of the other grid.
            group_of: (L,) the group that each row of the table belongs to.
            groups: G.
            bend: how places move after the matrix.

        Returns:
            (G, *shape) probabilities that sum to 1.
        """
        from limner.priors import kernels

        kernels.share_threads()
        out = np.zeros((groups, *shape), np.float32)
        columns = np.ascontiguousarray(matrix[:3])
        kernels.sample(self.rows, self.weights, columns, bend, group_of.astype(np.int64), out)
        return out

    def identified(
        self,
        matrix: NDArray[np.float64],
        classes: NDArray[Any],
        *,
        class_of: NDArray[Any],
        centres: NDArray[Any],
        bend: Bend = STILL,
    ) -> NDArray[np.int64]:
        """Return the likeliest row of each voxel among those of its class.

        A class that has no probability at a voxel takes its row whose centre is nearest.

        Args:
            matrix: (4, 4) from voxel indices of `classes` to this grid's.
            classes: (*S) class of each voxel.
            class_of: (L,) class of each row of the table.
            centres: (L, D) as `centres` returns them.
            bend: how places move after the matrix.
        """
        from limner.priors import kernels

        kernels.share_threads()
        out = np.zeros(classes.shape, np.int64)
        columns = np.ascontiguousarray(matrix[:3])
        classes, class_of = np.ascontiguousarray(classes, np.int64), class_of.astype(np.int64)
        kernels.identify(self.rows, self.weights, columns, bend, classes, class_of, centres, out)
        return out

    def centres(self, labels: int) -> NDArray[np.float64]:
        """Return the centre of mass of each row's map in voxels, (L, D); far away for a row that has none."""
        mass, moments = np.zeros(labels), np.zeros((len(self.shape), labels))
        for rows, weights in zip(self.rows, self.weights, strict=True):
            places = np.nonzero(weights)
            found, weight = rows[places], weights[places]
            mass += np.bincount(found, weight, labels)
            for axis, place in enumerate(places):
                moments[axis] += np.bincount(found, place * weight.astype(np.float64), labels)
        return np.where(mass, moments / np.maximum(mass, 1), 1e9).T.copy()


def _inserted(values: NDArray[np.float32], rows: NDArray[Any], *, row: int, value: NDArray[np.float32]) -> None:
    """Put a label in its place among the sorted likeliest of each voxel, in place."""
    label = np.full(value.shape, row, rows.dtype)
    for rank in range(DEPTH):
        larger = value > values[rank]
        values[rank], value = np.where(larger, value, values[rank]), np.where(larger, values[rank], value)
        rows[rank], label = np.where(larger, label, rows[rank]), np.where(larger, rows[rank], label)


def _quantised(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return weights (M, *S) in 255ths that sum to 255; the likeliest label takes what rounding leaves."""
    scale = WHOLE / values.sum(0)
    weights = np.empty(values.shape, np.uint8)
    for rank in range(1, DEPTH):
        weights[rank] = np.rint(values[rank] * scale)
    weights[0] = WHOLE - weights[1:].sum(0, dtype=np.int16)
    return weights
