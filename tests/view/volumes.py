"""Small volumes to look at: a raw stack, its instances, affinities and truth, of 40 x 4 x 8 nm; and a head askew."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from limner.files import save_volume
from limner.files.affinities import save_affinities
from limner.files.nanometres import placed
from limner.instances import affinities_of, nearest
from limner.space import Affinities, Array, Grid, Volume

SHAPE, SIZES = (6, 20, 24), (40.0, 4.0, 8.0)
#: Beyond what floating point tells apart.
LARGE = 2**63 + 11
OFFSETS = (*nearest(3), (0, -3, 0))


def grid(shape: tuple[int, ...] = SHAPE, start: tuple[int, ...] = (2, 5, 7)) -> Grid:
    """Voxels that begin at `start`, in voxels from the world's origin."""
    return Grid(shape, placed(SIZES, np.multiply(start, SIZES)))


def truth() -> Array:
    """Three objects in a row along x, and nothing between the last two."""
    data = np.zeros(SHAPE, np.uint64)
    data[..., :8], data[..., 8:16], data[..., 18:] = 5, 6, LARGE
    return data


def segments() -> Array:
    """The first object split in two unequal parts, the second merged with the larger, the third half missed."""
    data = np.zeros(SHAPE, np.uint64)
    data[..., :16], data[4:, :, :8], data[:, :10, 18:] = 1, 2, LARGE + 1
    return data


def stack(folder: Path, ending: str = ".zarr") -> None:
    """Put into a folder `raw`, `found`, `near` (affinities of the truth) and `truth`, which begins and ends inside."""
    grey = np.random.default_rng(0).integers(0, 200, SHAPE).astype(np.float32)
    save_volume(Volume(grey, grid(), "image"), folder / f"raw{ending}")
    save_volume(Volume(segments(), grid(), "instances"), folder / f"found{ending}")
    inner = Volume(truth()[1:], grid((5, 20, 24), (3, 5, 7)), "instances")
    save_volume(inner, folder / f"truth{ending}")
    values = np.uint8(255 * affinities_of(truth(), OFFSETS))
    save_affinities(Affinities(values, OFFSETS, grid()), folder / f"near{ending}")


def head(folder: Path) -> Grid:
    """Put into a folder a scan that lies aslant, labels and a reference with one structure less; return its grid."""
    turn, shape = np.deg2rad(20), (20, 24, 16)
    axes = np.diag([-2.0, 2.0, 3.0, 1.0])
    axes[:2, :2] = [[-2 * np.cos(turn), 2 * np.sin(turn)], [2 * np.sin(turn), 2 * np.cos(turn)]]
    axes[:3, 3] = 30, -20, 10
    askew = Grid(shape, axes)
    away = np.linalg.norm((np.moveaxis(np.indices(shape), 0, -1) - np.array(shape) / 2) * [2, 2, 3], axis=-1)
    labels = np.select([away < 8, away < 14, away < 20], [3, 2, 1]).astype(np.int32)
    grey = np.random.default_rng(0).normal(np.array([0, 60, 110, 30])[labels], 4) * (labels > 0)
    save_volume(Volume(grey.astype(np.float32), askew, "image"), folder / "T1.nii.gz")
    save_volume(Volume(labels, askew, "labels"), folder / "T1_labels.nii.gz")
    save_volume(Volume(np.where(labels == 3, 2, labels), askew, "labels"), folder / "aseg.nii.gz")
    rows = ("id\tname\tred\tgreen\tblue", "1\trind\t200\t0\t0", "2\tpulp\t0\t200\t0", "9\tnone\t1\t1\t1")
    (folder / "table.tsv").write_text("\n".join(rows))
    return askew
