from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from skimage.metrics import adapted_rand_error as skimage_rand
from skimage.metrics import variation_of_information as skimage_information

from limner.evaluation import (
    adapted_rand_error,
    average_precision,
    cremi_score,
    information_f,
    joined,
    matched,
    mergers,
    near_borders,
    rand_f,
    shared,
    shared_by_parts,
    splits,
    variation_of_information,
)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Segments and objects, some of them 0, and some ids beyond 63 bits."""
    shape = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    names = np.array([0, 3, 2**40, 2**63 + 5, 2**64 - 1], np.uint64)
    most = draw(st.integers(1, 5))
    return names[rng.integers(0, most, shape)], names[rng.integers(draw(st.integers(0, 1)), 5, shape)]


def plain(segments: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Every score by its definition, from lists of voxels; segment 0 is one segment, or many (for pairs)."""
    voxels = [(s, t) for s, t in zip(segments.ravel().tolist(), truth.ravel().tolist(), strict=True) if t]
    joint, of_segment, of_object = Counter(voxels), Counter(s for s, _ in voxels), Counter(t for _, t in voxels)
    n = len(voxels)
    split = -sum(c / n * np.log2(c / of_object[t]) for (s, t), c in joint.items())
    merge = -sum(c / n * np.log2(c / of_segment[s]) for (s, t), c in joint.items())
    lone = [(s or ("alone", index), t) for index, (s, t) in enumerate(voxels)]
    together = [(a[0] == b[0], a[1] == b[1]) for a, b in product(lone, lone)]
    both = sum(a and b for a, b in together)
    f = 2 * both / (sum(a for a, _ in together) + sum(b for _, b in together))
    entropy = [-sum(c / n * np.log2(c / n) for c in counts.values()) for counts in (of_segment, of_object)]
    information = (sum(entropy) - split - merge) / sum(entropy) if sum(entropy) else 1
    overlap = [c / (of_segment[s] + of_object[t] - c) for (s, t), c in joint.items() if s]
    hits = sum(value > 0.5 for value in overlap)
    real = sum(s > 0 for s in of_segment)
    return {
        "split": split,
        "merge": merge,
        "f": f,
        "information": information,
        "ap": hits / (len(of_object) + real - hits),
    }


@given(pairs())
def test_scores_are_those_of_their_definitions(case) -> None:
    segments, truth = case
    if truth.any():
        table, expected = shared(segments, truth), plain(segments, truth)
        assert variation_of_information(table) == pytest.approx((expected["split"], expected["merge"]))
        assert rand_f(table) == pytest.approx(expected["f"])
        assert adapted_rand_error(table) == pytest.approx(1 - expected["f"])
        assert information_f(table) == pytest.approx(expected["information"])
        assert average_precision(table) == pytest.approx(expected["ap"])
        cost = (1 - expected["f"]) * (expected["split"] + expected["merge"])
        assert cremi_score(table) == pytest.approx(np.sqrt(cost), abs=1e-7)
        assert table.total == np.count_nonzero(truth)


@given(pairs())
def test_ignored_voxels_are_as_if_they_were_not_there(case) -> None:
    segments, truth = case
    ignored = np.random.default_rng(0).random(truth.shape) < 0.3
    table, alone = shared(segments, truth, ignored=ignored), shared(segments[~ignored], truth[~ignored])
    for column in ("truth", "segment", "objects", "segments"):
        assert sorted(getattr(table, column).tolist()) == sorted(getattr(alone, column).tolist())
    assert table.total == alone.total


@given(st.integers(0, 99))
def test_scores_agree_with_scikit_image(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 5, (9, 8, 7))
    segments = np.where(rng.random(truth.shape) < 0.7, truth + 1, rng.integers(1, 9, truth.shape))
    table = shared(segments, truth)
    # scikit-image sees the whole array: drop what is ignored first.
    known = truth > 0
    expected = skimage_information(truth[known], segments[known])
    np.testing.assert_allclose(variation_of_information(table), expected, rtol=1e-6)
    # Its pairs are of two voxels, ours also of one with itself.
    assert adapted_rand_error(table) == pytest.approx(skimage_rand(truth, segments, ignore_labels=(0,))[0], abs=0.01)


@given(pairs(), st.permutations(range(5)))
def test_names_do_not_matter_and_equality_is_best(case, order) -> None:
    _, truth = case
    if truth.any():
        renamed = np.array(order, np.uint64)[np.searchsorted(np.unique(truth), truth)] + 1
        perfect = shared(renamed, truth)
        assert variation_of_information(perfect) == pytest.approx((0, 0))
        assert (adapted_rand_error(perfect), average_precision(perfect)) == (0, 1)
        assert information_f(perfect) == pytest.approx(1)


def test_hand_made_mistakes() -> None:
    truth = np.repeat([1, 2], 8)
    halves = shared(np.repeat([1, 2, 3], [4, 4, 8]), truth)
    assert variation_of_information(halves) == pytest.approx((0.5, 0))
    assert adapted_rand_error(halves) == pytest.approx(1 - 2 * 96 / (96 + 128))
    merged = shared(np.ones(16, int), truth)
    assert variation_of_information(merged) == pytest.approx((0, 1))
    assert information_f(merged) == pytest.approx(0)
    background = shared(np.zeros(16, int), truth)
    assert variation_of_information(background) == pytest.approx((0, 1))
    assert adapted_rand_error(background) == pytest.approx(1 - 2 * 16 / (16 + 128))
    assert average_precision(background) == 0


@given(st.integers(0, 99), st.sampled_from([0.5, 4, 8.1, 25]))
def test_borders_are_those_of_a_distance_transform(seed: int, tolerance: float) -> None:
    truth = np.random.default_rng(seed).integers(0, 2, (2, 9, 11)).repeat(3, 1).repeat(3, 2)
    found = near_borders(truth, tolerance, spacing=(8, 4))
    for section, ignored in zip(truth, found, strict=True):
        padded = np.pad(section, 1, mode="edge")
        around = [padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1]]
        alike = np.all([section == neighbour for neighbour in around], axis=0)
        distance = ndimage.distance_transform_edt(alike, sampling=(8, 4))
        np.testing.assert_array_equal(ignored, distance <= tolerance if not alike.all() else np.zeros_like(alike))


def test_splits_are_told_with_their_parts() -> None:
    truth = np.repeat(np.array([5, 6, 9], np.uint64), [8, 8, 4])
    segments = np.repeat([1, 2, 3, 3], [6, 2, 8, 4])
    (found,) = splits(shared(segments, truth))
    assert (found.object, found.segments, found.voxels) == (5, (1, 2), (6, 2))
    assert found.bits == pytest.approx(variation_of_information(shared(segments, truth))[0])


def test_mergers_are_told_by_where_they_run() -> None:
    truth = np.zeros((4, 6, 6), np.uint64)
    truth[:2], truth[2:, :3], truth[2:, 3:] = 1, 2, 3
    segments = np.full(truth.shape, 7)
    segments[2:, 3:] = 8
    segments[3, 3, 0] = 7
    found = mergers(segments, truth, table=shared(segments, truth))
    assert [(merger.objects, merger.through_z, merger.in_section) for merger in found] == [
        ((1, 2), 18, 0),
        ((2, 3), 0, 1),
    ]
    assert found[0].bits == pytest.approx((72 + 36) / 144 * -(2 / 3 * np.log2(2 / 3) + 1 / 3 * np.log2(1 / 3)))
    segments[truth == 1] = 0
    assert len(mergers(segments, truth, table=shared(segments, truth))) == 1


def test_the_bits_of_a_lone_merger_are_those_of_the_segmentation() -> None:
    truth = np.repeat([1, 2, 3], [5, 7, 4])[None]
    segments = np.repeat([1, 1, 2], [5, 7, 4])[None]
    table = shared(segments, truth)
    (found,) = mergers(segments, truth, table=table)
    assert found.bits == pytest.approx(variation_of_information(table)[1])


def test_joined_segments_are_counted_as_if_they_had_been_one() -> None:
    rng = np.random.default_rng(0)
    segments, truth = rng.integers(0, 12, (2, 9, 8, 7))
    names = np.array([0, *rng.integers(1, 4, 11)])
    table = shared(segments, truth)
    found, expected = joined(table, names[table.segments]), shared(names[segments], truth)
    for one, other in ((found.segments, expected.segments), (found.of_segment, expected.of_segment)):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(variation_of_information(found), variation_of_information(expected), atol=1e-12)


@given(pairs())
def test_parts_are_counted_as_the_whole(volumes: tuple[np.ndarray, np.ndarray]) -> None:
    segments, truth = (volume.reshape(-1) for volume in volumes)
    middle = len(truth) // 2
    halves = [(segments[part], truth[part]) for part in (slice(0, middle), slice(middle, None))]
    found, expected = shared_by_parts(halves), shared(segments, truth)
    for one, other in ((found.objects, expected.objects), (found.segments, expected.segments)):
        np.testing.assert_array_equal(one, other)
    columns = [sorted(zip(table.truth, table.segment, table.voxels, strict=True)) for table in (found, expected)]
    assert columns[0] == columns[1]


@given(pairs())
def test_matches_are_the_largest_overlaps_that_are_left(volumes: tuple[np.ndarray, np.ndarray]) -> None:
    table = shared(*volumes)
    partner = dict(zip(table.objects.tolist(), matched(table).tolist(), strict=True))
    held = Counter(zip(volumes[1].ravel().tolist(), volumes[0].ravel().tolist(), strict=True))
    overlaps = {pair: voxels for pair, voxels in held.items() if all(pair)}
    assert set(partner) == {owner for owner, _ in held if owner}
    given = [segment for segment in partner.values() if segment]
    assert len(given) == len(set(given))
    for (owner, segment), voxels in overlaps.items():
        # Who goes without a larger overlap than its own has lost it to somebody whose overlap is at least as large.
        own = overlaps.get((owner, partner[owner]), 0)
        rival = max((overlaps[other, taken] for other, taken in partner.items() if taken == segment), default=0)
        assert max(own, rival) >= voxels
