from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from check.messages import SCAN, Inspection, refusal
from limner import check
from limner.check import InputWarning

FOLDER = Path("study")
TOLD = {"3": "MR t1, 8 images", "5": "MR t2, 1 image"}
REFUSED: list[tuple[Inspection, str]] = [
    (
        lambda: check.one_value(SCAN, ["vector"]),
        (
            "'data/scan.nii.gz' holds several values per voxel (vector); expected one real number per voxel: "
            "save one of its volumes as a file of its own"
        ),
    ),
    (
        lambda: check.colourless(SCAN, alike=False),
        "'data/scan.nii.gz' shows colours; expected one real number per voxel: convert it to grey values",
    ),
    (
        lambda: check.one_page(SCAN, 3),
        (
            "'data/scan.nii.gz' has room for one slice but the volume has 3; expected a 2-D image: write .tif, or a "
            "format of volumes such as .nii.gz"
        ),
    ),
    (
        lambda: check.only_read(SCAN, [".nrrd", ".mha"]),
        "'data/scan.nii.gz' is of a format that is read but not written; expected one of .nrrd, .mha: choose another",
    ),
    (
        lambda: check.not_stored(SCAN, np.dtype("f4"), known=["uint8"]),
        (
            "'data/scan.nii.gz' cannot hold these voxels of type float32: its format has uint8; expected one that "
            "holds every value: choose another format, such as .nii.gz"
        ),
    ),
    (
        lambda: check.no_images(FOLDER, 0),
        "folder 'study' holds no DICOM images; expected the slices of a series: name another folder, or files",
    ),
    (
        lambda: check.no_images(FOLDER, 2),
        (
            "folder 'study' holds 2 DICOM files but no images; expected the slices of a series: name another folder, "
            "or files"
        ),
    ),
    (
        lambda: check.another_file(SCAN, SCAN),
        "output 'data/scan.nii.gz' is the input itself; expected a new file: choose another name",
    ),
    (
        lambda: check.overlap(0.0, SCAN, like=Path("like.nii")),
        (
            "'data/scan.nii.gz' and 'like.nii' have no place in common; expected images of the same person in the "
            "same space: see where both lie with `limner check`"
        ),
    ),
    (
        lambda: check.description(FOLDER, "ended early"),
        (
            "'study' is not the JSON of a BIDS dataset (ended early); expected an object with its Name and "
            "BIDSVersion: mend it, or name the scans instead of the folder"
        ),
    ),
    (
        lambda: check.no_anatomy(FOLDER, ["T1w", "T2w"], people=3),
        (
            "BIDS dataset 'study' of 3 people holds no anatomical images; expected "
            "sub-NAME[/ses-NAME]/anat/*_SUFFIX.nii.gz, SUFFIX one of T1w, T2w: correct it, or name the scans"
        ),
    ),
    (
        lambda: check.not_bids(SCAN),
        (
            "'data/scan.nii.gz' has no name that BIDS knows; expected entities and a suffix, such as "
            "sub-01_ses-2_T1w.nii.gz: rename it, or name the scans instead of the folder"
        ),
    ),
    (
        lambda: check.several_series(FOLDER, TOLD),
        (
            "folder 'study' holds 2 series; expected one: choose among 'study#3' (MR t1, 8 images); "
            "'study#5' (MR t2, 1 image)"
        ),
    ),
    (
        lambda: check.unknown_series(FOLDER, "4", told=TOLD),
        (
            "folder 'study' holds no series 4; expected one of 'study#3' (MR t1, 8 images); "
            "'study#5' (MR t2, 1 image): correct the number"
        ),
    ),
    (
        lambda: check.images_placed(FOLDER, 1, of=4),
        (
            "only 1 of the 4 images of 'study' say where they lie; expected position, directions and voxel size in "
            "each: export the series again, or give its images one by one"
        ),
    ),
    (
        lambda: check.apart(FOLDER, 2, of=8),
        (
            "2 of the 8 images of 'study' lie where another one does; expected one image at each place: "
            "export one time point, echo or reconstruction to a folder of its own"
        ),
    ),
    (
        lambda: check.slice_missing(FOLDER, ("a.dcm", "b.dcm"), gap=7.6, usual=2.5),
        (
            "2 slices are missing from 'study': 'a.dcm' and 'b.dcm' lie 7.6 mm apart, the others 2.5; "
            "expected slices at equal distances: copy or export the series again"
        ),
    ),
]


@pytest.mark.parametrize(("inspect", "message"), REFUSED)
def test_what_is_refused(inspect: Inspection, message: str) -> None:
    assert refusal(inspect) == message


def test_what_passes(tmp_path: Path) -> None:
    check.one_value(SCAN, [])
    check.colourless(SCAN, alike=True)
    check.one_page(SCAN, 1)
    check.images_placed(FOLDER, 4, of=4)
    check.apart(FOLDER, 0, of=8)
    (tmp_path / "scan").write_bytes(bytes(100))
    check.enough_bytes(tmp_path / "scan", 100, packed=False)
    check.enough_bytes(tmp_path / "scan", 110_000, packed=True)
    for promised, packed in ((101, False), (110_001, True)):
        with pytest.raises(check.InputError, match=rf"promises {promised} bytes of voxels but the file has 100\)"):
            check.enough_bytes(tmp_path / "scan", promised, packed=packed)


@pytest.mark.parametrize(
    ("warning", "message"),
    [
        (
            check.no_directions(SCAN, (1.0, 1.25, 3.0)),
            (
                "'data/scan.nii.gz' has no space directions; voxels of 1 x 1.25 x 3 mm along the axes right, front, up "
                "(RAS) were assumed"
            ),
        ),
        (
            check.without_contrast(FOLDER, "T1w", people=list("abcdef")),
            (
                "of BIDS dataset 'study' the T1w images are taken; a, b, c, d, e, ... have none and were left out: "
                "name their other images to have them too"
            ),
        ),
        (
            check.fields_lost(SCAN, ["descrip", "scanner"]),
            "'data/scan.nii.gz' keeps the voxels and where they lie, but not these fields: descrip, scanner",
        ),
        (
            check.forms_disagree(SCAN, 12.34),
            "the qform and sform of 'data/scan.nii.gz' disagree by 12.3 mm at a corner; the sform was believed",
        ),
        (check.no_space(SCAN), "'data/scan.nii.gz' does not name its space; left, back, up (LPS) was assumed"),
        (
            check.rounded(SCAN, np.dtype("f8"), error=0.00123),
            "'data/scan.nii.gz' holds float32 but the voxels are float64; they were rounded by up to 0.0012",
        ),
        (
            check.images_left_out(FOLDER, [Path(f"study/{name}") for name in "abcd"]),
            "'study' holds DICOM files that are no images, or damaged, and were left out: 'a', 'b', 'c', ...",
        ),
        (
            check.uneven_slices(FOLDER, 0.123),
            "'study' has slices at unequal distances, up to 0.12 mm off; taken as equal",
        ),
        (
            check.long_directions(FOLDER, 1.01e-4),
            "'study' has directions whose length is off 1 by 0.0001; they were made as long as 1",
        ),
    ],
)
def test_what_is_tolerated(warning: InputWarning, message: str) -> None:
    assert (type(warning), str(warning)) == (InputWarning, message)
