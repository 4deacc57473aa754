"""Pictures: PNG and JPEG, which do not say where they lie."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np

from limner import check
from limner.files import itk
from limner.space import Array, Volume

#: Values of a voxel: grey and opacity; red, green and blue, whatever follows.
WITH_OPACITY, RGB = 2, 3
PNG, JPEG = "PNGImageIO", "JPEGImageIO"
END, TAIL = b"\xff\xd9", 64


def read(path: Path, dtype: type | None) -> tuple[Array, None, itk.Header]:
    """Return data (X, Y) in `dtype` (None: as stored), no affine, and a header that is not placed.

    Raises:
        InputError: if the file is damaged, or shows colours.
    """
    kind = PNG if path.suffix.lower() == ".png" else JPEG
    # What a JPEG lacks, its reader fills with grey.
    if kind == JPEG and END not in path.read_bytes()[-TAIL:]:
        raise check.unreadable(path, "it has no end")
    found = itk.reader(path, kind)
    data = itk.voxels(found, path, dtype=dtype)
    if found.GetNumberOfComponents() > 1:
        data = grey(data, path)
    if data.ndim == 3 and data.shape[-1] == 1:
        data = data[..., 0]
    return data, None, itk.header(found, fields={}, placed=False)


def grey(data: Array, path: Path) -> Array:
    """Return the one channel that all of (*S, 3) or, with opacity, (*S, 2 or 4) have in common.

    Raises:
        InputError: if they differ.
    """
    colours = data[..., : 1 if data.shape[-1] == WITH_OPACITY else RGB]
    check.colourless(path, alike=bool((colours == colours[..., :1]).all()))
    return np.asarray(data[..., 0])


def write(volume: Volume, path: Path) -> None:
    """Write the voxels alone.

    Raises:
        OSError: if the disk refuses.
    """
    from PIL import Image

    warnings.warn(check.affine_lost(path), stacklevel=3)
    pages = np.atleast_3d(volume.data).T  # (Z, Y, X)
    check.one_page(path, len(pages))
    content = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pages[0])).save(content, "PNG")
    path.write_bytes(content.getvalue())
