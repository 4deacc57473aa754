"""What blocks have labelled becomes one: the books kept of it, the rule of agreement, and what may not be joined."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from limner.instances import Fragments, agreed, fragments_of, settled, stitched, without_dust
from limner.space import Box


def test_labels_with_more_than_half_of_each_other_are_alike() -> None:
    theirs = np.array([1, 1, 1, 2, 2, 3, 3, 0, 0, 4])
    ours = np.array([5, 5, 6, 7, 8, 9, 9, 9, 9, 0])
    # 1 and 5 share two of three; 2 is halved; 3 has all of its own in 9, and not more than half of that.
    assert agreed(theirs, ours).tolist() == [[1, 5, 2]]
    assert agreed(theirs[:7], ours[:7]).tolist() == [[1, 5, 2], [3, 9, 2]]
    assert agreed(np.zeros(3, int), np.ones(3, int)).shape == (0, 3)


def plain(count: int, apart: NDArray[np.int64], alike: NDArray[np.int64]) -> list[int]:
    """Which fragment comes first in each one's segment."""
    segment = list(range(count))
    for one, other, _ in sorted(alike.tolist(), key=lambda row: (-row[2], *row[:2])):
        keep, gone = sorted((segment[one], segment[other]))
        if not any({segment[a], segment[b]} == {keep, gone} for a, b in apart.tolist()):
            segment = [keep if root == gone else root for root in segment]
    return segment


pairs = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)).filter(lambda ends: ends[0] != ends[1]), max_size=12)


@given(pairs, pairs, st.integers(0, 99))
def test_fragments_that_are_apart_are_not_joined(apart: list, alike: list, seed: int) -> None:
    rng = np.random.default_rng(seed)
    fragments = Fragments(rng.integers(1, 9, 9), rng.permutation(9))
    barred = np.array(apart, np.int64).reshape(-1, 2)
    shared = np.column_stack([np.array(alike, np.int64).reshape(-1, 2), rng.integers(1, 5, len(alike))])
    names, count = settled(fragments, apart=barred, alike=shared)
    segment = plain(9, barred, shared)
    firsts = {root: min(fragments.firsts[i] for i in range(9) if segment[i] == root) for root in set(segment)}
    order = sorted(firsts, key=firsts.__getitem__)
    assert names.tolist() == [order.index(root) + 1 for root in segment]
    assert count == len(order)
    some, kept = settled(fragments, apart=barred, alike=shared, smallest=6)
    sizes = np.bincount(names.astype(int), fragments.sizes)
    assert ((some > 0) == (sizes[names.astype(int)] >= 6)).all()
    assert kept == (sizes >= 6).sum() == some.max()


def test_dust_inside_a_block_is_left_out_and_the_order_stays() -> None:
    labels = np.array([[1, 2, 2, 3], [4, 5, 2, 6], [7, 7, 7, 6]], np.int32)
    # Of 5 there is too little, as of 1, 3 and 4, but 1 and 4 touch what lies before along x, and 3 what lies above.
    np.testing.assert_array_equal(
        without_dust(labels, [(1, 0)], smallest=2), [[1, 2, 2, 0], [3, 0, 2, 4], [5, 5, 5, 4]]
    )
    np.testing.assert_array_equal(without_dust(labels, [(0, 0)], smallest=3)[0], [1, 2, 2, 3])
    np.testing.assert_array_equal(without_dust(labels, [], smallest=1), labels)
    assert not without_dust(labels, [], smallest=9).any()


def test_voxels_that_were_left_out_are_of_no_fragment() -> None:
    found = fragments_of(np.array([[0, 1], [0, 2]], np.int32), Box((2, 2), (4, 4)), shape=(4, 4))
    assert found.sizes.tolist() == [1, 1]
    assert found.firsts.tolist() == [11, 15]
    assert not len(fragments_of(np.zeros((2, 2), np.int32), Box((0, 0), (2, 2)), shape=(4, 4)).sizes)


def test_segments_are_numbered_by_their_first_voxels() -> None:
    found, count = stitched(
        Fragments(np.array([2, 1, 5, 1]), np.array([30, 0, 9, 4])), [np.array([[0, 3]]), np.array([[3, 0]])], smallest=2
    )
    assert count == 2
    assert found.dtype == np.uint64
    assert found.tolist() == [1, 0, 2, 1]
