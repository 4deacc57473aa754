"""HDF5, TIFF and Zarr: what microscopes' files say in nanometres comes back to the last digit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from limner.check import InputError, InputWarning
from limner.files import hdf5, open_volume, save_volume, zarrays
from limner.files.conversion import convert
from limner.files.inspection import inspected
from limner.files.nanometres import nanometres, placed
from limner.space import Grid, LabelTable, Volume

ENDINGS = [".hdf", ".tif", ".zarr"]
SIZES, OFFSET = [40.0, 4.3, 4.1], [1480.0, 3644.0, 0.1]
IDS = np.array([0, 1, 2**31, 2**63 + 1, 2**64 - 1, 7], np.uint64).reshape(1, 2, 3)
GREY = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
COLUMNS = {"resolution": SIZES, "offset": OFFSET}


def grid(shape: tuple[int, ...] = GREY.shape) -> Grid:
    return Grid(shape, placed(SIZES, OFFSET))


def stored(path: Path) -> tuple[Any, dict[str, Any]]:
    """Array and attributes as the format's own library reads them."""
    if path.suffix == ".zarr":
        array = zarr.open_array(path, mode="r")
        return array[...], dict(array.attrs)
    if path.suffix == ".tif":
        with tifffile.TiffFile(path) as content:
            return content.asarray(), content.shaped_metadata[0]
    with h5py.File(path) as content:
        found = content.get("volumes/raw", content.get("volumes/labels/neuron_ids"))
        return found[()], dict(found.attrs)


@pytest.mark.parametrize("ending", ENDINGS)
def test_nanometres_come_back_to_the_last_digit(tmp_path: Path, ending: str) -> None:
    save_volume(Volume(GREY, grid(), "image"), tmp_path / f"raw{ending}")
    data, told = stored(tmp_path / f"raw{ending}")
    assert data.dtype == np.uint8
    assert list(told["resolution"]) == SIZES
    assert list(told["offset"]) == OFFSET
    found = open_volume(tmp_path / f"raw{ending}")
    np.testing.assert_array_equal(found.grid.affine, grid().affine)
    assert nanometres(found.grid.voxel_sizes) == SIZES
    assert found.grid.orientation == "SAR"


@pytest.mark.parametrize("ending", [*ENDINGS, ".nii.gz", ".npz"])
def test_ids_of_64_bits_come_back(tmp_path: Path, ending: str) -> None:
    save_volume(Volume(IDS, grid(IDS.shape), "instances"), tmp_path / f"ids{ending}")
    found = open_volume(tmp_path / f"ids{ending}", kind="instances")
    np.testing.assert_array_equal(found.data, IDS)
    assert found.data.dtype == np.uint64


def test_small_ids_are_stored_small_but_for_cremi(tmp_path: Path) -> None:
    volume = Volume((IDS % 200).astype(np.uint64), grid(IDS.shape), "instances")
    for ending, dtype in ((".hdf", np.uint64), (".tif", np.uint8), (".zarr", np.uint8)):
        save_volume(volume, tmp_path / f"ids{ending}")
        assert stored(tmp_path / f"ids{ending}")[0].dtype == dtype


def test_mgh_has_no_room_for_64_bits(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot hold these voxels of type uint64: its format has uint8, int16, int32"):
        save_volume(Volume(IDS, grid(IDS.shape), "instances"), tmp_path / "ids.mgz")
    assert list(tmp_path.iterdir()) == []


def test_small_voxels_are_told_in_nm(tmp_path: Path) -> None:
    save_volume(Volume(GREY, grid(), "image"), tmp_path / "raw.hdf")
    told = inspected(tmp_path / "raw.hdf", LabelTable.freesurfer()).geometry
    assert told == "2 x 3 x 4 voxels of 40 x 4.3 x 4.1 nm, axes lead SAR"


@pytest.mark.parametrize("value", [-1, 0.5, 2.0**60])
def test_ids_are_whole_numbers_from_zero_on(tmp_path: Path, value: float) -> None:
    np.savez(tmp_path / "ids.npz", vol_data=np.full((1, 1, 2), value), affine=np.eye(4))
    with pytest.raises(InputError, match=r"instances '.*ids.npz' hold .* at voxel \(0, 0, 0\), one of 2 such"):
        open_volume(tmp_path / "ids.npz", kind="instances")


@pytest.mark.parametrize("version", [2, 3])
def test_both_versions_of_zarr(tmp_path: Path, version: int) -> None:
    zarrays.write(Volume(GREY, grid(), "image"), tmp_path / "raw.zarr", version=version)
    assert zarr.open_array(tmp_path / "raw.zarr").metadata.zarr_format == version
    assert open_volume(tmp_path / "raw.zarr").grid.matches(grid())


def test_raw_and_padded_labels_share_a_file(tmp_path: Path) -> None:
    inside = Grid((1, 1, 1), placed(SIZES, np.add(OFFSET, SIZES)))
    ids = Volume(np.array([[[3]]], np.uint64), inside, "instances")
    hdf5.write_all({hdf5.RAW: Volume(GREY, grid(), "image"), hdf5.LABELS: ids}, tmp_path / "cube.hdf")
    raw, labels = open_volume(tmp_path / "cube.hdf"), open_volume(tmp_path / "cube.hdf", kind="instances")
    assert (raw.grid.shape, labels.grid.shape) == ((2, 3, 4), (1, 1, 1))
    np.testing.assert_allclose(raw.grid.indices(labels.grid.world([0, 0, 0])), [1, 1, 1])


def test_of_raw_and_ids_in_one_file_that_is_converted_which_is_asked_for(tmp_path: Path) -> None:
    ids = Volume(np.full(GREY.shape, 2**40, np.uint64), grid(), "instances")
    hdf5.write_all({hdf5.RAW: Volume(GREY, grid(), "image"), hdf5.LABELS: ids}, tmp_path / "cube.hdf")
    assert convert(tmp_path / "cube.hdf", tmp_path / "raw.zarr").kind == "image"
    np.testing.assert_array_equal(open_volume(tmp_path / "raw.zarr").data, GREY)
    assert convert(tmp_path / "cube.hdf", tmp_path / "ids.zarr", kind="instances").kind == "instances"
    np.testing.assert_array_equal(open_volume(tmp_path / "ids.zarr", kind="instances").data, ids.data)


@pytest.mark.parametrize(("unit", "factor"), [("nm", 1), ("um", 1e-3), ("Micrometers", 1e-3), ("millimetre", 1e-6)])
def test_other_units_are_converted(tmp_path: Path, unit: str, factor: float) -> None:
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file["main"] = GREY
        file["main"].attrs.update({"resolution": np.multiply(SIZES, factor), "units": unit})
    assert nanometres(open_volume(tmp_path / "raw.h5").grid.voxel_sizes) == SIZES


def test_ome_zarr_gives_its_finest_scale(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "image.zarr", mode="w")
    group.create_array("0", data=GREY)
    group.create_array("1", data=GREY[:, ::2, ::2])
    scale = [{"type": "scale", "scale": [0.04, 0.0043, 0.0041]}]
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    datasets = [{"path": "0", "coordinateTransformations": scale}, {"path": "1", "coordinateTransformations": scale}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    found = open_volume(tmp_path / "image.zarr")
    assert found.data.shape == GREY.shape
    assert nanometres(found.grid.voxel_sizes) == SIZES


def test_imagej_and_ome_tiffs_have_voxel_sizes(tmp_path: Path) -> None:
    told = {"spacing": 0.04, "unit": "um", "axes": "ZYX"}
    data = GREY.astype(np.uint8)
    tifffile.imwrite(
        tmp_path / "imagej.tif", data, imagej=True, photometric="minisblack", metadata=told, resolution=(250, 200)
    )
    sizes = {f"PhysicalSize{axis}": size for axis, size in zip("ZYX", (0.04, 0.005, 0.004), strict=True)}
    tifffile.imwrite(tmp_path / "ome.tif", data, ome=True, photometric="minisblack", metadata={"axes": "ZYX", **sizes})
    for name in ("imagej.tif", "ome.tif"):
        np.testing.assert_allclose(open_volume(tmp_path / name).grid.voxel_sizes * 1e6, [40, 5, 4])


def test_files_without_resolution_say_so(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "raw.tif", GREY.astype(np.uint8), photometric="minisblack")
    zarr.save_array(tmp_path / "raw.zarr", GREY)
    with h5py.File(tmp_path / "raw.hdf", "w") as file:
        file["volumes/raw"] = GREY
    for ending in ENDINGS:
        with pytest.warns(InputWarning, match=rf"raw{ending}' has no affine; voxels of 1 mm"):
            open_volume(tmp_path / f"raw{ending}")


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"resolution": SIZES, "units": "parsec"}, "raw.hdf' has a resolution in 'parsec'; expected one of m, "),
        ({"resolution": [40.0, 0.0, 4.0]}, r"has resolution \[40.0, 0.0, 4.0\] and offset .*; expected one positive"),
        ({"resolution": SIZES, "offset": [1.0, 2.0]}, r"offset \[1.0, 2.0\]; expected one positive size and one"),
    ],
)
def test_resolutions_that_mean_nothing_are_refused(tmp_path: Path, attributes: dict[str, Any], message: str) -> None:
    with h5py.File(tmp_path / "raw.hdf", "w") as file:
        file["volumes/raw"] = GREY
        file["volumes/raw"].attrs.update(attributes)
    with pytest.raises(InputError, match=message):
        open_volume(tmp_path / "raw.hdf")


def test_files_of_several_volumes_must_say_which(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "two.hdf", "w") as file:
        file["a"], file["b"] = GREY, GREY
    group = zarr.open_group(tmp_path / "two.zarr", mode="w")
    for name in "ab":
        group.create_array(name, data=GREY)
    for ending, name in ((".hdf", "volumes/raw"), (".zarr", "volumes/raw")):
        with pytest.raises(InputError, match=rf"holds the arrays 'a', 'b'; expected '{name}', or one array only"):
            open_volume(tmp_path / f"two{ending}")
    with tifffile.TiffWriter(tmp_path / "two.tif") as writer:
        writer.write(GREY.astype(np.uint8))
        writer.write(np.zeros((5, 5), np.float32))
    with pytest.raises(InputError, match=r"two.tif' holds 2 series of pages; expected one stack"):
        open_volume(tmp_path / "two.tif")


def test_stores_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gone.zarr' does not exist; expected a folder of chunks"):
        open_volume(tmp_path / "gone.zarr")
    (tmp_path / "file.zarr").write_text("x")
    with pytest.raises(InputError, match="file.zarr' is a file; expected a folder of chunks"):
        open_volume(tmp_path / "file.zarr")
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(InputError, match="empty.zarr' is an empty folder; expected a folder of chunks"):
        open_volume(tmp_path / "empty.zarr")
    (tmp_path / "empty.zarr/notes.txt").write_text("x")
    with pytest.raises(InputError, match="empty.zarr' cannot be read"):
        open_volume(tmp_path / "empty.zarr")


def test_a_damaged_chunk_is_noticed(tmp_path: Path) -> None:
    save_volume(Volume(GREY / 7, grid(), "image"), tmp_path / "raw.zarr")
    (chunk,) = (path for path in (tmp_path / "raw.zarr/c").rglob("*") if path.is_file())
    chunk.write_bytes(chunk.read_bytes()[:20])
    with pytest.raises(InputError, match="raw.zarr' cannot be read"):
        open_volume(tmp_path / "raw.zarr")


def test_a_store_is_replaced_whole(tmp_path: Path) -> None:
    for shift in (0, 1):
        save_volume(Volume(GREY + shift, grid(), "image"), tmp_path / "raw.zarr")
    np.testing.assert_array_equal(open_volume(tmp_path / "raw.zarr").data, GREY + 1)
    assert [path.name for path in tmp_path.iterdir()] == ["raw.zarr"]


def test_small_voxels_are_told_apart() -> None:
    near, far = (Grid((9, 9, 9), placed([40, 4, 4], [0, 0, offset])) for offset in (0.01, 1))
    here = Grid((9, 9, 9), placed([40, 4, 4]))
    assert here.matches(near)
    assert not here.matches(far)


@pytest.mark.real
def test_real_cubes(real_data: Path, tmp_path: Path) -> None:
    raw = open_volume(real_data / "em_neurons/crop.hdf")
    ids = open_volume(real_data / "em_neurons/crop.hdf", kind="instances")
    assert raw.grid.matches(ids.grid)
    assert nanometres(raw.grid.voxel_sizes) == [10, 10, 10]
    hdf5.write_all({hdf5.RAW: raw, hdf5.LABELS: ids}, tmp_path / "again.hdf")
    np.testing.assert_array_equal(open_volume(tmp_path / "again.hdf").data, raw.data)
    np.testing.assert_array_equal(open_volume(tmp_path / "again.hdf", kind="instances").data, ids.data)
