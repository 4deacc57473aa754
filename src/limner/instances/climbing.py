"""Watershed: fragments of voxels that climb, away from membranes, to the same place.

A voxel goes to the nearest deeper one, where depth is the distance to the membrane; one that finds none within the
distance of seeds is a seed. Where it goes is decided by what lies within `context` voxels of it and nothing else, so
that parts of a volume are climbed as the whole is, and blocks give its fragments, voxel for voxel, where flooding has
paths of any length. Only membranes are flooded, part by part (see `connected.filled`).

Source: Cousty et al., IEEE TPAMI 31 (2009), drops of water, which run uphill here; Vedaldi and Soatto, ECCV 2008, quick
shift, each to the nearest that is higher, here on ways inside. The distance to the membrane as height is that of Funke
et al., IEEE TPAMI 41 (2019).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limner import check
from limner.instances.affinities import Edges, edges
from limner.instances.connected import REACH, grown_by_parts
from limner.instances.flooding import interior
from limner.instances.slabs import each, slabs
from limner.space import Array, Box, Offsets

Labels = NDArray[np.int32]


@dataclass(frozen=True)
class Climb:
    """How voxels climb.

    Args:
        membrane: from 0 to 1; voxels with an edge that is no higher are membrane.
        separation: a seed is the deepest place within this distance, in units of `spacing`.
        spacing: (D,) sizes of a voxel, in any unit; all 1 if empty.
        sections: look at each section by itself, as suits thick ones.
    """

    membrane: float = 0.5
    separation: float = 5
    spacing: tuple[float, ...] = ()
    sections: bool = False

    @property
    def sizes(self) -> NDArray[np.float64]:
        """Sizes of a voxel, (3,)."""
        return np.array([1.0, 1.0, 1.0, *self.spacing][-3:])

    @property
    def radius(self) -> NDArray[np.int64]:
        """Voxels within which a deeper place is looked for, (3,)."""
        radius = np.floor(self.separation / self.sizes + 1e-6).astype(np.int64)
        radius[0] *= not self.sections
        return radius

    @property
    def context(self) -> int:
        """Voxels around a part that decide where its voxels go.

        A seed asks its neighbours, which look for deeper places, whose depth ends at `REACH`, and is a matter of edges
        on both sides of a voxel.
        """
        return 1 + int(self.radius.max()) + REACH + 1

    @property
    def steps(self) -> NDArray[np.int64]:
        """Steps to the direct neighbours, (M, 3)."""
        before = -np.eye(3, dtype=np.int64)[int(self.sections) :]
        return np.concatenate([before, -before[::-1]])


def fragments(
    values: Array,
    offsets: Offsets,
    *,
    threshold: float = 0.5,
    separation: float = 5,
    spacing: Sequence[float] | None = None,
    sections: bool = False,
    fill: bool = True,
    threads: int | None = None,
) -> Labels:
    """Oversegment the interior of objects: what climbs to the same place that is far from all membranes.

    Args:
        values: (C, *S) affinities; other channels than those of direct neighbours are not looked at.
        offsets: (C, D) voxels.
        threshold: from 0 to 1; voxels with an edge that is no higher are membrane, and grow no seeds.
        separation: a seed is the deepest place within this distance, in units of `spacing`.
        spacing: (D,) sizes of a voxel, in any unit; all 1 if None.
        sections: look at each section by itself, as suits thick ones.
        fill: let what lies inside grow into the membranes too, which else stay 0 and keep fragments apart, as `filled`
            has it.
        threads: at most; None: one per core. The labels are the same for any number.

    Returns:
        (*S) labels from 1 on, in the order of their first voxels inside.

    Raises:
        InputError: for affinities that cannot be decoded (see `edges`).
    """
    graph = edges(values, offsets, threads=threads).nearest()
    by = Climb(threshold, separation, tuple(spacing or ()), sections)
    depth = _depth(graph, by, threads=threads)
    if not depth.any():
        warnings.warn(check.no_segment(f"a threshold of {threshold:g}"), stacklevel=2)
    labels, _ = _climbed(depth, by, inner=Box.whole(depth.shape), threads=threads)
    del depth  # four bytes a voxel
    if fill:
        labels = grown_by_parts(graph, labels, sections=sections, threads=threads)
    return labels.reshape(graph.shape)


def fragments_within(
    values: Array, offsets: Offsets, *, by: Climb, inner: Box, threads: int | None = None
) -> tuple[Labels, Labels, NDArray[np.int64]]:
    """Return the parts of fragments that lie in a box, and where they go on beyond it; membranes are 0.

    Args:
        values: (C, *S) affinities of the box and `by.context` voxels around it, as far as there are any.
        offsets: (C, D) voxels.
        by: how voxels climb.
        inner: the box, in these.
        threads: at most; None: one per core.

    Returns:
        (*inner) labels from 1 on, in the order of their first voxels; (P,) of them that go on beyond the box, and
        (P, D) voxels of S that lie there, of the same fragment.

    Raises:
        InputError: for affinities that cannot be decoded (see `edges`).
    """
    graph = edges(values, offsets, threads=threads).nearest()
    depth, missing = _depth(graph, by, threads=threads), 3 - len(graph.shape)
    solid = Box((0,) * missing + inner.start, (1,) * missing + inner.stop)
    labels, links = _climbed(depth, by, inner=solid, threads=threads)
    places = np.stack(np.unravel_index(links[:, 1], depth.shape), axis=1)[:, missing:]
    return labels.reshape(inner.shape), labels.reshape(-1)[links[:, 0]], places


def _depth(graph: Edges, by: Climb, *, threads: int | None) -> NDArray[np.float32]:
    """Return the squared distance to the membrane (Z, Y, X), `_cap` at most.

    Squares of whole numbers are exact, whatever else is looked at.
    """
    mask = interior(graph, threads=threads) > round(by.membrane * 255)
    depth = distances(mask, by.sizes, sections=by.sections, threads=threads)
    return np.minimum(depth, _cap(by), out=depth)


def _cap(by: Climb) -> np.float32:
    """Return the square of the depth at which depths end: that of `REACH` of the finest voxel sizes."""
    return np.float32((REACH * by.sizes[by.sections :].min()) ** 2)


def _climbed(
    depth: NDArray[np.float32], by: Climb, *, inner: Box, threads: int | None
) -> tuple[Labels, NDArray[np.int64]]:
    """Return the labels of a box (*inner), and (P, 2) numbers of a voxel in it, and of one of (Z, Y, X) beyond it."""
    from limner.instances.kernels import climbing, forest

    targets = np.empty(depth.shape, np.int32)
    box = np.array([inner.start, inner.stop])
    parents = np.arange(inner.size, dtype=np.int32)
    steps, radius = by.steps, by.radius
    # One voxel beyond the box, where deepest places may touch.
    ends = np.minimum(box[1] + 1, depth.shape)

    def climb(part: tuple[int, int]) -> None:
        rows = np.array([[part[0], *box[0, 1:]], [part[1], *ends[1:]]])
        climbing.climb(depth, _cap(by), steps, radius, rows, targets)

    def gather(part: tuple[int, int]) -> NDArray[np.int32]:
        links: NDArray[np.int32] = climbing.gather(depth, targets, steps, box, np.array(part), parents)
        return links

    first, last = box[:, 0]
    each(climb, [(first + start, first + stop) for start, stop in slabs(ends[0] - first)], threads=threads)
    parts = [(first + start, first + stop) for start, stop in slabs(last - first)]
    links = np.concatenate(each(gather, parts, threads=threads))
    beyond = links[:, 1] < 0
    forest.join_all(parents, *np.ascontiguousarray(links[~beyond].T))
    forest.number(parents)
    _drop(parents, targets[inner.slices].reshape(-1) == climbing.NOWHERE)
    return parents.reshape(inner.shape), np.abs(links[beyond] + [0, 1])


def _drop(labels: Labels, nowhere: NDArray[np.bool_]) -> None:
    """Make labels (N,) from 1 on 0 where voxels belong to nothing; the rest close up. In place."""
    from limner.instances.kernels import forest

    kept = np.ones(int(labels.max(initial=0)) + 1, np.bool_)
    kept[labels[nowhere]] = False
    kept[0] = False
    forest.rename(labels, np.where(kept, np.cumsum(kept), 0).astype(np.int32))


def distances(
    mask: NDArray[np.bool_], spacing: Sequence[float] | Array, *, sections: bool = False, threads: int | None = None
) -> NDArray[np.float32]:
    """Return the squared distance from each true voxel of `mask` (Z, Y, X) to the nearest false one, in `spacing`.

    Infinite where there is no false one. With `sections`, in its own section.
    """
    from limner.instances.kernels import distance

    Z, Y, X = mask.shape
    squared = np.empty((Z, Y, X), np.float32)
    sizes = np.asarray(spacing, np.float32)

    def in_plane(part: tuple[int, int]) -> None:
        flat = squared[slice(*part)]
        distance.along_rows(mask[slice(*part)].reshape(-1, X), sizes[2], flat.reshape(-1, X))
        distance.along_middle(flat, sizes[1], 0, X)

    each(in_plane, slabs(Z), threads=threads)
    if not sections:
        columns = squared.reshape(1, Z, Y * X)
        each(lambda part: distance.along_middle(columns, sizes[0], *part), slabs(Y * X, 64 * X), threads=threads)
    return squared
