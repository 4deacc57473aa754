from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import dicoms
from folders import touched
from limner.check import InputError, InputWarning
from limner.files import bids
from limner.files.folders import scans_in
from limner.space import LabelTable
from tiny import image


def dataset(root: Path, *names: str, description: str = '{"Name": "ageing", "BIDSVersion": "1.8.0"}') -> Path:
    """A dataset of files that nobody opens."""
    touched(root, *names)
    (root / "dataset_description.json").write_text(description)
    return root


def found(root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in scans_in(root)]


# --- what a dataset holds


def test_the_first_contrast_is_taken(tmp_path: Path) -> None:
    names = [
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-02/ses-a/anat/sub-02_ses-a_run-1_T1w.nii.gz",
        "sub-02/ses-a/anat/sub-02_ses-a_run-2_T1w.nii",
    ]
    others = [
        "sub-01/anat/sub-01_T1w.json",
        "sub-01/anat/sub-01_FLAIR.nii.gz",
        "sub-01/anat/sub-01_part-phase_T1w.nii.gz",
        "sub-01/func/sub-01_task-rest_bold.nii.gz",
        "derivatives/other/sub-01/anat/sub-01_T1w.nii.gz",
        "sourcedata/sub-01_T1w.nii.gz",
    ]
    assert found(dataset(tmp_path, *names, *others)) == names


def test_people_without_it_are_named(tmp_path: Path) -> None:
    dataset(tmp_path, "sub-01/anat/sub-01_T2w.nii.gz", "sub-02/anat/sub-02_FLAIR.nii.gz")
    with pytest.warns(InputWarning, match="the T2w images are taken; sub-02 have none and were left out: name their"):
        assert found(tmp_path) == ["sub-01/anat/sub-01_T2w.nii.gz"]


def test_a_dataset_without_anatomy(tmp_path: Path) -> None:
    dataset(tmp_path, "sub-01/func/sub-01_task-rest_bold.nii.gz")
    with pytest.raises(InputError, match=r"of 1 people holds no anatomical images; expected sub-NAME\["):
        found(tmp_path)


@pytest.mark.parametrize("text", ['{"Name": "ageing",', "[]", "\x00"])
def test_a_broken_description(tmp_path: Path, text: str) -> None:
    dataset(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz", description=text)
    with pytest.raises(InputError, match=r"is not the JSON of a BIDS dataset \(.+\); expected an object with its Name"):
        found(tmp_path)


# --- where results go


@pytest.mark.parametrize(
    ("scan", "kind", "place"),
    [
        ("sub-01/anat/sub-01_T1w.nii.gz", "labels", "sub-01/anat/sub-01_desc-limner_dseg.nii.gz"),
        ("sub-01/anat/sub-01_T1w.nii", "mask", "sub-01/anat/sub-01_desc-brain_mask.nii.gz"),
        (
            "sub-2/ses-b/anat/sub-2_ses-b_acq-fast_run-02_T1w.nii.gz",
            "labels",
            "sub-2/ses-b/anat/sub-2_ses-b_acq-fast_run-02_desc-limner_dseg.nii.gz",
        ),
        (
            "sub-2/anat/sub-2_desc-preproc_T1w.nii.gz",
            "uncertainty",
            "sub-2/anat/sub-2_desc-limner_uncertainty.nii.gz",
        ),
        (
            "sub-2/anat/sub-2_T1w.nii.gz",
            "lateral ventricle",
            "sub-2/anat/sub-2_label-LateralVentricle_desc-limner_probseg.nii.gz",
        ),
    ],
)
def test_entities_are_kept(scan: str, kind: str, place: str) -> None:
    assert bids.derived(Path("root") / scan, kind) == Path(place)


@pytest.mark.parametrize("name", ["brain.nii.gz", "sub-01_final version_T1w.nii.gz", "sub-_T1w.nii.gz"])
def test_names_that_bids_does_not_know(name: str) -> None:
    with pytest.raises(InputError, match=rf"{name}' has no name that BIDS knows; expected entities and a suffix"):
        bids.derived(Path(name), "labels")


def test_the_description_of_derivatives(tmp_path: Path) -> None:
    content = json.loads(bids.description("1.2.3", dataset(tmp_path)))
    assert content["Name"] == "limner's segmentations of ageing"
    assert content["DatasetType"] == "derivative"
    assert content["GeneratedBy"] == [{"Name": "limner", "Version": "1.2.3"}]
    assert content["SourceDatasets"] == [{"URL": tmp_path.as_uri()}]


def test_the_names_of_labels() -> None:
    header, background, *rows = bids.lookup(LabelTable.freesurfer()).splitlines()
    assert header == "index\tname\tcolor"
    assert background.split("\t")[:2] == ["0", "Unknown"]
    assert any(re.fullmatch(r"17\tLeft-Hippocampus\t#[0-9a-f]{6}", row) for row in rows)


# --- other folders


def test_volumes_come_before_series_and_series_before_pictures(tmp_path: Path) -> None:
    touched(tmp_path, "thumbnail.png", "b.jpg")
    assert found(tmp_path) == ["b.jpg", "thumbnail.png"]
    for name in ("later/t2", "earlier"):
        dicoms.written(tmp_path / name, image())
    touched(tmp_path, ".hidden/x.dcm", "notes/notes.txt")
    assert found(tmp_path) == ["earlier", "later/t2"]
    touched(tmp_path, "scan.nrrd", ".half.nii")
    assert found(tmp_path) == ["scan.nrrd"]


def test_a_store_is_a_scan_and_lies_among_scans(tmp_path: Path) -> None:
    touched(tmp_path, "cube.zarr/zarr.json", "cube.zarr/c/0/0/0", "thumbnail.png")
    assert found(tmp_path) == ["cube.zarr"]
    assert scans_in(tmp_path / "cube.zarr") == [tmp_path / "cube.zarr"]


def test_a_folder_of_slices_is_a_scan(tmp_path: Path) -> None:
    dicoms.written(tmp_path, image())
    assert scans_in(tmp_path) == [tmp_path]


def test_a_folder_of_nothing(tmp_path: Path) -> None:
    touched(tmp_path, "notes.txt")
    with pytest.raises(InputError, match="holds no scans; expected files ending in .nii.gz.*, or the slices of DICOM"):
        scans_in(tmp_path)
