from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from limner.instances import affinities_of, nearest
from limner.instances.decoding import Decoder, decoded, without_small

OFFSETS = (*nearest(3), (-3, 0, 0), (0, -3, 0), (0, 0, -3))


def blocks() -> NDArray[np.int32]:
    """Eight blocks of six voxels a side."""
    z, y, x = np.indices((12, 12, 12)) // 6
    return (4 * z + 2 * y + x + 1).astype(np.int32)


@pytest.mark.parametrize(
    "decoder",
    [
        Decoder(kind="mean", separation=3),
        Decoder(kind="quantile", quantile=0.25, separation=3),
        Decoder(kind="mutex"),
        Decoder(kind="components", threshold=0.9, smallest=10),
    ],
    ids=lambda decoder: decoder.kind,
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_every_kind_finds_what_is_clear(decoder: Decoder, dtype: type) -> None:
    values = affinities_of(blocks(), OFFSETS).astype(dtype) * dtype(255 if dtype is np.uint8 else 1)
    found = decoded(values, OFFSETS, by=decoder)
    for one in np.unique(blocks()):
        assert len(np.unique(found[blocks() == one])) == 1
    assert len(np.unique(found)) == 8


def test_small_segments_give_way_to_their_neighbours() -> None:
    labels, values = blocks(), affinities_of(blocks(), OFFSETS).astype(np.float32)
    labels[2, 2, 2] = 9
    assert without_small(labels, values, offsets=OFFSETS, smallest=1) is labels
    found = without_small(labels, values, offsets=OFFSETS, smallest=5)
    np.testing.assert_array_equal(found, blocks())
    assert labels[2, 2, 2] == 9


def test_nothing_large_enough_leaves_nothing() -> None:
    values = affinities_of(blocks(), OFFSETS).astype(np.float32)
    with pytest.warns(UserWarning, match="leaves no segment"):
        assert not without_small(blocks(), values, offsets=OFFSETS, smallest=10_000).any()
