"""convert, and check of many files, through their own process."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import dicoms
from limner.cli.terminal import counting
from limner.files import open_volume, save_volume
from limner.files.nanometres import placed
from limner.space import Grid, Volume
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
    assert re.search(r"to segment   a brain without its skull; about \d\.\d GB and 1 min on two cores", done.stdout)
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ["scan.nii.gz", "map.nii.gz", "study#3", "study#4", "broken.nii.gz"]
    assert [row["kind"] for row in rows] == ["image", "labels", "image", "image", ""]
    assert [bool(row["error"]) for row in rows] == [False, False, False, False, True]


def test_a_table_that_segment_refuses(tmp_path: Path) -> None:
    save_volume(image(), tmp_path / "scan.nii.gz")
    (tmp_path / "scans.csv").write_text("image,case,person,split\nscan.nii.gz,a,ann,train\nscan.nii.gz,b,ann,test\n")
    assert "person 'ann' is in the splits" in refused(limner("segment", "scans.csv", "-o", "out", at=tmp_path))
    assert not (tmp_path / "out").exists()


SECRET = "hunter2"


@pytest.mark.parametrize(
    "arguments",
    [
        ("segment", f"s3://key:{SECRET}@bucket/volume.zarr", "-o", "out"),
        ("check", f"https://key:{SECRET}@host/volume.ome.zarr"),
        ("convert", "scan.nii.gz", f"gs://key:{SECRET}@bucket/out.ome.zarr"),
        ("view", f"https://host/volume.zarr?token={SECRET}"),
        ("train", "recipe.toml", "-o", "run", "--set", f"data.scans=s3://key:{SECRET}@bucket"),
        ("segment", "scans.csv", "-o", "out"),
    ],
)
def test_addresses_are_refused_and_not_repeated(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    save_volume(image(), tmp_path / "scan.nii.gz")
    (tmp_path / "scans.csv").write_text(f"image\ns3://key:{SECRET}@bucket/scan.nii.gz\n")
    before = whole(tmp_path)
    done = limner(*arguments, at=tmp_path)
    assert "was given; expected a path on this machine" in refused(done)
    assert SECRET not in done.stdout + done.stderr
    assert whole(tmp_path) == before


def test_stores_for_other_programs(tmp_path: Path) -> None:
    grid = Grid((70, 80, 90), placed([40, 4, 4]))
    rng = np.random.default_rng(0)
    save_volume(Volume(rng.integers(0, 255, grid.shape).astype(np.float32), grid, "image"), tmp_path / "raw.zarr")
    ids = np.kron(rng.integers(0, 2**40, (7, 8, 9)), np.ones((10, 10, 10), np.int64)).astype(np.uint64)
    save_volume(Volume(ids, grid, "instances"), tmp_path / "ids.zarr")
    done = limner("convert", "raw.zarr", "cube.ome.zarr", "--labels", "ids.zarr", "--ome", "0.4", at=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "cube.ome.zarr: an image, 70 x 80 x 90 voxels of 40 x 4 x 4 nm, axes lead SAR\n"
    np.testing.assert_array_equal(open_volume(tmp_path / "cube.ome.zarr", kind="instances").data, ids)
    done = limner("convert", "cube.ome.zarr/labels/labels", "ids.precomputed", at=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ids.precomputed: instances, 70 x 80 x 90")
    done = limner("check", "cube.ome.zarr", "cube.ome.zarr/labels/labels", at=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "504 instances" in done.stdout


def test_how_far_it_has_come_is_told_of_what_is_large(capsys: pytest.CaptureFixture[str]) -> None:
    for parts, shown in ((7, False), (8, True)):
        with counting("converting") as watch:
            for part in range(parts):
                watch(part + 1, parts)
        assert ("converting" in capsys.readouterr().err) == shown
