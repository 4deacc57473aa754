"""Heads made of ellipsoids: their labels are known at every point of the world, so that any grid can sample them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from numpy.typing import NDArray

from limner.methods import placement
from limner.priors.atlas import Atlas
from limner.priors.averaging import build_atlas
from limner.priors.deformation import Smooth, Warps
from limner.space import Array, Grid, LabelTable, Volume

#: Id, centre and half axes in mm; painted one over the other, and each on the side of its centre. Nothing is symmetric
#: but the two sides.
HEAD = [
    (24, (0, 0, 3), (46, 44, 37)),
    (42, (14, 0, 4), (29, 40, 32)),
    (3, (-14, 0, 4), (29, 40, 32)),
    (41, (14, 0, 4), (23, 34, 26)),
    (2, (-14, 0, 4), (23, 34, 26)),
    (16, (0, -8, -28), (9, 10, 16)),
    (50, (11, 16, 8), (6, 11, 9)),
    (11, (-11, 16, 8), (6, 11, 9)),
    (51, (21, 4, 0), (6, 13, 10)),
    (12, (-21, 4, 0), (6, 13, 10)),
    (49, (9, -13, 4), (7, 11, 9)),
    (10, (-9, -13, 4), (7, 11, 9)),
    (43, (5, 0, 18), (4, 18, 6)),
    (4, (-5, 0, 18), (4, 18, 6)),
]
#: Scalp, skull, and what a neck is to a head.
AROUND = [(258, (0, 0, 3), (58, 57, 50)), (258, (0, -8, -50), (25, 28, 30)), (165, (0, 0, 3), (51, 50, 43))]
IDS = sorted(label for label, _, _ in HEAD)
#: Mean intensity of each id, as in a T1 image; the fluid, as in life, looks like what lies around the head.
T1 = {
    0: 12,
    24: 25,
    4: 25,
    43: 25,
    3: 70,
    42: 70,
    11: 70,
    50: 70,
    12: 78,
    51: 78,
    10: 86,
    49: 86,
    16: 96,
    2: 110,
    41: 110,
    165: 18,
    258: 95,
}


def table(ids: list[int] | None = None) -> LabelTable:
    """FreeSurfer's labels of the head."""
    return LabelTable.freesurfer().subset(IDS if ids is None else ids)


def grid(spacing: float = 2.0, *, half: tuple[float, float, float] = (52, 50, 50)) -> Grid:
    """A grid in RAS order, `half` mm to each side of the origin."""
    shape = tuple(int(2 * reach / spacing) + 1 for reach in half)
    affine = np.diag([spacing] * 3 + [1.0])
    affine[:3, 3] = [-spacing * (size - 1) / 2 for size in shape]
    return Grid(shape, affine)


@contextmanager
def hurried(*, inside: int) -> Iterator[None]:
    """Place scans by fewer points and coarser maps than in earnest: quicker, and right to a millimetre or two."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in (("SPACING", 4.0), ("INSIDE", inside), ("OUTSIDE", 4000), ("AFFINE_EVERY", 1)):
            patched.setattr(placement, name, value)
        yield


def labels(on: Grid, transform: Array | None = None, *, around: bool = False) -> Volume:
    """The head on a grid, after an affine map (4, 4) of its world, with what is around the brain if wanted."""
    inverse = np.linalg.inv(np.eye(4) if transform is None else transform)
    points = on.world(np.moveaxis(np.indices(on.shape), 0, -1)) @ inverse[:3, :3].T + inverse[:3, 3]
    data = np.zeros(on.shape, np.int32)
    for label, centre, axes in AROUND * around + HEAD:
        inside = (((points - np.array(centre)) / np.array(axes)) ** 2).sum(-1) <= 1
        data[inside & (points[..., 0] * centre[0] >= 0)] = label
    return Volume(data, on, "labels")


def bent(spacing: float, *, seed: int) -> Volume:
    """The head after a smooth warp by some millimetres, on a grid of its own."""
    on, source = grid(spacing, half=(56, 56, 56)), labels(grid(1.5, half=(75, 75, 75)))
    warps = Warps.over(on, (Smooth(14.0, 2.5),))
    warp = warps.warp(np.random.default_rng(seed).normal(size=warps.size))
    points = warp.moved(on.world(np.moveaxis(np.indices(on.shape), 0, -1).reshape(-1, 3)))
    nearest = np.rint(source.grid.indices(points)).astype(int).T
    return Volume(source.data[tuple(nearest)].reshape(on.shape), on, "labels")


def image(of: Volume, *, noise: float = 4.0, seed: int = 0) -> NDArray[np.float32]:
    """A T1 image of a label map, with Gaussian noise of the given sd."""
    means = np.zeros(max(T1) + 1)
    means[list(T1)] = list(T1.values())
    return np.float32(means[of.data] + np.random.default_rng(seed).normal(0, noise, of.data.shape))


def turned(degrees: tuple[float, float, float], shift: tuple[float, float, float], *, scale: float = 1.0) -> Array:
    """An affine map (4, 4): rotations about the three axes, one scale, a shift in mm."""
    from scipy.spatial.transform import Rotation

    transform = np.eye(4)
    transform[:3, :3] = scale * Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    transform[:3, 3] = shift
    return transform


def atlas(on: Grid, *, blur: float = 3.0, transform: Array | None = None, tissues: LabelTable | None = None) -> Atlas:
    """The prior made of the head alone, blurred by `blur` mm, which does not bend."""
    head = {"head": lambda: labels(on, transform)}
    return build_atlas(head, tissues or table(), spacing=float(on.voxel_sizes[0]), blur=blur, bends=False)


def dice(found: Array, expected: Array) -> float:
    """Overlap of two masks."""
    return float(2 * (found & expected).sum() / (found.sum() + expected.sum()))


def farthest(first: Array, second: Array, on: Grid) -> float:
    """Largest distance in mm between where two affine maps (4, 4) take the corners of a grid."""
    return float(np.linalg.norm(on.moved(first).corners() - on.moved(second).corners(), axis=-1).max())
