"""TIFF stacks, `.tif` and `.tiff`: one section a page, voxel sizes in nm in the description.

ImageJ's and OME's way of stating voxel sizes is read as well.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from limner import check
from limner.files.nanometres import affine_of, attributes, narrowed
from limner.space import Array, Volume

#: What the unit of a TIFF's resolution tag means; 1 means none.
INCH, CENTIMETRE = 2, 3


def read(path: Path, dtype: type | None) -> tuple[Array, Array | None, None]:
    """Return data (*S) in `dtype` (None: as stored), affine (D+1, D+1) in mm if it has voxel sizes, and no header.

    Raises:
        InputError: if the file is damaged, or has several series of pages.
    """
    import tifffile

    try:
        with path.open("rb") as file, tifffile.TiffFile(file) as content:
            if len(content.series) != 1:
                raise check.several_series(path, len(content.series))
            data, told = content.asarray(), _told(content)
    except check.InputError:
        raise
    except Exception as error:
        # tifffile raises whatever it stumbles over.
        raise check.unreadable(path, error) from error
    check.numeric(data.dtype, path)
    return data if dtype is None else data.astype(dtype, copy=False), affine_of(told, path), None


def write(volume: Volume, path: Path) -> None:
    """Write a volume, a section a page, with its voxel sizes in the description and, in the plane, in the tags.

    Raises:
        OSError: if the disk refuses.
    """
    import tifffile

    data = narrowed(volume.data) if volume.kind == "image" else volume.data
    told = {**attributes(volume.grid), "unit": "nm"}
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
