"""The sheet of docs/anatomy.md: people who are not there, drawn from a shape model that label maps taught.

    python benchmarks/sheet.py RUN/model

One coronal slice: the prior's likeliest labels, and those of so many codes drawn from a standard normal distribution.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from limner.methods.anatomy import Anatomy
from limner.methods.storage import Model, load_model
from limner.priors.dense import DensePrior
from limner.space import Grid

#: Size of the picture's pixels, mm, and its sizes across and up, pixels.
PIXEL, SHAPE = 1.0, (160, 1, 150)
#: Middle of the slice in the prior's world, mm: through hippocampus, thalamus and putamen.
CENTRE = np.array([1.0, -20.0, 0.0])
COLUMNS = 4


def slice_grid() -> Grid:
    """Return the voxels of the slice, in the prior's world."""
    affine = np.diag([PIXEL] * 3 + [1.0])
    affine[:3, 3] = CENTRE - PIXEL * (np.array(SHAPE) - 1) / 2
    return Grid(SHAPE, affine)


@torch.no_grad()
def drawn(method: Anatomy, prior: DensePrior, *, people: int) -> Tensor:
    """Return the likeliest classes of the prior alone, and of people who are not there, (1 + people, X, Z)."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(people, method.shape.codes, method.options.shape.latent, generator=generator)
    alone = prior.log_probability().argmax(1)
    found = [method.shaped(code[None], prior).log_probability().argmax(1) for code in codes]
    return torch.cat([alone, *found])[:, :, 0]


def draw(model: Model, path: Path, *, rows: int) -> None:
    """Draw the sheet of a model into a file."""
    method: Any = model.method
    classes = drawn(method, DensePrior.of(model.prior, slice_grid()), people=COLUMNS * rows - 1)
    table = model.table
    colours = np.array([table[table.structure_id(name)].colour for name in table.structures]) / 255
    figure = Figure(figsize=(2.2 * COLUMNS, 2.2 * rows), layout="constrained")
    for number, (axes, one) in enumerate(zip(figure.subplots(rows, COLUMNS).flat, classes.numpy(), strict=True)):
        axes.imshow(colours[one].swapaxes(0, 1), origin="lower", interpolation="nearest")
        axes.set_title("the prior alone" if number == 0 else f"drawn {number}", fontsize="small")
        axes.set_axis_off()
    figure.savefig(path, dpi=80)


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "docs/anatomy.png")
    parser.add_argument("--rows", type=int, default=2)
    arguments = parser.parse_args()
    draw(load_model(arguments.model), arguments.output, rows=arguments.rows)


if __name__ == "__main__":
    main()
