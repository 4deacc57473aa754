"""Made cells in a cube, and a model that learned a little of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from limner.files import hdf5
from limner.space import Grid, Volume
from limner.training.recipe import load_recipe
from limner.training.run import train

SHAPE = (20, 32, 32)
RECIPE = """
[[data.volumes]]
image = "cube.hdf"
sections = [0, 12]
[[data.volumes]]
image = "cube.hdf"
sections = [12, 20]
split = "validation"
[method]
name = "affinity"
[method.options]
offsets = [[-1, 0, 0], [0, -1, 0], [0, 0, -1], [-3, 0, 0], [0, -4, 0], [0, 0, -4]]
shape_width = 3.0
mirrored = "flips"
network = { features = [6, 8] }
microscopy = { flips = true, exchanged = [[1, 2]] }
[[stages]]
name = "edges"
data = "volumes"
steps = 60
crop = [12, 24, 24]
learning_rate = 1e-2
evaluate_every = 30
"""


def cube() -> tuple[Volume, Volume]:
    """Cells around random points, dark where two meet, of 10 nm voxels; and their ids."""
    rng = np.random.default_rng(0)
    places = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    away = np.linalg.norm(places[..., None, :] - rng.uniform(0, SHAPE, (12, 3)), axis=-1)
    nearest = np.sort(away, -1)[..., :2]
    image = 100 + 20 * np.minimum(nearest[..., 1] - nearest[..., 0], 4) + rng.normal(0, 4, SHAPE)
    affine = np.diag([1e-5, 1e-5, 1e-5, 1])
    affine[:3, 3] = [3e-4, 2e-4, 1e-4]
    grid = Grid(SHAPE, affine)
    ids = (away.argmin(-1) + 1).astype(np.uint64) * np.uint64(2**40)
    return Volume(image.round().astype(np.float32), grid, "image"), Volume(ids, grid, "instances")


def taught(folder: Path, *, steps: int) -> Path:
    """Put a cube and a recipe into a folder, learn from them, and return the model's."""
    hdf5.write_all(dict(zip((hdf5.RAW, hdf5.LABELS), cube(), strict=True)), folder / "cube.hdf")
    (folder / "recipe.toml").write_text(RECIPE)
    overrides = [f"data.volumes.{number}.image={folder / 'cube.hdf'}" for number in (0, 1)]
    overrides += [f"stages.0.{name}={value}" for name, value in (("steps", steps), ("evaluate_every", steps // 2))]
    train(load_recipe(folder / "recipe.toml", overrides=overrides), folder / "run", progress=False)
    return folder / "run/model"
