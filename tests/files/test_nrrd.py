"""NRRD and MetaImage files: read as SimpleITK reads them, written so that it reads the same."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.check import InputError, InputWarning
from limner.data.scan import lost_orientation
from limner.files import open_volume, result_suffix, save_volume, stored_volume
from limner.files.storing import ALL
from limner.space import Array, Grid, Volume
from space.strategies import affines

SAFE = "ignore::limner.check.InputWarning"
GRID = Grid((3, 4, 5), np.array([[0, 0, 2, -3], [-1.5, 0, 0, 4], [0, 1, 0, 5], [0, 0, 0, 1.0]]))
BARE = "NRRD0004\ntype: int16\ndimension: 3\nsizes: 3 4 5\nendian: little\nencoding: raw\n"


def bare(path: Path, *lines: str) -> Path:
    """A file with only what NRRD demands, and what `lines` add."""
    head = BARE + "".join(f"{line}\n" for line in lines) + "\n"
    path.write_bytes(head.encode() + np.arange(60, dtype="<i2").tobytes())
    return path


def as_itk_sees_it(path: Path) -> tuple[Array, Array]:
    """Data and RAS affine, worked out from SimpleITK alone, point by point."""
    image = SimpleITK.ReadImage(path)
    origin = np.array(image.TransformContinuousIndexToPhysicalPoint([0.0] * 3))
    axes = [np.array(image.TransformContinuousIndexToPhysicalPoint(row.tolist())) - origin for row in np.eye(3)]
    affine = np.eye(4)
    affine[:3] = np.column_stack([*axes, origin]) * np.array([-1, -1, 1])[:, None]
    return SimpleITK.GetArrayFromImage(image).T, affine


@pytest.mark.filterwarnings(SAFE)
@settings(max_examples=40)
@given(affines(), st.sampled_from(["nrrd", "mha"]), st.sampled_from(ALL))
def test_others_read_what_is_written(affine: Array, ending: str, dtype: str) -> None:
    data = np.arange(60).reshape(3, 4, 5).astype(dtype)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"scan.{ending}"
        save_volume(Volume(data, Grid(data.shape, affine), "image"), path, as_stored=True)
        seen, where = as_itk_sees_it(path)
        found = stored_volume(path)
    assert seen.dtype == found.data.dtype == data.dtype
    np.testing.assert_array_equal(seen, data)
    np.testing.assert_array_equal(found.data, data)
    np.testing.assert_allclose(where, affine, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.grid.affine, affine, rtol=1e-13, atol=1e-13)


@pytest.mark.filterwarnings(SAFE)
@settings(max_examples=20)
@given(affines(), st.sampled_from(["nrrd", "nhdr", "mha", "mhd"]))
def test_what_others_write_is_read_and_comes_back_to_the_bit(affine: Array, ending: str) -> None:
    image = SimpleITK.GetImageFromArray(np.arange(60, dtype=np.int16).reshape(5, 4, 3))
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(sizes.tolist())
    image.SetDirection((affine[:3, :3] / sizes * np.array([-1, -1, 1])[:, None]).ravel())
    image.SetMetaData("scanner", "built by hand")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"scan.{ending}"
        SimpleITK.WriteImage(image, path)
        data, where = as_itk_sees_it(path)
        scan = open_volume(path)
        labels = replace(scan, data=scan.data.astype(int), kind="labels")
        written = Path(folder) / f"labels{result_suffix(path)}" if "h" not in ending else Path(folder) / "labels.nrrd"
        save_volume(labels, written)
        again = open_volume(written, kind="labels")
        kept = SimpleITK.ReadImage(written).GetMetaData("scanner")
    np.testing.assert_array_equal(scan.data, data)
    np.testing.assert_allclose(scan.grid.affine, where, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(again.data, data)
    np.testing.assert_allclose(again.grid.affine, scan.grid.affine, rtol=0, atol=1e-15 * 300)
    assert kept == "built by hand"


@pytest.mark.filterwarnings(SAFE)
@pytest.mark.parametrize("ending", ["nrrd", "mha"])
def test_flat_images(tmp_path: Path, ending: str) -> None:
    grid = Grid((3, 2), np.array([[0, 2, 5], [3, 0, 6], [0, 0, 1.0]]))
    save_volume(Volume(np.arange(6.0).reshape(3, 2), grid, "image"), tmp_path / f"flat.{ending}")
    found = open_volume(tmp_path / f"flat.{ending}")
    np.testing.assert_array_equal(found.data, np.arange(6).reshape(3, 2))
    assert found.grid.matches(grid)


@pytest.mark.parametrize("ending", ["nrrd", "mha"])
def test_files_are_the_same_each_time(tmp_path: Path, ending: str) -> None:
    for name in ("one", "other"):
        save_volume(Volume(np.arange(60.0).reshape(3, 4, 5), GRID, "image"), tmp_path / f"{name}.{ending}")
    assert (tmp_path / f"one.{ending}").read_bytes() == (tmp_path / f"other.{ending}").read_bytes()


# --- headers that say little


def test_without_space_directions(tmp_path: Path) -> None:
    path = bare(tmp_path / "scan.nrrd")
    with pytest.warns(InputWarning, match=r"scan.nrrd' has no affine; voxels of 1 mm along the axes right, front") as w:
        found = open_volume(path)
    assert Path(w[0].filename) == Path(__file__)
    np.testing.assert_array_equal(found.data, np.arange(60).reshape((3, 4, 5), order="F"))


def test_with_spacings_alone(tmp_path: Path) -> None:
    path = bare(tmp_path / "scan.nrrd", "spacings: 1 1.5 3")
    with pytest.warns(InputWarning, match=r"has no space directions; voxels of 1 x 1.5 x 3 mm along the axes") as w:
        found = open_volume(path)
    assert Path(w[0].filename) == Path(__file__)
    np.testing.assert_array_equal(found.grid.affine, np.diag([1, 1.5, 3, 1]))


def test_without_the_name_of_a_space(tmp_path: Path) -> None:
    path = bare(tmp_path / "scan.nrrd", "space dimension: 3", "space directions: (2,0,0) (0,2,0) (0,0,2)")
    with pytest.warns(InputWarning, match=r"does not name its space; left, back, up \(LPS\) was assumed"):
        assert open_volume(path).grid.orientation == "LPS"


def test_spaces_and_units(tmp_path: Path) -> None:
    lines = [
        "space: right-anterior-superior",
        "space directions: (2,0,0) (0,2,0) (0,0,2)",
        'space units: "mm" "mm" "um"',
    ]
    with pytest.warns(InputWarning, match="says its unit is the um; its numbers were taken as mm") as caught:
        assert open_volume(bare(tmp_path / "scan.nrrd", *lines)).grid.orientation == "RAS"
    assert len(caught) == 1


@pytest.mark.filterwarnings(SAFE)
@pytest.mark.parametrize(
    ("lines", "lost"),
    [
        ([], True),
        (["spacings: 1 1.5 3"], True),
        (["space dimension: 3", "space directions: (1,0,0) (0,1,0) (0,0,1)"], False),
    ],
)
def test_who_has_lost_the_orientation(tmp_path: Path, lines: list[str], *, lost: bool) -> None:
    assert lost_orientation(open_volume(bare(tmp_path / "scan.nrrd", *lines))) is lost


# --- what is refused


def test_several_values_per_voxel(tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(np.zeros((5, 4, 3, 2), np.float32), isVector=True)
    for ending in ("nrrd", "mha"):
        SimpleITK.WriteImage(image, tmp_path / f"scan.{ending}")
        with pytest.raises(InputError, match=r"holds several values per voxel \(vector\); expected one real number"):
            open_volume(tmp_path / f"scan.{ending}")


def test_a_header_that_promises_too_much(tmp_path: Path) -> None:
    path = bare(tmp_path / "scan.nrrd")
    path.write_bytes(path.read_bytes().replace(b"sizes: 3 4 5", b"sizes: 30000 40000 5000"))
    with pytest.raises(InputError, match=r"its header promises 12000000000000 bytes of voxels but the file has \d+"):
        open_volume(path)


def test_detached_voxels_that_are_missing(tmp_path: Path) -> None:
    (tmp_path / "scan.nhdr").write_text(BARE + "data file: none.raw\n")
    with pytest.raises(InputError, match=r"scan.nhdr' cannot be read \(.+none.raw.*\); expected a complete image"):
        open_volume(tmp_path / "scan.nhdr")
    with pytest.raises(InputError, match=r"read but not written; expected one of .*\.nrrd"):
        save_volume(Volume(np.zeros((3, 4, 5)), GRID, "image"), tmp_path / "new.nhdr")
    assert not (tmp_path / "new.nhdr").exists()
