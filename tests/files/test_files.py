from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.check import InputError, InputWarning
from limner.files import FORMATS, hdf5, is_volume, open_volume, save_volume, stem, suffix
from limner.space import Grid, Volume
from space.strategies import images, label_maps

PLACED = [known for known in FORMATS if known not in (".npy", ".png")]
GRID = Grid((3, 4, 5), np.array([[0, 0, 2, -3], [-1.5, 0, 0, 4], [0, 1, 0, 5], [0, 0, 0, 1]]))
IMAGE = Volume(np.arange(60, dtype=np.float32).reshape(3, 4, 5), GRID, "image")
LABELS = Volume(np.arange(60, dtype=np.int32).reshape(3, 4, 5) % 7, GRID, "labels")


def saved(folder: Path, data: np.ndarray, name: str = "image.npz") -> Path:
    """What a careless program might write."""
    path = folder / name
    affine = np.eye(data.ndim + 1 if data.ndim < 4 else 4)
    if name.endswith(".npz"):
        np.savez(path, vol_data=data, affine=affine)
    else:
        nibabel.save(nibabel.Nifti1Image(data, affine, dtype=data.dtype), path)
    return path


# --- what goes in comes out


@pytest.mark.filterwarnings("ignore::limner.check.InputWarning")
@settings(max_examples=60)
@given(images(), st.sampled_from(PLACED))
def test_images_come_back_as_they_were(volume: Volume, ending: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"image{ending}"
        save_volume(volume, path)
        found = open_volume(path)
    np.testing.assert_array_equal(found.data, volume.data)
    assert found.data.dtype == np.float32
    assert found.grid.matches(volume.grid)


@pytest.mark.filterwarnings("ignore::limner.check.InputWarning")
@settings(max_examples=60)
@given(label_maps(), st.sampled_from(PLACED))
def test_labels_come_back_as_they_were(volume: Volume, ending: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"labels{ending}"
        save_volume(volume, path)
        found = open_volume(path, kind="labels")
    np.testing.assert_array_equal(found.data, volume.data)
    assert found.data.dtype == np.int32
    assert found.grid.matches(volume.grid)


@pytest.mark.parametrize(
    "ending", [*(known for known in PLACED if FORMATS[known] is not hdf5), ".npy"]
)  # CREMI's ids are uint64
@pytest.mark.parametrize(
    ("low", "high", "stored"), [(0, 255, "uint8"), (0, 256, "int16"), (-1, 1, "int16"), (0, 40000, "int32")]
)
@pytest.mark.filterwarnings("ignore::limner.check.InputWarning")
def test_labels_take_the_smallest_type(tmp_path: Path, ending: str, low: int, high: int, stored: str) -> None:
    path = tmp_path / f"labels{ending}"
    save_volume(Volume(np.array([[[low, high]]]), Grid((1, 1, 2), np.eye(4)), "labels"), path)
    if ending.startswith(".np"):
        content = np.load(path)
        dtype = content["vol_data"].dtype if ending == ".npz" else content.dtype
    elif ending in (".nrrd", ".mha"):
        dtype = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path)).dtype
    elif ending == ".ome.zarr":
        dtype = zarr.open_group(path, mode="r")["0"].dtype
    elif ending == ".zarr":
        dtype = zarr.open_array(path, mode="r").dtype
    elif ending in (".tif", ".tiff"):
        dtype = tifffile.imread(path).dtype
    else:
        dtype = nibabel.load(path).get_data_dtype()
    assert dtype.newbyteorder("=") == stored


def test_labels_beyond_32_bits_are_refused(tmp_path: Path) -> None:
    volume = Volume(np.array([[[2**31]]]), Grid((1, 1, 1), np.eye(4)), "labels")
    with pytest.raises(InputError, match=r"hold 2147483648 at voxel \(0, 0, 0\)"):
        save_volume(volume, tmp_path / "labels.nii")


def test_masks_are_labels(tmp_path: Path) -> None:
    save_volume(Volume(LABELS.data > 3, GRID, "labels"), tmp_path / "mask.nii.gz")
    assert open_volume(tmp_path / "mask.nii.gz", kind="labels").data.sum() == (LABELS.data > 3).sum()


@pytest.mark.parametrize("dtype", ["u1", "i2", ">i4", "f4", ">f8", "u2", "i8"])
@pytest.mark.parametrize("kind", ["image", "labels"])
def test_every_stored_type_is_read(tmp_path: Path, dtype: str, kind: str) -> None:
    path = saved(tmp_path, IMAGE.data.astype(dtype), "stored.nii")
    found = open_volume(path, kind=kind)
    np.testing.assert_array_equal(found.data, IMAGE.data)
    assert found.data.dtype == {"image": np.float32, "labels": np.int32}[kind]


def test_scaled_images_are_read_in_their_own_units(tmp_path: Path) -> None:
    stored = nibabel.Nifti1Image(IMAGE.data.astype(np.int16), np.eye(4))
    stored.header.set_slope_inter(0.5, 10)
    nibabel.save(stored, tmp_path / "image.nii")
    expected = nibabel.load(tmp_path / "image.nii").get_fdata()
    np.testing.assert_allclose(open_volume(tmp_path / "image.nii").data, expected)


def test_two_dimensions(tmp_path: Path) -> None:
    flat = Volume(np.array([[1, 2, 3]], np.float32), Grid((1, 3), np.array([[0, 2, 5], [3, 0, 6], [0, 0, 1]])), "image")
    save_volume(flat, tmp_path / "flat.npz")
    assert open_volume(tmp_path / "flat.npz").grid.matches(flat.grid)
    save_volume(flat, tmp_path / "flat.nii.gz")
    slab = open_volume(tmp_path / "flat.nii.gz")
    assert slab.data.shape == (1, 3, 1)
    assert slab.grid.world([0, 2, 0]).tolist() == [9, 6, 0]


def test_true_2d_nifti_is_one_slice_and_is_written_as_it_was(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.arange(6, dtype=np.float32).reshape(2, 3), np.eye(4)), tmp_path / "flat.nii")
    slab = open_volume(tmp_path / "flat.nii")
    assert slab.data.shape == (2, 3, 1)
    save_volume(slab, tmp_path / "again.nii")
    assert nibabel.load(tmp_path / "again.nii").shape == (2, 3)


# --- names


def test_suffixes_are_known_by_name_alone() -> None:
    assert suffix("a/b.c.NII.GZ") == ".nii.gz"
    assert stem("a/b.c.NII.GZ") == "b.c"
    assert [is_volume(name) for name in ("x.mgz", "x.Npy", "x.gz", "nii", "x.txt")] == [True, True, False, False, False]


def test_suffixes_may_be_in_capitals(tmp_path: Path) -> None:
    for name in ("A.NII.GZ", "A.MGZ", "A.NPZ"):
        save_volume(IMAGE, tmp_path / name)
        np.testing.assert_array_equal(open_volume(str(tmp_path / name)).data, IMAGE.data)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["A.MGZ", "A.NII.GZ", "A.NPZ"]


# --- what is tolerated, and said


def test_array_without_affine(tmp_path: Path) -> None:
    np.savez(tmp_path / "scan.npz", vol_data=IMAGE.data)
    with pytest.warns(InputWarning, match=r"scan.npz' has no affine; voxels of 1 mm along the axes right, front, up"):
        assert open_volume(tmp_path / "scan.npz").grid.orientation == "RAS"


def test_npy_says_that_it_loses_the_affine(tmp_path: Path) -> None:
    with pytest.warns(InputWarning, match=r"scan.npy' keeps the voxels but not the affine") as caught:
        save_volume(IMAGE, tmp_path / "scan.npy")
    assert Path(caught[0].filename) == Path(__file__)


def test_trailing_axes_of_one_voxel(tmp_path: Path) -> None:
    path = saved(tmp_path, IMAGE.data[..., None, None], "image.nii.gz")
    with pytest.warns(InputWarning, match=r"has shape \(3, 4, 5, 1, 1\); its axes .* leaves \(3, 4, 5\)") as caught:
        volume = open_volume(path)
    assert Path(caught[0].filename) == Path(__file__)
    assert volume.data.shape == (3, 4, 5)
    save_volume(volume, tmp_path / "again.nii.gz")
    assert nibabel.load(tmp_path / "again.nii.gz").shape == nibabel.load(path).shape == (3, 4, 5, 1, 1)


@pytest.mark.parametrize(("slope", "said"), [(0, False), (1e-6, False), (1e-4, True), (0.2, True)])
def test_axes_off_right_angles(tmp_path: Path, slope: float, said: bool) -> None:
    affine = np.eye(4)
    affine[0, 1] = slope
    save_volume(Volume(IMAGE.data, Grid((3, 4, 5), affine), "image"), tmp_path / "scan.nii")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = open_volume(tmp_path / "scan.nii")
    assert ["degrees off a right angle; they were kept" in str(each.message) for each in caught] == [True] * said
    np.testing.assert_allclose(found.grid.affine, affine, atol=1e-7)
