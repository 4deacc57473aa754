"""Where labels differ from a reference, told voxel by voxel when they are looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from limner.evaluation import matched, shared_by_parts
from limner.space import Array, Box, blocks

Slices: TypeAlias = tuple[slice, ...]
#: Ids of errors of instances, and of structures.
MERGED, SPLIT, MISSED = 1, 2, 3
DIFFERENT = 1
#: Names and colours of both.
INSTANCES = {
    MERGED: ("in the segment of another object", (240, 40, 40)),
    SPLIT: ("in a segment beside the object's own", (250, 170, 30)),
    MISSED: ("in no segment", (200, 60, 220)),
}
STRUCTURES = {DIFFERENT: ("differs", (255, 230, 0))}
#: Voxels along each axis of the parts in which two volumes are compared.
PART = 256


class Voxels(Protocol):
    """What is read a part at a time."""

    def read(self, slices: Slices) -> Array:
        """Return a part."""


@dataclass(frozen=True, eq=False)
class Matching:
    """Which segment stands for which object.

    Args:
        objects: (A,) ids, ascending.
        partner: (A,) the segment of each; 0 if none.
    """

    objects: NDArray[np.uint64]
    partner: NDArray[np.uint64]

    def errors(self, segments: Array, truth: Array) -> NDArray[np.uint8]:
        """Return the error of each voxel, (*S) of both; none where nobody knows the object."""
        place = np.searchsorted(self.objects, truth.astype(np.uint64)).clip(max=max(0, len(self.objects) - 1))
        wrong = (truth > 0) & (self.partner[place] != segments) if len(self.objects) else np.zeros(truth.shape, bool)
        theirs = np.isin(segments, self.partner[self.partner > 0])
        return np.where(wrong, np.select([segments == 0, theirs], [MISSED, MERGED], SPLIT), 0).astype(np.uint8)


def differences(labels: Array, truth: Array) -> NDArray[np.uint8]:
    """Return 1 where two label maps differ."""
    return np.where(labels != truth, DIFFERENT, 0).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Pair:
    """Two volumes of ids where both have voxels.

    Args:
        labels: what is judged.
        truth: by what.
        boxes: what they have in common, in the voxels of each.
    """

    labels: Voxels
    truth: Voxels
    boxes: tuple[Box, Box]

    def read(self, slices: Slices) -> tuple[Array, Array]:
        """Return a part of what is common, of each."""
        of_labels, of_truth = (
            tuple(slice(first + part.start, first + part.stop) for first, part in zip(box.start, slices, strict=True))
            for box in self.boxes
        )
        return self.labels.read(of_labels), self.truth.read(of_truth)

    def matched(self) -> Matching:
        """Match segments with objects, the largest overlaps first, counted a part after another."""
        shape = self.boxes[0].shape
        parts = (self.read(block.write.slices) for block in blocks(shape, (PART,) * len(shape)))
        table = shared_by_parts(parts)
        return Matching(table.objects, matched(table))


@dataclass(frozen=True, eq=False)
class Errors:
    """The errors of a pair of volumes.

    Args:
        pair: the two.
        compare: returns the errors of a part of both.
    """

    pair: Pair
    compare: Callable[[Array, Array], NDArray[np.uint8]]

    def read(self, slices: Slices) -> Array:
        """Return the errors of a part of what is common."""
        return self.compare(*self.pair.read(slices))
