"""FreeSurfer's MGH images, `.mgh` and `.mgz`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel

from limner.files.nifti import loaded, shape_to_keep, solid, values
from limner.space import Array, Volume


def read(path: Path, dtype: type | None) -> tuple[Array, Array, Any]:
    """Return data (*S) in `dtype` (None: as stored), affine (4, 4) in mm, and header.

    Raises:
        InputError: if the file is damaged or of another format.
    """
    image = loaded(path, nibabel.MGHImage)
    return values(image, path, dtype=dtype), image.affine, image.header


def write(volume: Volume, path: Path) -> None:
    """Write a volume, with the header it came with if that is MGH.

    Raises:
        OSError: if the disk refuses.
    """
    grid = solid(volume.grid)
    header: Any = volume.header
    known = isinstance(header, nibabel.MGHImage.header_class)
    header = header.copy() if known else nibabel.MGHImage.header_class()
    shape = shape_to_keep(grid, header.get_data_shape(), affine=header.get_affine()) if known else None
    affine = header.get_affine() if shape else grid.affine
    header.set_data_dtype(volume.data.dtype)
    nibabel.save(nibabel.MGHImage(volume.data.reshape(shape or grid.shape), affine, header), path)
