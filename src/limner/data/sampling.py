"""Which scans, and which pieces of them, make up a step: pure functions of seed and position, so nothing is saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from limner import check
from limner.data.cohort import Case
from limner.space import Array, Box

#: Keep the draws of one seed apart.
ORDER, PLACE, VARIATION = 0, 1, 2


def positions(step: int, *, batch: int, rank: int = 0, ranks: int = 1) -> range:
    """Return the places of a process's scans of one step in the endless row of scans.

    All processes together take what one process would with a batch as large as theirs together.

    Args:
        step: counted from 0.
        batch: scans a process takes.
        rank: number of the process.
        ranks: processes.
    """
    first = (step * ranks + rank) * batch
    return range(first, first + batch)


def case_at(position: int, *, cases: int, seed: int) -> int:
    """Return which of the cases stands at a position of the endless row: one permutation of all after another."""
    epoch, place = divmod(position, cases)
    return int(_order(seed, epoch, cases=cases)[place])


@lru_cache(maxsize=8)
def _order(seed: int, epoch: int, *, cases: int) -> Array:
    """Return the order in which an epoch takes the cases."""
    return np.random.default_rng((seed, ORDER, epoch)).permutation(cases)


@dataclass(frozen=True)
class Pattern:
    """What kinds of scans a batch is made of, place by place; each kind is drawn from a row of its own.

    Args:
        kinds: for each kind, the numbers of its cases.
        places: for each place of a batch, its kind.
    """

    kinds: tuple[tuple[int, ...], ...]
    places: tuple[int, ...]

    def case_at(self, position: int, *, seed: int) -> int:
        """Return the number of the case at a position of the endless row of scans."""
        batch, place = divmod(position, len(self.places))
        kind = self.places[place]
        before = batch * self.places.count(kind) + self.places[:place].count(kind)
        # Kinds have other seeds, so that their orders differ.
        return self.kinds[kind][case_at(before, cases=len(self.kinds[kind]), seed=seed + kind)]


def patterned(cases: Sequence[Case], *, batch: int, apart: bool, labelled: int) -> Pattern:
    """Return what batches are made of.

    Args:
        cases: to learn from.
        batch: scans of a batch.
        apart: whether half of a batch shows no target, and the other half does.
        labelled: how many of a batch have labels, at least; all the others too, if it is all of them.

    Raises:
        InputError: if there are none of a kind.
    """
    shows = [number for number, case in enumerate(cases) if 1 in case.present]
    without = [number for number, case in enumerate(cases) if case.present and not any(case.present)]
    known = [number for number, case in enumerate(cases) if case.labels and number not in set(without)]
    rest = batch - labelled
    absent = min(rest, batch // 2) if apart else 0
    places = (0,) * labelled + (1,) * (rest - absent) + (2,) * absent
    kinds = (tuple(known), tuple(shows if apart else range(len(cases))), tuple(without))
    check.kinds_there(
        [
            ("labels", len(known), labelled),
            ("a target", len(kinds[1]), rest - absent),
            ("no target", len(without), absent),
        ]
    )
    return Pattern(kinds, places)


def crop_at(position: int, mask: Array, *, crop: Sequence[int], seed: int) -> Box:
    """Return the piece of a scan that is looked at, at a position of the endless row.

    It is drawn around a voxel of the mask, and lies inside the scan; along axes that are shorter, it is all of them.

    Args:
        position: in the row.
        mask: (*S) bool.
        crop: voxels wanted along each axis.
        seed: of the draw.
    """
    rng = np.random.default_rng((seed, PLACE, position))
    shape = np.array(mask.shape)
    inside = np.flatnonzero(mask)
    centre = np.array(np.unravel_index(inside[rng.integers(len(inside))], mask.shape))
    size = np.minimum(crop, shape)
    start = np.clip(centre - size // 2, 0, shape - size)
    return Box(tuple(start), tuple(start + size))


def common_shape(shapes: Sequence[Sequence[int]], stride: int) -> tuple[int, ...]:
    """Return the smallest shape whose sizes are multiples of the stride and hold every one of the shapes."""
    largest = np.max(shapes, axis=0)
    return tuple((-(-largest // stride) * stride).tolist())
