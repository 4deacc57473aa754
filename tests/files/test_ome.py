"""OME-Zarr of both versions: what is written is what its own models ask for, and what others write is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import tensorstore
import zarr
from ome_zarr_models.v04.image import ImageAttrs as Image4
from ome_zarr_models.v04.image_label import ImageLabelAttrs as Label4
from ome_zarr_models.v05.image import Image as Image5
from ome_zarr_models.v05.image_label import ImageLabel as Label5

from limner.check import InputError, InputWarning
from limner.files import open_volume, save_volume, stem, stored_volume, suffix
from limner.files.conversion import convert
from limner.files.inspection import inspected
from limner.files.nanometres import placed
from limner.files.parts import StoredImage
from limner.files.pyramids import reduced
from limner.files.unread import UnreadVolume
from limner.space import Array, Box, Grid, LabelTable, Volume
from limner.view import layers_of

VERSIONS = ("0.4", "0.5")
SHAPE, SIZES, OFFSET = (9, 150, 131), [40.0, 4.3, 4.1], [1480.0, 3644.0, 0.1]
GRID = Grid(SHAPE, placed(SIZES, OFFSET))
RAW = Volume(np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.float32), GRID, "image")
IDS = np.kron(np.arange(3 * 10 * 10, dtype=np.uint64).reshape(3, 10, 10), np.ones((3, 15, 14), np.uint64))
IDS = np.where(IDS, IDS + np.uint64(2**63), 0)[..., : SHAPE[2]]
SEGMENTS = Volume(IDS, GRID, "instances")


def written(folder: Path, version: Literal["0.4", "0.5"]) -> Path:
    """An image with labels beside it."""
    save_volume(RAW, folder / "raw.zarr")
    save_volume(SEGMENTS, folder / "ids.zarr")
    convert(folder / "raw.zarr", folder / "cube.ome.zarr", labels=folder / "ids.zarr", version=version)
    return folder / "cube.ome.zarr"


def foreign(path: Path, data: Array, names: str, *, version: str = "0.5", **more: Any) -> Path:
    """An image as other programs write it: micrometres, channels and time first, what is in common told last."""
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    group.create_array("full", data=data)
    scale = [
        1 if name in "tc" else size / 1000 for name, size in zip(names, ([9] * 5 + SIZES)[-len(names) :], strict=True)
    ]
    kinds = {"t": {"type": "time"}, "c": {"type": "channel"}}
    told = [{"name": name, **kinds.get(name, {"type": "space", "unit": "micrometer"})} for name in names]
    transforms = [{"type": "scale", "scale": [size / 2 if size != 1 else 1 for size in scale]}]
    whole = [{"type": "scale", "scale": [1 if size == 1 else 2 for size in scale]}]
    scales = {"axes": told, "datasets": [{"path": "full", "coordinateTransformations": transforms}]}
    attributes: dict[str, Any] = {"multiscales": [scales | {"coordinateTransformations": whole} | more]}
    group.attrs.update({"ome": {"version": version, **attributes}} if version != "0.4" else attributes)
    return path


@pytest.mark.parametrize("version", VERSIONS)
def test_image_and_labels_come_back_to_the_last_digit(tmp_path: Path, version: Literal["0.4", "0.5"]) -> None:
    path = written(tmp_path, version)
    image, ids = open_volume(path), open_volume(path, kind="instances")
    for found, expected in ((image, RAW), (ids, SEGMENTS)):
        np.testing.assert_array_equal(found.data, expected.data)
        np.testing.assert_array_equal(found.grid.affine, GRID.affine)
    assert suffix(path), stem(path) == (".ome.zarr", "cube")


@pytest.mark.parametrize("version", VERSIONS)
def test_attributes_are_as_the_format_asks(tmp_path: Path, version: Literal["0.4", "0.5"]) -> None:
    path = written(tmp_path, version)
    group, labels = (zarr.open_group(place, mode="r") for place in (path, path / "labels/labels"))
    if version == "0.4":
        scales = Image4.model_validate(dict(group.attrs)).multiscales[0]
        assert Label4.model_validate(dict(labels.attrs)).image_label is not None
        assert group["labels"].attrs["labels"] == ["labels"]
    else:
        # Of the whole group with labels, release 1.6 fails with the newest pydantic on its own empty colours.
        scales = Image5.from_zarr(labels).attributes.ome.multiscales[0]
        assert Label5.from_zarr(labels).attributes.ome.image_label.source.image == "../../"
        assert group["labels"].attrs["ome"]["labels"] == ["labels"]
        assert group["0"].metadata.dimension_names == ("z", "y", "x")
    assert group["0"].metadata.zarr_format == (2 if version == "0.4" else 3)
    assert [axis.unit for axis in scales.axes] == ["nanometer"] * 3
    assert [dataset.path for dataset in scales.datasets] == ["0", "1", "2"]
    coarse = [transform.model_dump() for transform in scales.datasets[1].coordinateTransformations]
    # A voxel twice as long lies in the middle between the two that it stands for.
    assert coarse[0]["scale"] == [40.0, 8.6, 8.2]
    assert coarse[1]["translation"] == [1480.0, 3646.15, 2.15]
    assert "omero" not in str(dict(group.attrs))


@pytest.mark.parametrize("version", VERSIONS)
def test_scales_are_means_and_modes_for_another_reader(tmp_path: Path, version: Literal["0.4", "0.5"]) -> None:
    path = written(tmp_path, version)
    driver = "zarr" if version == "0.4" else "zarr3"
    for folder, volume in ((path, RAW), (path / "labels/labels", SEGMENTS)):
        expected = volume.data if volume.kind == "instances" else volume.data.astype(np.uint8)
        for index in range(3):
            spec = {"driver": driver, "kvstore": f"file://{folder}/{index}/"}
            np.testing.assert_array_equal(tensorstore.open(spec).result().read().result(), expected)
            expected = reduced(expected, (1, 2, 2), kind=volume.kind)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("axes", ["zyx", "czyx", "tczyx"])
def test_others_images_of_one_channel_and_time(tmp_path: Path, version: str, axes: str) -> None:
    path = foreign(tmp_path / "image.zarr", RAW.data[(None,) * (len(axes) - 3)], axes, version=version)
    if len(axes) > 3:
        with pytest.warns(InputWarning, match="its axes of one voxel were dropped, which leaves"):
            found = open_volume(path)
        with pytest.warns(InputWarning, match="its axes of one voxel were dropped"):
            part = StoredImage.opened(path).read(Box((1, 2, 3), (2, 4, 6)))
        np.testing.assert_array_equal(part, RAW.data[1:2, 2:4, 3:6])
    else:
        found = open_volume(path)
    np.testing.assert_array_equal(found.data, RAW.data)
    np.testing.assert_allclose(found.grid.voxel_sizes * 1e6, SIZES)


def test_channels_and_times_are_refused(tmp_path: Path) -> None:
    path = foreign(tmp_path / "image.ome.zarr", np.ones((2, 3, 4, 4, 4)), "tczyx")
    for look in (open_volume, UnreadVolume.opened, StoredImage.opened):
        with pytest.raises(InputError, match=r"holds several values per voxel \(2 along t, 3 along c\); expected one"):
            look(path)


def test_axes_in_another_order_lead_where_they_are_called(tmp_path: Path) -> None:
    path = foreign(tmp_path / "image.zarr", np.arange(24.0).reshape(2, 3, 4), "xyz")
    assert open_volume(path).grid.orientation == "RAS"


def test_an_unknown_unit_and_none(tmp_path: Path) -> None:
    axes = [{"name": name, "type": "space", "unit": "parsec"} for name in "zyx"]
    path = foreign(tmp_path / "image.zarr", GREY, "zyx", axes=axes)
    with pytest.raises(InputError, match="has a resolution in 'parsec'; expected one of m, "):
        open_volume(path)
    without = [{"name": name, "type": "space"} for name in "zyx"]
    path = foreign(tmp_path / "image.zarr", GREY, "zyx", axes=without)
    with pytest.warns(InputWarning, match="does not say in which unit its scale is; micrometres were assumed"):
        np.testing.assert_allclose(open_volume(path).grid.voxel_sizes * 1e6, SIZES)
    plain = [{"path": "full", "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 1]}]}]
    path = foreign(path, GREY, "zyx", axes=without, datasets=plain, coordinateTransformations=[])
    with pytest.warns(InputWarning, match="has no affine; voxels of 1 mm"):
        open_volume(path)


GREY = np.arange(24.0).reshape(2, 3, 4)


def test_a_head_keeps_its_axes_and_its_affine(tmp_path: Path) -> None:
    turned = np.array([[0, 0, 2.5, -30], [-0.9, 0, 0, 40], [0, -0.7, 0, 5], [0, 0, 0, 1.0]])
    for affine, axes in ((np.diag([1, 2, 3, 1.0]), "xyz"), (np.diag([-1, 2, 3, 1.0]), "xyz"), (turned, "yzx")):
        save_volume(Volume(GREY, Grid(GREY.shape, affine), "image"), tmp_path / "head.ome.zarr")
        np.testing.assert_array_equal(open_volume(tmp_path / "head.ome.zarr").grid.affine, affine)
        told = zarr.open_group(tmp_path / "head.ome.zarr").attrs["ome"]["multiscales"][0]
        assert "".join(axis["name"] for axis in told["axes"]) == axes
        assert {axis["unit"] for axis in told["axes"]} == {"millimeter"}


def test_two_axes(tmp_path: Path) -> None:
    flat = Volume(np.random.default_rng(0).random((700, 600), np.float32), Grid((700, 600), placed([4, 4])), "image")
    save_volume(flat, tmp_path / "flat.ome.zarr")
    np.testing.assert_array_equal(open_volume(tmp_path / "flat.ome.zarr").data, flat.data)
    assert sorted(zarr.open_group(tmp_path / "flat.ome.zarr").keys()) == ["0", "1", "2", "3", "4"]


def test_a_group_inside_is_a_volume_too(tmp_path: Path) -> None:
    path = written(tmp_path, "0.5")
    inside = path / "labels/labels"
    np.testing.assert_array_equal(open_volume(inside, kind="instances").data, IDS)
    coarse = stored_volume(path / "1")
    np.testing.assert_array_equal(coarse.data, reduced(RAW.data.astype(np.uint8), (1, 2, 2), kind="image"))
    np.testing.assert_allclose(coarse.grid.world([0, 0, 0]), GRID.world([0, 0.5, 0.5]))
    np.testing.assert_allclose(coarse.grid.voxel_sizes, GRID.voxel_sizes * [1, 2, 2])
    assert (suffix(inside), stem(inside)) == (".ome.zarr", "labels")


def test_what_is_read_is_not_written_over(tmp_path: Path) -> None:
    path = written(tmp_path, "0.5")
    with pytest.raises(InputError, match="lie in one another; expected another place"):
        convert(path / "labels/labels", path)
    with pytest.raises(InputError, match="lie in one another; expected another place"):
        convert(tmp_path / "raw.zarr", path, labels=path / "labels/labels")
    with pytest.raises(InputError, match="lie in one another; expected another place"):
        convert(path, path / "again.zarr")
    np.testing.assert_array_equal(open_volume(path, kind="instances").data, IDS)


def test_of_several_labels_or_images_one_is_chosen(tmp_path: Path) -> None:
    path = written(tmp_path, "0.5")
    foreign(path / "labels/other", np.ones((2, 2, 2), np.uint8), "zyx")
    group = zarr.open_group(path / "labels")
    group.attrs.update({"ome": {"version": "0.5", "labels": ["labels", "other"]}})
    with pytest.raises(InputError, match=r"holds 2 labels; expected one: choose among '.*labels/labels', '.*/other'"):
        open_volume(path, kind="instances")
    np.testing.assert_array_equal(open_volume(path / "labels/other", kind="labels").data, 1)
    series = tmp_path / "series.ome.zarr"
    zarr.open_group(series, mode="w", attributes={"ome": {"version": "0.5", "bioformats2raw.layout": 3}})
    foreign(series / "0", GREY, "zyx")
    np.testing.assert_array_equal(open_volume(series).data, GREY)
    foreign(series / "1", GREY, "zyx")
    with pytest.raises(InputError, match="holds 2 images; expected one"):
        open_volume(series)


def test_check_and_view_know_them(tmp_path: Path) -> None:
    path = written(tmp_path, "0.4")
    finding = inspected(path, LabelTable.freesurfer())
    assert finding.geometry == "9 x 150 x 131 voxels of 40 x 4.3 x 4.1 nm, axes lead SAR"
    assert "255" in finding.contents
    layers = layers_of(path, labels=[path], table=LabelTable.freesurfer())
    assert [(layer.role, layer.dtype.name, layer.instances) for layer in layers] == [
        ("image", "uint8", False),
        ("labels", "uint64", True),
    ]
    np.testing.assert_array_equal(layers[1].read((slice(1, 3), slice(2, 20), slice(0, 7))), IDS[1:3, 2:20, :7])


@pytest.mark.parametrize("ending", [".ome.zarr", ".zarr", ".hdf"])
def test_axes_without_voxels_are_refused(tmp_path: Path, ending: str) -> None:
    import h5py

    path = tmp_path / f"none{ending}"
    if ending == ".hdf":
        with h5py.File(path, "w") as file:
            file["volumes/raw"] = np.zeros((3, 0, 4), np.uint8)
            file["volumes/raw"].attrs["resolution"] = SIZES
    elif ending == ".zarr":
        zarr.save_array(path, np.zeros((3, 0, 4), np.uint8))
    else:
        foreign(path, np.zeros((3, 0, 4)), "zyx")
    for look in (open_volume, UnreadVolume.opened, StoredImage.opened):
        with pytest.raises(InputError, match=r"has no voxels, shape \(3, 0, 4\); expected at least one along each"):
            look(path)
    with pytest.raises(InputError, match="has no voxels"):
        convert(path, tmp_path / "out.ome.zarr")
    assert not (tmp_path / "out.ome.zarr").exists()
