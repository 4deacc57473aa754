from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image

from limner.report.field import Field, field_of
from limner.report.figures import image_address, outlined, picture
from limner.report.slices import PLANES, Plane, Slice
from limner.space import Label, LabelTable
from report.phantoms import CROWN, LEFT, NOSE, RIGHT, TABLE, head, with_reference
from space.strategies import ORIENTATIONS

AXIAL, CORONAL, SAGITTAL = PLANES


def polygons(path: str) -> list[NDArray[np.float64]]:
    """The corners of each closed line of an SVG path, (N, 2), by following its commands one by one."""
    lines = []
    for line in re.findall(r"M[^M]*z", path):
        points = []
        for command, numbers in re.findall(r"([Mlhv])([-\d ]+)", line):
            values = [int(number) for number in re.findall(r"-?\d+", numbers)]
            step = {"h": [*values, 0], "v": [0, *values]}.get(command, values)
            points.append(step if command == "M" else [points[-1][0] + step[0], points[-1][1] + step[1]])
        lines.append(np.array(points, dtype=float))
    return lines


def covers(path: str, x: float, y: float) -> bool:
    """Whether a point lies inside: a ray to the right crosses the outline an odd number of times."""
    crossings = 0
    for line in polygons(path):
        for (x0, y0), (x1, y1) in pairwise([*line, line[0]]):
            crossings += (y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0)
    return crossings % 2 == 1


@given(arrays.arrays(np.int32, arrays.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.integers(0, 3)))
def test_outlines_hold_the_middles_of_their_pixels_and_no_others(rows: NDArray[np.int32]) -> None:
    paths = dict(outlined(rows, np.zeros(4)))
    assert set(paths) == set(np.unique(rows).tolist()) - {0}
    for row, path in paths.items():
        for y, x in np.ndindex(rows.shape):
            assert covers(path, 2 * x + 1, 2 * y + 1) == (rows[y, x] == row)


def test_outlines_cut_corners_and_leave_out_points_on_straight_parts() -> None:
    rows = np.zeros((5, 6), np.int32)
    rows[1:3, 2:5] = 7
    ((row, path),) = outlined(rows, np.zeros(8))
    assert row == 7
    (corners,) = polygons(path)
    # In half pixels: the box from (4, 2) to (10, 6), its corners cut at the middles of pixels.
    expected = {(5, 2), (9, 2), (10, 3), (10, 5), (9, 6), (5, 6), (4, 5), (4, 3)}
    assert {tuple(corner) for corner in corners.tolist()} == expected
    assert len(corners) == 8


def test_neighbours_share_their_outline() -> None:
    rows = np.ones((4, 8), np.int32)
    rows[:, 5:] = 2
    places = {row: [x for line in polygons(path) for x, _ in line] for row, path in outlined(rows, np.zeros(3))}
    lefts, rights = ({row: end(x) for row, x in places.items()} for end in (min, max))
    assert rights[1] == lefts[2] == 10
    assert (lefts[1], rights[2]) == (0, 16)


def test_small_structures_are_drawn_over_large_ones() -> None:
    rows = np.ones((6, 6), np.int32)
    rows[0, :3], rows[1, 1] = 3, 2
    assert [row for row, _ in outlined(rows, np.array([0, 40, 5, 9]))] == [1, 3, 2]


def test_both_sides_are_drawn_at_one_height() -> None:
    # The crown is larger than either ear, and smaller than both.
    names = [title.text for title in drawing(CORONAL, LEFT).iter("title")]
    assert names == ["Left-Ear", "Right-Ear", "Crown"]


def cut(plane: Plane, label: int, *, field: Field) -> Slice:
    """The slice through the middle of a label."""
    return Slice(field, plane, int(np.argwhere(TABLE.ids[field.labels] == label).mean(axis=0)[plane.through]))


def drawing(plane: Plane, label: int, *, orientation: str = "RAS") -> ET.Element:
    field = field_of(head(orientation), TABLE)
    return ET.fromstring(picture(cut(plane, label, field=field), "labels", table=TABLE, key="k"))


def places(svg: ET.Element) -> dict[str, tuple[float, float]]:
    """The middle of each shape by its name and of each letter, in mm from the slice's top left corner."""
    (shapes,) = svg.findall("g[@class='shapes']")
    scale = np.array([float(number) for number in re.findall(r"[\d.]+", shapes.attrib["transform"])])
    middles = {
        path.findtext("title"): tuple(np.concatenate(polygons(path.attrib["d"])).mean(axis=0) * scale)
        for path in shapes.findall("path")
    }
    marks = {mark.text: (float(mark.attrib["x"]), float(mark.attrib["y"])) for mark in svg.iter("text")}
    return middles | marks


@pytest.mark.parametrize("orientation", ["RAS", "LIA", "PSR", "ILP"])
def test_the_patients_left_is_on_the_right_of_the_picture(orientation: str) -> None:
    for plane in (AXIAL, CORONAL):
        at = places(drawing(plane, LEFT, orientation=orientation))
        assert at["Left-Ear"][0] > at["Right-Ear"][0]
        assert at["L"][0] > at["Left-Ear"][0]
        assert at["R"][0] < at["Right-Ear"][0]


def test_the_front_is_up_in_axial_slices_and_on_the_left_in_sagittal_ones() -> None:
    axial, sagittal = places(drawing(AXIAL, NOSE)), places(drawing(SAGITTAL, NOSE))
    assert axial["A"][1] < axial["Nose"][1] < axial["Left-Ear"][1] < axial["P"][1]
    assert sagittal["A"][0] < sagittal["Nose"][0] < sagittal["Crown"][0] < sagittal["P"][0]
    assert sagittal["S"][1] < sagittal["Crown"][1] < sagittal["Nose"][1] < sagittal["I"][1]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_pictures_are_the_same_whatever_the_stored_order(orientation: str) -> None:
    field, other = field_of(head(), TABLE), field_of(head(orientation), TABLE)
    for plane in PLANES:
        one = picture(cut(plane, NOSE, field=field), "labels", table=TABLE, key="k")
        assert picture(cut(plane, NOSE, field=other), "labels", table=TABLE, key="k") == one


def test_shapes_lie_where_the_scan_is_bright() -> None:
    svg = drawing(AXIAL, LEFT)
    (image,) = svg.findall("image")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(image.attrib["href"].partition(",")[2]))).convert("L"))
    scale = np.array(pixels.shape[::-1]) / [float(image.attrib["width"]), float(image.attrib["height"])]
    at = {name: tuple((np.array(place) * scale).astype(int)) for name, place in places(svg).items()}
    left, right = pixels[at["Left-Ear"][::-1]], pixels[at["Right-Ear"][::-1]]
    assert 0 < pixels[pixels.shape[0] // 2, pixels.shape[1] // 2] < left < right  # as bright as the phantom's boxes
    assert pixels[0, 0] == 0


@pytest.mark.parametrize(("plane", "size"), [(AXIAL, (80, 75)), (CORONAL, (80, 68)), (SAGITTAL, (75, 68))])
def test_pictures_have_the_shape_of_what_they_show(plane: Plane, size: tuple[float, float]) -> None:
    svg = drawing(plane, NOSE)
    left, top, width, height = map(float, svg.attrib["viewBox"].split())
    rim = 0.05 * size[0]
    assert (left, top, width, height) == pytest.approx((-rim, -rim, size[0] + 2 * rim, size[1] + 2 * rim))
    (image,) = svg.findall("image")
    assert (float(image.attrib["width"]), float(image.attrib["height"])) == size
    assert image.attrib["preserveAspectRatio"] == "none"


def test_each_layer_shows_its_own() -> None:
    field = field_of(with_reference(head()), TABLE)
    labels, reference, uncertainty = (
        ET.fromstring(picture(cut(AXIAL, LEFT, field=field), layer, table=TABLE, key="k"))
        for layer in ("labels", "reference", "uncertainty")
    )
    assert labels.find("image").attrib["id"] == "k"
    assert reference.find("use").attrib["href"] == "#k"
    # The reference lies a voxel of 2 mm further to the patient's right, the picture's left.
    assert places(labels)["Left-Ear"][0] - places(reference)["Left-Ear"][0] == pytest.approx(2)
    assert uncertainty.find("g[@class='shapes']") is None
    assert re.fullmatch(r"axial, z \d+ mm, uncertainty", uncertainty.attrib["aria-label"])


def test_errors_are_where_labels_and_reference_differ_in_structure() -> None:
    field = field_of(with_reference(head()), TABLE)
    np.testing.assert_array_equal(field.errors > 0, field.labels != field.reference)
    shown = ET.fromstring(picture(cut(AXIAL, LEFT, field=field), "errors", table=TABLE, key="k"))
    assert shown.find("g[@class='shapes']") is None
    assert len(shown.findall("image")) == 1
    assert field_of(head(), TABLE).errors is None


def test_labels_are_shown_without_a_scan() -> None:
    field = field_of(replace(head(), image=None), TABLE)
    svg = ET.fromstring(picture(cut(AXIAL, LEFT, field=field), "labels", table=TABLE, key="k"))
    assert svg.find("image") is None
    assert "Left-Ear" in places(svg)


def test_names_are_text() -> None:
    table = LabelTable((Label(LEFT, "<b>&ear", (1, 2, 3), "ear", "skin"), *TABLE.subset([RIGHT, NOSE, CROWN]).labels))
    field = field_of(head(), table)
    svg = ET.fromstring(picture(Slice(field, AXIAL, 8), "labels", table=table, key="k"))
    assert "<b>&ear" in {title.text for title in svg.iter("title")}


def test_images_show_their_window() -> None:
    values = np.array([[0.0, 1.0, 2.0, 3.0]]).repeat(4, axis=0).repeat(4, axis=1).repeat(4, axis=0)
    address = image_address(values, colours="gray", window=(1, 2))
    grey = np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("L"))
    assert grey.shape == (16, 16)
    np.testing.assert_allclose(grey[8, [1, 5, 10, 14]], [0, 0, 255, 255], atol=6)
