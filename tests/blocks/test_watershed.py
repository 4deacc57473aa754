"""Watershed and agglomeration block by block: the labels of the whole at once, whatever the blocks."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from blocks.test_blocks import Counted, read, stored
from limner import check
from limner.blocks import BLOCK, Crew, Wanted, block_size, connect, segment_blocks
from limner.cluster import Executor, Processes, Progress, Serial
from limner.files import open_volume
from limner.files.affinities import StoredAffinities
from limner.instances import affinities_of, nearest
from limner.instances.decoding import Decoder, decoded, oversegmented


def cells(shape: tuple[int, ...], *, seed: int = 0, whole: bool = True) -> NDArray[np.generic]:
    """Return affinities (D, *shape) of cells with fuzzy membranes, in which a few voxels make a fragment."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.random((len(shape), *shape)), (0, *[1.0] * len(shape)))
    values = np.clip((smooth - 0.5) * 4 + 0.75, 0, 1).astype(np.float32)
    return (values * 255).astype(np.uint8) if whole else values


DECODERS = st.builds(
    Decoder,
    kind=st.sampled_from(["mean", "quantile"]),
    threshold=st.sampled_from([0.4, 0.7, 0.85]),
    quantile=st.sampled_from([0.25, 0.5]),
    membrane=st.sampled_from([0.3, 0.6]),
    separation=st.integers(1, 3).map(float),
    sections=st.booleans(),
)


@settings(max_examples=15, deadline=None)
@given(
    shape=st.lists(st.integers(1, 14), min_size=2, max_size=3).map(tuple),
    block=st.integers(3, 9),
    seed=st.integers(0, 99),
    whole=st.booleans(),
    forward=st.booleans(),
    by=DECODERS,
)
def test_blocks_are_the_whole(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, ...],
    block: int,
    seed: int,
    *,
    whole: bool,
    forward: bool,
    by: Decoder,
) -> None:
    home, data = tmp_path_factory.mktemp("watershed"), cells(shape, seed=seed, whole=whole)
    offsets = tuple(tuple(-step for step in one) for one in nearest(len(shape))) if forward else nearest(len(shape))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", check.InputWarning)  # of volumes that are all membrane
        count = segment_blocks(stored(home / "a.zarr", data, offsets), home / "labels.zarr", by=by, block=block)
        expected = decoded(data, offsets, by=by)
    np.testing.assert_array_equal(read(home / "labels.zarr"), expected)
    assert count == expected.max()


@pytest.mark.parametrize("kind", ["mean", "quantile"])
@pytest.mark.parametrize("block", [20, 33, 256])
def test_fragments_larger_than_blocks(tmp_path: Path, kind: str, block: int) -> None:
    data = ndimage.gaussian_filter(cells((20, 30, 160), whole=False), (0, 2, 2, 2))
    data = np.clip((data - data.mean()) * 4 + 0.8, 0, 1).astype(np.float32)
    by = Decoder(kind=kind, threshold=0.8, membrane=0.6, smallest=40)
    expected = decoded(data, nearest(3), by=by)
    pieces = oversegmented(data, nearest(3), by=by)
    assert pieces.max() > 1.2 * expected.max() > 12
    assert np.bincount(pieces.ravel())[1:].max() > 1000
    assert (expected > 0).all()
    wanted = Wanted(by, fill=True, origin=())
    source = stored(tmp_path / "affinities.zarr", data)
    count = connect(source, tmp_path / "labels.zarr", wanted=wanted, crew=Crew(Serial(1), Progress()), block=block)
    np.testing.assert_array_equal(read(tmp_path / "labels.zarr"), expected)
    assert count == expected.max()


@pytest.mark.parametrize("executor", [Serial(2), Processes(2)])
def test_it_is_no_matter_who_does_them(tmp_path: Path, executor: Executor) -> None:
    data, by = cells((20, 24, 28)), Decoder(threshold=0.7, separation=2)
    source = stored(tmp_path / "affinities.zarr", data)
    segment_blocks(source, tmp_path / "labels.zarr", by=by, block=12, executor=executor)
    np.testing.assert_array_equal(read(tmp_path / "labels.zarr"), decoded(data, nearest(3), by=by))
    assert not (tmp_path / "labels.zarr.work").exists()


@pytest.mark.parametrize("stop", [2, 10, 18, 27])
def test_it_goes_on_where_it_was_stopped(tmp_path: Path, stop: int) -> None:
    data, by = cells((12, 12, 12)), Decoder(threshold=0.7, separation=2)
    source, out = stored(tmp_path / "affinities.zarr", data), tmp_path / "labels.zarr"
    with pytest.raises(KeyboardInterrupt):
        segment_blocks(source, out, by=by, block=6, progress=Counted(stop))
    rest = Counted()
    segment_blocks(source, out, by=by, block=6, progress=rest)
    assert len(rest.done) == 4 * 8 + 1 - stop - 1  # membranes are one part
    np.testing.assert_array_equal(read(out), decoded(data, nearest(3), by=by))


def test_other_options_are_refused(tmp_path: Path) -> None:
    source, out = stored(tmp_path / "affinities.zarr", cells((12, 12, 12))), tmp_path / "labels.zarr"
    with pytest.raises(KeyboardInterrupt):
        segment_blocks(source, out, by=Decoder(), block=6, progress=Counted(3))
    with pytest.raises(check.InputError, match=r"another run \(decoder mean, now components, "):
        segment_blocks(source, out, by=Decoder(kind="components"), block=6)
    with pytest.raises(check.InputError, match=r"another run \(separation 5\.0, now 4\.0\)"):
        segment_blocks(source, out, by=Decoder(separation=4), block=6)
    # What the decoder does not follow is no other option.
    segment_blocks(source, out, by=Decoder(quantile=0.1), block=6)
    with pytest.raises(check.InputError, match=r"another run \(threshold 0\.5, now 0\.6\)"):
        segment_blocks(source, out, by=Decoder(threshold=0.6), block=6)


def test_memory_that_does_not_hold_what_is_read_around_blocks_is_refused(tmp_path: Path) -> None:
    source = StoredAffinities.opened(stored(tmp_path / "affinities.zarr", cells((4, 4, 4))))
    components, mean, quantile = (Decoder(kind=kind) for kind in ("components", "mean", "quantile"))
    sizes = [block_size(source, 1e9, by=by) for by in (components, mean, quantile)]
    assert BLOCK == sizes[0] > sizes[1] > sizes[2] >= 128
    assert block_size(source, 1e9, by=Decoder(separation=30)) < sizes[1]
    with pytest.raises(check.InputError, match=r"--max-memory is 0\.4 GB but the smallest block needs 0\.48"):
        block_size(source, 0.4e9, by=mean)


def test_a_graph_that_memory_does_not_hold_is_refused(tmp_path: Path) -> None:
    source, by = stored(tmp_path / "affinities.zarr", cells((20, 20, 20))), Decoder(membrane=0.3, separation=2)
    said = r"touch in \d+ places, and merging them takes \S+ GB in one process but --max-memory is 1e-05; expected more"
    with pytest.raises(check.InputError, match=said):
        segment_blocks(source, tmp_path / "labels.zarr", by=by, block=20, executor=Serial(1, memory=1e4))
    # What was done until then is not done again.
    rest = Counted()
    segment_blocks(source, tmp_path / "labels.zarr", by=by, block=20, executor=Serial(1), progress=rest)
    assert len(rest.done) == 1


def test_what_is_all_membrane_is_told(tmp_path: Path) -> None:
    source = stored(tmp_path / "affinities.zarr", cells((9, 9, 9)))
    with pytest.warns(check.InputWarning, match="membrane 1 leaves no segment, and every voxel is background"):
        assert segment_blocks(source, tmp_path / "labels.zarr", by=Decoder(membrane=1), block=6) == 0
    assert not read(tmp_path / "labels.zarr").any()


@pytest.mark.real
@pytest.mark.parametrize("block", [24, 64])
def test_real_neurons(real_data: Path, tmp_path: Path, block: int) -> None:
    labels = open_volume(real_data / "em_neurons" / "crop.hdf", kind="instances").data[:40, :80, :90]
    sure = affinities_of(labels, nearest(3)).astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 0.1, sure.shape)
    data = np.clip(ndimage.gaussian_filter(sure, (0, 1, 1, 1)) + noise, 0, 1).astype(np.float32)
    by = Decoder(threshold=0.6, membrane=0.6, separation=3)
    source = stored(tmp_path / "affinities.zarr", data)
    segment_blocks(source, tmp_path / "labels.zarr", by=by, block=block)
    expected = decoded(data, nearest(3), by=by)
    np.testing.assert_array_equal(read(tmp_path / "labels.zarr"), expected)
    assert expected.max() > 20
