"""Slices as pictures: the scan as an image, its labels as shapes over it.

The shapes are vectors (SVG), not pixels: outlines stay crisp however far one zooms, carry the names of their
structures, and can be shown or hidden by the page's style; all outlines of a slice weigh about as much as its image.

The convention is radiological: the patient's left is on the right.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from html import escape
from typing import Any, Literal, TypeAlias

import numpy as np
from contourpy import LineType, contour_generator
from matplotlib.image import imsave
from numpy.typing import NDArray
from scipy import ndimage

from limner.report.sides import paired
from limner.report.slices import Slice
from limner.space import Array, LabelTable

Layer: TypeAlias = Literal["labels", "reference", "uncertainty", "errors"]

EDGES = (("R", "L"), ("A", "P"), ("S", "I"))
"""Where each axis of a field begins and ends."""

QUALITY = {"gray": 80, "magma": 60}
"""Of images in each colour map, 0 to 100."""
RIM, LETTER = 0.05, 0.06
"""Shares of a picture's width: the rim that keeps letters clear of the slice, and their size."""
UNCERTAINTY_COLOURS = "magma"
UNCERTAINTY_LIMIT = 1.0
"""nats shown in the brightest colour; beyond it they are not told apart."""


def picture(cut: Slice, layer: Layer, *, table: LabelTable, key: str) -> str:
    """Return the SVG element that shows a slice: the scan under labels or a reference, the uncertainty, or the errors.

    Args:
        cut: the slice.
        layer: what to show.
        table: names the labels.
        key: unique in the page for this slice; "reference" shows the image again that "labels" brings.
    """
    left, top, width, height = frame(cut)
    rows = getattr(cut.field, layer) if layer in ("labels", "reference") else None
    shapes = "" if rows is None else _shapes(cut, rows, table=table)
    return (
        f'<svg viewBox="{left:g} {top:g} {width:g} {height:g}" role="img" '
        f'aria-label="{cut.plane.name}, {cut.title}, {layer}">{_ground(cut, layer, key=key)}{shapes}{_marks(cut)}</svg>'
    )


def frame(cut: Slice) -> tuple[float, float, float, float]:
    """Return left, top, width and height of a picture in mm from the slice's corner: the slice and a rim around it."""
    width, height = cut.size
    rim = RIM * width
    return -rim, -rim, width + 2 * rim, height + 2 * rim


def _ground(cut: Slice, layer: Layer, *, key: str) -> str:
    """Return the image that a picture stands on; empty where there is none."""
    field = cut.field
    heat = {"uncertainty": field.uncertainty, "errors": field.errors}.get(layer)
    if heat is not None:
        return _image(cut, image_address(cut.pixels(heat), colours=UNCERTAINTY_COLOURS, window=(0, UNCERTAINTY_LIMIT)))
    if field.image is None:
        return ""
    if layer == "reference":
        return f'<use href="#{key}"/>'
    grey = image_address(cut.pixels(field.image), colours="gray", window=field.window)
    return _image(cut, grey, attributes=f' id="{key}"')


def _image(cut: Slice, address: str, *, attributes: str = "") -> str:
    """Return the SVG element of an image that fills the picture."""
    width, height = (f"{size:g}" for size in cut.size)
    return f'<image{attributes} width="{width}" height="{height}" preserveAspectRatio="none" href="{address}"/>'


def image_address(values: Array, *, colours: str, window: tuple[float, float]) -> str:
    """Return an image as an address that contains it.

    Args:
        values: (rows down, columns to the right).
        colours: name of matplotlib's colour map, one of those in `QUALITY`.
        window: values shown in its first and its last colour.
    """
    content = io.BytesIO()
    low, high = window
    imsave(content, values, cmap=colours, vmin=low, vmax=high, format="webp", pil_kwargs={"quality": QUALITY[colours]})
    return "data:image/webp;base64," + base64.b64encode(content.getvalue()).decode("ascii")


def _shapes(cut: Slice, layer: Array, *, table: LabelTable) -> str:
    """Return the SVG shapes of a layer of rows of the table, in half pixels, those of large structures below."""
    across, down = cut.pixel
    volumes = cut.field.volumes(table)
    sizes = np.zeros(len(table))
    for pair in paired(table):
        sizes[pair.rows] = volumes[pair.rows].sum()
    shapes = (
        f'<path class="c{label.id}" d="{path}"><title>{escape(label.name)}</title></path>'
        for row, path in outlined(cut.pixels(layer), sizes)
        for label in [table.labels[row]]
    )
    return f'<g class="shapes" transform="scale({across / 2:g} {down / 2:g})">{"".join(shapes)}</g>'


def outlined(rows: NDArray[np.integer[Any]], sizes: NDArray[np.float64]) -> Iterator[tuple[int, str]]:
    """Yield each row of the table in a slice but 0, and the outline of its pixels, the largest row first.

    Args:
        rows: (rows down, columns to the right) of the slice, rows of the table.
        sizes: (L,) of each row: what is drawn later hides the outline that it shares with what was drawn before, and
            is to do so on both sides and in all slices.

    Returns:
        Pairs of the row and an SVG path in half pixels from the top left corner of the slice; it runs halfway
        between pixels inside and outside, cutting their corners, so that neighbours share their outline.
    """
    boxes = ndimage.find_objects(rows)
    found = [row for row, box in enumerate(boxes, start=1) if box is not None]
    for row in sorted(found, key=lambda row: -sizes[row]):
        down, across = boxes[row - 1]
        yield row, _path(rows[down, across] == row, corner=(2 * across.start, 2 * down.start))


def _path(mask: NDArray[np.bool_], *, corner: tuple[int, int]) -> str:
    """Return the SVG path around the pixels of `mask`, whose top left corner lies at `corner` (x, y) in half pixels."""
    # A margin closes the outlines; the first pixel's middle, now at 1, lies half a pixel from the corner.
    generator = contour_generator(z=np.pad(mask, 1).astype(np.float32), line_type=LineType.Separate)
    lines: list[Any] = list(generator.lines(0.5))
    return "".join(_polygon(np.rint(2 * line).astype(int) - 1 + corner) for line in lines)


def _polygon(points: NDArray[np.integer[Any]]) -> str:
    """Return the SVG path through the corners of a closed line (N, 2), whose last point is its first."""
    points = points[:-1]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    bends = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    points = points[bends]
    steps = (
        f"l{right} {down}" if right and down else f"h{right}" if right else f"v{down}"
        for right, down in np.diff(points, axis=0).tolist()
    )
    return f"M{points[0, 0]} {points[0, 1]}{''.join(steps)}z".replace(" -", "-")


def _marks(cut: Slice) -> str:
    """Return the letters at the edges, and the position in the corner."""
    left, top, width, height = frame(cut)
    size = LETTER * width
    before, after = EDGES[cut.plane.across]
    above, below = EDGES[cut.plane.down]
    centre, middle = left + width / 2, top + height / 2
    places = [
        (before, left + 0.7 * size, middle),
        (after, left + width - 0.7 * size, middle),
        (above, centre, top + 0.8 * size),
        (below, centre, top + height - 0.8 * size),
    ]
    letters = "".join(f'<text x="{x:.1f}" y="{y:.1f}" dy=".35em">{letter}</text>' for letter, x, y in places)
    corner = f'x="{left + 0.4 * size:.1f}" y="{top + height - 0.5 * size:.1f}"'
    return f'<g class="marks" font-size="{size:.1f}">{letters}<text class="position" {corner}>{cut.title}</text></g>'
