"""What the formats that SimpleITK reads and writes have in common: NRRD, MetaImage, pictures, DICOM."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limner import check
from limner.space import Array, Grid, Volume

#: ITK counts from right to left and from front to back, limner the other way round.
LPS = np.array([-1.0, -1.0, 1.0])
#: Of compression: nearly as small as the best, in a fifth of the time.
LEVEL = 4


@dataclass(frozen=True)
class Header:
    """What ITK read of a file beside its voxels.

    Args:
        spacing: mm, for each axis.
        origin: of the first voxel, LPS mm.
        direction: of the axes, row by row, in LPS.
        fields: further entries, as ITK names them.
        placed: whether the file says where its axes lead.
    """

    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]
    fields: tuple[tuple[str, str], ...] = ()
    placed: bool = True

    @property
    def matrix(self) -> NDArray[np.float64]:
        """Directions of the axes, its columns, in LPS, (D, D)."""
        return np.reshape(self.direction, (len(self.spacing), len(self.spacing)))

    @property
    def affine(self) -> NDArray[np.float64]:
        """(D+1, D+1), from voxels to RAS mm."""
        return ras(self.spacing, self.origin, direction=self.direction)


def ras(
    spacing: Sequence[float], origin: Sequence[float], *, direction: Sequence[float] | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the affine (D+1, D+1) of D spacings, an origin and directions (D, D), row by row, that are told in LPS."""
    count = len(spacing)
    affine = np.eye(count + 1)
    affine[:-1, :-1] = np.reshape(direction, (count, count)) * np.array(spacing)
    affine[:-1, -1] = origin
    affine[:-1] *= LPS[:count, None]
    return affine


def toolkit() -> Any:
    """Return SimpleITK, whose warnings would go to the terminal otherwise."""
    import SimpleITK

    SimpleITK.ProcessObject.GlobalWarningDisplayOff()
    return SimpleITK


def reader(path: Path, kind: str) -> Any:
    """Return a reader that knows a file's header.

    Args:
        path: of the file.
        kind: ITK's name for the format, which is not guessed.

    Raises:
        InputError: if it is damaged or of another format.
        OSError: if the disk refuses.
    """
    with path.open("rb"):  # of a file that may not be read, ITK says that it is none of its kind
        found = toolkit().ImageFileReader()
    found.SetImageIO(kind)
    found.SetFileName(str(path))
    try:
        found.ReadImageInformation()
    except RuntimeError as error:
        raise check.unreadable(path, reason(error)) from error
    return found


def reason(error: Exception) -> str:
    """Return the last line of ITK's account of an error, without its own addresses."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    words = lines[-1] if lines else type(error).__name__
    return words.rpartition("): ")[2].removeprefix("ITK ERROR: ")


def voxels(found: Any, path: Path, *, dtype: type | None) -> Array:
    """Return what a reader reads, (X, Y[, Z][, colours]), in `dtype` (None: as stored).

    Raises:
        InputError: if the file is damaged.
    """
    try:
        image = found.Execute()
        # ITK's arrays are (Z, Y, X), and colours come last.
        data = (
            toolkit().GetArrayViewFromImage(image).transpose(*reversed(range(len(image.GetSize()))), *_colours(image))
        )
    except (RuntimeError, ValueError, MemoryError) as error:
        raise check.unreadable(path, reason(error)) from error
    return np.array(data, dtype=dtype or data.dtype, order="F")


def _colours(image: Any) -> tuple[int, ...]:
    """Return the axis of the values at each voxel, if there are several."""
    return (image.GetDimension(),) if image.GetNumberOfComponentsPerPixel() > 1 else ()


def promised(found: Any) -> int:
    """Return how many bytes of voxels a reader's header promises."""
    sample = toolkit().Image([1] * found.GetDimension(), found.GetPixelID())
    each = int(sample.GetSizeOfPixelComponent()) * int(found.GetNumberOfComponents())
    return each * math.prod(int(length) for length in found.GetSize())


def header(found: Any, *, fields: Mapping[str, str], placed: bool = True) -> Header:
    """Return the header that a reader read, with the `fields` to keep."""
    kept = tuple(fields.items())
    return Header(tuple(found.GetSpacing()), tuple(found.GetOrigin()), tuple(found.GetDirection()), kept, placed)


def fields_of(found: Any) -> dict[str, str]:
    """Return the entries of a header that ITK makes nothing of: those that users added, if they are text."""
    names = [name for name in found.GetMetaDataKeys() if not name.startswith(("ITK_", "NRRD_", "Modality"))]
    # Bytes that are no text come as surrogates, which SimpleITK does not take back.
    told = {name: found.GetMetaData(name) for name in names if name.isprintable()}
    return {name: value for name, value in told.items() if value.isprintable()}


def header_for(volume: Volume) -> Header:
    """Return the geometry and the fields that a volume is written with: those it was read with by ITK, if they hold."""
    known = volume.header if isinstance(volume.header, Header) else None
    if known and _same(known, volume.grid):
        return known
    return replace(stated(volume.grid.affine), fields=known.fields if known else ())


def _same(kept: Header, grid: Grid) -> bool:
    """Tell whether a header's geometry is that of a grid."""
    return len(kept.spacing) == grid.dimensions and grid.matches(Grid(grid.shape, kept.affine))


def stated(affine: NDArray[np.float64]) -> Header:
    """Return an affine (D+1, D+1) in RAS mm as ITK states it."""
    sizes = np.linalg.norm(affine[:-1, :-1], axis=0)
    flips = LPS[: len(sizes)]
    direction = affine[:-1, :-1] / sizes * flips[:, None]
    origin = affine[:-1, -1] * flips
    return Header(tuple(sizes.tolist()), tuple(origin.tolist()), tuple(direction.ravel().tolist()))
