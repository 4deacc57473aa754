from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.check import InputError, InputWarning
from limner.files.names import case_names, paired


def paths(*names: str) -> list[Path]:
    return [Path(name) for name in names]


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a/sub-01.nii.gz", "b/sub-02.mgz"], ["sub-01", "sub-02"]),
        (["data/person-1/brainmask.mgz"], ["brainmask"]),
        (["data/person-1/brainmask.mgz", "data/person-2/brainmask.mgz"], ["person-1_brainmask", "person-2_brainmask"]),
        # All are lengthened alike, so that they read alike.
        (["p-1/T1.mgz", "p-2/T1.mgz", "p-3/vol.npz"], ["p-1_T1", "p-2_T1", "p-3_vol"]),
        (["s/p-1/mri/T1.mgz", "s/p-2/mri/T1.mgz"], ["p-1_mri_T1", "p-2_mri_T1"]),
        (["a/b_c.nii", "a_b/c.nii"], ["b_c", "c"]),
        (["x/../p-1/T1.mgz", "./p-2/T1.mgz"], ["p-1_T1", "p-2_T1"]),
        (["/T1.mgz", "/p/T1.mgz"], ["T1", "p_T1"]),
        (["a.b.nii.gz", "a.c.nii.gz"], ["a.b", "a.c"]),
        ([], []),
    ],
)
def test_case_names(files: list[str], names: list[str]) -> None:
    assert case_names(paths(*files)) == names


@given(st.sets(st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(tuple), min_size=1, max_size=8))
def test_case_names_are_unique_and_say_where_a_file_is(places: set[tuple[str, ...]]) -> None:
    files = [Path("/data", *place).with_suffix(".nii.gz") for place in sorted(places)]
    names = case_names(files)
    assert len(set(names)) == len(names)
    for file, name in zip(files, names, strict=True):
        assert "_".join(file.with_suffix("").with_suffix("").parts[1:]).endswith(name)


@pytest.mark.parametrize(
    "files",
    [
        ["p/T1.mgz", "p/T1.nii.gz"],
        ["p/T1.mgz", "p/T1.mgz"],
        # Some disks hold only one of the two.
        ["p/T1.mgz", "P/t1.mgz"],
        ["/a/b_c.nii", "/a_b/c.nii", "/d/c.nii"],
    ],
)
def test_files_of_the_same_name_are_refused(files: list[str]) -> None:
    listed = ", ".join(f"'{file}'" for file in files[:2])
    with pytest.raises(InputError, match=f"^{re.escape(listed)} would have the same name; expected .* rename one"):
        case_names(paths(*files))


def pairs(predictions: list[str], references: list[str]) -> list[tuple[str, str]]:
    """Case and reference of each prediction, which must come in their order."""
    found = paired(paths(*predictions), paths(*references))
    assert [prediction for _, prediction, _ in found] == paths(*predictions)
    return [(case, reference.as_posix()) for case, _, reference in found]


def test_two_files_belong_together() -> None:
    assert pairs(["out/person-1_brainmask_labels.mgz"], ["truth/x.nii"]) == [("person-1_brainmask", "truth/x.nii")]


@pytest.mark.parametrize(
    ("predictions", "references"),
    [
        # What `segment` writes, against a folder per person.
        (
            ["out/person-2_brainmask_labels.mgz", "out/person-1_brainmask_labels.mgz"],
            ["brains/person-2/aseg.mgz", "brains/person-1/aseg.mgz"],
        ),
        (["out/p-1_mri_T1_labels.mgz", "out/p-2_mri_T1_labels.mgz"], ["s/p-1/mri/aseg.mgz", "s/p-2/mri/aseg.mgz"]),
        # One name, ending and suffix aside.
        (["out/a_labels.nii.gz", "out/b_labels.nii.gz"], ["truth/a.mgz", "truth/b.mgz"]),
        (["out/a_labels.nii.gz", "out/b_labels.nii.gz"], ["truth/a_labels.nii", "truth/b_labels.nii"]),
        (["data/a_labels.nii.gz", "data/b_labels.nii.gz"], ["data/a.nii.gz", "data/b.nii.gz"]),
        (["out/p_1_labels.nii", "out/p_2_labels.nii"], ["p/1.nii", "p/2.nii"]),
        # The same file name in a folder per person on both sides.
        (["out/p-1/aseg.mgz", "out/p-2/aseg.mgz"], ["truth/p-1/aseg.mgz", "truth/p-2/aseg.mgz"]),
        (["out/p-1/labels.mgz", "out/p-2/labels.mgz"], ["truth/p-1/aseg.mgz", "truth/p-2/aseg.mgz"]),
        (["out/p-1/labels.mgz", "out/p-2/labels.mgz"], ["truth/p-1_manual.nii", "truth/p-2_manual.nii"]),
        # A name that begins with two folders belongs to the longer one.
        (["out/s_T1_labels.mgz", "out/s_later_T1_labels.mgz"], ["x/s/aseg.mgz", "x/s_later/aseg.mgz"]),
    ],
)
def test_pairing(predictions: list[str], references: list[str]) -> None:
    assert [reference for _, reference in pairs(predictions, references)] == references
    backwards = pairs(predictions, references[::-1])
    assert [reference for _, reference in backwards] == references


def test_cases_are_named_without_the_ending() -> None:
    assert [case for case, _ in pairs(["o/a_labels.mgz", "o/b_labels.mgz"], ["t/a.mgz", "t/b.mgz"])] == ["a", "b"]
    folders = pairs(["o/p-1/x_labels.mgz", "o/p-2/x_labels.mgz"], ["t/p-1/y.mgz", "t/p-2/y.mgz"])
    assert [case for case, _ in folders] == ["p-1_x", "p-2_x"]


def test_references_without_prediction_are_named() -> None:
    with pytest.warns(InputWarning, match=r"references without a prediction were left out: 't/p-3/aseg.mgz'$"):
        found = pairs(["o/p-1_x_labels.mgz", "o/p-2_x_labels.mgz"], [f"t/p-{k}/aseg.mgz" for k in (1, 2, 3)])
    assert found == [("p-1_x", "t/p-1/aseg.mgz"), ("p-2_x", "t/p-2/aseg.mgz")]


def test_predictions_without_reference_are_refused() -> None:
    message = "cannot be paired: 'o/b_labels.mgz' suits no reference; expected one reference for each prediction"
    with pytest.raises(InputError, match=message):
        pairs(["o/a_labels.mgz", "o/b_labels.mgz"], ["t/a.mgz", "t/c.mgz"])
    with pytest.raises(InputError, match=r"'o/a_labels\.mgz' suits no reference; 'o/b_labels.mgz' suits no reference"):
        pairs(["o/a_labels.mgz", "o/b_labels.mgz"], [])


def test_several_references_are_refused() -> None:
    message = "'o/p-1_x_labels.mgz' suits 't/p-1/aseg.mgz', 't/p-1/manual.mgz'; expected one"
    with pytest.raises(InputError, match=message):
        pairs(["o/p-1_x_labels.mgz"], ["t/p-1/aseg.mgz", "t/p-1/manual.mgz"])


def test_one_reference_for_several_predictions_is_refused() -> None:
    message = "'o/p-1_x_labels.mgz' suits 't/p-1/aseg.mgz'; 'o/p-1_y_labels.mgz' suits 't/p-1/aseg.mgz'"
    with pytest.raises(InputError, match=message):
        pairs(["o/p-1_x_labels.mgz", "o/p-1_y_labels.mgz"], ["t/p-1/aseg.mgz", "t/p-2/aseg.mgz"])


def test_files_side_by_side_are_not_paired_by_their_folder() -> None:
    with pytest.raises(InputError, match=r"'d/x_labels.mgz' suits 'd/u.mgz', 'd/v.mgz'; 'd/y_labels.mgz' suits"):
        pairs(["d/x_labels.mgz", "d/y_labels.mgz"], ["d/u.mgz", "d/v.mgz"])
