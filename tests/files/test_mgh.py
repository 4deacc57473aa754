from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given

from limner.files import open_volume, save_volume
from limner.space import Grid, Volume
from space.strategies import affines

DATA = np.arange(60, dtype=np.float32).reshape(3, 4, 5)


def original(path: Path, affine: np.ndarray) -> Path:
    """A file as FreeSurfer might write it, with the scan's own parameters."""
    image = nibabel.MGHImage(DATA.astype(np.int16), affine)
    image.header["tr"], image.header["te"] = 2300, 2.98
    nibabel.save(image, path)
    return path


@pytest.mark.filterwarnings("ignore::limner.check.InputWarning")
@given(affines())
def test_a_scan_s_header_comes_back_to_the_bit(affine: np.ndarray) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = original(Path(folder) / "scan.mgz", affine)
        scan = open_volume(path)
        labels = Volume(np.ones(DATA.shape, np.uint8), scan.grid, "labels", scan.header)
        save_volume(labels, Path(folder) / "labels.mgz")
        before, after = nibabel.load(path).header, nibabel.load(Path(folder) / "labels.mgz").header
    differing = {name for name in before if before[name].tobytes() != after[name].tobytes()}
    assert differing == {"type"}
    assert scan.grid.matches(Grid(DATA.shape, affine))


@pytest.mark.filterwarnings("ignore::limner.check.InputWarning")
@given(affines())
def test_geometry_survives_the_way_to_nifti_and_back(affine: np.ndarray) -> None:
    with tempfile.TemporaryDirectory() as folder:
        scan = open_volume(original(Path(folder) / "scan.mgz", affine))
        save_volume(scan, Path(folder) / "scan.nii")
        middle = open_volume(Path(folder) / "scan.nii")
        header = middle.header
        save_volume(middle, Path(folder) / "again.mgz")
        again = open_volume(Path(folder) / "again.mgz")
    assert header["sform_code"] == 1
    assert header["qform_code"] == (scan.grid.skew < 5e-5)
    assert middle.grid.matches(scan.grid)
    assert again.grid.matches(scan.grid)
    np.testing.assert_array_equal(again.data, DATA)


def test_upright_grids_set_the_qform_too(tmp_path: Path) -> None:
    conformed = np.array([[-1, 0, 0, 128], [0, 0, 1, -128], [0, -1, 0, 128], [0, 0, 0, 1]])
    save_volume(open_volume(original(tmp_path / "scan.mgz", conformed)), tmp_path / "scan.nii")
    header = nibabel.load(tmp_path / "scan.nii").header
    assert (header["sform_code"], header["qform_code"]) == (1, 1)
    np.testing.assert_allclose(header.get_qform(), conformed, atol=1e-6)


def test_a_changed_grid_goes_into_the_old_header(tmp_path: Path) -> None:
    scan = open_volume(original(tmp_path / "scan.mgz", np.eye(4)))
    moved = replace(scan, grid=scan.grid.moved(np.diag([2, 3, 4, 1])))
    save_volume(moved, tmp_path / "moved.mgz")
    header = nibabel.load(tmp_path / "moved.mgz").header
    assert header["tr"] == 2300
    assert header["delta"].tolist() == [2, 3, 4]
    assert open_volume(tmp_path / "moved.mgz").grid.matches(moved.grid)
