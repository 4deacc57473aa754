"""What is written for neuroglancer and WEBKNOSSOS, as tensorstore reads it."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import tensorstore
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.check import InputError, InputWarning
from limner.files import compressed, open_volume, save_volume
from limner.files.conversion import convert
from limner.files.nanometres import placed
from limner.files.pyramids import reduced
from limner.space import Array, Box, Grid, Kind, Volume

SHAPE, SIZES, OFFSET = (20, 131, 150), [40.0, 4.0, 4.0], [80.0, 12.0, 20.0]
GRID = Grid(SHAPE, placed(SIZES, OFFSET))
RAW = Volume(np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.float32), GRID, "image")
IDS = np.kron(np.arange(4 * 9 * 10, dtype=np.uint64).reshape(4, 9, 10), np.ones((5, 15, 15), np.uint64))
SEGMENTS = Volume(np.where(IDS, IDS + np.uint64(2**63), 0)[:, : SHAPE[1]], GRID, "instances")


def read(driver: str, path: Path, **more: Any) -> Array:
    """What another reader finds, with the axes z, y, x."""
    store = tensorstore.open({"driver": driver, "kvstore": f"file://{path}/", **more}).result()
    found = np.asarray(store.read().result())
    return (found[..., 0] if driver == "neuroglancer_precomputed" else found[0]).transpose()


def scales(data: Array, kind: Kind) -> list[Array]:
    """The volume and its two coarser scales; its first voxels along y and x are the second ones of theirs: 3, 5."""
    second = reduced(data, (1, 2, 2), kind=kind, ahead=(0, 1, 1))
    return [data, second, reduced(second, (1, 2, 2), kind=kind, ahead=(0, 1, 0))]


@pytest.mark.parametrize("volume", [RAW, SEGMENTS], ids=["image", "segmentation"])
def test_precomputed(tmp_path: Path, volume: Volume) -> None:
    save_volume(volume, tmp_path / "cube.precomputed")
    told = json.loads((tmp_path / "cube.precomputed/info").read_text())
    assert (told["type"], told["data_type"]) == (("image", "uint8") if volume is RAW else ("segmentation", "uint64"))
    assert [scale["key"] for scale in told["scales"]] == ["4_4_40", "8_8_40", "16_16_40"]
    assert [scale["voxel_offset"] for scale in told["scales"]] == [[5, 3, 2], [2, 1, 2], [1, 0, 2]]
    for index, expected in enumerate(scales(volume.data.astype(told["data_type"]), volume.kind)):
        found = read("neuroglancer_precomputed", tmp_path / "cube.precomputed", scale_index=index)
        np.testing.assert_array_equal(found, expected)
    store = tensorstore.open({"driver": "neuroglancer_precomputed", "kvstore": f"file://{tmp_path}/cube.precomputed/"})
    assert store.result().domain.origin == (5, 3, 2, 0)
    assert [unit.multiplier for unit in store.result().dimension_units[:3]] == [4, 4, 40]


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "f4"])
def test_precomputed_images_keep_their_type(tmp_path: Path, dtype: str) -> None:
    data = np.random.default_rng(0).integers(0, 99, (5, 6, 7)).astype(dtype)
    save_volume(Volume(data, Grid(data.shape, placed(SIZES)), "image"), tmp_path / "a.zarr", as_stored=True)
    convert(tmp_path / "a.zarr", tmp_path / "a.precomputed", kind="image")
    found = read("neuroglancer_precomputed", tmp_path / "a.precomputed")
    np.testing.assert_array_equal(found, data)
    assert found.dtype == dtype


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8", "u8"])
def test_small_and_signed_ids_become_unsigned(tmp_path: Path, dtype: str) -> None:
    data = np.kron(np.arange(8).reshape(2, 2, 2), np.ones((4, 3, 3), int)).astype(dtype)
    save_volume(Volume(data, Grid(data.shape, placed(SIZES)), "instances"), tmp_path / "a.zarr", as_stored=True)
    for ending in (".precomputed", ".webknossos"):
        convert(tmp_path / "a.zarr", tmp_path / f"a{ending}", kind="instances")
    found = read("neuroglancer_precomputed", tmp_path / "a.precomputed")
    np.testing.assert_array_equal(found, data)
    assert found.dtype == ("u8" if dtype[1] == "8" else "u4")
    np.testing.assert_array_equal(read("zarr3", tmp_path / "a.webknossos/segmentation/1"), data)


def test_ids_below_zero_are_refused(tmp_path: Path) -> None:
    data = np.kron(np.arange(8).reshape(2, 2, 2) - 1, np.ones((4, 3, 3), int))
    save_volume(Volume(data, Grid(data.shape, placed(SIZES)), "labels"), tmp_path / "a.zarr", as_stored=True)
    with pytest.raises(InputError, match="hold -1 at voxel"):
        convert(tmp_path / "a.zarr", tmp_path / "a.precomputed", kind="labels")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.integers(1, 19)] * 3),
    st.sampled_from([1, 2, 3, 5, 17, 300, 5000]),
    st.sampled_from([np.uint32, np.uint64]),
    st.integers(0, 99),
)
def test_packed_ids_are_unpacked_by_us_and_others(shape: tuple[int, ...], count: int, dtype: type, seed: int) -> None:
    ids = np.random.default_rng(seed).integers(0, count, shape).astype(dtype) * dtype(2**31 // 5000)
    content = compressed.packed(ids)
    np.testing.assert_array_equal(compressed.unpacked(content, shape, dtype=np.dtype(dtype)), ids)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.precomputed"
        save_volume(Volume(ids, Grid(shape, placed(SIZES)), "instances"), path, as_stored=True)
        np.testing.assert_array_equal(read("neuroglancer_precomputed", path), ids)


def test_webknossos(tmp_path: Path) -> None:
    save_volume(RAW, tmp_path / "raw.zarr")
    inside = GRID.cropped(Box((2, 3, 4), (9, 90, 99)))
    ids = SEGMENTS.data[2:9, 3:90, 4:99]
    save_volume(Volume(ids, inside, "instances"), tmp_path / "ids.zarr")
    convert(tmp_path / "raw.zarr", tmp_path / "cube.webknossos", labels=tmp_path / "ids.zarr")
    told = json.loads((tmp_path / "cube.webknossos/datasource-properties.json").read_text())
    assert told["scale"] == {"factor": [4.0, 4.0, 40.0], "unit": "nanometer"}
    assert told["id"]["name"] == "cube"
    color, segmentation = told["dataLayers"]
    assert [mag["mag"] for mag in color["mags"]] == [[1, 1, 1], [2, 2, 1], [4, 4, 1]]
    assert color["boundingBox"] == {"topLeft": [5, 3, 2], "width": 150, "height": 131, "depth": 20}
    assert segmentation["boundingBox"] == {"topLeft": [9, 6, 4], "width": 95, "height": 87, "depth": 7}
    assert (color["elementClass"], segmentation["elementClass"]) == ("uint8", "uint64")
    assert segmentation["largestSegmentId"] == ids.max()
    starts = [(2, 3, 5), (2, 1, 2), (2, 0, 1)]
    for mag, start, expected in zip(color["mags"], starts, scales(RAW.data.astype(np.uint8), "image"), strict=True):
        found = read("zarr3", tmp_path / "cube.webknossos" / mag["path"])
        np.testing.assert_array_equal(found[tuple(slice(first, None) for first in start)], expected)
    found = read("zarr3", tmp_path / "cube.webknossos" / segmentation["mags"][0]["path"])
    np.testing.assert_array_equal(found[4:, 6:, 9:], ids)


def test_where_voxels_lie_is_kept_or_lost_aloud(tmp_path: Path) -> None:
    near = Volume(RAW.data, Grid(SHAPE, placed(SIZES, [0, 1.0, 0])), "image")
    with pytest.warns(InputWarning, match=r"^.precomputed counts positions in whole voxels; .* 0.25 of one away$"):
        save_volume(near, tmp_path / "a.precomputed")
    before = Volume(RAW.data, Grid(SHAPE, placed(SIZES, [-80, 4, 0])), "image")
    save_volume(before, tmp_path / "b.precomputed")
    np.testing.assert_array_equal(read("neuroglancer_precomputed", tmp_path / "b.precomputed"), RAW.data)
    with pytest.warns(InputWarning, match=r"has no positions below 0; the volume was moved by \[0, 0, 2\] voxels"):
        save_volume(before, tmp_path / "b.webknossos")
    np.testing.assert_array_equal(read("zarr3", tmp_path / "b.webknossos/color/1")[:, 1:], RAW.data)
    aslant = np.array([[2, 0.3, 0, 0], [-0.3, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1.0]])
    with pytest.warns(InputWarning, match="but not where they lie: axes that lead aslant have no place in it"):
        save_volume(Volume(RAW.data, Grid(SHAPE, aslant), "image"), tmp_path / "c.precomputed")


def test_a_head_stands_upright(tmp_path: Path) -> None:
    """Stored as left, up, front, with 1 mm: x grows to the right, y to the front, z upwards."""
    data = np.random.default_rng(0).integers(0, 9, (3, 4, 5)).astype(np.float32)
    affine = np.array([[-1, 0, 0, 2], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    save_volume(Volume(data, Grid(data.shape, affine), "image"), tmp_path / "head.precomputed")
    found = read("neuroglancer_precomputed", tmp_path / "head.precomputed")
    np.testing.assert_array_equal(found, data[::-1].transpose(1, 2, 0))
    save_volume(Volume(data[0], Grid((4, 5), np.eye(3)), "image"), tmp_path / "flat.precomputed")
    np.testing.assert_array_equal(read("neuroglancer_precomputed", tmp_path / "flat.precomputed")[0], data[0].T)


def test_what_is_only_written_is_not_read(tmp_path: Path) -> None:
    for ending in (".precomputed", ".webknossos"):
        save_volume(RAW, tmp_path / f"cube{ending}")
        with pytest.raises(InputError, match="of a format that is written but not read; expected one of .nii.gz"):
            open_volume(tmp_path / f"cube{ending}")
    with pytest.raises(InputError, match="cannot hold these voxels of type float64: its format has uint8, int8"):
        convert(doubles(tmp_path), tmp_path / "b.precomputed")


def doubles(folder: Path) -> Path:
    save_volume(Volume(RAW.data / 7, GRID, "image"), folder / "a.zarr", as_stored=True)
    wide = Volume(np.float64(RAW.data) / 7, GRID, "image")
    save_volume(wide, folder / "a.zarr", as_stored=True)
    return folder / "a.zarr"


def test_labels_belong_to_an_image_and_its_voxels(tmp_path: Path) -> None:
    save_volume(RAW, tmp_path / "raw.zarr")
    save_volume(SEGMENTS, tmp_path / "ids.zarr")
    with pytest.raises(
        InputError, match=r"--labels goes with an image that is written as .ome.zarr or .webknossos, but"
    ):
        convert(tmp_path / "raw.zarr", tmp_path / "a.precomputed", labels=tmp_path / "ids.zarr")
    with pytest.raises(InputError, match="--ome goes with .ome.zarr, but '.*a.zarr' is to be made"):
        convert(tmp_path / "raw.zarr", tmp_path / "a.zarr", version="0.4")
    moved = Grid(SHAPE, placed(SIZES, [20, 0, 0]))
    save_volume(Volume(SEGMENTS.data, moved, "instances"), tmp_path / "ids.zarr")
    with pytest.raises(InputError, match="labels 'ids.zarr' and image of 'raw.zarr' lie"):
        convert(tmp_path / "raw.zarr", tmp_path / "a.ome.zarr", labels=tmp_path / "ids.zarr")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ids.zarr", "raw.zarr"]
