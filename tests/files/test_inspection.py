from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from limner.files import save_volume
from limner.files.inspection import COLUMNS, LAST_COLUMNS, Finding, inspected
from limner.space import Array, Grid, Label, LabelTable, Volume, reoriented

TABLE = LabelTable((Label(2, "core", (0, 0, 0), "core", "core"), Label(5, "shell", (0, 0, 0), "shell", "shell")))
GRID = Grid((8, 9, 10), np.diag([1, 1.5, 0.8, 1]))


def blocks() -> Array:
    """Labels 5 and 2, one inside the other."""
    data = np.zeros(GRID.shape, np.int32)
    data[1:7, 2:8, 2:9] = 5
    data[2:6, 3:7, 3:8] = 2
    return data


def saved(path: Path, data: Array, *, kind: str = "image") -> Path:
    save_volume(Volume(data, GRID, kind), path)
    return path


def test_an_image(tmp_path: Path) -> None:
    data = np.where(blocks() > 0, np.linspace(1, 99.5, GRID.shape[2]), 0).astype(np.float32)
    finding = inspected(saved(tmp_path / "scan.mgz", data), TABLE)
    assert finding.geometry == "8 x 9 x 10 voxels of 1 x 1.5 x 0.8 mm, axes lead RAS"
    assert finding.contents == "0 to 88.56, median 0; 0.00 litres differ from the first voxel's value"
    assert (finding.notes, finding.error) == (
        ("the image is 13.5 mm long: is the voxel size in mm?", "there are only 8 different values"),
        None,
    )
    assert [heading for heading, _ in finding.lines()] == ["geometry", "contents", "note", "note"]


def test_labels(tmp_path: Path) -> None:
    finding = inspected(saved(tmp_path / "labels.nii.gz", blocks(), kind="labels"), TABLE)
    assert finding.contents == "2 labels (voxels): core 80, shell 172"


def test_labels_stored_as_real_numbers(tmp_path: Path) -> None:
    finding = inspected(saved(tmp_path / "labels.nii.gz", blocks().astype(np.float32)), TABLE)
    assert finding.contents == "2 labels (voxels): core 80, shell 172"


def test_orientation_is_told(tmp_path: Path) -> None:
    turned = reoriented(Volume(blocks(), GRID, "labels"), "LIA")
    save_volume(turned, tmp_path / "labels.nii.gz")
    geometry = "8 x 10 x 9 voxels of 1 x 0.8 x 1.5 mm, axes lead LIA"
    assert inspected(tmp_path / "labels.nii.gz", TABLE).geometry == geometry


@pytest.mark.parametrize(
    "data",
    [
        np.random.default_rng(0).integers(0, 200, GRID.shape).astype(np.float32),
        blocks().astype(np.float32) - 1,
        blocks() * np.float32(0.5),
    ],
    ids=["noise of whole numbers", "negative", "fractions"],
)
def test_whole_numbers_alone_make_no_label_map(tmp_path: Path, data: Array) -> None:
    assert "median" in inspected(saved(tmp_path / "scan.nii.gz", data), TABLE).contents


def test_unknown_labels_are_an_error(tmp_path: Path) -> None:
    finding = inspected(saved(tmp_path / "labels.nii.gz", blocks() * 3, kind="labels"), TABLE)
    assert "labels that the label table does not know: 6 (80 voxels), 15 (172 voxels)" in (finding.error or "")
    assert [heading for heading, _ in finding.lines()] == ["error"]


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "scan.nii.gz").touch()
    finding = inspected(tmp_path / "scan.nii.gz", TABLE)
    assert "is empty (0 bytes)" in (finding.error or "")


def test_what_is_tolerated_is_noted_once(tmp_path: Path) -> None:
    np.savez(tmp_path / "labels.npz", vol_data=blocks())
    finding = inspected(tmp_path / "labels.npz", TABLE)
    assert finding.error is None
    (note,) = finding.notes
    assert "has no affine" in note
    assert [heading for heading, _ in finding.lines()] == ["geometry", "contents", "note"]


def test_nothing_known_is_nothing_said() -> None:
    assert Finding().lines() == []


def test_a_finding_is_a_row_of_a_table(tmp_path: Path) -> None:
    path = saved(tmp_path / "labels.nii.gz", blocks(), kind="labels")
    row = inspected(path, TABLE).row(path)
    assert list(row) == [*COLUMNS, *LAST_COLUMNS]
    assert row["labels"] == "core 80; shell 172"
    assert (row["kind"], row["shape"], row["voxel_mm"], row["stored"]) == ("labels", "8 9 10", "1 1.5 0.8", "uint8")
    row = inspected(tmp_path / "none.nii", TABLE).row(tmp_path / "none.nii")
    assert "does not exist" in row["error"]


def test_a_mask_of_0_and_255_is_no_error(tmp_path: Path) -> None:
    finding = inspected(saved(tmp_path / "mask.nii", (blocks() > 0) * 255, kind="labels"), TABLE)
    assert (finding.error, finding.contents) == (None, "1 labels (voxels): 255 252")
    assert any("a mask for display" in note for note in finding.notes)


def test_instances(tmp_path: Path) -> None:
    ids = blocks().astype(np.uint64) * np.uint64(2**40)
    for name in ("ids.npz", "ids.zarr"):
        save_volume(Volume(ids, GRID, "instances"), tmp_path / name)
        finding = inspected(tmp_path / name, TABLE)
        assert (finding.error, finding.contents, finding.facts["kind"]) == (None, "2 instances", "instances")
    save_volume(Volume(blocks() * 3, GRID, "labels"), tmp_path / "ids.hdf")
    assert inspected(tmp_path / "ids.hdf", TABLE).contents == "2 instances"


def test_forms_that_disagree_are_told(tmp_path: Path) -> None:
    stored = nibabel.Nifti1Image(blocks().astype(np.uint8), GRID.affine)
    moved = GRID.affine.copy()
    moved[0, 3] += 12
    stored.set_qform(moved, 1)
    nibabel.save(stored, tmp_path / "labels.nii")
    (note,) = [note for note in inspected(tmp_path / "labels.nii", TABLE).notes if "qform" in note]
    assert note.endswith("disagree by 12 mm at a corner; the sform was believed")
