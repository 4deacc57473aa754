"""Pieces of a volume that were labelled by themselves become one: what edges across their faces connect is one segment.

The labels are those of the whole volume, to the digit: components of components are components, and segments are
numbered in the order of their first voxels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limner.space import Array, Box

#: One number for two labels of 32 bits.
HALF = np.uint64(32)


@dataclass(frozen=True, eq=False)
class Fragments:
    """What is told of a block's labels from 1 to F.

    Args:
        sizes: (F,) voxels of each.
        firsts: (F,) number of the first voxel of each, in the whole volume.
    """

    sizes: NDArray[np.int64]
    firsts: NDArray[np.int64]


def without_dust(labels: NDArray[np.int32], faces: Iterable[tuple[int, int]], *, smallest: int) -> NDArray[np.int32]:
    """Return a block's labels without those that can become no segment: too small, and in touch with no other block.

    At high thresholds a third of all voxels of real affinities are pieces of their own, and nobody need keep books of
    those.

    Args:
        labels: (*S) from 1 on, in the order of their first voxels, as are those returned; 0 is what was left out.
        faces: axis and index, 0 or -1, of those beyond which the volume goes on.
        smallest: voxels of the smallest segment that stays.
    """
    from limner.instances.kernels import forest

    flat = np.ascontiguousarray(labels).reshape(-1)
    stays = forest.sizes(flat, int(flat.max(initial=0))) >= smallest
    for axis, index in faces:
        stays[labels.take(index, axis)] = True
    stays[0] = False
    return np.asarray((np.cumsum(stays) * stays).astype(np.int32)[labels])


def fragments_of(labels: NDArray[np.int32], box: Box, *, shape: tuple[int, ...]) -> Fragments:
    """Return what is told of labels (*box) from 1 on, in the order of their first voxels, in a volume of `shape`.

    Voxels of 0 are of none.
    """
    from limner.instances.kernels import forest

    flat = np.ascontiguousarray(labels).reshape(-1)
    count = int(flat.max(initial=0))
    inside = np.unravel_index(forest.firsts(flat, count), labels.shape)
    where = tuple(index + start for index, start in zip(inside, box.start, strict=True))
    return Fragments(forest.sizes(flat, count)[1:], np.ravel_multi_index(where, shape).astype(np.int64))


def contacts(before: Array, after: Array, *, edges: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return which labels on the two sides of a face belong together, each pair once, (P, 2).

    Args:
        before: (*F) labels of the voxels on one side, from 1 on.
        after: (*F) labels of those on the other.
        edges: (*F) which of the voxels belong together.
    """
    joined = before[edges].astype(np.uint64) << HALF | after[edges].astype(np.uint64)
    pairs = np.unique(joined)
    return np.stack([pairs >> HALF, pairs & np.uint64(0xFFFFFFFF)], axis=1).astype(np.int64)


def agreed(theirs: Array, ours: Array) -> NDArray[np.int64]:
    """Return which labels of the same voxels mean the same, and how many voxels they share, (P, 3).

    They do if each has more than half of the other's voxels.

    Args:
        theirs: (*S) labels by one, 0 where it does not say.
        ours: (*S) labels by another.
    """
    said = (theirs > 0) & (ours > 0)
    joined = theirs[said].astype(np.uint64) << HALF | ours[said].astype(np.uint64)
    keys, shared = np.unique(joined, return_counts=True)
    first, second = keys >> HALF, keys & np.uint64(0xFFFFFFFF)
    sizes = [np.bincount(labels.reshape(-1)) for labels in (theirs, ours)]
    same = 2 * shared > np.maximum(sizes[0][first], sizes[1][second])
    found: NDArray[np.int64] = np.stack([first, second, shared.astype(np.uint64)], axis=1).astype(np.int64)[same]
    return found


def stitched(
    fragments: Fragments, pairs: Iterable[NDArray[np.int64]], *, smallest: int = 1
) -> tuple[NDArray[np.uint64], int]:
    """Return the segment that each fragment is of, (F,), and how many segments there are.

    Args:
        fragments: of all blocks, one after another.
        pairs: (P, 2) each, fragments from 0 on that belong together; they are asked for one at a time.
        smallest: voxels of the smallest segment that stays; what is smaller becomes 0.
    """
    from limner.instances.kernels import forest

    sets = np.arange(len(fragments.sizes), dtype=np.int64)
    for first, second in (each.T for each in pairs):
        forest.join_all(sets, np.ascontiguousarray(first), np.ascontiguousarray(second))
    forest.number(sets)
    sets -= 1
    return _named(fragments, sets, smallest=smallest)


def settled(
    fragments: Fragments, *, apart: NDArray[np.int64], alike: NDArray[np.int64], smallest: int = 1
) -> tuple[NDArray[np.uint64], int]:
    """Return the same where fragments that are alike become one, unless that would join two that are apart.

    It is a mutex watershed of fragments: those that share most voxels go first.

    Args:
        fragments: of all blocks, one after another.
        apart: (R, 2) fragments from 0 on.
        alike: (P, 3) others, and how many voxels they share.
        smallest: voxels of the smallest segment that stays; what is smaller becomes 0.
    """
    from limner.instances.kernels import mutex

    F = len(fragments.sizes)
    ordered = alike[np.lexsort((alike[:, 1], alike[:, 0], -alike[:, 2]))]
    first, second = np.concatenate([apart, ordered[:, :2]]).T
    # Each edge has a channel of its own, whose partners lie where it leads.
    edges = np.arange(len(first), dtype=np.int64)
    parents, labels = np.arange(F, dtype=np.int32), np.zeros(F, np.int32)
    mutex.settle(edges * F + first, F, second - first, edges < len(apart), parents)
    mutex.label(parents, labels)
    return _named(fragments, labels.astype(np.int64) - 1, smallest=smallest)


def _named(fragments: Fragments, sets: NDArray[np.int64], *, smallest: int) -> tuple[NDArray[np.uint64], int]:
    """Return segments in the order of their first voxels, given each fragment's set, (F,) from 0 on: it is changed."""
    from limner.instances.kernels import forest

    count = int(sets.max(initial=-1)) + 1
    sizes, firsts = np.zeros(count, np.int64), np.full(count, np.iinfo(np.int64).max)
    np.add.at(sizes, sets, fragments.sizes)
    np.minimum.at(firsts, sets, fragments.firsts)
    stay = np.flatnonzero(sizes >= smallest)
    stay = stay[np.argsort(firsts[stay])]
    # Most of what is in memory now: nothing of it may be there twice.
    del sizes, firsts
    names = np.zeros(count, np.uint64)
    names[stay] = np.arange(1, len(stay) + 1, dtype=np.uint64)
    found = sets.view(np.uint64)
    forest.rename(found, names)
    return found, len(stay)
