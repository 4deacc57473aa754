"""Volumes segmented block by block: the labels of the whole at once, whatever the blocks and whoever does them."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from ome_zarr_models.v05.image_label import ImageLabel

from limner import check
from limner.blocks import BLOCK, Crew, Wanted, block_size, connect, segment_blocks
from limner.cluster import Executor, Outcome, Processes, Progress, Serial
from limner.files import open_volume
from limner.files.affinities import StoredAffinities, save_affinities
from limner.files.nanometres import placed
from limner.files.pyramids import reduced
from limner.instances import affinities_of, components, nearest
from limner.instances.decoding import Decoder
from limner.space import Affinities, Grid

NEAR = nearest(3)


def noise(shape: tuple[int, ...], *, seed: int = 0, whole: bool = True) -> NDArray[np.generic]:
    """Return affinities (C, *shape) between which a threshold leaves pieces of many sizes."""
    values = np.random.default_rng(seed).random((len(shape), *shape), np.float32) ** 0.7
    return (values * 255).astype(np.uint8) if whole else values


def stored(path: Path, data: NDArray[np.generic], offsets: tuple[tuple[int, ...], ...] | None = None) -> Path:
    """Write affinities of direct neighbours, or of `offsets`, and return where."""
    grid = Grid(data.shape[1:], placed([40.0, 8.0, 8.0][-(data.ndim - 1) :], [80.0, 0.0, 16.0][-(data.ndim - 1) :]))
    save_affinities(Affinities(data, offsets or nearest(data.ndim - 1), grid), path)
    return path


def connected(threshold: float = 0.6, smallest: int = 1) -> Decoder:
    """Return the decoder of components."""
    return Decoder(kind="components", threshold=threshold, smallest=smallest)


def read(path: Path) -> NDArray[np.uint64]:
    """Return labels as they are stored."""
    return np.asarray(zarr.open_array(path, mode="r")[...])


@settings(max_examples=12, deadline=None)
@given(
    shape=st.lists(st.integers(1, 8), min_size=2, max_size=3).map(tuple),
    block=st.integers(2, 6),
    seed=st.integers(0, 99),
    whole=st.booleans(),
    forward=st.booleans(),
    smallest=st.integers(1, 3),
)
def test_blocks_are_the_whole(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, ...],
    block: int,
    seed: int,
    *,
    whole: bool,
    forward: bool,
    smallest: int,
) -> None:
    home, data = tmp_path_factory.mktemp("blocks"), noise(shape, seed=seed, whole=whole)
    offsets = tuple(tuple(-step for step in one) for one in nearest(len(shape))) if forward else nearest(len(shape))
    source = stored(home / "affinities.zarr", data, offsets)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", check.InputWarning)  # of sizes that leave no segment
        count = segment_blocks(source, home / "labels.zarr", by=connected(0.6, smallest), block=block)
        expected = components(data, offsets, threshold=0.6, smallest=smallest)
    np.testing.assert_array_equal(read(home / "labels.zarr"), expected)
    assert count == expected.max()


@pytest.mark.parametrize("block", [100, 256])
def test_what_is_too_small_is_filled_as_in_the_whole(tmp_path: Path, block: int) -> None:
    data = noise((6, 9, 300))
    source, wanted = stored(tmp_path / "affinities.zarr", data), Wanted(connected(0.6, 4), fill=True, origin=())
    connect(source, tmp_path / "labels.zarr", wanted=wanted, crew=Crew(Serial(1), Progress()), block=block)
    expected = components(data, NEAR, threshold=0.6, smallest=4, fill=True)
    assert (expected > 0).all()
    np.testing.assert_array_equal(read(tmp_path / "labels.zarr"), expected)


@pytest.mark.parametrize("executor", [Serial(1), Processes(2)])
def test_it_is_no_matter_who_does_them(tmp_path: Path, executor: Executor) -> None:
    data = noise((20, 24, 28))
    source = stored(tmp_path / "affinities.zarr", data)
    segment_blocks(source, tmp_path / "labels.zarr", by=connected(0.6), block=10, executor=executor)
    volume = open_volume(tmp_path / "labels.zarr", kind="instances")
    np.testing.assert_array_equal(volume.data, components(data, NEAR, threshold=0.6))
    np.testing.assert_allclose(volume.grid.affine, placed([40.0, 8.0, 8.0], [80.0, 0.0, 16.0]))
    assert not (tmp_path / "labels.zarr.work").exists()


def test_an_image_of_labels_has_coarser_scales(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = noise((5, 24, 140))
    source, out = stored(tmp_path / "affinities.zarr", data), tmp_path / "labels.ome.zarr"

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("limner.files.ome.fill", killed)
        with pytest.raises(KeyboardInterrupt):
            segment_blocks(source, out, by=connected(0.6), block=64)
    assert not out.exists()
    rest = Counted()
    count = segment_blocks(source, out, by=connected(0.6), block=64, progress=rest)
    assert rest.done == []
    expected = components(data, NEAR, threshold=0.6)
    volume = open_volume(out, kind="instances")
    np.testing.assert_array_equal(volume.data, expected)
    np.testing.assert_allclose(volume.grid.affine, placed([40.0, 8.0, 8.0], [80.0, 0.0, 16.0]))
    group = zarr.open_group(out, mode="r")
    for name in ("1", "2"):
        expected = reduced(expected, (1, 2, 2), kind="instances")
        np.testing.assert_array_equal(group[name][...], expected)
    ImageLabel.from_zarr(group)
    assert group["0"].metadata.dimension_names == ("z", "y", "x")
    assert segment_blocks(source, out, by=connected(0.6), block=16) == count
    with pytest.raises(check.InputError, match=r"holds results of another run \(threshold 0.6, now 0.5\)"):
        segment_blocks(source, out, by=connected(0.5))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["affinities.zarr", "labels.ome.zarr"]


@pytest.mark.real
@pytest.mark.parametrize("block", [32, 48, 64])
def test_real_neurons(real_data: Path, tmp_path: Path, block: int) -> None:
    labels = open_volume(real_data / "em_neurons" / "crop.hdf", kind="instances").data[:80, :100, :100]
    weak = np.random.default_rng(0).random((3, *labels.shape)) < 0.3
    data = (affinities_of(labels, NEAR) & ~weak).astype(np.uint8) * 255
    source = stored(tmp_path / "affinities.zarr", data)
    segment_blocks(source, tmp_path / "labels.zarr", by=connected(0.5, 20), block=block)
    np.testing.assert_array_equal(read(tmp_path / "labels.zarr"), components(data, NEAR, threshold=0.5, smallest=20))


class Counted(Progress):
    """Notes which blocks are done, and stops the run after some, as a kill would."""

    def __init__(self, stop: int | None = None) -> None:
        self.done: list[str] = []
        self.stop = stop

    def finished(self, outcome: Outcome) -> None:
        if len(self.done) == self.stop:
            raise KeyboardInterrupt
        self.done.append(outcome.name)


@pytest.mark.parametrize("stop", [0, 3, 8, 13, 20, 23])
def test_it_goes_on_where_it_was_stopped(tmp_path: Path, stop: int) -> None:
    data = noise((12, 12, 12))
    source, out = stored(tmp_path / "affinities.zarr", data), tmp_path / "labels.zarr"
    with pytest.raises(KeyboardInterrupt):
        segment_blocks(source, out, by=connected(0.6), block=6, progress=Counted(stop))
    assert not out.exists()
    rest = Counted()
    segment_blocks(source, out, by=connected(0.6), block=6, progress=rest)
    # The one that was finished when the run was stopped had its marker, though nobody was told.
    assert len(rest.done) == 3 * 8 - stop - 1
    np.testing.assert_array_equal(read(out), components(data, NEAR, threshold=0.6))


def killed_run(source: Path, out: Path) -> None:
    """Segment in a process that will be killed."""
    segment_blocks(source, out, by=connected(0.6), block=6)


@pytest.mark.parametrize("seed", range(3))
def test_kill_9(tmp_path: Path, seed: int) -> None:
    data = noise((18, 18, 18), seed=seed)
    source, out = stored(tmp_path / "affinities.zarr", data), tmp_path / "labels.zarr"
    process = multiprocessing.get_context("fork").Process(target=killed_run, args=(source, out))
    process.start()
    time.sleep(float(np.random.default_rng(seed).uniform(0, 1)))
    if process.pid:
        os.kill(process.pid, 9)
    process.join()
    segment_blocks(source, out, by=connected(0.6), block=6)
    np.testing.assert_array_equal(read(out), components(data, NEAR, threshold=0.6))


def test_what_was_lost_on_the_way_is_done_again(tmp_path: Path) -> None:
    data = noise((12, 12, 12))
    source, out = stored(tmp_path / "affinities.zarr", data), tmp_path / "labels.zarr"
    with pytest.raises(KeyboardInterrupt):
        segment_blocks(source, out, by=connected(0.6), block=6, progress=Counted(20))
    files = tmp_path / "labels.zarr.work/labels/voxels.zarr/c/0/0"
    (files / "1").rename(files / "1.0123.partial")  # as zarr leaves it when it is killed
    rest = Counted()
    segment_blocks(source, out, by=connected(0.6), block=6, progress=rest)
    assert "0-0-6" in rest.done
    assert len(rest.done) == 4
    assert not list(out.rglob("*.partial"))
    np.testing.assert_array_equal(read(out), components(data, NEAR, threshold=0.6))


def test_finished_labels_are_not_made_again(tmp_path: Path) -> None:
    source, out = stored(tmp_path / "affinities.zarr", noise((8, 8, 8))), tmp_path / "labels.zarr"
    count, again = segment_blocks(source, out, by=connected(0.6), block=6), Counted()
    # Blocks of another size, as another --max-memory asks for, would give the same.
    for block in (6, 4, None):
        assert segment_blocks(source, out, by=connected(0.6), block=block, progress=again) == count
    assert not again.done
    with pytest.raises(check.InputError, match=r"holds results of another run \(threshold 0.6, now 0.5\)"):
        segment_blocks(source, out, by=connected(0.5), block=6)
    segment_blocks(source, out, by=connected(0.5), block=6, redo=True)


@pytest.mark.parametrize("stop", [0, 5, 11, 20])
def test_what_was_half_done_in_other_blocks_is_begun_anew(tmp_path: Path, stop: int) -> None:
    data = noise((12, 12, 12))
    source, out = stored(tmp_path / "affinities.zarr", data), tmp_path / "labels.zarr"
    with pytest.raises(KeyboardInterrupt):
        segment_blocks(source, out, by=connected(0.6), block=6, progress=Counted(stop))
    with pytest.raises(check.InputError, match=r"another run \(threshold 0.6, now 0.5, block \[6, 6, 6\], now"):
        segment_blocks(source, out, by=connected(0.5), block=7)
    rest = Counted()
    with pytest.warns(check.InputWarning, match=r"blocks of \[6, 6, 6\] voxels, now \[7, 7, 7\]; it was begun anew"):
        segment_blocks(source, out, by=connected(0.6), block=7, progress=rest)
    assert len(rest.done) == 3 * 8
    np.testing.assert_array_equal(read(out), components(data, NEAR, threshold=0.6))


def test_affinities_that_changed_between_are_refused(tmp_path: Path) -> None:
    source, out = stored(tmp_path / "affinities.zarr", noise((8, 8, 8))), tmp_path / "labels.zarr"
    with pytest.raises(KeyboardInterrupt):
        segment_blocks(source, out, by=connected(0.6), block=6, progress=Counted(2))
    shutil.rmtree(source)
    stored(source, noise((8, 8, 8), seed=1))
    with pytest.raises(check.InputError, match=r"holds results of another run \(affinities \w+, now \w+\)"):
        segment_blocks(source, out, by=connected(0.6), block=6)


def test_a_damaged_chunk_is_named_and_nothing_is_left_with_a_hole(tmp_path: Path) -> None:
    source, out = stored(tmp_path / "affinities.zarr", noise((8, 8, 8))), tmp_path / "labels.zarr"
    next(path for path in sorted((source / "c").rglob("*")) if path.is_file()).write_bytes(b"damaged")
    with pytest.raises(check.InputError, match=r"8 of 8 blocks failed twice in the stage 'fragments' \(0-0-0: "):
        segment_blocks(source, out, by=connected(0.6), block=6)
    assert not out.exists()


def test_output_inside_the_input_is_refused(tmp_path: Path) -> None:
    source = stored(tmp_path / "affinities.zarr", noise((4, 4, 4)))
    for out in (source, source / "labels.zarr", tmp_path):
        with pytest.raises(check.InputError, match="lie in one another; expected labels elsewhere"):
            segment_blocks(source, out, by=connected(0.6))
    with pytest.raises(check.InputError, match=r"expected a name that ends in \.zarr"):
        segment_blocks(source, tmp_path / "labels.nii.gz", by=connected(0.6))


def test_a_size_that_leaves_nothing_is_told(tmp_path: Path) -> None:
    source = stored(tmp_path / "affinities.zarr", noise((4, 4, 4)))
    with pytest.warns(check.InputWarning, match="a smallest size of 65 voxels leaves no segment"):
        assert segment_blocks(source, tmp_path / "labels.zarr", by=connected(0.6, 65)) == 0
    assert not read(tmp_path / "labels.zarr").any()


def test_offsets_beyond_a_block_are_no_matter(tmp_path: Path) -> None:
    data = np.concatenate([noise((10, 10, 10)), noise((10, 10, 10), seed=1)])
    source = stored(tmp_path / "affinities.zarr", data, (*NEAR, (-9, 0, 0), (0, -9, 0), (0, 0, -9)))
    segment_blocks(source, tmp_path / "labels.zarr", by=connected(0.6), block=4)
    np.testing.assert_array_equal(read(tmp_path / "labels.zarr"), components(data[:3], NEAR, threshold=0.6))


def test_affinities_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    far = stored(tmp_path / "far.zarr", noise((8, 8, 8)), ((-2, 0, 0), (0, -2, 0), (0, 0, -2)))
    with pytest.raises(check.InputError, match="none of one step along one axis"):
        segment_blocks(far, tmp_path / "labels.zarr", by=connected(0.6))
    told = {"offsets": [list(offset) for offset in NEAR], "resolution": [8.0, 8.0, 8.0]}
    zarr.create_array(tmp_path / "none.zarr", shape=(3, 0, 8, 8), dtype=np.uint8, attributes=told)
    with pytest.raises(check.InputError, match=r"has no voxels, shape \(0, 8, 8\)"):
        segment_blocks(tmp_path / "none.zarr", tmp_path / "labels.zarr", by=connected(0.6))
    assert not list(tmp_path.glob("labels*"))


def test_boundary_probabilities_are_told_once(tmp_path: Path) -> None:
    source = stored(tmp_path / "affinities.zarr", noise((8, 8, 8)) // 10)
    with pytest.warns(check.InputWarning, match="if they are boundary probabilities") as heard:
        segment_blocks(source, tmp_path / "labels.zarr", by=connected(0.6), block=4)
    assert len([one for one in heard if "boundary" in str(one.message)]) == 1


def test_blocks_are_as_large_as_memory_allows(tmp_path: Path) -> None:
    source = StoredAffinities.opened(stored(tmp_path / "affinities.zarr", noise((4, 4, 4))))
    assert block_size(source, None, by=connected()) == BLOCK == block_size(source, 8e9, by=connected())
    assert 64 <= block_size(source, 0.6e9, by=connected()) < 256
    with pytest.raises(check.InputError, match=r"--max-memory is 0\.3 GB but the smallest block needs"):
        block_size(source, 0.3e9, by=connected())
