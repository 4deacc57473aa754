from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from limner.check import InputError
from limner.report import CaseReport
from limner.report.field import field_of
from limner.space import Grid, Volume
from report.phantoms import BOXES, CROWN, LEFT, NOSE, RIGHT, SIZES, TABLE, head
from space.strategies import ORIENTATIONS


def middle(field, label: int) -> np.ndarray:
    return np.argwhere(TABLE.ids[field.labels] == label).mean(axis=0)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_axes_lead_left_back_and_down_whatever_the_stored_order(orientation: str) -> None:
    field = field_of(head(orientation), TABLE)
    left, right, nose, crown = (middle(field, label) for label in (LEFT, RIGHT, NOSE, CROWN))
    assert left[0] > nose[0] > right[0]
    assert nose[1] < left[1]
    assert crown[2] < left[2]
    assert field.grid.orientation == "LPI"
    np.testing.assert_allclose(field.grid.voxel_sizes, SIZES)


def test_layers_are_cropped_alike_around_the_labels() -> None:
    case = head()
    field = field_of(case, TABLE)
    # 80 mm are shown at least, as far as the scan goes: 40, 27 and 20 voxels; the labels span 31, 18 and 10 of them.
    assert field.grid.shape == (40, 25, 17)
    assert field.image.shape == field.labels.shape == field.uncertainty.shape == field.grid.shape
    assert field.reference is None
    box = BOXES[NOSE]
    np.testing.assert_array_equal(field.image[TABLE.ids[field.labels] == NOSE], case.image.data[box].ravel())
    world = field.grid.world(middle(field, NOSE))
    np.testing.assert_allclose(world, case.labels.grid.world([19.5, 27.5, 9.5]))


def test_a_reference_widens_the_crop() -> None:
    case = head()
    data = np.zeros_like(case.labels.data)
    data[:, :, :2] = LEFT
    assert field_of(replace(case, reference=replace(case.labels, data=data)), TABLE).grid.shape == (40, 32, 20)


def test_a_small_structure_is_shown_with_what_lies_around() -> None:
    grid = Grid((100, 100, 100), np.eye(4))
    data = np.zeros(grid.shape, np.int32)
    data[50, 50, 95] = NOSE
    field = field_of(CaseReport("spot", labels=Volume(data, grid, "labels")), TABLE)
    assert field.grid.shape == (81, 81, 45)


@pytest.mark.parametrize("labels", [None, np.zeros((40, 32, 20), np.int32)])
def test_without_labels_all_is_shown(labels: np.ndarray | None) -> None:
    case = head()
    volume = None if labels is None else replace(case.labels, data=labels)
    assert field_of(replace(case, labels=volume), TABLE).grid.shape == (40, 32, 20)


def test_without_volumes_there_is_no_field() -> None:
    assert field_of(CaseReport("nothing", error="it failed"), TABLE) is None


def test_volumes_are_in_cubic_millimetres() -> None:
    volumes = dict(zip(TABLE.ids.tolist(), field_of(head("LIA"), TABLE).volumes(TABLE), strict=True))
    assert volumes[LEFT] == pytest.approx(4 * 4 * 4 * 24)
    assert volumes[RIGHT] == pytest.approx(3 * 4 * 4 * 24)
    assert volumes[CROWN] == pytest.approx(6 * 8 * 2 * 24)


def test_the_window_leaves_out_air_and_outliers() -> None:
    case = head()
    rng = np.random.default_rng(0)
    data = np.zeros(case.image.data.shape, np.float32)
    data[10:30, 10:25, 5:15] = rng.uniform(100, 200, (20, 15, 10))
    data[20, 12, 10] = 1e6
    low, high = field_of(replace(case, image=replace(case.image, data=data)), TABLE).window
    assert 95 < low < 105
    assert 200 < high < 220


def test_a_flat_scan_is_one_slice() -> None:
    grid = Grid((30, 20), np.diag([-0.5, 2, 1]))
    data = np.zeros(grid.shape, np.int32)
    data[3:6, 4:10] = NOSE
    field = field_of(CaseReport("flat", labels=Volume(data, grid, "labels")), TABLE)
    assert field.grid.shape == (30, 20, 1)
    assert field.grid.orientation == "LPI"
    assert field.volumes(TABLE).sum() == 18


def test_layers_on_other_grids_are_refused() -> None:
    case = head()
    other = head("LIA").image
    with pytest.raises(InputError, match=r"image of 'head' has shape .* but its labels has"):
        field_of(replace(case, image=Volume(np.ones((3, 3, 3)), Grid((3, 3, 3), np.eye(4)), "image")), TABLE)
    assert field_of(replace(case, image=other), TABLE) is not None


def test_unknown_labels_are_refused() -> None:
    case = head()
    data = case.labels.data.copy()
    data[0, 0, :2] = 99
    with pytest.raises(InputError, match=r"^labels of 'head' has labels .* does not know: 99 \(2 voxels\)"):
        field_of(replace(case, labels=replace(case.labels, data=data)), TABLE)
