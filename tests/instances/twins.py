"""Slow twins of the decoders, in plain loops, and what hypothesis draws affinities from."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from limner.instances import REACH, nearest

LONG = ((-2, 0, 0), (0, -2, 1), (0, 0, 3))


def inside(place: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return all(0 <= index < size for index, size in zip(place, shape, strict=True))


def partners(shape: tuple[int, ...], offsets: Any) -> list[tuple[int, tuple[int, ...], tuple[int, ...]]]:
    """Channel, voxel and partner of every edge."""
    moved = (
        (channel, voxel, tuple(int(a + b) for a, b in zip(voxel, offset, strict=True)))
        for channel, offset in enumerate(offsets)
        for voxel in product(*map(range, shape))
    )
    return [(channel, voxel, partner) for channel, voxel, partner in moved if inside(partner, shape)]


class Sets(dict[Any, Any]):
    """Each voxel's set, as an object all its members share."""

    def join(self, first: Any, second: Any) -> None:
        one, other = self[first], self[second]
        if one is not other:
            one |= other
            for member in other:
                self[member] = one

    def labels(self, shape: tuple[int, ...]) -> NDArray[np.int32]:
        """Sets numbered from 1 on in the order of their first voxels."""
        names: dict[int, int] = {}
        flat = [names.setdefault(id(self[voxel]), len(names) + 1) for voxel in product(*map(range, shape))]
        return np.array(flat, np.int32).reshape(shape)


def singles(shape: tuple[int, ...]) -> Sets:
    return Sets({voxel: {voxel} for voxel in product(*map(range, shape))})


def components(values: Any, offsets: Any, threshold: float) -> NDArray[np.int32]:
    shape, sets = values.shape[1:], singles(values.shape[1:])
    for channel, voxel, partner in partners(shape, offsets):
        if np.abs(offsets[channel]).sum() == 1 and values[channel][voxel] > threshold:
            sets.join(voxel, partner)
    return sets.labels(shape)


def mutex_watershed(values: Any, offsets: Any, strides: Any = None) -> NDArray[np.int32]:
    """Wolf et al., algorithm 1, with sets of pairs that must stay apart."""
    shape, sets = values.shape[1:], singles(values.shape[1:])
    whole = np.float32(255 if values.dtype == np.uint8 else 1)
    ranked = []
    for rank, (channel, voxel, partner) in enumerate(partners(shape, offsets)):
        near = np.abs(offsets[channel]).sum() == 1
        value = values[channel][voxel] / whole
        thinned = (
            strides is not None
            and not near
            and any(min(ends) % stride for *ends, stride in zip(voxel, partner, strides, strict=True))
        )
        strength = value if near else np.float32(1) - value
        if strength > 0 and not thinned:
            ranked.append((-strength, rank, near, voxel, partner))
    apart: list[tuple[Any, Any]] = []
    for *_, near, voxel, partner in sorted(ranked):
        one, other = sets[voxel], sets[partner]
        if one is other:
            continue
        if not near:
            apart.append((voxel, partner))
        elif not any({id(sets[a]), id(sets[b])} == {id(one), id(other)} for a, b in apart):
            sets.join(voxel, partner)
    return sets.labels(shape)


def fragments(values: Any, offsets: Any, membrane: float, separation: int, sections: bool) -> NDArray[np.int32]:
    """Each voxel inside goes to the nearest deeper one; distances by comparison with every voxel."""
    shape = values.shape[1:]
    whole = np.float32(1 if values.dtype == np.uint8 else 255)
    lowest = dict.fromkeys(product(*map(range, shape)), 255)
    for channel, voxel, partner in partners(shape, offsets):
        for end in (voxel, partner):
            lowest[end] = min(lowest[end], int(np.uint8(values[channel][voxel] * whole + np.float32(0.5))))
    outside = [voxel for voxel, value in lowest.items() if value <= round(membrane * 255)]
    apart = sections and len(shape) == 3

    def away(voxel: Any) -> int:
        others = (other for other in outside if not apart or other[0] == voxel[0])
        nearest = (sum((a - b) ** 2 for a, b in zip(voxel, other, strict=True)) for other in others)
        return min(nearest, default=REACH**2)

    depth = {voxel: away(voxel) for voxel in lowest if voxel not in outside}
    before = [tuple(-int(axis == other) for other in range(len(shape))) for axis in range(apart, len(shape))]
    steps = [*before, *(tuple(-step for step in one) for one in before[::-1])]

    def beside(voxel: Any) -> list[Any]:
        places = (tuple(a + b for a, b in zip(voxel, step, strict=True)) for step in steps)
        return [place for place in places if place in depth]

    def target(voxel: Any) -> Any:
        best = max(beside(voxel), key=lambda other: depth[other], default=voxel)
        if depth[best] > depth[voxel]:
            return best
        seen, ways = {voxel}, [voxel]
        for place in ways:
            for other in beside(place):
                near = all(abs(a - b) <= separation for a, b in zip(voxel, other, strict=True))
                if near and other not in seen:
                    if depth[other] > depth[voxel]:
                        return other
                    seen.add(other)
                    ways.append(other)
        return voxel

    targets, sets = {voxel: target(voxel) for voxel in depth}, singles(shape)
    for voxel, goal in targets.items():
        sets.join(voxel, goal)
        for other in beside(voxel):
            if goal == voxel and targets[other] == other and depth[other] == depth[voxel]:
                sets.join(voxel, other)
    names: dict[int, int] = {}
    found = np.zeros(shape, np.int32)
    for voxel in depth:
        found[voxel] = names.setdefault(id(sets[voxel]), len(names) + 1)
    return found


def agglomerated(values: Any, offsets: Any, fragments: Any, threshold: float, score: Any = np.mean) -> dict[int, int]:
    """The smallest fragment in each fragment's segment; all scores anew after every merge."""
    segment = {int(label): int(label) for label in np.unique(fragments) if label}
    while True:
        faces: dict[tuple[int, int], list[float]] = {}
        for channel, voxel, partner in partners(fragments.shape, offsets):
            ends = sorted(segment.get(int(fragments[end]), 0) for end in (voxel, partner))
            if ends[0] and ends[0] != ends[1]:
                faces.setdefault((ends[0], ends[1]), []).append(float(values[channel][voxel]))
        best = max(faces, key=lambda pair: (score(faces[pair]), -pair[0], -pair[1]), default=None)
        if best is None or score(faces[best]) <= threshold:
            return segment
        segment = {label: best[0] if root == best[1] else root for label, root in segment.items()}


def same_partition(first: Any, second: Any) -> bool:
    """Whether two label maps, 0 included, differ in their names only."""
    pairs = Counter(zip(np.ravel(first).tolist(), np.ravel(second).tolist(), strict=True))
    return len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs)


@st.composite
def affinities(draw: st.DrawFn, *, dimensions: int = 3, long: bool = False) -> tuple[NDArray[Any], Any]:
    """Small arrays of affinities, float32 that all differ or uint8 with many ties, and their offsets."""
    shape = draw(st.lists(st.integers(1, 5), min_size=dimensions, max_size=dimensions))
    offsets = nearest(dimensions) + (tuple(offset[-dimensions:] for offset in LONG[3 - dimensions :]) if long else ())
    if draw(st.booleans()):
        offsets = tuple(tuple(-step for step in offset) for offset in offsets)
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    values = rng.random((len(offsets), *shape), dtype=np.float32)
    if draw(st.booleans()):
        return np.rint(values * draw(st.sampled_from([3, 255])) * 85 % 256).astype(np.uint8), offsets
    return np.where(values < 0.1, 0, values).astype(np.float32), offsets
