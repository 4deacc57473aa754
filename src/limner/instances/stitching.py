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
    count = forest.number(sets)
    sets -= 1
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
