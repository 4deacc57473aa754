"""The mutex watershed block by block: where cells are clear that of the whole, else nearly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from blocks.test_blocks import Counted, read, stored
from instances.test_decoders import LABELS, OFFSETS, VALUES
from instances.twins import same_partition
from limner.blocks import segment_blocks
from limner.cluster import Serial
from limner.evaluation import partition
from limner.instances.decoding import Decoder, decoded

BY = Decoder(kind="mutex")


def steps() -> NDArray[np.uint8]:
    """Return noisy affinities of nine cells, in 255ths."""
    return np.rint(VALUES * 255).astype(np.uint8)


@pytest.mark.parametrize("strides", [(), (2, 3, 1)])
def test_one_block_is_the_whole(tmp_path: Path, strides: tuple[int, ...]) -> None:
    by = Decoder(kind="mutex", strides=strides)
    count = segment_blocks(stored(tmp_path / "a.zarr", steps(), OFFSETS), tmp_path / "labels.zarr", by=by)
    expected = decoded(steps(), OFFSETS, by=by)
    np.testing.assert_array_equal(read(tmp_path / "labels.zarr"), expected)
    assert count == expected.max()


@pytest.mark.parametrize("block", [7, 10, 16])
def test_cells_go_on_from_block_to_block(tmp_path: Path, block: int) -> None:
    by = Decoder(kind="mutex", strides=(1, 2, 2), smallest=30)
    segment_blocks(stored(tmp_path / "a.zarr", steps(), OFFSETS), tmp_path / "labels.zarr", by=by, block=block)
    found = read(tmp_path / "labels.zarr")
    split, merge = partition.variation_of_information(partition.shared(found[found > 0], LABELS[found > 0]))
    assert (found > 0).mean() > 0.98
    assert split + merge < 0.1


def test_cells_without_noise_are_those_of_the_whole(tmp_path: Path) -> None:
    clear = np.where(VALUES > 0.5, 255, 0).astype(np.uint8)
    segment_blocks(stored(tmp_path / "a.zarr", clear, OFFSETS), tmp_path / "labels.zarr", by=BY, block=10)
    found = read(tmp_path / "labels.zarr")
    assert (found > 0).all()
    assert same_partition(found, decoded(clear, OFFSETS, by=BY))


def test_it_is_no_matter_where_it_was_stopped(tmp_path: Path) -> None:
    source = stored(tmp_path / "a.zarr", steps(), OFFSETS)
    segment_blocks(source, tmp_path / "labels.zarr", by=BY, block=12)
    with pytest.raises(KeyboardInterrupt):
        segment_blocks(source, tmp_path / "again.zarr", by=BY, block=12, progress=Counted(11))
    segment_blocks(source, tmp_path / "again.zarr", by=BY, block=12, executor=Serial(2))
    np.testing.assert_array_equal(read(tmp_path / "again.zarr"), read(tmp_path / "labels.zarr"))
