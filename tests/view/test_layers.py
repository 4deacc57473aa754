"""What is shown of files, without a browser: values as the file has them, names, contrast, and errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from limner.check import InputError
from limner.files import open_volume, save_volume
from limner.files.affinities import save_affinities
from limner.space import Affinities, Array, Grid, LabelTable, Volume
from limner.view import Layer, layers_of
from limner.view.errors import MERGED, MISSED, SPLIT
from view.volumes import SHAPE, grid, head, segments, stack, truth

TABLE = LabelTable.freesurfer()
BOX = np.s_[1:4, 3:20, 0:9]


def whole(layer: Layer) -> Array:
    return layer.read(tuple(slice(0, size) for size in layer.shape))


@pytest.mark.parametrize("ending", [".zarr", ".hdf"])
def test_stores_are_read_where_they_are_looked_at(tmp_path: Path, ending: str) -> None:
    stack(tmp_path, ending)
    raw, near, found = layers_of(
        tmp_path / f"raw{ending}",
        affinities=tmp_path / f"near{ending}",
        labels=[tmp_path / f"found{ending}"],
        table=TABLE,
    )
    assert (raw.name, near.name, found.name) == ("raw", "near", "found")
    assert not raw.voxels.in_memory
    assert not found.voxels.in_memory
    np.testing.assert_array_equal(raw.read(BOX), open_volume(tmp_path / f"raw{ending}").data[BOX])
    np.testing.assert_array_equal(found.read(BOX), segments()[BOX])
    assert (raw.dtype, near.dtype, found.dtype) == (np.uint8, np.uint8, np.uint64)
    assert near.shape == (3, *SHAPE)
    expected = 255 * (truth()[..., 1:] == truth()[..., :-1]) * (truth()[..., 1:] > 0)
    np.testing.assert_array_equal(near.read(np.s_[0:1, 0:6, 0:20, 1:24])[0], expected)  # along x comes first
    assert (near.visible, raw.window) == (False, pytest.approx((1, 198), abs=2))
    assert found.names == {}


def test_scans_have_names_and_colours_of_what_is_there(tmp_path: Path) -> None:
    askew = head(tmp_path)
    table = LabelTable.read(tmp_path / "table.tsv")
    scan, found = layers_of(tmp_path / "T1.nii.gz", labels=[tmp_path / "T1_labels.nii.gz"], table=table)
    assert found.names == {1: "rind", 2: "pulp"}
    assert found.colours == {1: (200, 0, 0), 2: (0, 200, 0)}
    np.testing.assert_array_equal(whole(found), open_volume(tmp_path / "T1_labels.nii.gz", kind="labels").data)
    np.testing.assert_array_equal(whole(scan), open_volume(tmp_path / "T1.nii.gz").data)
    assert scan.grid.matches(askew)
    low, high = scan.window
    assert 20 < low < 40 < 100 < high < 130


def test_pages_of_one_section(tmp_path: Path) -> None:
    flat = Grid((7, 9), np.array([[0, 4e-6, 0], [4e-6, 0, 0], [0, 0, 1]]))
    grey = np.arange(63, dtype=np.float32).reshape(7, 9)
    save_volume(Volume(grey, flat, "image"), tmp_path / "page.tif")
    save_affinities(Affinities(np.stack([grey, grey[::-1]]) / 63, ((-1, 0), (0, -1)), flat), tmp_path / "near.zarr")
    page, near = layers_of(tmp_path / "page.tif", affinities=tmp_path / "near.zarr", table=TABLE)
    np.testing.assert_array_equal(whole(page)[..., 0], grey)
    np.testing.assert_array_equal(whole(near)[..., 0], np.stack([grey[::-1], grey]) / np.float32(63))
    assert page.grid.unit[0] == "nm"


@pytest.mark.parametrize("values", [np.full(SHAPE, 3.0), np.full(SHAPE, np.nan)])
def test_images_without_contrast_are_shown(tmp_path: Path, values: Array) -> None:
    save_volume(Volume(values.astype(np.float32), grid(), "image"), tmp_path / "raw.zarr")
    (raw,) = layers_of(tmp_path / "raw.zarr", table=TABLE)
    assert raw.window == (0, 1)


def test_names_are_told_apart(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        stack(tmp_path / folder)
    files = [tmp_path / "one/raw.zarr", tmp_path / "two/raw.zarr", tmp_path / "one/raw.zarr"]
    shown = layers_of(tmp_path / "one/raw.zarr", labels=files, table=TABLE, instances=True)
    assert [layer.name for layer in shown] == ["raw", "raw (labels)", "two_raw", "one_raw"]


# --- errors


def test_errors_of_instances(tmp_path: Path) -> None:
    stack(tmp_path)
    *_, wrong = layers_of(
        tmp_path / "raw.zarr", labels=[tmp_path / "found.zarr"], truth=tmp_path / "truth.zarr", table=TABLE
    )
    assert (wrong.name, wrong.role) == ("errors of found", "errors")
    assert wrong.grid.matches(grid((5, 20, 24), (3, 5, 7)))  # where both have voxels
    expected = np.zeros((5, 20, 24), np.uint8)
    # Segment 1 has most of the second object, and so stands for it; the first has to do with its smaller part.
    expected[:3, :, :8] = MERGED
    expected[:, 10:, 18:] = MISSED
    np.testing.assert_array_equal(whole(wrong), expected)
    np.testing.assert_array_equal(wrong.read(BOX), expected[BOX])
    assert set(wrong.names) == set(wrong.colours) == {MERGED, SPLIT, MISSED}


def test_a_split(tmp_path: Path) -> None:
    save_volume(Volume(np.ones(SHAPE, np.uint64), grid(), "instances"), tmp_path / "truth.zarr")
    halves = np.where(np.arange(24) < 7, 8, 9) * np.ones(SHAPE, np.uint64)
    save_volume(Volume(halves.astype(np.uint64), grid(), "instances"), tmp_path / "found.zarr")
    shown = layers_of(
        tmp_path / "found.zarr", labels=[tmp_path / "found.zarr"], truth=tmp_path / "truth.zarr", table=TABLE
    )
    np.testing.assert_array_equal(whole(shown[-1]), np.where(halves == 8, SPLIT, 0))


def test_without_an_object_there_is_no_error(tmp_path: Path) -> None:
    stack(tmp_path)
    save_volume(Volume(np.zeros(SHAPE, np.uint64), grid(), "instances"), tmp_path / "none.zarr")
    shown = layers_of(
        tmp_path / "raw.zarr", labels=[tmp_path / "found.zarr"], truth=tmp_path / "none.zarr", table=TABLE
    )
    assert not whole(shown[-1]).any()


def test_errors_of_structures(tmp_path: Path) -> None:
    head(tmp_path)
    *_, wrong = layers_of(
        tmp_path / "T1.nii.gz", labels=[tmp_path / "T1_labels.nii.gz"], truth=tmp_path / "aseg.nii.gz", table=TABLE
    )
    found = open_volume(tmp_path / "T1_labels.nii.gz", kind="labels").data
    np.testing.assert_array_equal(whole(wrong), found == 3)
    assert wrong.names == {1: "differs"}


# --- what cannot be shown


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            Grid(SHAPE, grid(start=(2, 5, 7)).affine @ np.diag([1, 2, 1, 1])),
            r"have voxels in the ratio \[1.0, 2.0, 1.0\]",
        ),
        (grid(start=(2.5, 5, 7)), r"labels 'found' and image of 'raw' lie \[0.5, 0.0, 0.0\] voxels apart"),
        (grid(start=(90, 5, 7)), "labels 'found' and image of 'raw' share no voxel"),
    ],
)
def test_voxels_that_do_not_coincide(tmp_path: Path, other: Grid, message: str) -> None:
    stack(tmp_path)
    save_volume(Volume(segments(), other, "instances"), tmp_path / "found.zarr")
    with pytest.raises(InputError, match=message):
        layers_of(tmp_path / "raw.zarr", labels=[tmp_path / "found.zarr"], table=TABLE)


@pytest.mark.parametrize("ending", [".zarr", ".hdf"])
def test_affinities_without_offsets(tmp_path: Path, ending: str) -> None:
    stack(tmp_path, ending)
    with pytest.raises(InputError, match="has no attribute 'offsets'; .* they are never guessed"):
        layers_of(tmp_path / f"raw{ending}", affinities=tmp_path / f"raw{ending}", table=TABLE)


@pytest.mark.parametrize("ending", [".zarr", ".hdf", ".tif", ".nii.gz"])
def test_files_that_are_missing(tmp_path: Path, ending: str) -> None:
    with pytest.raises(InputError, match="does not exist; expected"):
        layers_of(tmp_path / f"raw{ending}", table=TABLE)
