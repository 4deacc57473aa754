"""Draw what augmentation does to a section, for the docs: made cells with dark membranes, no real tissue."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from matplotlib.figure import Figure
from scipy import ndimage, spatial
from torch import Tensor

from limner.data.defects import Defects, damaged
from limner.data.electron import Microscopy, varied

SIZE, SECTIONS, MIDDLE = 120, 5, 2
PANELS = ("blurred", "unfocused", "darkened", "noisy", "missing", "misaligned")
#: A draw that shows each defect in the middle section.
SEED = 3


def tissue() -> Tensor:
    """Return an image (1, 1, Z, Y, X) of made cells: dark membranes, grey insides, noise."""
    rng = np.random.default_rng(0)
    places = np.stack(np.meshgrid(*[np.arange(size) for size in (SECTIONS, SIZE, SIZE)], indexing="ij"), -1)
    centres = rng.uniform(-10, SIZE + 10, (90, 3)) * [0.1, 1, 1]
    away, nearest = spatial.cKDTree(centres).query(places, k=2)
    membrane = np.exp(-(((away[..., 1] - away[..., 0]) / 2.5) ** 2))
    grey = rng.normal(0, 0.25, len(centres))[nearest[..., 0]]
    texture = ndimage.gaussian_filter(rng.normal(size=membrane.shape), (0, 1, 1))
    image = 0.5 + grey - 2.5 * membrane + texture
    return torch.tensor((image - image.mean()) / image.std(), dtype=torch.float32)[None, None]


def panels() -> dict[str, Tensor]:
    """Return a section (Y, X) as it is, bent, of another tone, and with each defect."""
    image = tissue()
    labels = torch.zeros(image.shape[:1] + image.shape[2:], dtype=torch.int64)
    found = {"as it is": image}
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        found["bent"], _ = varied(image, labels, by=Microscopy(elastic=4.0))
        found["brightness, contrast"], _ = varied(image, labels, by=Microscopy(brightness=0.8, contrast=0.4))
        for name in PANELS:
            found[name], _ = damaged(image, labels, by=Defects(**{name: 1.0}))
    return {name: one[0, 0, MIDDLE] for name, one in found.items()}


def main(out: Annotated[Path, typer.Option(help="Picture to write.")] = Path("docs/defects.png")) -> None:
    """Draw the picture."""
    figure = Figure(figsize=(7.2, 7.6), layout="constrained")
    for axis, (name, section) in zip(figure.subplots(3, 3).ravel(), panels().items(), strict=True):
        axis.imshow(section.numpy(), cmap="gray", vmin=-3, vmax=2)
        axis.set_title(name, fontsize=9)
        axis.axis("off")
    figure.savefig(out, dpi=70)


if __name__ == "__main__":
    typer.run(main)
