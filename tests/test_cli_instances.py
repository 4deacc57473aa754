"""`limner evaluate` on volumes of instances, through its own process."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from limner.files import save_volume
from limner.files.nanometres import placed
from limner.space import Grid, Volume
from tiny import limner, refused


def saved(path: Path, data: np.ndarray, start: tuple[int, int, int] = (0, 0, 0), nm: float = 40) -> Path:
    grid = Grid(data.shape, placed([nm, 4, 4], np.multiply(start, [nm, 4, 4])))
    save_volume(Volume(data.astype(np.uint64), grid, "instances"), path)
    return path


def objects() -> np.ndarray:
    """Two objects above one another, and a third beside them."""
    data = np.zeros((6, 8, 9), int)
    data[:3, :, :5], data[3:, :, :5], data[:, :, 6:] = 11, 12, 13
    return data


def test_instances_of_two_formats_are_scored(tmp_path: Path) -> None:
    saved(tmp_path / "truth.hdf", objects().astype(np.uint64) + (objects() > 0) * np.uint64(2**63))
    padded = np.pad(np.where(objects() == 12, 11, objects()), 3)
    saved(tmp_path / "found.zarr", padded, (-3, -3, -3))
    done = limner("evaluate", "found.zarr", "truth.hdf", "-o", "scores.json", at=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"objects {11 + 2**63} and {12 + 2**63} merge, 0.625 bits; 40 faces through z, 0 in sections" in done.stdout
    for word in ("vi_merge", "bits", "adapted_rand_error", "cremi_score"):
        assert word in done.stdout
    values = {row["metric"]: row["value"] for row in json.loads((tmp_path / "scores.json").read_text())}
    assert values["vi_merge"] == pytest.approx(0.625)
    assert (values["vi_split"], values["mergers_through_z"]) == (0, 1)


def test_a_tolerance_in_nm(tmp_path: Path) -> None:
    saved(tmp_path / "truth.tif", objects())
    thinner = objects()
    thinner[..., 4] = 0
    saved(tmp_path / "found.tif", thinner)
    done = limner("evaluate", "found.tif", "truth.tif", "--tolerance", "8", "-o", "t.json", at=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {row["metric"]: row["value"] for row in json.loads((tmp_path / "t.json").read_text())}["vi"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nm": 0.04}, "have voxels in the ratio"),
        ({"start": (50, 0, 0)}, "share no voxel"),
    ],
)
def test_volumes_that_cannot_be_compared(tmp_path: Path, options: dict, message: str) -> None:
    saved(tmp_path / "truth.hdf", objects())
    saved(tmp_path / "found.hdf", objects(), **options)
    assert message in refused(limner("evaluate", "found.hdf", "truth.hdf", at=tmp_path))


def test_negative_ids_are_refused(tmp_path: Path) -> None:
    saved(tmp_path / "truth.hdf", objects())
    grid = Grid((6, 8, 9), placed([40, 4, 4]))
    save_volume(Volume(objects() - 1, grid, "labels"), tmp_path / "found.tif")
    told = refused(limner("evaluate", "found.tif", "truth.hdf", at=tmp_path))
    assert "hold -1 at voxel (0, 0, 5), one of 48 such values" in told


def test_a_volume_that_is_all_background(tmp_path: Path) -> None:
    saved(tmp_path / "truth.hdf", objects())
    saved(tmp_path / "found.zarr", objects() * 0)
    done = limner("evaluate", "found.zarr", "truth.hdf", at=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "limner: prediction of 'found' is 0 in every voxel, and has no segment" in done.stderr
    assert "is ignored everywhere" in refused(limner("evaluate", "truth.hdf", "found.zarr", at=tmp_path))
