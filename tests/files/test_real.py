"""Every scan and label map of the data folder is read, and written as it was."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest

from limner.check import InputWarning
from limner.files import open_volume, save_volume
from limner.space import LabelTable, reoriented

DATA = os.environ.get("LIMNER_DATA")
pytestmark = pytest.mark.real


def found(*patterns: str) -> list[str]:
    """Paths below the data folder; none without it."""
    return (
        sorted(str(path.relative_to(DATA)) for pattern in patterns for path in Path(DATA).glob(pattern)) if DATA else []
    )


SCANS = found("brains/*/T1.mgz", "brains/*/brain*.mgz", "flair_ms/*/[ft]*.nii.gz", "hippocampus/images/*00.nii.gz")
ASEGS = found("brains/*/aseg.mgz")
MAPS = found("label_maps/*.nii.gz")
LESIONS = found("flair_ms/*/lesion.nii.gz", "hippocampus/labels/*00.nii.gz")


@pytest.mark.parametrize("name", SCANS)
def test_scans_are_read(name: str) -> None:
    volume = open_volume(f"{DATA}/{name}")
    stored = nibabel.load(f"{DATA}/{name}")
    assert volume.data.dtype == np.float32
    assert volume.data.max() == np.asarray(stored.dataobj).max()
    np.testing.assert_array_equal(volume.grid.affine, stored.affine)
    assert volume.grid.orientation == "".join(nibabel.aff2axcodes(stored.affine))


@pytest.mark.parametrize("name", ASEGS + MAPS)
def test_the_freesurfer_table_knows_every_label(name: str) -> None:
    volume, table = open_volume(f"{DATA}/{name}", kind="labels"), LabelTable.freesurfer()
    np.testing.assert_array_equal(table.ids[table.rows(volume.data)], volume.data)


def test_the_table_names_both_sides_as_they_lie() -> None:
    volume, table = open_volume(f"{DATA}/{MAPS[0]}", kind="labels"), LabelTable.freesurfer()
    for label in np.unique(volume.data).tolist():
        middle = volume.grid.world(np.argwhere(volume.data == label).mean(axis=0))[0]
        side = middle - volume.grid.centre[0]
        assert not (table[label].name.startswith("Left") and side > 0), table[label]
        assert not (table[label].name.startswith("Right") and side < 0), table[label]


@pytest.mark.parametrize("name", MAPS + LESIONS)
def test_nifti_headers_come_back_to_the_bit(name: str, tmp_path: Path) -> None:
    volume = open_volume(f"{DATA}/{name}", kind="labels")
    save_volume(volume, tmp_path / "again.nii.gz")
    before, after = nibabel.load(f"{DATA}/{name}").header, nibabel.load(tmp_path / "again.nii.gz").header
    differing = {field for field in before if before[field].tobytes() != after[field].tobytes()}
    assert differing <= {"datatype", "bitpix"}
    np.testing.assert_array_equal(open_volume(tmp_path / "again.nii.gz", kind="labels").data, volume.data)


@pytest.mark.parametrize("name", ASEGS[:1])
def test_turned_and_turned_back_through_other_formats(name: str, tmp_path: Path) -> None:
    volume = open_volume(f"{DATA}/{name}", kind="labels")
    save_volume(reoriented(volume, "RAS"), tmp_path / "turned.nii.gz")
    turned = open_volume(tmp_path / "turned.nii.gz", kind="labels")
    assert turned.grid.orientation == "RAS"
    save_volume(reoriented(turned, volume.grid.orientation), tmp_path / "again.mgz")
    again = open_volume(tmp_path / "again.mgz", kind="labels")
    np.testing.assert_array_equal(again.data, volume.data)
    assert again.grid.matches(volume.grid)


def test_archives_without_an_affine_say_so() -> None:
    with pytest.warns(InputWarning, match=r"vol.npz' has no affine"):
        image = open_volume(f"{DATA}/brains/person-7/vol.npz")
    with pytest.warns(InputWarning, match=r"seg.npz' has no affine"):
        labels = open_volume(f"{DATA}/brains/person-7/seg.npz", kind="labels")
    assert image.data.shape == labels.data.shape == (160, 192, 224)
    LabelTable.freesurfer().rows(labels.data)
