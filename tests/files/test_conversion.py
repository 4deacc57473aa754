from __future__ import annotations

import itertools
import warnings
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

import dicoms
from limner.check import InputError
from limner.files import FORMATS, open_volume, save_volume, stored_volume
from limner.files.conversion import convert
from limner.files.kinds import looks_like_labels
from limner.files.nanometres import placed
from limner.files.storing import TYPES
from limner.space import Array, Grid, Volume, reoriented

SAFE = pytest.mark.filterwarnings("ignore::limner.check.InputWarning")
PLACED = [known for known in FORMATS if known not in (".npy", ".png")]
AFFINE = np.array([[0.1, 0, 2.5, -30], [-0.9, 0.2, 0, 40], [0, -0.7, 0.1, 5], [0, 0, 0, 1.0]])
GRID = Grid((7, 8, 9), AFFINE)
LESIONS = np.zeros(GRID.shape, np.uint8)
LESIONS[2:5, 3:7, 1:8] = 1
LESIONS[3:5, 4:6, 3:6] = 7


IDS = np.where(LESIONS, LESIONS + np.uint64(2**63), 0)


def noise(dtype: str = "i2") -> Volume:
    return Volume(np.random.default_rng(0).integers(0, 120, GRID.shape).astype(dtype), GRID, "image")


def heard(source: Path, target: Path) -> list[str]:
    """What is said when one becomes the other."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        convert(source, target)
    return [str(each.message) for each in caught]


# --- from format to format


@SAFE
@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(PLACED, 2)))
def test_voxels_types_and_geometry_go_from_each_format_to_each(tmp_path: Path, first: str, second: str) -> None:
    save_volume(noise(), tmp_path / f"a{first}", as_stored=True)
    convert(tmp_path / f"a{first}", tmp_path / f"b{second}")
    found = stored_volume(tmp_path / f"b{second}")
    np.testing.assert_array_equal(found.data, noise().data)
    assert found.data.dtype.newbyteorder("=") == "i2"
    # NIfTI and MGH keep their affines in float32.
    assert found.grid.matches(GRID, tolerance=1e-4)


@pytest.mark.parametrize("data", [IDS, noise("f4").data / 7], ids=["instances", "image"])
def test_nanometres_and_ids_go_round_through_the_microscopes_formats(tmp_path: Path, data: Array) -> None:
    grid = Grid(data.shape, placed([40, 4.3, 4.1], [1480, 3644, 0.1]))
    save_volume(Volume(data, grid, "image"), tmp_path / "a.tif", as_stored=True)
    for first, second in itertools.pairwise(["a.tif", "b.zarr", "c.hdf", "d.tiff", "e.npz", "f.h5"]):
        convert(tmp_path / first, tmp_path / second)
        found = stored_volume(tmp_path / second)
        np.testing.assert_array_equal(found.data, data)
        np.testing.assert_array_equal(found.grid.affine, grid.affine)
        assert found.data.dtype == data.dtype
    convert(tmp_path / "f.h5", tmp_path / "g.nii.gz")
    found = stored_volume(tmp_path / "g.nii.gz")
    np.testing.assert_array_equal(found.data, data)
    # NIfTI's float32 places a voxel of 4 nm to a few thousandths of it.
    assert found.grid.matches(grid)


@SAFE
def test_wide_ids_are_instances(tmp_path: Path) -> None:
    save_volume(Volume(IDS, GRID, "instances"), tmp_path / "ids.zarr")
    assert convert(tmp_path / "ids.zarr", tmp_path / "ids.nrrd").kind == "instances"
    for kind in ("image", "instances"):
        with pytest.raises(InputError, match="cannot hold these voxels of type uint64: its format has uint8, int16"):
            convert(tmp_path / "ids.zarr", tmp_path / "ids.mgz", kind=kind)
    # More ids than a label map has labels.
    save_volume(
        Volume(
            np.repeat(np.arange(504, dtype=np.uint64), 3).reshape(7, 72, 3).swapaxes(0, 2),
            Grid((3, 72, 7), np.eye(4)),
            "image",
        ),
        tmp_path / "many.npz",
        as_stored=True,
    )
    assert convert(tmp_path / "many.npz", tmp_path / "many.zarr").kind == "instances"


@SAFE
@pytest.mark.parametrize("ending", PLACED)
@pytest.mark.parametrize("dtype", TYPES[".nii"])
def test_every_value_is_kept_whatever_its_type(tmp_path: Path, ending: str, dtype: str) -> None:
    save_volume(noise(dtype), tmp_path / "a.npz", as_stored=True)
    convert(tmp_path / "a.npz", tmp_path / f"b{ending}")
    np.testing.assert_array_equal(stored_volume(tmp_path / f"b{ending}").data, noise(dtype).data)


@SAFE
def test_a_series_becomes_one_file(tmp_path: Path) -> None:
    upright = replace(noise(), grid=Grid(GRID.shape, np.diag([1, 2, 3, 1.0])))
    for series in (3, 4):
        dicoms.written(tmp_path / "study", upright, series=series)
    written = convert(tmp_path / "study#4", tmp_path / "scan.nii.gz")
    np.testing.assert_array_equal(open_volume(tmp_path / "scan.nii.gz").data, written.data)
    with pytest.raises(InputError, match="holds 2 series"):
        convert(tmp_path / "study", tmp_path / "other.nii.gz")
    assert not (tmp_path / "other.nii.gz").exists()


@SAFE
def test_large_nifti_files_are_nifti_2(tmp_path: Path) -> None:
    long = Volume(np.arange(40000, dtype=np.int32).reshape(1, 40000, 1), Grid((1, 40000, 1), np.eye(4)), "image")
    save_volume(long, tmp_path / "a.npz", as_stored=True)
    convert(tmp_path / "a.npz", tmp_path / "b.nii.gz")
    assert type(nibabel.load(tmp_path / "b.nii.gz")) is nibabel.Nifti2Image
    np.testing.assert_array_equal(stored_volume(tmp_path / "b.nii.gz").data, long.data)


# --- what is not kept is said


def test_nothing_is_said_where_nothing_is_lost(tmp_path: Path) -> None:
    upright = replace(noise(), grid=Grid(GRID.shape, np.diag([-1, 2, 3, 1.0])))
    save_volume(upright, tmp_path / "a.nii.gz", as_stored=True)
    for ending in (".nii", ".mgz", ".nrrd", ".mha", ".npz"):
        assert heard(tmp_path / "a.nii.gz", tmp_path / f"b{ending}") == []


def test_what_a_nifti_header_told_beside(tmp_path: Path) -> None:
    stored = nibabel.Nifti1Image(noise().data, np.diag([1, 2, 3, 1]))
    stored.set_qform(np.diag([-1, 2, 3, 1]), 1)
    stored.header["descrip"] = b"TE=30"
    stored.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"by hand"))
    nibabel.save(stored, tmp_path / "a.nii")
    told = "but not these fields: qform, which is not its sform, descrip, extension 6"
    assert heard(tmp_path / "a.nii", tmp_path / "b.mgz")[-1] == (
        f"'{tmp_path}/b.mgz' keeps the voxels and where they lie, {told}"
    )
    heard(tmp_path / "a.nii", tmp_path / "b.nii.gz")
    kept = nibabel.load(tmp_path / "b.nii.gz").header
    assert (kept["descrip"], len(kept.extensions)) == (b"TE=30", 1)
    np.testing.assert_array_equal(kept.get_qform(), stored.header.get_qform())


def test_fields_of_nrrd_reach_metaimage_and_no_further(tmp_path: Path) -> None:
    save_volume(noise(), tmp_path / "a.nrrd")
    content = (tmp_path / "a.nrrd").read_bytes()
    (tmp_path / "a.nrrd").write_bytes(content.replace(b"encoding", b"scanner:=built by hand\nencoding", 1))
    assert heard(tmp_path / "a.nrrd", tmp_path / "b.mha")[1:] == []
    assert "but not these fields: scanner" in heard(tmp_path / "b.mha", tmp_path / "c.nii")[-1]


def test_rounding_is_said_with_its_size(tmp_path: Path) -> None:
    save_volume(Volume(noise("f8").data + 1e-9, GRID, "image"), tmp_path / "a.npz", as_stored=True)
    (told,) = [words for words in heard(tmp_path / "a.npz", tmp_path / "b.mgz") if "float32" in words]
    assert told.endswith("holds float32 but the voxels are float64; they were rounded by up to 1e-09")


@SAFE
def test_what_cannot_be_held_is_refused(tmp_path: Path) -> None:
    save_volume(noise(), tmp_path / "a.nii")
    for name, words in (("b.png", "room for one slice"), ("b.jpg", "read but not written"), ("b.txt", "has .txt; exp")):
        with pytest.raises(InputError, match=words):
            convert(tmp_path / "a.nii", tmp_path / name)
    with pytest.raises(InputError, match=r"output '.*a.nii' is the input itself; expected a new file"):
        convert(tmp_path / "a.nii", tmp_path / "." / "a.nii")
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii"]


# --- onto another grid


def labelled(path: Path, data: Array = LESIONS, grid: Grid = GRID) -> Path:
    save_volume(Volume(data, grid, "labels"), path)
    return path


@SAFE
def test_like_takes_the_other_s_geometry_to_the_bit(tmp_path: Path) -> None:
    stored = nibabel.Nifti1Image(noise().data, AFFINE)
    stored.set_qform(np.diag([-1, 2, 3, 1]), 2)
    nibabel.save(stored, tmp_path / "like.nii")
    turned = reoriented(Volume(LESIONS, GRID, "labels"), "LIA")
    convert(labelled(tmp_path / "a.mgz", turned.data, turned.grid), tmp_path / "b.nii.gz", like=tmp_path / "like.nii")
    one, other = nibabel.load(tmp_path / "like.nii").header, nibabel.load(tmp_path / "b.nii.gz").header
    for field in ("dim", "pixdim", "srow_x", "srow_y", "srow_z", "qform_code", "sform_code", "quatern_b", "qoffset_x"):
        np.testing.assert_array_equal(one[field], other[field])
    np.testing.assert_array_equal(open_volume(tmp_path / "b.nii.gz", kind="labels").data, LESIONS)


@SAFE
def test_labels_stay_labels_and_images_are_averaged(tmp_path: Path) -> None:
    coarse = GRID.spaced(3.1)
    save_volume(Volume(np.zeros(coarse.shape) + np.arange(coarse.shape[2]), coarse, "image"), tmp_path / "like.nii")
    labelled(tmp_path / "labels.nii")
    written = convert(tmp_path / "labels.nii", tmp_path / "b.nii", like=tmp_path / "like.nii")
    assert (written.kind, set(np.unique(written.data))) == ("labels", {0, 1})  # of 7 there is too little
    written = convert(tmp_path / "labels.nii", tmp_path / "c.nii", like=tmp_path / "like.nii", kind="image")
    assert written.data.dtype == np.float32
    assert np.count_nonzero((written.data % 1) > 0) > 0
    volumes = [
        volume.data.sum() * volume.grid.voxel_volume for volume in (written, stored_volume(tmp_path / "labels.nii"))
    ]
    assert volumes[0] == pytest.approx(volumes[1], rel=0.1)


@SAFE
def test_grids_that_do_not_meet(tmp_path: Path) -> None:
    labelled(tmp_path / "a.nii")
    labelled(
        tmp_path / "far.nii", grid=GRID.moved(np.array([[1, 0, 0, 900], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    )
    with pytest.raises(InputError, match=r"a.nii' and '.*far.nii' have no place in common; expected"):
        convert(tmp_path / "a.nii", tmp_path / "b.nii", like=tmp_path / "far.nii")
    assert not (tmp_path / "b.nii").exists()


@SAFE
@pytest.mark.parametrize(
    ("data", "labels"),
    [
        (LESIONS, True),
        (LESIONS.astype(np.float64), True),
        (LESIONS * 0.5, False),
        (LESIONS.astype(int) - 1, False),
        (noise().data, False),
        (np.where(LESIONS, np.nan, 1), False),
    ],
)
def test_what_looks_like_labels(data: Array, labels: bool) -> None:
    assert looks_like_labels(Volume(data, GRID, "image")) is labels
