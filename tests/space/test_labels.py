from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.check import InputError
from limner.space import Label, LabelTable

TWELVE = {
    "pallidum": (13, 52),
    "amygdala": (18, 54),
    "caudate": (11, 50),
    "cerebral cortex": (3, 42),
    "hippocampus": (17, 53),
    "thalamus": (10, 49),
    "putamen": (12, 51),
    "cerebral white matter": (2, 41),
    "cerebellar cortex": (8, 47),
    "lateral ventricle": (4, 43),
    "cerebellar white matter": (7, 46),
    "brain stem": (16,),
}
FREESURFER = LabelTable.freesurfer()


def written(folder: Path, text: str, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_freesurfer_ties_left_and_right_into_twelve() -> None:
    assert FREESURFER.structures == ("background", *TWELVE, "rest")
    for structure, ids in TWELVE.items():
        members = FREESURFER.ids[FREESURFER.structure_of == FREESURFER.structures.index(structure)]
        assert tuple(members) == ids
        assert FREESURFER.structure_id(structure) == ids[0]


def test_freesurfer_keeps_the_standard_names_and_colours() -> None:
    assert FREESURFER[17] == Label(17, "Left-Hippocampus", (220, 216, 20), "hippocampus", "grey")
    assert FREESURFER[0].name == "Unknown"
    assert FREESURFER[255].colour == (0, 0, 255)
    assert all(label.name.startswith("Right") for label in FREESURFER.labels if 40 <= label.id <= 71)
    assert {75, 76}.isdisjoint(FREESURFER.ids)


def test_freesurfer_structures_are_of_one_tissue() -> None:
    for structure in TWELVE:
        assert len({label.tissue for label in FREESURFER.labels if label.structure == structure}) == 1
    assert [FREESURFER[12].tissue, FREESURFER[14].tissue] == ["putamen", "ventricular csf"]


def test_what_lies_outside_the_brain_is_background() -> None:
    assert {FREESURFER[label].structure for label in (0, 165, 258, 502, 530)} == {"background"}
    assert {FREESURFER[label].structure for label in (5, 24, 77, 85, 251)} == {"rest"}


def test_rows_and_classes_are_indexed_alike() -> None:
    assert FREESURFER.ids.tolist() == sorted(FREESURFER.ids)
    assert len(FREESURFER) == len(FREESURFER.names) == len(set(FREESURFER.names)) == len(FREESURFER.ids)
    for row, label in enumerate(FREESURFER.labels):
        assert FREESURFER.structures[FREESURFER.structure_of[row]] == label.structure
        assert FREESURFER.tissues[FREESURFER.tissue_of[row]] == label.tissue
    assert FREESURFER.structure_of[0] == FREESURFER.tissue_of[0] == 0


@given(st.lists(st.sampled_from(FREESURFER.ids.tolist()), min_size=1), st.sampled_from(["i2", "u2", ">i4", "i8", "u8"]))
def test_rows_lead_back_to_the_ids(ids: list[int], dtype: str) -> None:
    rows = FREESURFER.rows(np.array([ids], dtype))
    assert rows.shape == (1, len(ids))
    assert FREESURFER.ids[rows].tolist() == [ids]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.bool_])
def test_rows_of_types_narrower_than_the_table(dtype: type) -> None:
    assert FREESURFER.rows(np.array([1, 0], dtype)).tolist() == [1, 0]


def test_unknown_ids_are_counted_and_named() -> None:
    ids = np.array([[0, 75, 75], [-1, 2**31 - 1, 17]], np.int32)
    with pytest.raises(
        InputError,
        match=r"'sub-07' has labels that the label table does not know: -1 \(1 voxel\), 75 \(2 voxels\), "
        r"2147483647 \(1 voxel\); .* with --labels TABLE, .* with --fold-unknown",
    ):
        FREESURFER.rows(ids, "sub-07")


def test_unknown_ids_may_be_folded_into_the_background() -> None:
    ids = np.array([[0, 2, 999], [-4, 41, 3]])
    np.testing.assert_array_equal(LabelTable.freesurfer().folded(ids), [[0, 2, 0], [0, 41, 3]])


def test_ids_beyond_64_bits_are_unknown_too() -> None:
    with pytest.raises(InputError, match=r"18446744073709551615 \(1 voxel\)"):
        FREESURFER.rows(np.array([2**64 - 1], np.uint64))


def test_rest_has_the_lowest_id_and_background_zero() -> None:
    table = FREESURFER.subset([14, 26, 502, 1])
    assert table.structure_id("rest") == 14
    assert table.structure_id("background") == 0


def test_merged_keeps_the_left_id() -> None:
    merged = FREESURFER.merged()
    assert merged.structures == FREESURFER.structures
    assert {merged[ids[0]].name for ids in TWELVE.values()} == set(TWELVE)
    assert merged[17] == Label(17, "hippocampus", (220, 216, 20), "hippocampus", "grey")
    assert len(merged) == len(FREESURFER.structures)
    assert merged.merged() == merged


def test_merged_finds_the_left_by_name() -> None:
    table = LabelTable(
        (Label(5, "ear right", (1, 1, 1), "ear", "skin"), Label(9, "ear left", (2, 2, 2), "ear", "skin"))
    )
    assert table.merged().ids.tolist() == [0, 9]


def test_subset_keeps_background_and_order() -> None:
    table = FREESURFER.subset([53, 2])
    assert table.ids.tolist() == [0, 2, 53]
    assert table.structures == ("background", "hippocampus", "cerebral white matter")


def test_tables_travel_as_json() -> None:
    assert LabelTable.from_dict(json.loads(json.dumps(FREESURFER.as_dict()))) == FREESURFER


@pytest.mark.parametrize("content", [{}, {"labels": [{"id": 1}], "structures": []}, {"labels": 3, "structures": []}])
def test_stored_tables_of_another_form_are_refused(content: dict[str, object]) -> None:
    with pytest.raises(InputError, match="label table 'stored' has a missing or wrong field"):
        LabelTable.from_dict(content)


def test_membership_and_lookup() -> None:
    assert 17 in FREESURFER
    assert np.int32(17) in FREESURFER
    assert 75 not in FREESURFER
    with pytest.raises(InputError, match="label 75 is not in the label table; expected one of its 107 ids"):
        FREESURFER[75]
    with pytest.raises(
        InputError, match="structure 'hipocampus' is not in the label table; expected one of background,"
    ):
        FREESURFER.structure_id("hipocampus")


def test_user_table_with_every_column(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "id\tname\tred\tgreen\tblue\tstructure\ttissue\n"
        "2\tright lung\t10\t20\t30\tlung\tair\n1\tleft lung\t11\t21\t31\tlung\tair\n3\ttrachea\t1\t2\t3\t\tair\n",
        "table.tsv",
    )
    table = LabelTable.read(path)
    assert table[1] == Label(1, "left lung", (11, 21, 31), "lung", "air")
    assert table[3].structure == "trachea"
    assert table.structures == ("background", "lung", "trachea")
    assert table.structure_id("lung") == 1


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_user_table_with_ids_and_names_only(tmp_path: Path, delimiter: str) -> None:
    text = "\ufeffID,Name\n7,lesion\n\n4,cyst\n".replace(",", delimiter)
    table = LabelTable.read(written(tmp_path, text))
    assert table.ids.tolist() == [0, 4, 7]
    assert table.names == ("background", "cyst", "lesion")
    assert table.structures == ("background", "lesion", "cyst")
    assert table.tissues == ("background", "cyst", "lesion")
    assert len({label.colour for label in table.labels}) == 3


def test_id_zero_is_background_whatever_it_is_called(tmp_path: Path) -> None:
    table = LabelTable.read(written(tmp_path, "id,name\n1,brain\n0,air\n"))
    assert (table[0].name, table[0].structure, table[0].tissue) == ("air", "background", "background")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has the columns none"),
        ("label,title\n1,a\n", "has the columns label, title"),
        ("id,name\n1.5,a\n", "has in line 2 a wrong id or colour"),
        ("id,name\n1,a\n,b\n", "has in line 3 a wrong id or colour"),
        ("id,name,red,green,blue\n1,a,0,0,256\n", "has in line 2 a wrong id or colour"),
        ("id,name\n1,a\n1,b\n", "has id 1 twice, as 'a' and 'b'"),
        ("id,name\n1,a\n2,a\n", "has the name 'a' twice, for ids 1 and 2"),
        ("id,name\n-1,a\n", "has id -1, outside 0 to 16777216"),
        ("id,name\n16777217,a\n", "has id 16777217, outside 0 to 16777216"),
    ],
)
def test_bad_user_tables_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    if not text:
        text = "\n"
    with pytest.raises(InputError, match=f"label table '.*table.csv' {reason}.*expected columns id,name"):
        LabelTable.read(written(tmp_path, text))


def test_user_tables_are_text_files_that_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'.*none.csv' does not exist"):
        LabelTable.read(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x93")
    with pytest.raises(InputError, match=r"label table '.*binary.csv' is not a text file"):
        LabelTable.read(tmp_path / "binary.csv")
