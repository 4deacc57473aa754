"""Books are kept of what may become a segment, and of nothing else."""

from __future__ import annotations

import numpy as np

from limner.instances import Fragments, fragments_of, stitched, without_dust
from limner.space import Box


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
