from __future__ import annotations

import pytest

from limner.report.sides import paired
from limner.space import Label, LabelTable


def pairs(*names: str) -> list[tuple[str, str, str | None]]:
    """The pairs of a table of these names, as names."""
    table = LabelTable(tuple(Label(number, name, (0, 0, 0), name, name) for number, name in enumerate(names, start=1)))
    return [
        (pair.name, table.names[pair.left], None if pair.right is None else table.names[pair.right])
        for pair in paired(table)
    ]


def test_left_and_right_of_one_structure_belong_together() -> None:
    found = pairs("Left-Caudate", "Brain-Stem", "Right-Caudate")
    assert found == [("Caudate", "Left-Caudate", "Right-Caudate"), ("Brain-Stem", "Brain-Stem", None)]


@pytest.mark.parametrize(
    ("left", "right", "name"),
    [
        ("ctx-lh-cuneus", "ctx-rh-cuneus", "ctx-cuneus"),
        ("kidney left", "kidney right", "kidney"),
        ("L_hand", "R_hand", "hand"),
        ("left lung", "Right lung", "lung"),
    ],
)
def test_sides_are_named_in_many_ways(left: str, right: str, name: str) -> None:
    assert pairs(left, right) == [(name, left, right)]


def test_a_side_alone_keeps_its_name() -> None:
    assert pairs("Left-Lesion", "Right-Vessel") == [
        ("Left-Lesion", "Left-Lesion", None),
        ("Right-Vessel", "Right-Vessel", None),
    ]


def test_letters_inside_words_are_no_sides() -> None:
    assert [name for name, _, right in pairs("pallidum", "cleft", "bright", "L5", "L4") if right is None] == [
        "pallidum",
        "cleft",
        "bright",
        "L5",
        "L4",
    ]


def test_freesurfers_table_pairs_up() -> None:
    table = LabelTable.freesurfer()
    everyone = list(paired(table))
    found = {pair.name: table.ids[pair.rows].tolist() for pair in everyone}
    assert found["Hippocampus"] == [17, 53]
    assert found["Brain-Stem"] == [16]
    assert sorted(row for pair in everyone for row in pair.rows) == list(range(1, len(table)))
