"""Scans that come as tables, BIDS datasets and DICOM series, segmented from file to file."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

import dicoms
import tiny
from limner.data.cohort import find_cases
from limner.files import open_volume, save_volume
from limner.inference import segment_scans
from limner.space import Volume, reoriented

pytestmark = pytest.mark.filterwarnings("ignore::limner.check.InputWarning")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a scan, its labels, a table and a prior."""
    return tiny.furnish(tmp_path_factory.mktemp("home"))


def listed(folder: Path) -> list[str]:
    """All files of a folder but those of the ledger."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in paths if path.parts[0] != "ledger")


def test_a_table_gives_each_scan_its_channels_mask_and_orientation(home: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    truth = tiny.labels()
    for name in ("t1", "t2"):
        noise = rng.normal(0, 30, truth.data.shape)
        data = np.where(truth.data > 0, tiny.image().data + noise, rng.normal(80, 30, truth.data.shape))
        save_volume(Volume(data.astype(np.float32), truth.grid, "image"), tmp_path / f"{name}.nii.gz")
    save_volume(replace(truth, data=(truth.data > 0).astype(np.int32)), tmp_path / "mask.nii.gz")
    turned = reoriented(tiny.image(), "SLA").data.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    np.savez(tmp_path / "bare.npz", vol_data=turned)
    rows = ["image,image_2,mask,case,orientation", "t1.nii.gz,t2.nii.gz,mask.nii.gz,ann,", "t1.nii.gz,t1.nii.gz,,bob,"]
    (tmp_path / "scans.csv").write_text("\n".join(rows))
    (tmp_path / "bare.csv").write_text("image,case,orientation\nbare.npz,cid,SLA\n")
    scans = find_cases([tmp_path / "scans.csv", tmp_path / "bare.csv"])
    ann, bob, cid = segment_scans(scans, tmp_path / "out", prior=home / "prior")
    assert tiny.dice(open_volume(tmp_path / "out" / ann.labels, kind="labels").data, truth.data) > 0.85
    assert "expected a skull-stripped scan" in bob.error
    assert (cid.error, cid.orientation) == (None, "SLA")


def test_a_bids_dataset_becomes_derivatives(home: Path, tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "raw/derivatives/limner"
    folders = [raw / "sub-01/anat", raw / "sub-02/ses-a/anat"]
    for folder, name in zip(folders, ("sub-01_T1w", "sub-02_ses-a_run-1_T1w"), strict=True):
        folder.mkdir(parents=True)
        save_volume(tiny.image(), folder / f"{name}.nii.gz")
    (raw / "dataset_description.json").write_text('{"Name": "ageing", "BIDSVersion": "1.8.0"}')
    cases = segment_scans(find_cases([raw]), out, prior=home / "prior")
    assert listed(out) == [
        ".bidsignore",
        "dataset_description.json",
        "desc-limner_dseg.tsv",
        "manifest.json",
        "qc.csv",
        "sub-01/anat/sub-01_desc-limner_dseg.nii.gz",
        "sub-01/anat/sub-01_desc-limner_uncertainty.nii.gz",
        "sub-02/ses-a/anat/sub-02_ses-a_run-1_desc-limner_dseg.nii.gz",
        "sub-02/ses-a/anat/sub-02_ses-a_run-1_desc-limner_uncertainty.nii.gz",
        "volumes.csv",
    ]
    assert [case.labels for case in cases] == [name for name in listed(out) if "dseg.nii" in name]
    assert json.loads((out / "dataset_description.json").read_text())["DatasetType"] == "derivative"
    with (out / "desc-limner_dseg.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert {row["index"]: row["name"] for row in rows} == {"0": "background", "1": "rind", "2": "pulp", "3": "stone"}
    found = open_volume(out / cases[0].labels, kind="labels")
    assert tiny.dice(found.data, tiny.labels().data) > 0.9


def test_a_dicom_series_becomes_nifti_in_its_place(home: Path, tmp_path: Path) -> None:
    whole = tiny.image()
    dicoms.written(tmp_path / "study/head", replace(whole, data=np.rint(whole.data)))
    (case,) = segment_scans(find_cases([tmp_path / "study"]), tmp_path / "out", prior=home / "prior")
    assert case.labels == "head_labels.nii.gz"
    found = open_volume(tmp_path / "out" / case.labels, kind="labels")
    scan = open_volume(tmp_path / "study/head")
    assert found.grid.matches(scan.grid)
    assert found.data.shape == scan.data.shape
    assert tiny.dice(reoriented(found, "RAS").data, tiny.labels().data) > 0.9
    header = nibabel.load(tmp_path / "out" / case.labels).header
    np.testing.assert_allclose(header.get_qform(), header.get_sform(), atol=1e-5)
