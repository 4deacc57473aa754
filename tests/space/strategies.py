"""What hypothesis draws volumes from; shared by the tests of space and files."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from limner.space import Box, Grid, Volume

ORIENTATIONS = [
    "".join(pairs[axis][sign] for axis, sign in zip(order, signs, strict=True))
    for pairs in [("LR", "PA", "IS")]
    for order in [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    for signs in np.ndindex(2, 2, 2)
]


@st.composite
def affines(draw: st.DrawFn, shears: bool = True) -> NDArray[np.float64]:
    """Any rotation, handedness, voxel size from 0.2 to 5 mm and position, with some shear: (4, 4)."""
    turns = [draw(st.floats(-180, 180)) for _ in range(3)]
    sizes = [draw(st.floats(0.2, 5)) * draw(st.sampled_from([-1, 1])) for _ in range(3)]
    shear = np.eye(3)
    if shears:
        shear[np.triu_indices(3, 1)] = [draw(st.sampled_from([0, 1e-4, -0.02, 0.3])) for _ in range(3)]
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", turns, degrees=True).as_matrix() @ shear @ np.diag(sizes)
    affine[:3, 3] = [draw(st.floats(-300, 300)) for _ in range(3)]
    return affine


@st.composite
def grids(draw: st.DrawFn, shears: bool = True) -> Grid:
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=3, max_size=3)))
    return Grid(shape, draw(affines(shears)))


@st.composite
def images(draw: st.DrawFn) -> Volume:
    """Images whose voxels all differ."""
    grid = draw(grids().filter(lambda grid: np.prod(grid.shape) > 1))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    data = rng.permutation(np.arange(np.prod(grid.shape), dtype=np.float32)).reshape(grid.shape)
    return Volume(data / 7, grid, "image")


@st.composite
def label_maps(draw: st.DrawFn) -> Volume:
    """Label maps that need one of the types that are stored."""
    grid = draw(grids())
    low, high = draw(st.sampled_from([(0, 255), (0, 530), (-1, 3), (0, 2**31 - 1), (-(2**31), 0)]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    data = rng.integers(low, high, grid.shape, endpoint=True).astype(np.int32)
    data.flat[0] = high
    return Volume(data, grid, "labels")


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    """Boxes in and around an array of shape (6, 6, 6)."""
    start = [draw(st.integers(-3, 7)) for _ in range(3)]
    return Box(tuple(start), tuple(first + draw(st.integers(0, 6)) for first in start))
