"""DICOM series written as scanners do: a file for each slice."""

from __future__ import annotations

import locale
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import SimpleITK

from limner.space import Array, Volume

#: Of a made-up root; series and images are told apart by what follows.
ROOT = "1.2.826.0.1.3680043.2.1125"
LPS = np.array([-1.0, -1.0, 1.0])


def written(folder: Path, volume: Volume, *, series: int = 1, title: str = "t1 mprage", **tags: str) -> list[Path]:
    """Write the slices of a volume of whole numbers along its last axis, and return their files in order.

    Args:
        folder: made if need be.
        volume: (X, Y, Z).
        series: its number, which also makes its UID.
        title: its description.
        tags: further ones, as `t0018_0081="4.5"`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    affine = volume.grid.affine
    sizes = volume.grid.voxel_sizes
    directions = (affine[:3, :3] / sizes).T * LPS
    common = {
        "0008|0060": "MR",
        "0008|103e": title,
        "0018|0050": f"{sizes[2]:.10g}",
        "0020|000d": f"{ROOT}.1",
        "0020|000e": f"{ROOT}.1.{series}",
        "0020|0011": str(series),
        "0020|0037": numbers(directions[:2].ravel()),
        **{name[1:].replace("_", "|"): value for name, value in tags.items()},
    }
    paths = []
    for index in range(volume.data.shape[2]):
        # Names in an order that is not that of the slices.
        paths.append(folder / f"IM{series}{(index * 7) % 100:04d}.dcm")
        own = {
            "0008|0018": f"{ROOT}.1.{series}.{index}",
            "0020|0013": str(index + 1),
            "0020|0032": numbers(volume.grid.world([0, 0, index]) * LPS),
        }
        plane(paths[-1], volume.data[..., index], sizes=sizes[:2], tags=own | common)
    return paths


def plane(path: Path, data: Array, *, sizes: Sequence[float], tags: dict[str, str]) -> None:
    """Write one file of a plane (X, Y) with voxels of `sizes` mm."""
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(data.T.astype(np.int16)))
    image.SetSpacing([float(size) for size in sizes])
    for tag, value in tags.items():
        image.SetMetaData(tag, value)
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(str(path))
    before = locale.setlocale(locale.LC_ALL)
    writer.Execute(image)
    # GDCM leaves "C" behind, and what other programs say in UTF-8 could no longer be read.
    locale.setlocale(locale.LC_ALL, before)


def numbers(values: Iterable[float]) -> str:
    """Numbers as DICOM writes them, in at most sixteen characters each."""
    return "\\".join(f"{value:.9g}" for value in values)
