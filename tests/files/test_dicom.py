from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

import dicoms
from limner.check import InputError, InputWarning
from limner.files import open_volume, result_suffix, stem, stored_volume
from limner.files.dicom import chosen, is_dicom
from limner.space import Array, Box, Grid, Volume
from space.strategies import affines

TURNED = np.array([[0.1, 0, 2.5, -30], [-0.9, 0.2, 0, 40], [0, -0.7, 0.1, 5], [0, 0, 0, 1.0]])


def upright(seed: int = 0, shape: tuple[int, int, int] = (6, 5, 8)) -> Volume:
    """Noise on voxels of three sizes, no axis along the patient's."""
    axes = np.linalg.qr(TURNED[:3, :3])[0] * [0.9, 0.8, 2.5]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes, [-30, 40, 5]
    return Volume(np.random.default_rng(seed).integers(-50, 2000, shape), Grid(shape, affine), "image")


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        open_volume(path)
    return str(caught.value)


def unplace(path: Path) -> None:
    """Turn the tag of the directions into one that nobody knows."""
    path.write_bytes(path.read_bytes().replace(b"\x20\x00\x37\x00", b"\x20\x00\x36\x00"))


# --- what is read


@settings(max_examples=15)
@given(affines(shears=False))
def test_slices_lie_where_their_headers_say(affine: Array) -> None:
    shape = (3, 4, 5)
    volume = Volume(np.arange(60).reshape(shape), Grid(shape, affine), "image")
    with tempfile.TemporaryDirectory() as folder:
        if np.linalg.det(affine) > 0:  # the slices of a left-handed grid come in the other order
            dicoms.written(Path(folder), volume)
        else:
            dicoms.written(Path(folder), mirrored(volume))
        found = open_volume(folder)
    expected = volume if np.linalg.det(affine) > 0 else mirrored(volume)
    np.testing.assert_array_equal(found.data, expected.data)
    assert found.grid.matches(expected.grid, tolerance=1e-4)


def mirrored(volume: Volume) -> Volume:
    """The same voxels with slices in the other order."""
    affine = volume.grid.affine.copy()
    affine[:3, 3] += affine[:3, 2] * (volume.data.shape[2] - 1)
    affine[:3, 2] *= -1
    return replace(volume, data=volume.data[..., ::-1], grid=Grid(volume.data.shape, affine))


def handed(volume: Volume) -> Volume:
    return volume if np.linalg.det(volume.grid.affine) > 0 else mirrored(volume)


def test_results_take_the_folder_s_name_and_nifti(tmp_path: Path) -> None:
    dicoms.written(tmp_path / "T1.axial", upright())
    assert (stem(tmp_path / "T1.axial"), result_suffix(tmp_path / "T1.axial")) == ("T1.axial", ".nii.gz")
    assert stem(f"{tmp_path}/T1.axial#3") == "T1.axial_3"


def test_values_are_in_their_own_units(tmp_path: Path) -> None:
    volume = handed(upright())
    dicoms.written(tmp_path, volume, t0028_1052="-1024", t0028_1053="1")
    found = stored_volume(tmp_path)
    assert found.data.dtype.kind == "i"
    np.testing.assert_array_equal(found.data, volume.data)


def test_a_tilted_gantry_shears(tmp_path: Path) -> None:
    volume = handed(upright())
    affine = volume.grid.affine.copy()
    affine[:3, 2] += 0.3 * affine[:3, 1]
    tilted = replace(volume, grid=Grid(volume.data.shape, affine))
    dicoms.written(tmp_path, tilted)
    with pytest.warns(InputWarning, match="degrees off a right angle; they were kept"):
        found = open_volume(tmp_path)
    assert found.grid.matches(tilted.grid)


def test_one_slice_is_as_thick_as_it_says(tmp_path: Path) -> None:
    volume = handed(upright(shape=(6, 5, 1)))
    (path,) = dicoms.written(tmp_path, volume)
    for source in (path, tmp_path):
        found = open_volume(source)
        assert found.data.shape == (6, 5, 1)
        assert found.grid.matches(volume.grid)


def test_a_file_that_does_not_say_where_it_lies(tmp_path: Path) -> None:
    dicoms.plane(tmp_path / "x.dcm", upright().data[..., 0], sizes=(1, 1), tags={})
    unplace(tmp_path / "x.dcm")
    with pytest.warns(InputWarning, match="has no affine"):
        assert open_volume(tmp_path / "x.dcm").data.shape == (6, 5)


# --- what is tolerated, and said


def test_what_is_no_image_is_left_out(tmp_path: Path) -> None:
    (first, *_) = dicoms.written(tmp_path, upright())
    (tmp_path / "README.txt").write_text("burnt on a Monday")
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + bytes(50))
    (tmp_path / "report.dcm").write_bytes(first.read_bytes()[:300])
    assert not is_dicom(tmp_path / "README.txt")
    with pytest.warns(InputWarning, match=r"are no images, or damaged, and were left out: 'report\.dcm'$"):
        assert open_volume(tmp_path).data.shape == (6, 5, 8)


def test_directions_a_little_too_long(tmp_path: Path) -> None:
    volume = handed(upright())
    axes = (volume.grid.affine[:3, :3] / volume.grid.voxel_sizes).T * dicoms.LPS
    dicoms.written(tmp_path, volume, t0020_0037=dicoms.numbers(1.0001 * axes[:2].ravel()))
    with pytest.warns(InputWarning, match="whose length is off 1 by 0.0001; they were made as long as 1"):
        found = open_volume(tmp_path)
    assert found.grid.matches(volume.grid)


def test_slices_at_slightly_unequal_distances(tmp_path: Path) -> None:
    volume = handed(upright())
    grid = volume.grid
    for index in range(8):
        part = Box((0, 0, index), (6, 5, index + 1))
        shift = np.eye(4)
        shift[:3, 3] = grid.affine[:3, 2] * (0.1 if index == 3 else 0)
        one = Volume(volume.data[part.slices], grid.cropped(part).moved(shift), "image")
        dicoms.written(tmp_path / str(index), one)
        shutil.copy(next((tmp_path / str(index)).iterdir()), tmp_path / f"{index}.dcm")
    with pytest.warns(InputWarning, match=r"at unequal distances, up to 0\.25 mm off; taken as equal"):
        assert open_volume(tmp_path).grid.matches(grid)


# --- several series


def test_several_series_are_told_apart(tmp_path: Path) -> None:
    first, second = handed(upright(1)), handed(upright(2, shape=(4, 5, 6)))
    dicoms.written(tmp_path, first, series=3)
    dicoms.written(tmp_path, second, series=12, title="t2 space")
    assert chosen(tmp_path) == [Path(f"{tmp_path}#3"), Path(f"{tmp_path}#12")]
    told = refusal(tmp_path)
    assert f"holds 2 series; expected one: choose among '{tmp_path}#3' (MR t1 mprage, 8 images); '" in told
    np.testing.assert_array_equal(open_volume(f"{tmp_path}#12").data, second.data)
    assert "holds no series 4; expected one of '" in refusal(Path(f"{tmp_path}#4"))


def test_series_of_one_number_are_known_by_their_uid(tmp_path: Path) -> None:
    dicoms.written(tmp_path, upright(1), series=3)
    dicoms.written(tmp_path, upright(2), series=4, t0020_0011="3")
    assert chosen(tmp_path) == [Path(f"{tmp_path}#{dicoms.ROOT}.1.{series}") for series in (3, 4)]


def test_a_scout_in_two_planes_is_two_volumes(tmp_path: Path) -> None:
    volume = handed(upright())
    turned = Grid(volume.data.shape, volume.grid.affine @ [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]])
    dicoms.written(tmp_path, volume)
    shutil.move(tmp_path, tmp_path.with_name("first"))
    dicoms.written(tmp_path, replace(volume, grid=turned))
    for path in tmp_path.with_name("first").iterdir():
        shutil.copy(path, tmp_path / f"other-{path.name}")
    assert chosen(tmp_path) == [Path(f"{tmp_path}#1a"), Path(f"{tmp_path}#1b")]


def test_echoes_of_one_series_are_told_apart(tmp_path: Path) -> None:
    echoes = [handed(upright(seed)) for seed in (1, 2)]
    for index, echo in enumerate(echoes):
        dicoms.written(tmp_path / f"{index}", echo, t0018_0081=f"{4.5 * (index + 1)}")
        for path in (tmp_path / f"{index}").iterdir():
            shutil.copy(path, tmp_path / f"{index}{path.name}")
    found = [open_volume(f"{tmp_path}#1{letter}") for letter in "ab"]
    for volume, echo in zip(found, echoes, strict=True):
        np.testing.assert_array_equal(volume.data, echo.data)


# --- what is refused


def test_a_missing_slice(tmp_path: Path) -> None:
    paths = dicoms.written(tmp_path, handed(upright()))
    paths[3].unlink()
    told = refusal(tmp_path)
    assert told.startswith(f"a slice is missing from '{tmp_path}': '{paths[2].name}' and '{paths[4].name}' lie 5 mm")
    assert told.endswith("the others 2.5; expected slices at equal distances: copy or export the series again")
    paths[4].unlink()
    assert refusal(tmp_path).startswith(f"2 slices are missing from '{tmp_path}'")


def test_images_at_one_place(tmp_path: Path) -> None:
    paths = dicoms.written(tmp_path, upright())
    shutil.copy(paths[2], tmp_path / "again.dcm")
    assert f"1 of the 9 images of '{tmp_path}' lie where another one does; expected one image" in refusal(tmp_path)


def test_images_that_do_not_say_where_they_lie(tmp_path: Path) -> None:
    for name in "ab":
        dicoms.plane(tmp_path / f"{name}.dcm", upright().data[..., 0], sizes=(1, 1), tags={"0020|000e": dicoms.ROOT})
        unplace(tmp_path / f"{name}.dcm")
    assert re.search(r"only 0 of the 2 images of '.*' say where they lie; expected position", refusal(tmp_path))


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    assert "holds no DICOM images; expected the slices of a series: name another folder, or files" in refusal(tmp_path)
    (tmp_path / "report.dcm").write_text("x")
    with pytest.warns(InputWarning, match="were left out: 'report.dcm'"):
        assert "holds 1 DICOM files but no images; expected the slices" in refusal(tmp_path)


def test_a_file_that_is_damaged(tmp_path: Path) -> None:
    (path, *_) = dicoms.written(tmp_path, upright())
    path.write_bytes(path.read_bytes()[:200])
    assert re.search(r"cannot be read \(.+\); expected a complete image file", refusal(path))
