"""TIFF, `.tif` and `.tiff`: stacks, a section a page, with voxel sizes in nm in the description; and pictures.

ImageJ's and OME's way of stating voxel sizes is read as well. A stack is read as it is stored, z, y, x. What limner
wrote of a volume whose axes run x first comes back so, and a single page that does not say where it lies is read as
pictures are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from limner import check
from limner.files.nanometres import affine_of, attributes
from limner.files.pictures import grey
from limner.space import Array, Grid, Volume
from limner.space.grid import oriented_axes

#: What a TIFF calls the unit of its resolution tags.
CENTIMETRE = 3
#: What the description says of a volume whose axes the file has in the reverse order.
TURNED = "turned"


def read(path: Path, dtype: type | None) -> tuple[Array, Array | None, None]:
    """Return data (*S) in `dtype` (None: as stored), affine (D+1, D+1) in mm if it has voxel sizes, and no header.

    Raises:
        InputError: if the file is damaged, shows colours, or has several series of pages.
    """
    import tifffile

    try:
        with path.open("rb") as file, tifffile.TiffFile(file) as content:
            if len(content.series) != 1:
                raise check.several_stacks(path, len(content.series))
            data, told = _pages(content.series[0], path), _told(content)
    except check.InputError:
        raise
    except Exception as error:
        # tifffile raises whatever it stumbles over.
        raise check.unreadable(path, error) from error
    check.numeric(data.dtype, path)
    affine = affine_of(told, path)
    if told.get(TURNED) or (affine is None and data.ndim == 2):
        data, affine = data.T, None if affine is None else _turned(affine)
    return data if dtype is None else data.astype(dtype, copy=False), affine, None


def _pages(series: Any, path: Path) -> Array:
    """Return the voxels of a series of pages as they are stored, one channel of what is grey in three colours.

    Raises:
        InputError: if the file promises more than it can hold, or shows colours.
    """
    check.enough_bytes(path, series.nbytes, packed=True)
    data: Array = series.asarray()
    return grey(np.moveaxis(data, series.axes.index("S"), -1), path) if "S" in series.axes else data


def _turned(affine: Array) -> Array:
    """Return the affine (D+1, D+1) of axes in the reverse order."""
    return np.hstack([affine[:, -2::-1], affine[:, -1:]])


def write(volume: Volume, path: Path) -> None:
    """Write a volume, a section a page, with its voxel sizes in the description and, in the plane, in the tags.

    If its axes run x first, they are turned round in the file, so that other programs see them as rows and columns.

    Raises:
        OSError: if the disk refuses.
    """
    import tifffile

    data, grid = volume.data, volume.grid
    axes, _ = oriented_axes(grid.affine)
    turned = axes[0] < axes[-1]
    if turned:
        data, grid = data.T, Grid(grid.shape[::-1], _turned(grid.affine))
    told = {**attributes(grid), "unit": "nm"} | ({TURNED: True} if turned else {})
    *_, y, x = told["resolution"]
    tifffile.imwrite(
        path,
        data,
        metadata={"axes": "ZYX"[-data.ndim :], **told},
        photometric="minisblack",
        compression="zlib",
        resolution=(1e7 / x, 1e7 / y),
        resolutionunit=CENTIMETRE,
    )


def _told(content: Any) -> dict[str, Any]:
    """Return what a file says of its voxels, in our words; an empty dictionary if nothing."""
    if content.is_ome:
        return _ome(content)
    if content.is_imagej:
        return _imagej(content)
    try:
        told = json.loads(content.pages.first.description)
    except ValueError:
        told = {}
    return told if isinstance(told, dict) else {}


def _imagej(content: Any) -> dict[str, Any]:
    """Return voxel sizes as ImageJ states them: pixels per unit in tags, the sections' distance in its metadata."""
    told = content.imagej_metadata or {}
    tags = content.pages.first.tags
    if "XResolution" not in tags or told.get("unit", "pixel") in ("pixel", "pixels"):
        return {}
    y, x = (tags[name].value[1] / tags[name].value[0] for name in ("YResolution", "XResolution"))
    sizes = [told.get("spacing", 1.0), y, x]
    unit = str(told["unit"]).replace("\\u00B5", "u")
    return {"resolution": sizes[-max(2, content.series[0].ndim) :], "unit": unit}


def _ome(content: Any) -> dict[str, Any]:
    """Return voxel sizes as OME-XML states them."""
    import tifffile

    pixels: Any = tifffile.xml2dict(content.ome_metadata)["OME"]["Image"]["Pixels"]
    axes = "ZYX"[-max(2, content.series[0].ndim) :]
    if any(f"PhysicalSize{axis}" not in pixels for axis in axes):
        return {}
    sizes = [float(pixels[f"PhysicalSize{axis}"]) for axis in axes]
    return {"resolution": sizes, "unit": [pixels.get(f"PhysicalSize{axis}Unit", "um") for axis in axes]}
