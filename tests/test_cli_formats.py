"""convert, and check of many files, through their own process."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np

import dicoms
from limner.files import open_volume, save_volume
from tiny import GRID, image, labels, limner, refused, whole


def test_convert_says_what_it_wrote_and_what_it_lost(tmp_path: Path) -> None:
    save_volume(labels(), tmp_path / "map.mgz")
    done = limner("convert", "map.mgz", "new/map.nrrd", at=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "new/map.nrrd: labels, 20 x 24 x 22 voxels of 2 x 2 x 2 mm, axes lead RAS\n"
    np.testing.assert_array_equal(open_volume(tmp_path / "new/map.nrrd", kind="labels").data, labels().data)
    done = limner("convert", "map.mgz", "map.npy", at=tmp_path)
    assert "keeps the voxels but not the affine" in refused(done, 0)


def test_convert_onto_another_grid(tmp_path: Path) -> None:
    save_volume(labels(), tmp_path / "map.nii")
    coarse = GRID.spaced(4.0)
    save_volume(
        replace(image(), data=np.ones(coarse.shape) * np.arange(coarse.shape[2]), grid=coarse), tmp_path / "like.nii"
    )
    done = limner("convert", "map.nii", "coarse.nii", "--like", "like.nii", at=tmp_path)
    assert done.returncode == 0, done.stderr
    assert open_volume(tmp_path / "coarse.nii", kind="labels").grid.matches(coarse)
    done = limner("convert", "map.nii", "map.nii", at=tmp_path)
    assert "output 'map.nii' is the input itself" in refused(done)
    assert whole(tmp_path) == ["coarse.nii", "like.nii", "map.nii"]


def test_check_of_a_cohort_makes_a_table(tmp_path: Path) -> None:
    save_volume(image(), tmp_path / "scan.nii.gz")
    save_volume(labels(), tmp_path / "map.nii.gz")
    for series in (3, 4):
        dicoms.written(tmp_path / "study", image(), series=series)
    (tmp_path / "scans.csv").write_text("image,mask\nscan.nii.gz,map.nii.gz\n")
    (tmp_path / "broken.nii.gz").write_bytes(b"x")
    done = limner("check", "scans.csv", "study", "broken.nii.gz", "-o", "table.csv", at=tmp_path)
    assert done.returncode == 1
    assert "a brain without its skull; about 0.5 GB and 1 min on two cores" in done.stdout
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ["scan.nii.gz", "map.nii.gz", "study#3", "study#4", "broken.nii.gz"]
    assert [row["kind"] for row in rows] == ["image", "labels", "image", "image", ""]
    assert [bool(row["error"]) for row in rows] == [False, False, False, False, True]


def test_stores_are_volumes(tmp_path: Path) -> None:
    save_volume(image(), tmp_path / "scan.nii.gz")
    done = limner("convert", "scan.nii.gz", "cubes/scan.zarr", at=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    np.testing.assert_array_equal(open_volume(tmp_path / "cubes/scan.zarr").data, image().data)
    done = limner("check", "cubes", "cubes/scan.zarr", at=tmp_path)
    assert done.stdout.count("cubes/scan.zarr\n  geometry     20 x 24 x 22 voxels of 2 x 2 x 2 mm, axes lead RAS") == 2


def test_a_table_that_segment_refuses(tmp_path: Path) -> None:
    save_volume(image(), tmp_path / "scan.nii.gz")
    (tmp_path / "scans.csv").write_text("image,case,person,split\nscan.nii.gz,a,ann,train\nscan.nii.gz,b,ann,test\n")
    assert "person 'ann' is in the splits" in refused(limner("segment", "scans.csv", "-o", "out", at=tmp_path))
    assert not (tmp_path / "out").exists()
