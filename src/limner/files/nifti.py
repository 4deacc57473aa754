"""NIfTI-1 and NIfTI-2 images, `.nii` and `.nii.gz`, and what they share with nibabel's other formats."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray

from limner import check
from limner.files import packed
from limner.space import Array, Grid, Volume

SCANNER = 1
# Axis of NIfTI-1, voxels.
LONGEST = 2**15 - 1
# Distance in mm at a corner from which it is said that qform and sform disagree.
FAR = 1.0
# Cosine up to which axes count as being at right angles; rounding to float32 stays well below.
RIGHT_ANGLE = 5e-5


class _TolerantHeader(nibabel.Nifti1Header):
    """A header whose quaternion is a little longer than 1, which nibabel refuses to read."""

    def get_qform_quaternion(self) -> NDArray[np.float64]:
        """Return the nearest unit quaternion, (4,).

        Raises:
            ValueError: if the one stored is more than a thousandth too long.
        """
        vector = np.array([self[f"quatern_{axis}"] for axis in "bcd"], dtype=np.float64)
        length = np.linalg.norm(vector)
        if 1 < length < 1.001:
            return np.array([0, *vector / length])
        return np.asarray(nibabel.Nifti1Header.get_qform_quaternion(self))


class _TolerantImage(nibabel.Nifti1Image):
    header_class = _TolerantHeader


def read(path: Path, dtype: type | None) -> tuple[Array, Array, Any]:
    """Return data (*S) in `dtype` (None: as stored), affine (4, 4) in mm, and header.

    The affine is the sform, else the qform, else what nibabel makes of the voxel sizes.

    Raises:
        InputError: if the file is damaged or of another format.
    """
    image = loaded(path, nibabel.Nifti1Pair)
    header = image.header
    if header["qform_code"] == 0 and header["sform_code"] == 0:
        warnings.warn(check.no_orientation(path), stacklevel=4)
    unit = _unit(header)
    if unit not in ("mm", "unknown"):
        warnings.warn(check.other_unit(path, unit), stacklevel=4)
    distance = disagreement(header)
    if distance > FAR:
        warnings.warn(check.forms_disagree(path, distance), stacklevel=4)
    if isinstance(header, _TolerantHeader):
        warnings.warn(check.long_quaternion(path), stacklevel=4)
    return values(image, path, dtype=dtype), image.affine, header


def write(volume: Volume, path: Path) -> None:
    """Write a volume, with the header it came with if that is NIfTI.

    Sform and qform stay as they were if the grid did. Otherwise both are set, but a sheared grid is left to the sform.

    Raises:
        OSError: if the disk refuses.
    """
    grid = solid(volume.grid)
    header: Any = volume.header
    known = isinstance(header, nibabel.Nifti1Header)
    header = header.copy() if known else nibabel.Nifti1Header()
    if max(grid.shape) > LONGEST and not isinstance(header, nibabel.Nifti2Header):
        header = nibabel.Nifti2Header.from_header(header)
    shape = shape_to_keep(grid, header.get_data_shape(), affine=header.get_best_affine()) if known else None
    if shape is None:
        _set_geometry(header, grid)
    header.set_data_dtype(volume.data.dtype)
    if volume.kind != "image":
        # The display window of a scan says nothing about labels.
        header["cal_min"] = header["cal_max"] = 0
    classes: tuple[Any, ...] = (nibabel.Nifti1Image, nibabel.Nifti2Image, _TolerantImage)
    image_class = next(each for each in classes if each.header_class is type(header))
    nibabel.save(image_class(volume.data.reshape(shape or grid.shape), None, header), path)


def _unit(header: Any) -> str:
    """Return the unit of a header's lengths; one of another number is as unknown as none."""
    try:
        return str(header.get_xyzt_units()[0])
    except KeyError:
        return "unknown"


def disagreement(header: Any) -> float:
    """Return how far apart in mm, at a corner, qform and sform place a scan; 0 without both."""
    if not (header["qform_code"] and header["sform_code"]):
        return 0.0
    shape = (*header.get_data_shape(), 1, 1)[:3]
    qform, sform = header.get_qform(), header.get_sform()
    if not (np.isfinite(qform).all() and np.linalg.det(sform[:3, :3]) and np.linalg.det(qform[:3, :3])):
        return 0.0
    return Grid(shape, sform).distance(Grid(shape, qform))


def _set_geometry(header: Any, grid: Grid) -> None:
    """State a new grid (3-D) in a NIfTI header, in the same space as the old one if there was one."""
    code = int(header["sform_code"]) or int(header["qform_code"]) or SCANNER
    header.set_data_shape(grid.shape)
    header.set_xyzt_units("mm", header.get_xyzt_units()[1])
    header.set_qform(grid.affine, 0 if grid.skew > RIGHT_ANGLE else code)
    header.set_sform(grid.affine, code)


def loaded(path: Path, image_class: type[SpatialImage]) -> Any:
    """Return nibabel's image of a file, its voxels still on disk.

    Raises:
        InputError: if the file is damaged or is no `image_class`.
    """
    try:
        if path.suffix.lower() in (".gz", ".mgz"):
            _check_gzip(path)
        image = _loaded(path)
    except check.InputError:
        raise
    except Exception as error:
        # On a damaged header nibabel stumbles anywhere, be it over a missing key.
        raise check.unreadable(path, error) from error
    if not isinstance(image, image_class):
        raise check.unreadable(path, f"it holds a {type(image).__name__}")
    check.numeric(image.get_data_dtype(), path)
    return image


def _check_gzip(path: Path) -> None:
    """Refuse a file that does not begin as gzip files do, or is damaged."""
    with path.open("rb") as file:
        if file.read(2) != packed.GZIP_MAGIC:
            raise check.not_gzip(path)
    packed.check_whole(path)


def _loaded(path: Path) -> Any:
    """Let nibabel open the file, once more with tolerance if it stumbles over the quaternion."""
    try:
        # Without memory mapping a file that is cut short is noticed, and nothing keeps it open.
        return nibabel.load(path, mmap=False)
    except ValueError as error:
        if "w2 should be positive" not in str(error):
            raise
        return _TolerantImage.from_filename(path, mmap=False)


def values(image: Any, path: Path, *, dtype: type | None) -> Array:
    """Return the voxels of nibabel's image, scaled as its header says, in `dtype` (None: as stored).

    Raises:
        InputError: if the file is damaged.
    """
    try:
        return np.asarray(image.dataobj, dtype=dtype)
    except Exception as error:
        raise check.unreadable(path, error) from error


def solid(grid: Grid) -> Grid:
    """Return the grid in 3-D, a 2-D one as a single slice 1 mm thick."""
    if grid.dimensions == 3:
        return grid
    affine = np.eye(4)
    affine[np.ix_([0, 1, 3], [0, 1, 3])] = grid.affine
    return Grid((*grid.shape, 1), affine)


def shape_to_keep(grid: Grid, shape: tuple[int, ...], *, affine: Array) -> tuple[int, ...] | None:
    """Return a header's own `shape`, singleton axes included, if its geometry is that of `grid` (3-D); else None."""
    spatial = (*shape, 1, 1)[:3]
    singletons = all(size == 1 for size in shape[3:])
    return shape if singletons and spatial == grid.shape and grid.matches(Grid(spatial, affine)) else None
