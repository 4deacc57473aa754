"""The figure of docs/training.md: a scan through SAE with a decoder, trained on that scan alone.

    python benchmarks/figure.py

The scan is the MNI152 T1 template, which comes with nilearn.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import numpy as np
import torch
from matplotlib.figure import Figure
from nilearn.datasets import load_mni152_template
from torch.nn import functional

from limner.methods.sae import SAE, TEMPERATURE, unit_range
from limner.methods.storage import load_model
from limner.networks.rows import rows_within, spread
from limner.training.materials import Materials
from limner.training.recipe import load_recipe
from limner.training.run import train

RECIPE = Path(__file__).parents[1] / "recipes/sae.toml"
CHANGES = (
    'method.options.likelihood="decoder"',
    "method.options.level=1",
    "stages.coarse.options=",
    "data.validation=0.0",
)
#: Of the axial slice, through putamen and thalamus: share of the head's height.
HEIGHT = 0.53


def panels(model: Path, materials: Materials) -> dict[str, np.ndarray]:
    """Return the slices of the figure by their titles: grey ones (X, Y), and coloured ones (X, Y, 3)."""
    stage = materials.recipe.stages[-1]
    method = cast("SAE", load_model(model).method)
    loader = materials.loader(stage, stride=method.stride)
    batch, prior = loader.whole(materials.training[0])
    torch.manual_seed(0)
    with torch.no_grad():
        posterior = method.predict(batch.image, prior, mask=batch.mask)
        scores = rows_within(posterior, batch.mask).log()
        sample = spread(functional.gumbel_softmax(scores, tau=TEMPERATURE, hard=True), batch.mask)
        reconstruction = method.decoder(sample) * batch.mask
        scan = unit_range(batch.image) * batch.mask
    table = materials.table
    colours = torch.tensor([table[table.structure_id(name)].colour for name in table.structures]) / 255
    height = round(HEIGHT * scan.shape[-1])
    shown = {
        "scan": scan[0, 0],
        "prior": _coloured(prior.log_probability()[0].exp() * batch.mask[0], colours),
        "posterior": _coloured(posterior[0] * batch.mask[0], colours),
        "a sample of it": _coloured(sample[0] * batch.mask[0], colours),
        "reconstruction": reconstruction[0, 0],
        "error": (scan - reconstruction)[0, 0].abs(),
    }
    return {title: values[:, :, height].numpy() for title, values in shown.items()}


def _coloured(shares: torch.Tensor, colours: torch.Tensor) -> torch.Tensor:
    """Return colours (X, Y, Z, 3) mixed by the probabilities (K, X, Y, Z) of the classes."""
    return torch.einsum("kxyz,kc->xyzc", shares, colours)


def main() -> None:
    """Train, and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "docs/sae.png")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        scan = Path(folder) / "mni152_t1.nii.gz"
        load_mni152_template(resolution=1).to_filename(scan)
        recipe = load_recipe(RECIPE, overrides=[f"data.scans={scan.parent}", *CHANGES])
        recipe = recipe.model_copy(update={"stages": recipe.stages[:1]})
        run = Path(folder) / "run"
        model = train(recipe, run)
        shown = panels(model, Materials.of(recipe, cache=run / "cache"))
    figure = Figure(figsize=(9, 7), layout="constrained")
    for axes, (title, values) in zip(figure.subplots(2, 3).flat, shown.items(), strict=True):
        axes.imshow(values.swapaxes(0, 1), cmap="gray", origin="lower", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(title)
        axes.set_axis_off()
    figure.savefig(arguments.output, dpi=100)


if __name__ == "__main__":
    main()
