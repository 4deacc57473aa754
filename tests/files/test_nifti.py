from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.check import InputError, InputWarning
from limner.files import open_volume, save_volume
from limner.space import Box, Grid, Volume, reoriented
from space.strategies import affines

DATA = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
STORED_ANEW = {"datatype", "bitpix", "scl_slope", "scl_inter", "vox_offset"}
SAFE = "ignore::limner.check.InputWarning"


def header_of(path: Path) -> nibabel.Nifti1Header:
    return nibabel.load(path).header


def differing(one: nibabel.Nifti1Header, other: nibabel.Nifti1Header) -> set[str]:
    """Names of the fields that are not the same to the bit."""
    return {name for name in one if one[name].tobytes() != other[name].tobytes()}


def original(path: Path, sform: np.ndarray, qform: np.ndarray, codes: tuple[int, int]) -> Path:
    """A file as a scanner's software might write it, with fields of its own."""
    image = nibabel.Nifti1Image(DATA.astype(np.int16), None)
    image.header.set_qform(qform, codes[1])
    image.header.set_sform(sform, codes[0])
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"TE=30;Time=1"
    image.header["slice_code"] = 3
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"by hand"))
    nibabel.save(image, path)
    return path


@pytest.mark.filterwarnings(SAFE)
@given(affines(), affines(shears=False), st.tuples(st.integers(0, 4), st.integers(0, 4)))
def test_a_scan_s_geometry_comes_back_to_the_bit(sform: np.ndarray, qform: np.ndarray, codes: tuple[int, int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = original(Path(folder) / "scan.nii.gz", sform, qform, codes)
        scan = open_volume(path)
        labels = Volume(np.ones(DATA.shape, np.uint8), scan.grid, "labels", scan.header)
        save_volume(labels, Path(folder) / "labels.nii.gz")
        before, after = header_of(path), header_of(Path(folder) / "labels.nii.gz")
    assert differing(before, after) <= STORED_ANEW
    np.testing.assert_array_equal(scan.grid.affine, before.get_best_affine())
    assert after.extensions == before.extensions


@pytest.mark.filterwarnings(SAFE)
@given(affines(shears=False), affines(shears=False))
def test_sform_wins_over_qform_over_voxel_sizes(sform: np.ndarray, qform: np.ndarray) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = {
            codes: open_volume(original(Path(folder) / "scan.nii", sform, qform, codes)).grid
            for codes in [(1, 1), (4, 0), (0, 2), (0, 0)]
        }
    assert found[1, 1].matches(Grid(DATA.shape, sform), tolerance=0.1)
    assert found[4, 0].matches(Grid(DATA.shape, sform), tolerance=0.1)
    # Next to half a turn, a quaternion of float32 is this coarse.
    assert found[0, 2].matches(Grid(DATA.shape, qform), tolerance=0.1)
    assert found[0, 0].orientation == "LAS"


def test_neither_sform_nor_qform(tmp_path: Path) -> None:
    path = original(tmp_path / "scan.nii", np.eye(4), np.eye(4), (0, 0))
    with pytest.warns(InputWarning, match=r"scan.nii' has neither sform nor qform; axes left, front, up") as caught:
        open_volume(path)
    assert Path(caught[0].filename) == Path(__file__)


def test_other_units_are_mentioned(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(DATA, np.eye(4))
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / "scan.nii")
    with pytest.warns(InputWarning, match=r"scan.nii' says its unit is the micron; its numbers were taken as mm"):
        assert open_volume(tmp_path / "scan.nii").grid.voxel_volume == 1


def test_a_quaternion_a_little_too_long_is_tolerated(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(DATA, None)
    image.header["qform_code"] = 1
    image.header["pixdim"][:4] = [1, 1, 2, 3]
    image.header["quatern_d"] = 1.0001
    nibabel.save(image, tmp_path / "scan.nii")
    with pytest.raises(ValueError, match="w2 should be positive"):
        nibabel.load(tmp_path / "scan.nii")
    with pytest.warns(InputWarning, match="has a qform quaternion longer than 1; the nearest rotation was taken"):
        scan = open_volume(tmp_path / "scan.nii")
    np.testing.assert_allclose(scan.grid.affine, np.diag([-1, -2, 3, 1]), atol=1e-6)
    save_volume(scan, tmp_path / "again.nii")
    with (tmp_path / "again.nii").open("rb") as file:
        again = nibabel.Nifti1Header.from_fileobj(file)
    assert differing(image.header, again) <= STORED_ANEW


def test_a_quaternion_far_too_long_is_refused(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(DATA, None)
    image.header["qform_code"] = 1
    image.header["quatern_d"] = 1.5
    nibabel.save(image, tmp_path / "scan.nii")
    with pytest.raises(InputError, match=r"scan.nii' cannot be read \(w2 should be positive"):
        open_volume(tmp_path / "scan.nii")


@given(affines(shears=False))
def test_a_new_grid_is_stated_twice(affine: np.ndarray) -> None:
    with tempfile.TemporaryDirectory() as folder:
        save_volume(Volume(DATA, Grid(DATA.shape, affine), "image"), Path(folder) / "scan.nii")
        header = header_of(Path(folder) / "scan.nii")
    assert (header["sform_code"], header["qform_code"]) == (1, 1)
    np.testing.assert_allclose(header.get_sform(), affine, atol=1e-4)
    # As coarse as above.
    np.testing.assert_allclose(header.get_qform(), affine, atol=2e-2)
    assert header.get_xyzt_units()[0] == "mm"


@pytest.mark.filterwarnings(SAFE)
def test_a_sheared_grid_is_left_to_the_sform(tmp_path: Path) -> None:
    affine = np.array([[1, 0.3, 0, 5], [0, 2, 0.1, 6], [0, 0, 3, 7], [0, 0, 0, 1]])
    save_volume(Volume(DATA, Grid(DATA.shape, affine), "image"), tmp_path / "scan.nii")
    header = header_of(tmp_path / "scan.nii")
    assert (header["sform_code"], header["qform_code"]) == (1, 0)
    np.testing.assert_allclose(open_volume(tmp_path / "scan.nii").grid.affine, affine, atol=1e-6)


@pytest.mark.filterwarnings(SAFE)
def test_a_changed_grid_goes_into_the_old_header(tmp_path: Path) -> None:
    scan = open_volume(original(tmp_path / "scan.nii", np.diag([1, 2, 3, 1]), np.diag([1, 2, 3, 1]), (4, 1)))
    box = Box((1, 0, 2), (3, 4, 5))
    cropped = replace(scan, data=scan.data[box.slices], grid=scan.grid.cropped(box))
    save_volume(cropped, tmp_path / "cropped.nii")
    header = header_of(tmp_path / "cropped.nii")
    assert (header["sform_code"], header["qform_code"]) == (4, 4)
    assert header["descrip"] == b"TE=30;Time=1"
    np.testing.assert_allclose(header.get_qform()[:3, 3], [1, 0, 6], atol=1e-6)
    assert open_volume(tmp_path / "cropped.nii").grid.matches(cropped.grid)


@pytest.mark.filterwarnings(SAFE)
def test_turned_and_turned_back_is_as_before(tmp_path: Path) -> None:
    path = original(tmp_path / "scan.nii", np.diag([-1, 2, 3, 1]), np.diag([-1, 2, 3, 1]), (1, 1))
    scan = open_volume(path)
    save_volume(reoriented(reoriented(scan, "PSR"), "LAS"), tmp_path / "again.nii")
    assert differing(header_of(path), header_of(tmp_path / "again.nii")) <= STORED_ANEW


def test_display_window_of_a_scan_is_not_that_of_labels(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(DATA, np.eye(4))
    image.header["cal_max"] = 1500
    nibabel.save(image, tmp_path / "scan.nii")
    scan = open_volume(tmp_path / "scan.nii")
    save_volume(scan, tmp_path / "again.nii")
    save_volume(replace(scan, data=scan.data.astype(int), kind="labels"), tmp_path / "labels.nii")
    assert [header_of(tmp_path / name)["cal_max"] for name in ("again.nii", "labels.nii")] == [1500, 0]


def test_nifti_2_stays_nifti_2(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti2Image(DATA, np.diag([2, 1, 1, 1])), tmp_path / "scan.nii.gz")
    save_volume(open_volume(tmp_path / "scan.nii.gz"), tmp_path / "again.nii.gz")
    assert type(header_of(tmp_path / "again.nii.gz")) is nibabel.Nifti2Header
    np.testing.assert_array_equal(open_volume(tmp_path / "again.nii.gz").data, DATA)


def test_the_header_in_memory_is_left_alone(tmp_path: Path) -> None:
    scan = open_volume(original(tmp_path / "scan.nii", np.eye(4), np.eye(4), (1, 1)))
    before = scan.header.binaryblock
    save_volume(replace(scan, grid=scan.grid.moved(np.diag([2, 2, 2, 1]))), tmp_path / "moved.nii")
    assert scan.header.binaryblock == before


def test_files_are_the_same_each_time(tmp_path: Path) -> None:
    volume = Volume(DATA, Grid(DATA.shape, np.eye(4)), "image")
    for name in ("one.nii.gz", "other.nii.gz"):
        save_volume(volume, tmp_path / name)
    assert (tmp_path / "one.nii.gz").read_bytes() == (tmp_path / "other.nii.gz").read_bytes()
