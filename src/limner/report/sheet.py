"""People who are not there, side by side: what a shape model takes anatomies to look like."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from limner.report.plots import svg
from limner.space import Grid

if TYPE_CHECKING:
    from limner.priors.shape import ShapeOptions

#: Pictures in a row, and rows; the first picture is the prior alone.
COLUMNS, ROWS = 4, 2
#: Size of their pixels, mm.
PIXEL = 1.0


def sheet(path: Path) -> str:
    """Return an SVG document of anatomies that a model draws, a coronal slice each; empty if it draws none.

    Args:
        path: folder of the model.

    Raises:
        InputError: for a damaged model.
    """
    from limner.methods.storage import load_model
    from limner.priors.dense import DensePrior

    model = load_model(path)
    method: Any = model.method
    if not hasattr(method, "imagined") or model.prior is None or model.task.dimensions != 3:
        return ""
    prior = DensePrior.of(model.prior, slice_grid(method.options.shape))
    pictures = [prior.log_probability().argmax(1), *method.imagined(prior, COLUMNS * ROWS - 1)]
    table = model.table
    colours = np.array([table[table.structure_id(name)].colour for name in table.structures]) / 255
    figure = Figure(figsize=(1.9 * COLUMNS, 2.2 * ROWS), layout="constrained")
    for number, (axis, classes) in enumerate(zip(figure.subplots(ROWS, COLUMNS).flat, pictures, strict=True)):
        axis.imshow(colours[classes[0, :, 0].numpy().T], origin="lower", interpolation="nearest")
        axis.set_title(f"drawn {number}" if number else "the prior alone", fontsize=8)
        axis.set_axis_off()
    return svg(figure)


def slice_grid(shape: ShapeOptions) -> Grid:
    """Return the voxels of a coronal slice through the middle of a shape model's lattice, in the prior's world."""
    extent = (np.array(shape.shape) * shape.spacing / PIXEL).round().astype(int)
    sizes = (int(extent[0]), 1, int(extent[2]))
    affine = np.diag([PIXEL, PIXEL, PIXEL, 1.0])
    affine[:3, 3] = np.array(shape.centre) - PIXEL * (np.array(sizes) - 1) / 2
    return Grid(sizes, affine)
