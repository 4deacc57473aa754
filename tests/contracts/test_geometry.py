"""What comes out lies exactly where the scan lies, and does not depend on how the scan is stored."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

import phantoms
import tiny
from limner.files import open_volume, result_suffix, save_volume
from limner.inference import segment_scans
from limner.space import Array, Grid, Volume, reoriented
from space.strategies import ORIENTATIONS, affines

GEOMETRY = ("pixdim", "srow", "quatern", "qoffset", "qform", "sform")
pytestmark = pytest.mark.filterwarnings("ignore::limner.check.InputWarning")


@pytest.fixture(scope="module", autouse=True)
def _hurried() -> Iterator[None]:
    with phantoms.hurried(inside=1500):
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a scan, its labels, a table and a prior."""
    return tiny.furnish(tmp_path_factory.mktemp("home"))


def sampled(grid: Grid) -> Volume:
    """The tiny head on any grid, with noise."""
    points = grid.world(np.moveaxis(np.indices(grid.shape), 0, -1))
    data = np.zeros(grid.shape)
    for label, centre, axes in tiny.HEAD:
        data[(((points - np.array(centre)) / np.array(axes)) ** 2).sum(-1) <= 1] = tiny.MEANS[label]
    noise = np.random.default_rng(0).normal(0, 4, grid.shape)
    return Volume(np.where(data > 0, data + noise, 0), grid, "image")


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """Grids that show the head: any order of the axes, turned, sheared, of unequal voxels, cropped close or wide."""
    turns = [draw(st.floats(-25, 25)) for _ in range(3)]
    sizes = np.array([draw(st.floats(1.7, 2.6)) for _ in range(3)])
    affine = np.eye(4)
    shear = np.eye(3)
    shear[0, 1] = draw(st.sampled_from([0, 1e-4, 0.05]))
    affine[:3, :3] = Rotation.from_euler("xyz", turns, degrees=True).as_matrix() @ shear @ np.diag(sizes)
    shape = tuple(int(2 * (21 + draw(st.integers(0, 6))) / size) for size in sizes)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2) + [draw(st.floats(-3, 3)) for _ in range(3)]
    upright = Volume(np.zeros(shape), Grid(shape, affine), "image")
    return reoriented(upright, draw(st.sampled_from(ORIENTATIONS))).grid


def stored(path: Path, volume: Volume, *, qform: Array, codes: tuple[int, int], dtype: str) -> nibabel.Nifti1Header:
    """Write a scan as another program might, and return its header."""
    image = nibabel.Nifti1Image(volume.data.astype(dtype), None)
    image.header.set_sform(volume.grid.affine, codes[0])
    image.header.set_qform(qform, codes[1])
    nibabel.save(image, path)
    return nibabel.load(path).header


@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    grids(),
    affines(shears=False),
    st.tuples(st.integers(1, 4), st.integers(0, 4)),
    st.sampled_from(["u1", "i2", "u2", "f4", "f8", ">i2"]),
)
def test_shape_affine_qform_and_sform_are_the_scan_s(
    home: Path, grid: Grid, qform: Array, codes: tuple[int, int], dtype: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        scan, out = Path(folder) / "scan.nii.gz", Path(folder) / "out"
        volume = sampled(grid)
        before = stored(scan, replace(volume, data=np.rint(volume.data)), qform=qform, codes=codes, dtype=dtype)
        (case,) = segment_scans([scan], out, prior=home / "prior")
        assert case.error is None
        for name in (case.labels, case.uncertainty):
            after = nibabel.load(out / name).header
            assert after.get_data_shape() == before.get_data_shape()
            fields = [
                name for name in before if name.startswith(("pixdim", "srow", "quatern", "qoffset", "qform", "sform"))
            ]
            assert [name for name in fields if before[name].tobytes() != after[name].tobytes()] == []
            np.testing.assert_array_equal(nibabel.load(out / name).affine, before.get_best_affine())


@pytest.fixture(scope="module")
def reference(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Volume:
    """The tiny scan's labels."""
    return segmented(tiny.image(), tmp_path_factory.mktemp("reference") / "scan.nii.gz", home=home)


def segmented(volume: Volume, path: Path, *, home: Path) -> Volume:
    """The labels of a volume that was saved, with the grid of the file they came in."""
    save_volume(volume, path)
    (case,) = segment_scans([path], path.parent / "out", prior=home / "prior")
    labels = open_volume(path.parent / "out" / case.labels, kind="labels")
    assert Path(case.labels).name.endswith(result_suffix(path))
    np.testing.assert_allclose(labels.grid.affine, open_volume(path).grid.affine, atol=1e-12)
    return labels


@pytest.mark.parametrize(("orientation", "ending"), [("LIA", ".mgz"), ("PSR", ".nrrd"), ("IRP", ".nii")])
def test_copies_stored_otherwise_give_the_same_labels(
    home: Path, reference: Volume, tmp_path: Path, orientation: str, ending: str
) -> None:
    copy = segmented(reoriented(tiny.image(), orientation), tmp_path / f"scan{ending}", home=home)
    assert copy.grid.orientation == orientation
    back = reoriented(copy, "RAS")
    assert tiny.dice(back.data, reference.data) >= 0.99


def test_a_resliced_copy_with_wider_borders_gives_the_same_labels(
    home: Path, reference: Volume, tmp_path: Path
) -> None:
    scan = tiny.image()
    wide = np.pad(scan.data, 3)
    affine = scan.grid.affine.copy()
    affine[:3, 3] = scan.grid.world([-3, -3, -3])
    padded = reoriented(Volume(wide, Grid(wide.shape, affine), "image"), "SLP")
    back = reoriented(segmented(padded, tmp_path / "scan.nii.gz", home=home), "RAS").data[3:-3, 3:-3, 3:-3]
    assert tiny.dice(back, reference.data) >= 0.99
