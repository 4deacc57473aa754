"""A volume from one format to another, and onto another grid; what does not come along is said."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from limner import check
from limner.files import itk, nifti, save_volume, stored_volume, suffix
from limner.space import Kind, Volume, averaged

#: A file of whole numbers with at most this many different values is taken for a label map.
MOST_LABELS = 400
#: Distance in mm from which qform and sform are two.
DIFFERENT = 1e-2
#: Formats whose headers can be told in one another's, by what they have in common.
FAMILIES = ((".nii.gz", ".nii"), (".mgz", ".mgh"), (".nrrd", ".nhdr", ".mha", ".mhd"))


def convert(source: Path, target: Path, *, like: Path | None = None, kind: Kind | None = None) -> Volume:
    """Write a volume in another format, by suffix, with the voxels in the type that they are stored in.

    Warns about all that the new file does not keep.

    Args:
        source: a file, or the folder of a DICOM series.
        target: the new file.
        like: a file whose grid the volume is brought to: an image by linear interpolation, labels by the nearest voxel,
            or where the grid is coarser by the mean, and by the most frequent.
        kind: what is brought there; told by the values unless given.

    Returns:
        What was written.

    Raises:
        InputError: for a source that cannot be read, a target that cannot be written or cannot hold the voxels, grids
            that do not meet.
    """
    check.another_file(source, target)
    volume = stored_volume(source)
    header = volume.header
    volume = replace(volume, kind=kind or ("labels" if looks_like_labels(volume) else "image"))
    if volume.kind == "labels":
        check.whole_numbers(volume.data, source)
        volume = replace(volume, data=volume.data.astype(_whole(volume.data.dtype), copy=False))
    if like is not None:
        volume = _brought(volume, stored_volume(like), names=(source, like))
    save_volume(volume, target, as_stored=True)
    family = next((known for known in FAMILIES if suffix(source) in known), ())
    lost = [] if suffix(target) in family and like is None else list(_beyond_geometry(header))
    if lost:
        warnings.warn(check.fields_lost(target, lost), stacklevel=2)
    return volume


def _whole(dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    """Return the type of whole numbers that labels stored in a type take."""
    return dtype if dtype.kind in "bui" else np.dtype(np.int32)


def _brought(volume: Volume, like: Volume, *, names: tuple[Path, Path]) -> Volume:
    """Return a volume on the grid of another, with its header, so that both lie in the same place to the last digit.

    Raises:
        InputError: if the two have no place in common.
    """
    met = like.data.ndim == volume.data.ndim and like.grid.covered(volume.grid)
    check.overlap(float(met), names[0], like=names[1])
    return replace(averaged(volume, like.grid), header=like.header)


def _beyond_geometry(header: Any) -> Iterator[str]:
    """Yield what a header tells beside its geometry, and geometry that it alone can tell."""
    if isinstance(header, itk.Header):
        yield from (name for name, _ in header.fields)
    elif isinstance(header, nibabel.Nifti1Header):
        if nifti.disagreement(header) > DIFFERENT:
            yield "qform, which is not its sform"
        yield from (name for name in ("descrip", "intent_name", "aux_file") if header[name].item())
        yield from (f"extension {extension.get_code()}" for extension in header.extensions)


def looks_like_labels(volume: Volume) -> bool:
    """Tell whether a volume looks like a label map: few values, whole and not negative, most next to their like."""
    if volume.data.dtype.kind == "f" and not np.isfinite(volume.data).all():
        return False
    values = np.unique(volume.data)
    if len(values) > MOST_LABELS or (values % 1).any() or values[0] < 0:
        return False
    inside = volume.data[1:][volume.data[1:] > 0]
    before = volume.data[:-1][volume.data[1:] > 0]
    return bool(inside.size) and float((inside == before).mean()) > 0.5
