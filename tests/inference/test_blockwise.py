"""Volumes segmented block by block: what the whole at once gives, whatever the blocks and whoever does them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from numpy.typing import NDArray

import tiny
from cluster.test_remote import running
from inference.cells import SHAPE, cube, taught
from limner import check
from limner.blocks import Crew
from limner.cluster import Cluster, Executor, Outcome, Progress, Serial
from limner.data.intensity import Moments
from limner.data.scan import Preparation
from limner.data.volumes import OBJECTS, whole
from limner.files import open_volume, save_volume
from limner.files.affinities import open_affinities
from limner.inference.blockwise import Prediction, block_of, predict_blocks, segment_by_blocks
from limner.inference.lattice import Lattice, mirrored
from limner.inference.neurons import predicted, segment_volumes, volume_affinities
from limner.inference.objects import affinity_method, block_memory, decoder_of, offsets_in, whole_memory
from limner.instances.decoding import Decoder, decoded
from limner.methods.affinity import Affinity, AffinityOptions
from limner.methods.method import Task
from limner.methods.storage import Model, load_model, save_model
from limner.space import Box, Grid, Volume

#: Of a piece: tiles of 8 voxels, with a margin that the network's context fills.
SIDE = 28
#: Of segments; what is smaller is filled.
SMALLEST = 20


def with_decoder(model: Path, out: Path, decoder: Decoder) -> Path:
    """Save a model with another decoder, and return where."""
    found = load_model(model)
    found.method.options = found.method.options.model_copy(update={"decoder": decoder})
    save_model(found, out)
    return out


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cube, as CREMI's file and as a store, and a model that decodes components."""
    folder = tmp_path_factory.mktemp("blockwise")
    model = taught(folder, steps=20)
    found = volume_affinities(affinity_method(load_model(model), mirrored=False), folder / "cube.hdf")
    # It has learned little, but where there is more and where less of it: there are many segments.
    threshold = float(np.quantile(found.data[:3], 0.7)) / 255
    with_decoder(model, folder / "model", Decoder(kind="components", threshold=threshold, smallest=SMALLEST))
    for name in ("raw.zarr", "image.ome.zarr"):
        save_volume(cube()[0], folder / name)
    return folder


@pytest.fixture(scope="module")
def method(home: Path) -> Affinity:
    return affinity_method(load_model(home / "model"), mirrored=False)


@pytest.fixture(scope="module")
def expected(home: Path, method: Affinity) -> NDArray[np.uint8]:
    """What the cube's affinities are in memory, tile by tile."""
    return predicted(method, whole(home / "cube.hdf")[1], side=SIDE)


def crew(executor: Executor | None = None, progress: Progress | None = None) -> Crew:
    return Crew(executor or Serial(1), progress or Progress())


def prediction(home: Path, name: str = "cube.hdf") -> Prediction:
    return Prediction.of(home / name, home / "model", mirrored=False, side=SIDE)


def read(path: Path) -> NDArray[np.uint64]:
    return np.asarray(zarr.open_array(path, mode="r")[...])


# --- the lattice


def test_pieces_are_mirrored_as_numpy_does() -> None:
    values = np.random.default_rng(0).random((2, 5, 3), np.float32)
    padded = np.pad(values, [(0, 0), (7, 9), (7, 9)], mode="symmetric")
    found = mirrored(lambda box: values[:, *box.slices], Box((-7, -7), (14, 12)), shape=(5, 3))
    np.testing.assert_array_equal(found, padded)
    inner = mirrored(lambda box: values[:, *box.slices], Box((1, -2), (4, 1)), shape=(5, 3))
    np.testing.assert_array_equal(inner, padded[:, 8:11, 5:8])


def test_tiles_of_a_part_are_those_of_all(method: Affinity) -> None:
    lattice = Lattice.of(method, SHAPE, side=SIDE)
    assert lattice.tile == (8, 8, 8)
    everywhere = set(lattice.tiles(Box.whole(SHAPE)))
    assert sum(tile.size for tile in everywhere) == np.prod(SHAPE)
    assert set(lattice.tiles(Box((8, 16, 0), (20, 24, 16)))) < everywhere
    assert all(first % method.stride == 0 for tile in everywhere for first in lattice.looked_at(tile).start)


def test_where_margins_fill_the_context_tiles_are_the_whole(method: Affinity, expected: NDArray[np.uint8]) -> None:
    image = whole_image()
    assert method.context <= Lattice.of(method, SHAPE).margin[0]
    at_once = predicted(method, image)
    # One step of 255 where sums of another order round otherwise; some more where products are in bfloat16.
    assert np.abs(at_once.astype(int) - expected).max() <= 4


def whole_image() -> NDArray[np.float32]:
    """The cube's image, made ready."""
    data = cube()[0].data
    return Moments.of(data).standardised(data)[None]


def test_moments_are_those_of_all_in_any_order() -> None:
    values = 1e4 + np.random.default_rng(0).normal(size=(9, 40, 30))
    parts = [Moments.of(values[:, first : first + 7]) for first in range(0, 40, 7)]
    joined = Moments.joined(parts)
    assert joined == Moments.joined(parts[::-1])
    assert joined.mean == pytest.approx(values.mean(), rel=1e-12)
    assert joined.spread == pytest.approx(values.std(), rel=1e-9)
    ready = joined.standardised(values)
    assert (ready.mean(), ready.std()) == (pytest.approx(0, abs=1e-6), pytest.approx(1, rel=1e-6))


# --- affinities


@pytest.mark.parametrize(
    ("name", "block"),
    [("cube.hdf", None), ("cube.hdf", 16), ("raw.zarr", 24), ("raw.zarr", 99), ("image.ome.zarr", 24)],
)
def test_blocks_are_predicted_as_the_whole(
    home: Path, tmp_path: Path, expected: NDArray[np.uint8], name: str, block: int | None
) -> None:
    predict_blocks(prediction(home, name), tmp_path / "affinities.zarr", crew=crew(), block=block)
    found = open_affinities(tmp_path / "affinities.zarr")
    np.testing.assert_array_equal(found.data, expected)
    assert found.offsets[3] == (-3, 0, 0)
    np.testing.assert_allclose(found.grid.affine, cube()[0].grid.affine)
    assert [path.name for path in tmp_path.iterdir()] == ["affinities.zarr"]


def test_pieces_of_the_usual_size(home: Path, tmp_path: Path) -> None:
    what = Prediction.of(home / "cube.hdf", home / "model")
    predict_blocks(what, tmp_path / "affinities.zarr", crew=crew())
    at_once = volume_affinities(what.method(), home / "cube.hdf")
    np.testing.assert_array_equal(open_affinities(tmp_path / "affinities.zarr").data, at_once.data)


def test_sections_that_are_looked_at_one_by_one(tmp_path: Path) -> None:
    model = flat_model(tmp_path / "flat")
    save_volume(cube()[0], tmp_path / "raw.zarr")
    what = Prediction.of(tmp_path / "raw.zarr", model, side=36)
    predict_blocks(what, tmp_path / "affinities.zarr", crew=crew(), block=16)
    found = open_affinities(tmp_path / "affinities.zarr")
    method = what.method()
    np.testing.assert_array_equal(found.data, predicted(method, whole(tmp_path / "raw.zarr")[1], side=36))
    assert found.offsets[0] == (0, -1, 0)
    alone = predicted(method, whole(tmp_path / "raw.zarr")[1][:, 5], side=36)
    np.testing.assert_array_equal(found.data[:, 5], alone)


def flat_model(path: Path) -> Path:
    """Save a model of two dimensions that learned nothing, and return where."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        method = Affinity(Task(1, 2, 2), AffinityOptions(network={"features": (4, 6)}))
    save_model(Model(method, "affinity", OBJECTS, Preparation()), path)
    return path


class Stopped(Progress):
    """Notes which blocks are done, and stops the run after some, as a kill would."""

    def __init__(self, stop: int | None = None) -> None:
        self.done: list[str] = []
        self.stop = stop

    def finished(self, outcome: Outcome) -> None:
        if len(self.done) == self.stop:
            raise KeyboardInterrupt
        self.done.append(outcome.name)


@pytest.mark.parametrize("stop", [0, 1, 5])
def test_it_goes_on_where_it_was_stopped(home: Path, tmp_path: Path, expected: NDArray[np.uint8], stop: int) -> None:
    what, out = prediction(home), tmp_path / "affinities.zarr"
    with pytest.raises(KeyboardInterrupt):
        predict_blocks(what, out, crew=crew(progress=Stopped(stop)), block=16)
    assert not out.exists()
    rest = Stopped()
    predict_blocks(what, out, crew=crew(progress=rest), block=16)
    assert len(rest.done) == 1 + 2 * 2 * 2 - stop - 1  # a cell that is measured, and blocks
    np.testing.assert_array_equal(open_affinities(out).data, expected)


RUN = """
import sys
from pathlib import Path
from limner.blocks import Crew
from limner.cluster import Processes, Progress
from limner.inference.blockwise import Prediction, segment_by_blocks
if __name__ == "__main__":
    home, out = map(Path, sys.argv[1:])
    what = Prediction.of(home / "cube.hdf", home / "model", mirrored=False, side=28)
    segment_by_blocks(what, out, crew=Crew(Processes(2), Progress()))
"""


def test_killed_and_run_again_by_others(
    home: Path, tmp_path: Path, method: Affinity, expected: NDArray[np.uint8]
) -> None:
    (tmp_path / "run.py").write_text(RUN)
    out, arguments = tmp_path / "labels.zarr", [sys.executable, tmp_path / "run.py", home, tmp_path / "labels.zarr"]
    process = subprocess.Popen(arguments, start_new_session=True, env=tiny.environment())
    ledger = tmp_path / "labels.zarr.work/affinities.zarr.work/affinities/ledger"
    while process.poll() is None and len(list(ledger.glob("*.done"))) < 3:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = {path.name: path.stat().st_mtime_ns for path in ledger.glob("*.done")}
    assert 3 <= len(before) < 3 * 4 * 4
    kept = tmp_path / "labels.zarr.work/affinities.zarr"
    rest = Stopped()
    count = segment_by_blocks(prediction(home), out, crew=crew(progress=rest))
    assert not {Path(name).stem for name in before} & set(rest.done[: 3 * 4 * 4 - len(before)])
    assert not kept.exists()
    at_once = decoded(expected, method.offsets, by=method.options.decoder)
    np.testing.assert_array_equal(read(out), at_once)
    assert count == read(out).max() > 1
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["labels.zarr", "run.py"]


# --- labels


def test_a_cluster_gives_the_same(home: Path, tmp_path: Path, method: Affinity, expected: NDArray[np.uint8]) -> None:
    with running() as address:
        count = segment_by_blocks(prediction(home), tmp_path / "labels.zarr", crew=crew(Cluster(address)))
    found = read(tmp_path / "labels.zarr")
    np.testing.assert_array_equal(found, decoded(expected, method.offsets, by=method.options.decoder))
    assert count == found.max() > 1


@pytest.mark.parametrize("flat", [False, True])
def test_agglomeration(home: Path, tmp_path: Path, *, flat: bool) -> None:
    model = flat_model(tmp_path / "flat") if flat else home / "model"
    found = Prediction.of(home / "cube.hdf", model, mirrored=False, side=36 if flat else SIDE)
    near = predicted(found.method(), whole(home / "cube.hdf")[1], side=found.side)[:3]
    membrane, threshold = np.quantile(near, [0.3, 0.6]) / 255
    by = Decoder(kind="quantile", membrane=membrane, threshold=threshold, separation=2, smallest=9)
    what = replace(found, model=with_decoder(model, tmp_path / "model", by))
    count = segment_by_blocks(what, tmp_path / "labels.zarr", crew=crew())
    affinities = predicted(what.method(), whole(home / "cube.hdf")[1], side=what.side)
    expected = decoded(affinities, offsets_in(what.method(), SHAPE), by=decoder_of(what.method()))
    np.testing.assert_array_equal(read(tmp_path / "labels.zarr"), expected)
    assert count == expected.max() > 5


def test_the_mutex_watershed_of_one_block_is_that_of_the_whole(
    home: Path, tmp_path: Path, method: Affinity, expected: NDArray[np.uint8]
) -> None:
    by = Decoder(kind="mutex", strides=(2, 2, 2), smallest=5)
    what = replace(prediction(home), model=with_decoder(home / "model", tmp_path / "model", by))
    count = segment_by_blocks(what, tmp_path / "labels.zarr", crew=crew())
    found = read(tmp_path / "labels.zarr")
    np.testing.assert_array_equal(found, decoded(expected, method.offsets, by=by))
    assert count == found.max() > 5


def test_finished_labels_are_known_and_those_of_another_model_refused(home: Path, tmp_path: Path) -> None:
    out, again = tmp_path / "labels.zarr", Stopped()
    count = segment_by_blocks(prediction(home), out, crew=crew())
    assert segment_by_blocks(prediction(home), out, crew=crew(progress=again)) == count
    assert not again.done
    stricter = Decoder(kind="components", threshold=0.99, smallest=SMALLEST)
    other = with_decoder(home / "model", tmp_path / "other", stricter)
    with pytest.raises(check.InputError, match=r"holds results of another run \(threshold [\d.]+, now 0\.99\)"):
        segment_by_blocks(replace(prediction(home), model=other), out, crew=crew())
    with pytest.raises(check.InputError, match=r"\(mirrored none, now flips\)"):
        segment_by_blocks(replace(prediction(home), mirrored="flips"), out, crew=crew())
    with pytest.raises(check.InputError, match=r"another run \(model \w+, now \w+\)"):
        segment_by_blocks(replace(prediction(home), model=taught_more(home, tmp_path)), out, crew=crew())


def taught_more(home: Path, folder: Path) -> Path:
    """Save the model with other weights, and return where."""
    model = load_model(home / "model")
    with torch.no_grad():
        next(model.method.parameters()).mul_(1.01)
    save_model(model, folder / "more")
    return folder / "more"


def test_a_folder_keeps_affinities(home: Path, tmp_path: Path) -> None:
    asked = {"model": home / "model", "mirrored": False}
    (at_once,) = segment_volumes([home / "cube.hdf"], tmp_path / "whole", **asked)
    (blocks,) = segment_volumes([home / "cube.hdf"], tmp_path / "blocks", **asked, executor=Serial(1))
    assert (at_once.name, blocks.name) == ("cube_labels.hdf", "cube_labels.zarr")
    found, wanted = (open_volume(path, kind="instances") for path in (blocks, at_once))
    np.testing.assert_array_equal(found.data, wanted.data)
    np.testing.assert_allclose(found.grid.affine, wanted.grid.affine)
    both = [open_affinities(tmp_path / name / "cube_affinities.zarr") for name in ("whole", "blocks")]
    np.testing.assert_array_equal(both[0].data, both[1].data)
    names = ["cube_affinities.zarr", "cube_labels.zarr", "cube_sections.csv"]
    assert sorted(path.name for path in (tmp_path / "blocks").iterdir()) == names


def test_size_and_memory_decide(home: Path, tmp_path: Path, method: Affinity) -> None:
    lattice = Lattice.of(method, SHAPE)
    limit = (whole_memory(method, SHAPE) + block_memory(method, lattice, size=block_of(lattice))) / 2e9
    asked = ("segment", home / "raw.zarr", "--model", home / "model", "--plain")
    for name, more in (("whole", ()), ("blocks", ("--max-memory", limit))):
        done = tiny.limner(*asked, "-o", f"{name}.zarr", *more, at=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"instances: {name}.zarr\n"
    found, wanted = (open_volume(tmp_path / f"{name}.zarr", kind="instances").data for name in ("blocks", "whole"))
    np.testing.assert_array_equal(found, wanted)
    known = [zarr.open_array(tmp_path / f"{name}.zarr", mode="r").attrs.get("limner") for name in ("blocks", "whole")]
    assert known[0]["segments"] == found.max()
    assert known[1] is None


# --- what cannot be done


def test_memory_that_holds_no_piece_is_refused(home: Path, tmp_path: Path) -> None:
    with pytest.raises(check.InputError, match=r"--max-memory is 0\.1 GB but the smallest block needs"):
        list(segment_volumes([home / "cube.hdf"], tmp_path / "out.zarr", model=home / "model", memory=1e8))


def test_formats_that_are_read_as_a_whole_are_refused(home: Path, tmp_path: Path) -> None:
    save_volume(cube()[0], tmp_path / "raw.tif")
    with pytest.raises(check.InputError, match=r"raw\.tif' can only be read as a whole"):
        list(segment_volumes([tmp_path / "raw.tif"], tmp_path / "o.zarr", model=home / "model", executor=Serial(1)))
    with pytest.raises(
        check.InputError, match=r"GB at once but 0\.1 GB are allowed; expected less: convert it to \.zarr"
    ):
        list(segment_volumes([tmp_path / "raw.tif"], tmp_path / "o.zarr", model=home / "model", memory=1e8))


def test_a_section_is_refused_by_a_solid_model(home: Path, tmp_path: Path) -> None:
    image = cube()[0]
    save_volume(Volume(image.data[0], Grid(SHAPE[1:], np.eye(3)), "image"), tmp_path / "section.zarr")
    for executor in (None, Serial(1)):
        with pytest.raises(check.InputError, match=r"shape \(32, 32\) but the model looks at 3 axes"):
            list(segment_volumes([tmp_path / "section.zarr"], tmp_path / "o", model=home / "model", executor=executor))


def test_labels_in_other_formats_or_inside_the_volume_are_refused(home: Path) -> None:
    for out, said in (("out.hdf", r"expected a name that ends in \.zarr"), ("raw.zarr/out.zarr", "lie in one another")):
        with pytest.raises(check.InputError, match=said):
            segment_by_blocks(prediction(home, "raw.zarr"), home / out, crew=crew())


def test_a_damaged_chunk_is_named(home: Path, tmp_path: Path) -> None:
    save_volume(cube()[0], tmp_path / "raw.zarr")
    next(path for path in sorted((tmp_path / "raw.zarr/c").rglob("*")) if path.is_file()).write_bytes(b"damaged")
    with pytest.raises(check.InputError, match=r"1 of 1 blocks failed twice in the stage 'intensities' \(0-0-0: .*raw"):
        predict_blocks(prediction(home, str(tmp_path / "raw.zarr")), tmp_path / "affinities.zarr", crew=crew())
    assert not (tmp_path / "affinities.zarr").exists()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (np.full(SHAPE, 7, np.float32), "is constant, 7 in every voxel"),
        (np.where(np.indices(SHAPE)[0] == 3, np.nan, 1).astype(np.float32), "0-0-0: .* NaN or infinite values in 1024"),
        (np.zeros((8, 0, 8), np.float32), r"has no voxels, shape \(8, 0, 8\)"),
        (np.zeros((2, 8, 8, 8), np.float32), "has 4 dimensions"),
    ],
)
def test_images_that_are_none(home: Path, tmp_path: Path, data: NDArray[np.float32], said: str) -> None:
    told = {"resolution": [10.0] * data.ndim}
    zarr.create_array(tmp_path / "raw.zarr", shape=data.shape, dtype=data.dtype, attributes=told)[...] = data
    with pytest.raises(check.InputError, match=said):
        predict_blocks(prediction(home, str(tmp_path / "raw.zarr")), tmp_path / "affinities.zarr", crew=crew())


def test_a_volume_without_resolution_is_told_once(home: Path, tmp_path: Path) -> None:
    values = np.arange(64, dtype=np.uint8).reshape(4, 4, 4)
    zarr.create_array(tmp_path / "raw.zarr", shape=values.shape, dtype=values.dtype)[...] = values
    what = prediction(home, str(tmp_path / "raw.zarr"))
    with pytest.warns(check.InputWarning, match="has no affine") as heard:
        predict_blocks(what, tmp_path / "affinities.zarr", crew=crew())
    assert len(heard) == 1
