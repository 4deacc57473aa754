from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from limner.report import CaseReport
from limner.report.field import Field, field_of
from limner.report.slices import PLANES, SLICES, Slice, positions, strips
from limner.space import Grid, Volume
from report.phantoms import CROWN, LEFT, NOSE, RIGHT, TABLE, head

AXIAL, CORONAL, SAGITTAL = PLANES


def through(label: int, plane) -> np.ndarray:
    """The slice through the middle of a label, as ids."""
    field = field_of(head("PSL"), TABLE)
    index = int(np.argwhere(TABLE.ids[field.labels] == label).mean(axis=0)[plane.through])
    return TABLE.ids[Slice(field, plane, index).pixels(field.labels)]


def place(ids: np.ndarray, label: int) -> tuple[float, float]:
    """Where a label is: how far down and how far to the right."""
    return tuple(np.argwhere(ids == label).mean(axis=0))


def test_axial_slices_are_seen_from_the_feet() -> None:
    ids = through(NOSE, AXIAL)
    assert place(ids, LEFT)[1] > place(ids, NOSE)[1] > place(ids, RIGHT)[1]
    assert place(ids, NOSE)[0] < place(ids, LEFT)[0]


def test_coronal_slices_are_seen_from_the_front() -> None:
    ids = through(CROWN, CORONAL)
    assert place(ids, LEFT)[1] > place(ids, CROWN)[1] > place(ids, RIGHT)[1]
    assert place(ids, CROWN)[0] < place(ids, LEFT)[0]


def test_sagittal_slices_face_left() -> None:
    ids = through(NOSE, SAGITTAL)
    assert place(ids, NOSE)[1] < place(ids, CROWN)[1]
    assert place(ids, CROWN)[0] < place(ids, NOSE)[0]


def test_sizes_are_in_millimetres() -> None:
    field = field_of(head(), TABLE)
    assert [Slice(field, plane, 0).size for plane in PLANES] == [(80, 75), (80, 68), (75, 68)]
    assert [Slice(field, plane, 0).pixel for plane in PLANES] == [(2, 3), (2, 4), (3, 4)]


def test_titles_give_world_coordinates() -> None:
    field = field_of(head("ILP"), TABLE)
    nose = np.argwhere(TABLE.ids[field.labels] == NOSE).max(axis=0)
    # The nose ends at voxel 18, 26, 9 of the original, towards the right, the back and the feet.
    assert Slice(field, AXIAL, nose[2]).title == "z 36 mm"
    assert Slice(field, CORONAL, nose[1]).title == "y 28 mm"
    assert Slice(field, SAGITTAL, nose[0]).title == "x \N{MINUS SIGN}4 mm"


@pytest.mark.parametrize("plane", PLANES)
def test_slices_go_through_what_is_labelled_in_the_order_of_their_coordinates(plane) -> None:
    field = field_of(head(), TABLE)
    chosen = positions(field, plane)
    assert chosen == sorted(chosen, reverse=True)
    assert len(chosen) == SLICES
    assert all(field.labels.take(index, axis=plane.through).any() for index in chosen)


def test_unlabelled_fields_are_cut_evenly() -> None:
    case = head()
    field = field_of(replace(case, labels=None), TABLE)
    assert positions(field, AXIAL) == [17, 13, 9, 5, 1]


def test_few_slices_are_shown_once() -> None:
    case = head()
    data = np.zeros_like(case.labels.data)
    data[:, :, 9:11] = NOSE
    assert positions(field_of(replace(case, labels=replace(case.labels, data=data)), TABLE), AXIAL) == [10, 9]


def test_flat_scans_are_seen_in_one_plane() -> None:
    volume = Volume(np.ones((30, 20), np.int32), Grid((30, 20), np.eye(3)), "labels")
    field = field_of(CaseReport("flat", labels=replace(volume, data=volume.data * NOSE)), TABLE)
    assert [(plane.name, len(cuts)) for plane, cuts in strips(field)] == [("axial", 1)]


def test_big_slices_are_thinned_out() -> None:
    grid = Grid((1281, 40, 10), np.diag([-0.5, -0.5, -2, 1]))
    labels = np.zeros(grid.shape, np.int32)
    labels[-4:] = 1
    cut = Slice(Field(grid, None, labels, None, None, None), AXIAL, 5)
    assert cut.step == 4
    assert cut.pixels(labels).shape == (10, 321)
    assert cut.pixels(labels)[:, -1].all()
    assert cut.pixel == (2, 2)
    assert cut.size == (642, 20)
    assert Slice(cut.field, SAGITTAL, 5).step == 1
