"""Real scans through every format: cropped, turned, cut into slices, and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import dicoms
from limner.files import open_volume, save_volume, stored_volume
from limner.files.conversion import convert
from limner.space import Box, Grid, Volume, reoriented, resampled

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore::limner.check.InputWarning")]


@pytest.fixture(scope="module")
def scan(real_data: Path) -> Volume:
    """A piece of a head, its axes as a scanner may have them."""
    whole = stored_volume(real_data / "brains/person-1/T1.mgz")
    box = Box((60, 70, 80), (140, 132, 126))
    return reoriented(replace(whole, data=whole.data[box.slices], grid=whole.grid.cropped(box)), "ASR")


def test_a_head_as_a_dicom_series_is_the_head(scan: Volume, tmp_path: Path) -> None:
    dicoms.written(tmp_path / "t1", scan)
    found = open_volume(tmp_path / "t1")
    np.testing.assert_array_equal(found.data, scan.data)
    assert found.grid.matches(scan.grid)


@pytest.mark.parametrize("ending", ["nii.gz", "nrrd", "mha", "npz", "mgz"])
def test_a_head_goes_to_each_format_and_back(scan: Volume, tmp_path: Path, ending: str) -> None:
    save_volume(scan, tmp_path / "scan.mgz", as_stored=True)
    convert(tmp_path / "scan.mgz", tmp_path / f"there.{ending}")
    convert(tmp_path / f"there.{ending}", tmp_path / "back.mgz")
    before, after = (stored_volume(tmp_path / name) for name in ("scan.mgz", "back.mgz"))
    np.testing.assert_array_equal(after.data, before.data)
    assert after.data.dtype == before.data.dtype
    assert after.grid.matches(before.grid, tolerance=1e-5)


def test_labels_on_the_grid_of_thick_slices(real_data: Path, scan: Volume, tmp_path: Path) -> None:
    aseg = real_data / "brains/person-1/aseg.mgz"
    thick = np.diag([1, 1, 4, 1.0])
    thick[2, 3] = 1.5  # the middle of four slices
    grid = Grid((*scan.data.shape[:2], 11), scan.grid.affine @ thick)
    slices = replace(scan, data=scan.data[..., :44:4], grid=grid)
    save_volume(slices, tmp_path / "thick.nii.gz", as_stored=True)
    written = convert(aseg, tmp_path / "labels.nii.gz", like=tmp_path / "thick.nii.gz")
    assert written.kind == "labels"
    assert written.grid.matches(grid)
    fine = resampled(open_volume(aseg, kind="labels"), Grid((*grid.shape[:2], 44), scan.grid.affine))
    assert set(np.unique(written.data)) <= set(np.unique(fine.data))
    white = [np.count_nonzero(volume.data == 2) * volume.grid.voxel_volume for volume in (written, fine)]
    assert white[0] == pytest.approx(white[1], rel=0.1)
