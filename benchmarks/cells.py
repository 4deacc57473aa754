"""Make a volume that looks like neurons to a decoder: warped Voronoi cells, noisy affinities, membranes with gaps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.ndimage
import scipy.spatial
from numpy.typing import NDArray

from limner.instances import affinities_of, ends
from limner.space import Offsets

NEAREST = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
LONG = ((-2, 0, 0), (0, -3, 0), (0, 0, -3), (-3, 0, 0), (0, -9, 0), (0, 0, -9), (-4, 0, 0), (0, -27, 0), (0, 0, -27))


class Cells(NamedTuple):
    """Labels (Z, Y, X) from 1 on, and affinities (C, Z, Y, X) float32 of the offsets (C, 3)."""

    labels: NDArray[np.int32]
    values: NDArray[np.float32]
    offsets: Offsets


def voronoi(size: int, count: int, *, rng: np.random.Generator) -> NDArray[np.int32]:
    """Return (size, size, size) labels 1 to `count`: the nearest of as many points, by a warped measure."""
    points = rng.uniform(0, size, (count, 3)).astype(np.float32)
    coarse = rng.normal(0, size / 40, (3, *[max(3, size // 16)] * 3)).astype(np.float32)
    labels = np.empty((size,) * 3, np.int32)
    tree = scipy.spatial.cKDTree(points)
    warps = [
        scipy.ndimage.zoom(field, size / field.shape[0], order=1, grid_mode=True, mode="nearest") for field in coarse
    ]
    rows = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"), -1).astype(np.float32)
    for z in range(size):
        places = np.concatenate([np.full((size, size, 1), z, np.float32), rows], axis=2)
        places += np.stack([warp[z] for warp in warps], axis=-1)
        labels[z] = tree.query(places, workers=1)[1] + 1
    return labels


def cells(size: int, *, seed: int = 0, offsets: Offsets = NEAREST, noise: float = 0.12, gaps: float = 1e-3) -> Cells:
    """Return cells of about 26 voxels' width with their affinities.

    Membranes are blurred over a voxel or two; one edge in a thousand of them is taken for the inside of a cell. Edges
    of more than one step are as noisy, but have no gaps.
    """
    rng = np.random.default_rng(seed)
    labels = voronoi(size, max(2, round(900 * (size / 256) ** 3)), rng=rng)
    values = np.empty((len(offsets), size, size, size), np.float32)
    for channel, offset, together in zip(values, offsets, affinities_of(labels, offsets), strict=True):
        here, _ = ends(offset, labels.shape)
        channel[...] = 0
        near = np.abs(offset).sum() == 1
        soft = scipy.ndimage.gaussian_filter(together[here].astype(np.float32), 0.6 if near else 0)
        soft += rng.normal(0, noise, soft.shape).astype(np.float32)
        if near:
            gap = ~together[here] & (rng.random(soft.shape, dtype=np.float32) < gaps)
            soft[gap] = 0.95
        channel[here] = np.clip(soft, 0, 1)
    return Cells(labels, values, offsets)
