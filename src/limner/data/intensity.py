"""Mean and spread of the intensities of a volume that is read part by part: the same however it is divided."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limner.space import Array

#: Voxels along each axis of the parts, which do not depend on how a volume is worked on.
CELL = 128
#: Of a constant image, which says nothing.
SMALLEST = 1e-12


@dataclass(frozen=True)
class Moments:
    """What is told of some intensities.

    Args:
        count: how many there are.
        mean: of them.
        squares: sum of their squared distances from the mean.
    """

    count: int
    mean: float
    squares: float

    @classmethod
    def of(cls, values: Array) -> Moments:
        """Return those of a part (*S)."""
        # One order of memory, since sums depend on it.
        exact = np.ascontiguousarray(values, np.float64).reshape(-1)
        mean = float(exact.mean())
        exact = exact - mean
        return cls(exact.size, mean, float((exact * exact).sum()))

    @classmethod
    def joined(cls, parts: Sequence[Moments]) -> Moments:
        """Return those of all parts, whatever their order.

        Source: Chan, Golub and LeVeque 1983; sums are rounded once.
        """
        count = sum(part.count for part in parts)
        mean = math.fsum(part.count * part.mean for part in parts) / count
        apart = (part.count * (part.mean - mean) ** 2 for part in parts)
        return cls(count, mean, math.fsum([*(part.squares for part in parts), *apart]))

    @property
    def spread(self) -> float:
        """Standard deviation."""
        return math.sqrt(self.squares / self.count)

    def standardised(self, values: Array) -> NDArray[np.float32]:
        """Return a part (*S) of the intensities that these are of with mean 0 and sd 1."""
        exact = np.asarray(values, np.float64)  # so that the unit costs no digits
        return ((exact - self.mean) / max(self.spread, SMALLEST)).astype(np.float32)
