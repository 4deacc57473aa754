"""N5 that tensorstore has written, read through it; and what is said where it is missing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore

from limner.check import InputError
from limner.files import is_store, open_volume, stored_volume, suffix
from limner.files.conversion import convert
from limner.files.inspection import inspected
from limner.files.nanometres import nanometres
from limner.files.parts import StoredImage
from limner.files.unread import UnreadVolume
from limner.space import Array, Box, LabelTable
from limner.view import layers_of

SIZES, OFFSET = [40.0, 4.3, 4.1], [80.0, 8.6, 0.0]
GREY = np.random.default_rng(0).integers(0, 200, (5, 30, 20)).astype(np.uint8)
IDS = np.kron(np.arange(8, dtype=np.uint64).reshape(2, 2, 2) + np.uint64(2**40), np.ones((4, 5, 6), np.uint64))
RESOLUTION = {"resolution": SIZES[::-1], "offset": OFFSET[::-1]}


def written(path: Path, data: Array, **told: Any) -> Path:
    """An array, in chunks of 4 x 8 x 8, with what is told of it as x, y, z."""
    metadata = {
        "dimensions": list(data.shape[::-1]),
        "blockSize": [8, 8, 4],
        "dataType": data.dtype.name,
        "compression": {"type": "gzip"},
    }
    spec = {"driver": "n5", "kvstore": f"file://{path}/", "metadata": metadata, "create": True}
    tensorstore.open(spec).result().T[...].write(data).result()
    attributes = json.loads((path / "attributes.json").read_text())
    (path / "attributes.json").write_text(json.dumps(attributes | told))
    return path


def container(path: Path) -> Path:
    """A raw and ids, under the names of CREMI's layout."""
    written(path / "volumes/raw", GREY, **RESOLUTION)
    written(path / "volumes/labels/neuron_ids", IDS, **RESOLUTION)
    return path


@pytest.mark.parametrize(
    "told",
    [
        RESOLUTION,
        {"pixelResolution": {"dimensions": [0.0041, 0.0043, 0.04], "unit": "um"}, "offset": [0.0, 0.0086, 0.08]},
        {"pixelResolution": SIZES[::-1], "offset": OFFSET[::-1]},
        {"transform": {"axes": ["z", "y", "x"], "units": ["nm"] * 3, "scale": SIZES, "translate": OFFSET}},
        {"transform": {"axes": ["x", "y", "z"], "units": ["nm"] * 3, "scale": SIZES[::-1], "translate": OFFSET[::-1]}},
    ],
)
def test_voxels_and_their_places(tmp_path: Path, told: dict[str, Any]) -> None:
    found = open_volume(written(tmp_path / "cube.n5", GREY, **told))
    np.testing.assert_array_equal(found.data, GREY)
    assert nanometres(found.grid.voxel_sizes) == SIZES
    assert nanometres(found.grid.affine[2::-1, 3]) == OFFSET


def test_a_container_of_raw_and_ids(tmp_path: Path) -> None:
    path = container(tmp_path / "cube.n5")
    np.testing.assert_array_equal(open_volume(path).data, GREY)
    np.testing.assert_array_equal(open_volume(path, kind="instances").data, IDS)
    np.testing.assert_array_equal(stored_volume(path / "volumes/labels/neuron_ids").data, IDS)
    assert (is_store(path), suffix(path), suffix(path / "volumes/raw")) == (True, ".n5", ".n5")
    written(path / "other", GREY)
    np.testing.assert_array_equal(open_volume(path).data, GREY)
    written(tmp_path / "two.n5/a", GREY)
    written(tmp_path / "two.n5/b", GREY)
    with pytest.raises(InputError, match=r"two.n5' holds the arrays 'a', 'b'; expected 'volumes/raw', or one array"):
        open_volume(tmp_path / "two.n5")


def test_of_several_scales_the_finest(tmp_path: Path) -> None:
    written(tmp_path / "cube.n5/em/s0", GREY)
    written(tmp_path / "cube.n5/em/s1", GREY[:, ::2, ::2])
    (tmp_path / "cube.n5/em/attributes.json").write_text(json.dumps(RESOLUTION))
    found = open_volume(tmp_path / "cube.n5")
    np.testing.assert_array_equal(found.data, GREY)
    assert nanometres(found.grid.voxel_sizes) == SIZES


def test_parts_are_read_alone(tmp_path: Path) -> None:
    path = container(tmp_path / "cube.n5")
    chunks = [chunk for chunk in (path / "volumes/raw/0").rglob("*") if chunk.is_file()]
    np.testing.assert_array_equal(StoredImage.opened(path).read(Box((1, 2, 3), (3, 9, 8))), GREY[1:3, 2:9, 3:8])
    volume = UnreadVolume.opened(path, kind="instances")
    assert not volume.in_memory
    np.testing.assert_array_equal(volume.read((slice(0, 2), slice(1, 4), slice(2, 3))), IDS[:2, 1:4, 2:3])
    for chunk in chunks:
        chunk.write_bytes(b"x")
    # What lies elsewhere is still there.
    np.testing.assert_array_equal(StoredImage.opened(path).read(Box((0, 0, 8), (5, 30, 20))), GREY[:, :, 8:])
    with pytest.raises(InputError, match="cube.n5' cannot be read"):
        StoredImage.opened(path).read(Box((0, 0, 0), (1, 1, 1)))
    with pytest.raises(InputError, match="cube.n5' cannot be read"):
        open_volume(path)


def test_check_view_and_convert_know_it(tmp_path: Path) -> None:
    path = container(tmp_path / "cube.n5")
    finding = inspected(path, LabelTable.freesurfer())
    assert finding.geometry == "5 x 30 x 20 voxels of 40 x 4.3 x 4.1 nm, axes lead SAR"
    assert [layer.role for layer in layers_of(path, labels=[path], table=LabelTable.freesurfer())] == [
        "image",
        "labels",
    ]
    assert convert(path, tmp_path / "raw.ome.zarr").kind == "image"
    assert convert(path, tmp_path / "ids.zarr", kind="instances").kind == "instances"
    np.testing.assert_array_equal(open_volume(tmp_path / "ids.zarr", kind="instances").data, IDS)
    assert open_volume(tmp_path / "raw.ome.zarr").grid.matches(open_volume(path).grid)


def test_damaged_attributes_and_none(tmp_path: Path) -> None:
    path = container(tmp_path / "cube.n5")
    (path / "volumes/raw/attributes.json").write_text("{")
    with pytest.raises(InputError, match="cube.n5/volumes/raw/attributes.json' cannot be read"):
        open_volume(path)
    (tmp_path / "empty.n5/inside").mkdir(parents=True)
    with pytest.raises(InputError, match="empty.n5' holds the arrays none; expected 'volumes/raw'"):
        open_volume(tmp_path / "empty.n5")


def test_without_tensorstore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = container(tmp_path / "cube.n5")
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    for look in (open_volume, UnreadVolume.opened, StoredImage.opened):
        with pytest.raises(InputError, match=r"is read by tensorstore, which is not installed; .* 'limner\[n5\]'"):
            look(path)
