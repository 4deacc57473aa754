"""What a method sees and makes of some images, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from limner.data.cohort import Case
from limner.data.loader import Loader
from limner.files import replacing
from limner.methods.method import Trainable
from limner.space import Array

#: Images that are shown, and images with targets put in.
SHOWN, SAMPLES = 6, 4
#: A range of grey is at least so wide.
TINY = 1e-3
#: An image (Y, X), and what is black and what is white in it.
Panel: TypeAlias = tuple[Array, tuple[float, float]]


def picture(method: Trainable, loader: Loader, *, presence: Sequence[Case], absent: Sequence[Case], out: Path) -> None:
    """Draw some images: with the target, without it, what was taken away, what was found, and what is true.

    A method that puts targets in is shown doing so to one image, several times. Nothing is drawn where there are no
    images of one size.

    Args:
        method: on its device.
        loader: opens the cases.
        presence: cases that show a target.
        absent: cases that show none.
        out: file of the picture.
    """
    cases = list(presence[:: max(1, len(presence) // SHOWN)])[:SHOWN]
    if not cases:
        return
    rows = [_row(method, loader, case=case) for case in cases]
    titles = [title for title, _ in rows[0]]
    panels = [[panel for _, panel in row] for row in rows]
    sample = getattr(method, "sample", None)
    if sample is not None and absent and getattr(method.options, "directions", "both") == "both":
        batch = loader.whole(absent[0])[0]
        image = batch.image.to(_device(method))
        rng = torch.Generator(image.device).manual_seed(0)
        with torch.no_grad():
            drawn = [sample(image, rng=rng)[0] for _ in range(SAMPLES)]
        seen = _flat(image[0])
        panels.append([(_flat(one), _range(seen)) for one in (image[0], *drawn)])
    draw(panels, titles, out=out)


def draw(rows: Sequence[Sequence[Panel]], titles: Sequence[str], *, out: Path) -> None:
    """Write rows of images as one picture, the first row titled."""
    from matplotlib.figure import Figure

    columns = max(map(len, rows))
    figure = Figure(figsize=(1.3 * columns, 1.3 * len(rows) + 0.3), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for row, places in zip(rows, axes, strict=True):
        for number, place in enumerate(places):
            place.set_axis_off()
            if number < len(row):
                image, (black, white) = row[number]
                place.imshow(image, cmap="gray", vmin=black, vmax=white)
    for title, place in zip(titles, axes[0], strict=False):
        place.set_title(title, size=8)
    with replacing(out) as temporary:
        figure.savefig(temporary, dpi=110)


@torch.no_grad()
def _row(method: Trainable, loader: Loader, *, case: Case) -> list[tuple[str, Panel]]:
    """Return the images of one case by their titles: what is made of one in its own range, and residuals in theirs."""
    batch = loader.whole(case)[0].to(_device(method))
    image = _flat(batch.image[0])
    shown = [("image", (image, _range(image)))]
    take = getattr(method, "removed", None)
    if take is not None:
        absent, added = take(batch.image)
        residual = _flat(added[0].sum(0))
        largest = max(float(np.abs(residual).max()), TINY)
        shown += [("without", (_flat(absent[0]), _range(image))), ("residual", (residual, (-largest, largest)))]
    share = 1 - method.predict(batch.image, None, mask=batch.mask)[0, 0]
    truth = batch.labels[:1].clamp_min(0).float()
    return [*shown, ("found", (_flat(share[None]), (0.0, 1.0))), ("true", (_flat(truth), (0.0, 1.0)))]


def _flat(image: Tensor) -> Array:
    """Return the first channel of an image (C, *S), in the middle of its first axis if it has three."""
    plane = image[0].cpu().float()
    return np.asarray(plane if plane.ndim == 2 else plane[len(plane) // 2])


def _range(image: Array) -> tuple[float, float]:
    """Return what is black and what is white in a picture of an image."""
    return float(image.min()), max(float(image.max()), float(image.min()) + TINY)


def _device(method: Trainable) -> torch.device:
    return next(method.parameters()).device
