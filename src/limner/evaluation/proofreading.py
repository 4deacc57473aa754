"""Where a segmentation goes wrong: the objects whose splits, and the pairs of objects whose mergers, cost most.

Source: our own, from the terms of the variation of information (Meila, COLT 2003).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from limner.evaluation.partition import Shared
from limner.space import Array


@dataclass(frozen=True)
class Split:
    """An object in several segments.

    Args:
        object: its id.
        bits: what this adds to H(segments | objects).
        segments: ids, the one with most of its voxels first.
        voxels: of it in each of them.
    """

    object: int
    bits: float
    segments: tuple[int, ...]
    voxels: tuple[int, ...]


@dataclass(frozen=True)
class Merger:
    """Two objects that touch inside a segment, or several.

    Args:
        objects: ids, ascending.
        bits: what H(objects | segments) would be of these two alone, in their share of all voxels.
        through_z: faces between sections at which they touch inside a segment.
        in_section: faces within sections at which they do.
    """

    objects: tuple[int, int]
    bits: float
    through_z: int
    in_section: int


def splits(table: Shared, *, count: int = 10) -> list[Split]:
    """Return the objects whose splits cost most, at most `count`, and none that cost nothing."""
    share = table.voxels / table.of_object[table.truth]
    bits = np.bincount(table.truth, -table.voxels / table.total * np.log2(share), len(table.objects))
    worst = [int(index) for index in np.argsort(-bits, kind="stable")[:count] if bits[index] > 0]
    return [_split(table, index, bits=float(bits[index])) for index in worst]


def _split(table: Shared, index: int, *, bits: float) -> Split:
    """Return one object with its segments."""
    pairs = np.flatnonzero(table.truth == index)
    pairs = pairs[np.argsort(-table.voxels[pairs], kind="stable")]
    ids = tuple(table.segments[table.segment[pairs]].tolist())
    return Split(int(table.objects[index]), bits, ids, tuple(table.voxels[pairs].tolist()))


def mergers(segments: Array, truth: Array, *, table: Shared) -> list[Merger]:
    """Return the pairs of objects that touch inside a segment other than 0, the most expensive first.

    Args:
        segments: (Z, Y, X) or (Y, X).
        truth: likewise; 0 is no object.
        table: of these two, by which voxels the cost is counted.
    """
    from limner.evaluation import kernels

    solid = (1,) * (3 - truth.ndim) + truth.shape
    seams = kernels.seams(truth.reshape(solid), segments.reshape(solid), np.eye(3, dtype=np.int64))
    held = _held(table)
    found = [
        Merger((low, high), _bits(held[low], held[high], total=table.total), along, faces - along)
        for low, high, faces, along in seams.tolist()
    ]
    return sorted(found, key=lambda merger: (-merger.bits, merger.objects))


def _held(table: Shared) -> dict[int, dict[int, int]]:
    """Return for each object the segments that have some of it, and how many voxels."""
    held: dict[int, dict[int, int]] = defaultdict(dict)
    columns = table.objects[table.truth], table.segments[table.segment], table.voxels
    for owner, segment, voxels in zip(*(column.tolist() for column in columns), strict=True):
        if segment:
            held[owner][segment] = voxels
    return held


def _bits(one: dict[int, int], other: dict[int, int], *, total: int) -> float:
    """Return what it costs that two objects, with so many voxels in each segment, share some segments."""
    pairs = np.array([(one[segment], other[segment]) for segment in one.keys() & other.keys()], np.float64)
    if not len(pairs):
        return 0.0
    return float(-(pairs * np.log2(pairs / pairs.sum(axis=1, keepdims=True))).sum() / total)
