"""What a folder or a table says of its scans, and who is kept for validation."""

from __future__ import annotations

from pathlib import Path

import pytest

import dicoms
from folders import touched
from limner.check import InputError, InputWarning
from limner.data.cohort import Case, find_cases, read_cohort, read_maps, split
from tiny import image


def table(folder: Path, text: str, name: str = "scans.csv") -> Path:
    (folder / name).write_text(text)
    return folder / name


def people(count: int, *, scans: int = 1, **fields: str) -> list[Case]:
    return [
        Case(f"p{person}-{scan}", (Path("x"),), person=f"p{person}", **fields)
        for person in range(count)
        for scan in range(scans)
    ]


def test_a_folder_has_scans_with_labels_and_masks_beside_them(tmp_path: Path) -> None:
    touched(tmp_path, "b.nii.gz", "b_labels.nii.gz", "a.mgz", "a_mask.nii", "notes.txt", ".half.nii", "lone_labels.nii")
    first, second, third = read_cohort(tmp_path)
    assert first == Case("a", (tmp_path / "a.mgz",), mask=tmp_path / "a_mask.nii", person="a")
    assert second == Case("b", (tmp_path / "b.nii.gz",), labels=tmp_path / "b_labels.nii.gz", person="b")
    assert third.name == "lone_labels"


def test_labels_may_lie_in_a_folder_of_their_own(tmp_path: Path) -> None:
    touched(tmp_path, "scans/a.nii", "scans/b.nii", "scans/c.nii", "maps/A_labels.mgz", "maps/b.nii", "maps/z.nii")
    with pytest.warns(InputWarning, match=r"label maps without a scan were left out: '.*z\.nii'"):
        found = read_cohort(tmp_path / "scans", labels=tmp_path / "maps")
    assert [case.labels and case.labels.name for case in found] == ["A_labels.mgz", "b.nii", None]
    touched(tmp_path, "others/q.nii")
    with pytest.raises(InputError, match=r"none of the label maps in '.*others' has the name of a scan: 'q\.nii'"):
        read_cohort(tmp_path / "scans", labels=tmp_path / "others")


@pytest.mark.parametrize("mark", [",", "\t", ";"])
def test_a_table_says_everything(tmp_path: Path, mark: str) -> None:
    touched(tmp_path / "data", "t1.nii", "t2.nii", "map.nii", "mask.nii", "u1.nii", "u2.nii")
    text = (
        "Image,image_2,labels,mask,present,case,person,split,orientation\n"
        "data/t1.nii,data/t2.nii,data/map.nii,data/mask.nii,1 -1,first,ann,Train,LIA\n"
        "data/u1.nii,data/u2.nii,,,0 1,second,bob,test,\n"
    )
    first, second = read_cohort(table(tmp_path, text.replace(",", mark)))
    at = tmp_path / "data"
    images = (at / "t1.nii", at / "t2.nii")
    assert first == Case("first", images, at / "map.nii", at / "mask.nii", "ann", "train", "LIA", (1, -1))
    assert second == Case("second", (at / "u1.nii", at / "u2.nii"), None, None, "bob", "test", None, (0, 1))


def test_names_and_people_follow_from_the_files(tmp_path: Path) -> None:
    touched(tmp_path, "ann/t1.nii", "bob/t1.nii")
    cohort = read_cohort(table(tmp_path, "\ufeffimage\nann/t1.nii\nbob/t1.nii\n"))
    assert [(case.name, case.person, case.split) for case in cohort] == [
        ("ann_t1", "ann_t1", None),
        ("bob_t1", "bob_t1", None),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"'.*scans\.csv' is empty"),
        ("scan,labels\na.nii,\n", r"table '.*' has the columns scan, labels; expected one called image"),
        ("image,lables\na.nii,\n", r"table '.*': column 'lables' is not known; .*: did you mean 'labels'\?"),
        ("image\n", r"table '.*' names no scans; expected one in each line after the first"),
        ("image\na.nii\nnone.nii\n", r"table '.*', line 3: '.*none\.nii' does not exist; expected a file"),
        ('image\n""\n', r"line 2: no image is named; expected a file: name it, or drop"),
        ("image,mask\na.nii,none.nii\n", r"table '.*', line 2: '.*none\.nii' does not exist"),
        ("image,split\na.nii,tain\n", r"line 2: split 'tain' is none; expected one of train, validation, test"),
        ("image,present\na.nii,yes\n", r"line 2: present 'yes' says nothing; expected 1, 0 or -1 for each target"),
        ("image,case\na.nii,x\nb.nii,x\n", r"two cases are called 'x'; expected a name for each"),
        ("image\na.nii\na.nii\n", r"would have the same name"),
        ("image,image_2\na.nii,b.nii\nb.nii,\n", r"'b' has 1 images but 'a' has 2; expected as many for every scan"),
        ("image,present\na.nii,1\nb.nii,1 0\n", r"'b' has 2 targets but 'a' has 1"),
        (
            "image,person,split\na.nii,ann,train\nb.nii,ann,test\n",
            r"person 'ann' is in the splits test and train; expected all scans of a person in one",
        ),
        ("image,person,split\na.nii,ann,train\nb.nii,ann,\n", r"person 'ann' is in the splits none and train"),
    ],
)
def test_tables_that_cannot_be(tmp_path: Path, text: str, message: str) -> None:
    touched(tmp_path, "a.nii", "b.nii")
    with pytest.raises(InputError, match=message):
        read_cohort(table(tmp_path, text))


def test_a_folder_without_scans_and_a_path_without_anything_are_refused(tmp_path: Path) -> None:
    touched(tmp_path, "notes.txt")
    with pytest.raises(InputError, match="holds no scans; expected files ending in"):
        read_cohort(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        read_cohort(tmp_path / "none.csv")
    (tmp_path / "picture.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"'.*picture\.csv' cannot be read"):
        read_cohort(tmp_path / "picture.csv")


def test_people_are_drawn_for_validation_whole() -> None:
    cohort = people(10, scans=3)
    train, validation = split(cohort, validation=0.2, seed=1)
    assert len({case.person for case in validation}) == 2
    assert {case.person for case in train}.isdisjoint(case.person for case in validation)
    assert sorted(case.name for case in (*train, *validation)) == sorted(case.name for case in cohort)
    assert split(cohort[::-1], validation=0.2, seed=1)[1] == validation[::-1]
    assert any(split(cohort, validation=0.2, seed=seed)[1] != validation for seed in range(5))
    assert split(cohort, validation=0, seed=1) == (tuple(cohort), ())
    assert len(split(people(3), validation=0.01, seed=0)[1]) == 1


def test_the_splits_of_a_table_stand() -> None:
    cohort = [
        Case("a", (), split="train"),
        Case("b", (), split="validation"),
        Case("c", (), split="test"),
        Case("d", ()),
    ]
    train, validation = split(cohort, validation=0, seed=0)
    assert ([case.name for case in train], [case.name for case in validation]) == (["a", "d"], ["b"])


def test_a_split_without_scans_is_refused() -> None:
    with pytest.raises(InputError, match="no scans are left for training of the 1 people in all"):
        split(people(1), validation=0.5, seed=0)
    with pytest.raises(InputError, match="no scans are left for training of the 2 people"):
        split(people(2, split="test"), validation=0, seed=0)
    with pytest.raises(InputError, match="no scans are left for validation of the 2 people"):
        split(people(2, split="train"), validation=0.5, seed=0)


# --- what the paths of a command lead to


def test_files_folders_datasets_and_tables_together(tmp_path: Path) -> None:
    touched(tmp_path, "one.nii", "folder/a.mgz", "folder/b.nii", "folder/b_labels.nii", "folder/b_mask.nii")
    touched(tmp_path, "bids/sub-1/anat/sub-1_T1w.nii", "scans/x.nii", "scans/y.nii", "scans/m.nii")
    (tmp_path / "bids/dataset_description.json").write_text("{}")
    listed = table(tmp_path, "image,image_2,mask,case\nscans/x.nii,scans/y.nii,scans/m.nii,ann\n")
    cohort = find_cases([tmp_path / name for name in ("one.nii", "folder", "bids")] + [listed])
    assert [case.name for case in cohort] == ["one", "a", "b", "sub-1_T1w", "ann"]
    assert {case.name: case.dataset for case in cohort if case.dataset} == {"sub-1_T1w": tmp_path / "bids"}
    assert [(case.labels, case.mask) for case in cohort[:4]] == [(None, None)] * 4
    assert cohort[4].images == (tmp_path / "scans/x.nii", tmp_path / "scans/y.nii")
    assert cohort[4].mask == tmp_path / "scans/m.nii"


def test_names_grow_until_they_differ(tmp_path: Path) -> None:
    touched(tmp_path, "ann/t1.nii", "bob/t1.nii", "cid/t1.nii")
    cohort = find_cases([tmp_path / "ann", tmp_path / "bob" / "t1.nii"])
    assert [case.name for case in cohort] == ["ann_t1", "bob_t1"]
    with pytest.raises(InputError, match="would have the same name"):
        find_cases([tmp_path / "ann", tmp_path / "ann/t1.nii"])
    one, other = (table(tmp_path, f"image,case\n{name}/t1.nii,same\n", f"{name}.csv") for name in ("ann", "bob"))
    with pytest.raises(InputError, match="two cases are called 'same'; expected a name for each"):
        find_cases([one, other])


def test_two_scans_that_differ_in_their_format_alone(tmp_path: Path) -> None:
    touched(tmp_path, "scan.mgz", "scan.nii.gz")
    with pytest.raises(InputError, match=r"'.*scan\.mgz', '.*scan\.nii\.gz' would have the same name; expected names"):
        find_cases([tmp_path])


def test_a_series_in_a_table(tmp_path: Path) -> None:
    dicoms.written(tmp_path / "study", image(), series=3)
    dicoms.written(tmp_path / "study", image(), series=4)
    listed = table(tmp_path, "image\nstudy#3\nstudy#4\n")
    assert [case.name for case in find_cases([listed])] == ["study_3", "study_4"]


def test_label_maps_alone_are_cases_without_images(tmp_path: Path) -> None:
    touched(tmp_path, "b.nii.gz", "a_labels.mgz", "table.tsv")
    assert read_maps(tmp_path) == (
        Case("a_labels", (), labels=tmp_path / "a_labels.mgz"),
        Case("b", (), labels=tmp_path / "b.nii.gz"),
    )
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty"):
        read_maps(tmp_path / "empty")
