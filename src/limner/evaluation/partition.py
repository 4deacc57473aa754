"""How well segments agree with objects: every score read off one sparse table of the voxels that they share.

Conventions: voxels whose true object is ignored (0, or close to a border) count for nothing. In the segmentation, 0 is
one ordinary segment for the variation of information; for Rand scores its voxels are segments of their own.

Source: Meila, COLT 2003, variation of information, in bits; Arganda-Carreras et al., Front. Neuroanat. 9 (2015),
adapted Rand error and F-scores with equal weights for splits and mergers; CREMI challenge (2016): its score is the
geometric mean of the adapted Rand error and the variation of information.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from limner.space import Array

Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Shared:
    """The voxels that objects and segments share, without those whose object is ignored.

    Args:
        truth: (P,) index of the object.
        segment: (P,) index of the segment.
        voxels: (P,) how many they share; each pair stands once.
        objects: (A,) ids of the objects, ascending.
        segments: (B,) ids of the segments, ascending; 0 is no segment.
    """

    truth: NDArray[np.intp]
    segment: NDArray[np.intp]
    voxels: Counts
    objects: NDArray[np.uint64]
    segments: NDArray[np.uint64]

    @cached_property
    def total(self) -> int:
        """Voxels that count."""
        return int(self.voxels.sum())

    @cached_property
    def of_object(self) -> Counts:
        """Voxels of each object, (A,)."""
        return _summed(self.truth, self.voxels, size=len(self.objects))

    @cached_property
    def of_segment(self) -> Counts:
        """Voxels of each segment, (B,), as far as they count."""
        return _summed(self.segment, self.voxels, size=len(self.segments))


def shared(segments: Array, truth: Array, *, ignored: NDArray[np.bool_] | None = None) -> Shared:
    """Count the voxels that segments and true objects share.

    Args:
        segments: (*S) integers from 0 on, of up to 64 bits.
        truth: (*S) likewise; 0 is ignored.
        ignored: (*S), true for voxels that do not count either.
    """
    return _table(_counted(segments, truth, ignored=ignored))


def shared_by_parts(parts: Iterable[tuple[Array, Array]]) -> Shared:
    """Count the voxels that segments and true objects share, in pieces (segments, truth) of a volume, one at a time."""
    counts = np.concatenate([_counted(segments, truth) for segments, truth in parts])
    pairs, where = np.unique(counts[:, :2], axis=0, return_inverse=True)
    voxels = _summed(where.reshape(-1), counts[:, 2].astype(np.int64), size=len(pairs))
    return _table(np.column_stack([pairs, voxels.astype(np.uint64)]))


def _counted(segments: Array, truth: Array, *, ignored: NDArray[np.bool_] | None = None) -> NDArray[np.uint64]:
    """Return the true object, the segment and the voxels of each pair that shares some, (P, 3)."""
    from limner.evaluation import kernels

    skipped = np.empty(0, np.bool_) if ignored is None else ignored.reshape(-1)
    pairs: NDArray[np.uint64] = kernels.count_pairs(truth.reshape(-1), segments.reshape(-1), skipped)
    return pairs[pairs[:, 0] > 0, :3]


def _table(pairs: NDArray[np.uint64]) -> Shared:
    """Return the table of pairs (P, 3)."""
    objects, true = _ranked(pairs[:, 0])
    names, found = _ranked(pairs[:, 1])
    return Shared(true, found, pairs[:, 2].astype(np.int64), objects, names)


def matched(table: Shared) -> NDArray[np.uint64]:
    """Return the segment that each object is matched with, (A,); 0 if with none.

    No segment is matched twice: the pair that shares most voxels comes first, of equals the one that stands first.

    Source: our own; the greedy form of the assignment by which matches are usually counted.
    """
    partner = np.zeros(len(table.objects), np.uint64)
    taken = table.segments == 0
    for pair in np.argsort(-table.voxels, kind="stable").tolist():
        owner, segment = table.truth[pair], table.segment[pair]
        if not partner[owner] and not taken[segment]:
            partner[owner], taken[segment] = table.segments[segment], True
    return partner


def joined(table: Shared, names: Array) -> Shared:
    """Return the table after segments were joined: those with equal `names` (B,), integers from 0 on, are one."""
    segments, place = _ranked(np.asarray(names).astype(np.uint64))
    keys = table.truth * len(segments) + place[table.segment]
    pairs, where = np.unique(keys, return_inverse=True)
    voxels = _summed(where, table.voxels, size=len(pairs))
    return Shared(pairs // len(segments), pairs % len(segments), voxels, table.objects, segments)


def variation_of_information(table: Shared) -> tuple[float, float]:
    """Return H(segments | objects) and H(objects | segments) in bits, what splits and what mergers cost; 0 is best."""
    split, merge = _information(table)
    return float(split.sum()), float(merge.sum())


def adapted_rand_error(table: Shared) -> float:
    """Return 1 minus the F-score of Rand, 0 to 1; 0 is best."""
    return 1 - rand_f(table)


def rand_f(table: Shared) -> float:
    """Return the F-score of voxel pairs, a voxel with itself included, that belong together; 0 to 1, 1 is best.

    The voxels of segment 0 are segments of their own.
    """
    real = table.segments > 0
    lone = float(table.of_segment[~real].sum())
    both = _squares(table.voxels[real[table.segment]]) + lone
    segments = _squares(table.of_segment[real]) + lone
    return 2 * both / (segments + _squares(table.of_object))


def information_f(table: Shared) -> float:
    """Return the F-score of information, 0 to 1: twice what segments and objects tell of each other, over what both do.

    1 is best, also where there is one object and one segment, which tell nothing.
    """
    of_both = _entropy(table.of_segment, table.total) + _entropy(table.of_object, table.total)
    return 1 - sum(variation_of_information(table)) / of_both if of_both else 1.0


def cremi_score(table: Shared) -> float:
    """Return the square root of adapted Rand error times the sum of both variations of information; 0 is best."""
    # Rounding may leave an error a little below zero.
    return float(np.sqrt(max(0.0, adapted_rand_error(table)) * sum(variation_of_information(table))))


def average_precision(table: Shared, threshold: float = 0.5) -> float:
    """Return hits / (hits + misses + inventions); a hit is an object and a segment whose overlap exceeds a threshold.

    Overlap is intersection over union of what counts; from a half on, no object can have two partners. Segment 0 is
    none.

    Source: Caicedo et al., Nature Methods 16 (2019), often called average precision at an IoU.
    """
    union = table.of_object[table.truth] + table.of_segment[table.segment] - table.voxels
    real = table.segments > 0
    hits = int(((table.voxels > threshold * union) & real[table.segment]).sum())
    return hits / max(1, len(table.objects) + int(real.sum()) - hits)


def near_borders(truth: Array, tolerance: float, *, spacing: tuple[float, float]) -> NDArray[np.bool_]:
    """Return the voxels of `truth` (Z, Y, X) within a tolerance of another object in their section.

    Args:
        truth: objects; 0 is one like the others.
        tolerance: in units of `spacing`, usually nm, from a pixel at the border to the pixel.
        spacing: along y and x.
    """
    from limner.evaluation import kernels

    out = np.zeros(truth.shape, np.bool_)
    kernels.near_border(truth, tolerance, np.asarray(spacing, np.float64), 0, len(truth), out)
    return out


def _information(table: Shared) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what each pair adds to H(segments | objects) and to H(objects | segments), both (P,) in bits."""
    share = table.voxels / table.total
    return (
        -share * np.log2(table.voxels / table.of_object[table.truth]),
        -share * np.log2(table.voxels / table.of_segment[table.segment]),
    )


def _entropy(voxels: Counts, total: int) -> float:
    """Return the entropy in bits of parts of so many voxels."""
    shares = voxels[voxels > 0] / total
    return float(-(shares * np.log2(shares)).sum())


def _squares(voxels: Counts) -> float:
    """Return the sum of the squares, which 64 bits of a whole number may not hold."""
    return float((voxels.astype(np.float64) ** 2).sum())


def _ranked(ids: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.intp]]:
    """Return the different ids, ascending, and where among them each of `ids` (P,) is."""
    largest = int(ids.max(initial=0))
    if largest > 16 * len(ids) + 1024:
        names, ranks = np.unique(ids, return_inverse=True)
        return names, ranks
    # A table of all ids up to the largest is much quicker than sorting, where it is not too long.
    found = np.zeros(largest + 1, np.bool_)
    found[ids] = True
    return np.flatnonzero(found).astype(np.uint64), (np.cumsum(found) - 1)[ids]


def _summed(index: NDArray[np.intp], voxels: Counts, *, size: int) -> Counts:
    """Return the sum of `voxels` (P,) at each `index` (P,), (size,)."""
    # Sums below 2**53 are exact in floating point.
    return np.bincount(index, voxels, size).astype(np.int64)
