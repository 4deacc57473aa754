"""Each decoder against a slow twin, and against itself on another number of threads."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.segmentation import watershed as reference

from instances import twins
from instances.twins import affinities, same_partition
from limner.check import InputWarning
from limner.instances import (
    PART,
    affinities_of,
    agglomerated,
    components,
    fragments,
    merges,
    mutex_watershed,
    nearest,
    region_graph,
    watershed,
)
from limner.instances.climbing import Climb, distances, fragments_within
from limner.instances.flooding import quantised
from limner.space import Box

pytestmark = pytest.mark.filterwarnings("ignore:half of the affinities")


def cells(size: int = 24, count: int = 9, noise: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Voronoi cells (labels), and their noisy affinities to direct neighbours and to one at three voxels."""
    rng = np.random.default_rng(0)
    points = rng.uniform(0, size, (count, 3))
    places = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), -1)
    labels = np.linalg.norm(places[..., None, :] - points, axis=-1).argmin(-1) + 1
    values = affinities_of(labels, OFFSETS) + rng.normal(0, noise, (len(OFFSETS), *labels.shape))
    return labels, np.clip(values, 0, 1).astype(np.float32)


OFFSETS = (*nearest(3), (-3, 0, 0), (0, -3, 0), (0, 0, -3))
LABELS, VALUES = cells()


# --- components


@settings(max_examples=80)
@given(st.integers(1, 3).flatmap(lambda d: affinities(dimensions=max(2, d), long=True)), st.floats(0, 0.9))
def test_components_are_those_of_plain_loops(case, threshold: float) -> None:
    values, offsets = case
    limit = threshold * 255 if values.dtype == np.uint8 else np.float32(threshold)
    found = components(values, offsets, threshold=threshold)
    np.testing.assert_array_equal(found, twins.components(values, offsets, limit))


def test_components_drop_what_is_small_and_grow_into_it() -> None:
    labels = np.repeat([1, 2, 3, 4], [5, 1, 2, 6])[None] + np.zeros((3, 1), int)
    values = affinities_of(labels, nearest(2)).astype(np.float32)
    found = components(values, nearest(2), threshold=0.5, smallest=5)
    assert found[1].tolist() == [1] * 5 + [0] + [2] * 2 + [3] * 6
    filled = components(values, nearest(2), threshold=0.5, smallest=7, fill=True)
    assert set(filled[1].tolist()) == {1, 2}
    assert (filled[:, :5] == 1).all()


def test_components_grow_no_farther_than_their_part_looks() -> None:
    values = np.zeros((2, 4, 3 * PART), np.float32)
    values[:, :, :20] = 1
    filled = components(values, nearest(2), threshold=0.5, smallest=2, fill=True)
    assert (filled[:, :PART] == 1).all()
    assert not filled[:, PART:].any()


def test_components_across_slabs_and_long_columns() -> None:
    values = np.ones((1, 70, 2, 2), np.float32)
    assert components(values, [(1, 0, 0)], threshold=0.5)[:, 0, 0].tolist() == [1] * 70
    values[0, 40] = 0
    assert components(values, [(-1, 0, 0)], threshold=0.5)[:, 1, 1].tolist() == [4] * 40 + [8] * 30


# --- watershed


@settings(max_examples=60)
@given(st.integers(0, 999), st.lists(st.integers(1, 9), min_size=2, max_size=3), st.booleans())
def test_watershed_is_that_of_scikit_image(seed: int, shape: list[int], masked: bool) -> None:
    rng = np.random.default_rng(seed)
    # Levels that repeat, but not among the seeds: which of two equal seeds goes first, scikit-image leaves open.
    height = rng.integers(0, 30, shape).astype(np.uint8) * 4 + 4
    mask = rng.random(shape) < 0.8 if masked else None
    seeds = np.zeros(shape, np.int32)
    chosen = rng.choice(seeds.size, min(4, seeds.size), replace=False)
    seeds.flat[chosen] = np.arange(len(chosen)) + 1
    height.flat[chosen] = np.arange(len(chosen))
    np.testing.assert_array_equal(watershed(height, seeds, mask=mask), reference(height, seeds, mask=mask))


def test_heights_of_any_type_are_told_apart() -> None:
    height, seeds = np.array([0, 5, 2, 9, 1, 3]), np.array([1, 0, 0, 0, 0, 2])
    for dtype in (np.int64, np.float32, np.float64, np.uint8):
        assert watershed(height.astype(dtype)[None], seeds[None]).tolist() == [[1, 1, 1, 2, 2, 2]]
    assert seeds.tolist() == [1, 0, 0, 0, 0, 2]


def test_watershed_by_sections_is_that_of_each_section() -> None:
    rng = np.random.default_rng(1)
    height = rng.random((3, 8, 9)).astype(np.float32)
    seeds = np.where(rng.random(height.shape) < 0.05, np.arange(height.size).reshape(height.shape) + 1, 0)
    levels = quantised(height)
    found = watershed(levels, seeds, sections=True)
    for section in range(3):
        np.testing.assert_array_equal(found[section], watershed(levels[section], seeds[section]))


@settings(max_examples=40)
@given(st.integers(0, 999), st.lists(st.integers(1, 8), min_size=3, max_size=3), st.booleans())
def test_squared_distances_are_those_of_scipy(seed: int, shape: list[int], sections: bool) -> None:
    mask = np.random.default_rng(seed).random(shape) < 0.9
    spacing = [4.0, 1.5, 1.0]
    found = distances(mask, spacing, sections=sections)
    for part in range(shape[0]) if sections else [slice(None)]:
        if mask[part].all():
            assert np.isinf(found[part]).all()
        else:
            expected = ndimage.distance_transform_edt(mask[part], spacing[1:] if sections else spacing)
            np.testing.assert_allclose(found[part], expected**2, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(affinities(), st.integers(1, 4), st.floats(0, 0.9), st.booleans())
def test_fragments_are_those_of_plain_loops(case, separation: int, membrane: float, sections: bool) -> None:
    values, offsets = case
    expected = twins.fragments(values, offsets, membrane, separation, sections)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)  # of membranes that leave nothing inside
        asked = {"threshold": membrane, "separation": separation, "sections": sections}
        found = fragments(values, offsets, **asked, fill=False)
        np.testing.assert_array_equal(found, expected)
        filled = fragments(values, offsets, **asked)
    assert (filled > 0).all() or not found.any() or sections
    np.testing.assert_array_equal(filled[found > 0], found[found > 0])


@pytest.mark.parametrize("sections", [False, True])
@pytest.mark.parametrize("start", [(0, 0, 30), (12, 3, 20), (30, 20, 44)])
def test_parts_are_climbed_as_the_whole(start: tuple[int, ...], sections: bool) -> None:
    values = np.pad(VALUES, [(0, 0), (10, 10), (0, 0), (20, 50)], mode="symmetric")[:3]
    by = Climb(0.7, 2, sections=sections)
    whole = fragments(values, OFFSETS[:3], threshold=0.7, separation=2, sections=sections, fill=False)
    inner = Box(start, tuple(first + 14 for first in start)).clipped(whole.shape)
    read = inner.grown(by.context).clipped(whole.shape)
    box = inner.moved([-first for first in read.start])
    part = np.ascontiguousarray(values[:, *read.slices])
    labels, own, there = fragments_within(part, OFFSETS[:3], by=by, inner=box)
    known = whole[read.slices]
    np.testing.assert_array_equal(labels > 0, known[box.slices] > 0)
    pairs = set(zip(labels[labels > 0].tolist(), known[box.slices][labels > 0].tolist(), strict=True))
    assert len({part for part, _ in pairs}) == len(pairs)
    # What goes on goes on in the fragment that it is a part of.
    assert len(own) > 9
    assert {(int(part), int(known[tuple(place)])) for part, place in zip(own, there, strict=True)} <= pairs


def test_fragments_lie_inside_objects() -> None:
    found = fragments(VALUES, OFFSETS, separation=4, fill=False)
    assert (found == 0).any()
    filled = fragments(VALUES, OFFSETS, separation=4)
    assert filled.all()
    np.testing.assert_array_equal(filled[found > 0], found[found > 0])
    for label in range(1, found.max() + 1):
        inside = LABELS[found == label]
        assert np.bincount(inside).max() > 0.95 * inside.size
    assert (found > 0).mean() > 0.5


def test_fragments_of_sections_stay_in_them() -> None:
    found = fragments(VALUES, OFFSETS, separation=4, sections=True)
    kept = [set(section[section > 0].tolist()) for section in found]
    assert min(map(len, kept)) > 0
    assert sum(map(len, kept)) == len(set.union(*kept))


# --- agglomeration


def lower_quantile(share: float):
    return lambda values: (
        np.sort(np.rint(np.float32(values) * 255))[max(0, int(np.ceil(share * len(values))) - 1)] / 255
    )


@pytest.mark.parametrize("quantile", [None, 0.25])
@settings(max_examples=30)
@given(affinities(), st.integers(0, 99), st.floats(0, 0.9))
def test_agglomeration_is_that_of_plain_loops(quantile: float | None, case, seed: int, threshold: float) -> None:
    values, offsets = case
    labels = np.random.default_rng(seed).integers(0, 9, values.shape[1:]).astype(np.int32)
    floats = values / np.float32(255) if values.dtype == np.uint8 else values
    score = np.mean if quantile is None else lower_quantile(quantile)
    expected = twins.agglomerated(floats, offsets, labels, threshold, score)
    if len(set(_scores(floats, offsets, labels, score))) == len(_scores(floats, offsets, labels, score)):
        found = agglomerated(values, offsets, fragments=labels, threshold=threshold, quantile=quantile)
        assert same_partition(found, np.vectorize(lambda label: expected.get(label, 0), otypes=[int])(labels))


def _scores(values, offsets, labels, score) -> list[float]:
    """Scores of all pairs at the start: where some are equal, the order of merging is open."""
    faces: dict = {}
    for channel, voxel, partner in twins.partners(labels.shape, offsets):
        ends = tuple(sorted((int(labels[voxel]), int(labels[partner]))))
        if ends[0] and ends[0] != ends[1]:
            faces.setdefault(ends, []).append(float(values[channel][voxel]))
    return [float(score(found)) for found in faces.values()]


def test_one_run_of_merges_serves_every_threshold() -> None:
    pieces = fragments(VALUES, OFFSETS, separation=2)
    graph = region_graph(VALUES, OFFSETS, fragments=pieces)
    every = merges(graph)
    for threshold in (0.2, 0.5, 0.8):
        expected = agglomerated(VALUES, OFFSETS, fragments=pieces, threshold=threshold)
        assert same_partition(every.until(threshold)[pieces], expected)
    assert (every.until(1.0)[pieces] == pieces).all()


def test_a_graph_counts_every_face_once() -> None:
    pieces = np.zeros((40, 3, 3), np.int32)
    pieces[:20], pieces[20:] = 1, 2
    values = np.full((3, 40, 3, 3), 0.25, np.float32)
    graph = region_graph(values, nearest(3), fragments=pieces)
    assert graph.ends.tolist() == [[1, 2]]
    assert graph.statistics.tolist() == [[9, 2.25]]
    histogram = region_graph(values, nearest(3), fragments=pieces, quantiles=True).statistics
    assert histogram.nonzero()[1].tolist() == [64]


def test_fragments_that_touch_nothing() -> None:
    pieces = np.zeros((3, 4, 5), np.int32)
    pieces[1] = 7
    assert (agglomerated(VALUES[:3, :3, :4, :5], nearest(3), fragments=pieces, threshold=0.5)[1] > 0).all()


# --- mutex watershed


@settings(max_examples=80)
@given(st.integers(2, 3).flatmap(lambda d: affinities(dimensions=d, long=True)), st.booleans())
def test_mutex_watershed_is_that_of_plain_loops(case, thinned: bool) -> None:
    values, offsets = case
    strides = (1, 2, 3)[-len(values.shape[1:]) :] if thinned else None
    found = mutex_watershed(values, offsets, strides=strides)
    np.testing.assert_array_equal(found, twins.mutex_watershed(values, offsets, strides))


def test_mutex_watershed_finds_cells() -> None:
    found = mutex_watershed(VALUES, OFFSETS, smallest=20)
    assert same_partition(found[found > 0], LABELS[found > 0])
    assert (found > 0).mean() > 0.99


# --- all of them


DECODERS = {
    "components": lambda threads: components(VALUES, OFFSETS, threshold=0.7, smallest=9, fill=True, threads=threads),
    "fragments": lambda threads: fragments(VALUES, OFFSETS, separation=3, threads=threads),
    "sections": lambda threads: fragments(VALUES, OFFSETS, separation=3, sections=True, threads=threads),
    "mean": lambda threads: agglomerated(
        VALUES, OFFSETS, fragments=fragments(VALUES, OFFSETS, separation=2), threshold=0.6, threads=threads
    ),
    "quantile": lambda threads: agglomerated(
        VALUES,
        OFFSETS,
        fragments=fragments(VALUES, OFFSETS, separation=2),
        threshold=0.6,
        quantile=0.4,
        threads=threads,
    ),
    "mutex": lambda threads: mutex_watershed(VALUES, OFFSETS, threads=threads),
}


@pytest.mark.parametrize("name", DECODERS)
def test_threads_change_nothing(name: str) -> None:
    first = DECODERS[name](1)
    assert first.dtype == np.int32
    for threads in (2, 5):
        np.testing.assert_array_equal(DECODERS[name](threads), first)


@pytest.mark.parametrize("name", DECODERS)
def test_bytes_give_what_floats_of_the_same_steps_give(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = np.rint(VALUES * 255).astype(np.uint8)
    monkeypatch.setitem(globals(), "VALUES", steps)
    coarse = DECODERS[name](None)
    monkeypatch.setitem(globals(), "VALUES", steps / np.float32(255))
    assert same_partition(coarse, DECODERS[name](None))


def test_one_section_is_2d() -> None:
    offsets, values = nearest(2), np.ascontiguousarray(VALUES[1:3, 5])
    flat = components(values, offsets, threshold=0.7)
    solid = components(VALUES[:3, 5:6], nearest(3), threshold=0.7)
    np.testing.assert_array_equal(flat, solid[0])
    assert fragments(values, offsets, separation=3).shape == flat.shape
    assert mutex_watershed(values, offsets).shape == flat.shape


def test_settings_that_leave_nothing_say_so() -> None:
    with pytest.warns(InputWarning, match="a smallest size of 99999 voxels leaves no segment"):
        assert components(VALUES, OFFSETS, threshold=0.5, smallest=99999).max() == 0
    with pytest.warns(InputWarning, match="a threshold of 1 leaves no segment, and every voxel is background"):
        assert fragments(VALUES, OFFSETS, threshold=1).max() == 0
