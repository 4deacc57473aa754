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
from limner.space import Array, Kind, Volume, averaged

#: A file of whole numbers with at most this many different values is taken for a label map.
MOST_LABELS = 400
#: A greater id needs more than the 32 bits of a label.
GREATEST = np.iinfo(np.int32).max
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
        kind: what the volume is; told by the values unless given. Of a file of an image and ids, it is the image
            unless given.

    Returns:
        What was written.

    Raises:
        InputError: for a source that cannot be read, a target that cannot be written or cannot hold the voxels, grids
            that do not meet.
    """
    check.another_file(source, target)
    volume = stored_volume(source, kind=kind or "image")
    header, kind = volume.header, kind or kind_of(volume)
    if kind != "image":
        volume = replace(volume, data=_whole(volume.data, kind=kind, path=source), kind=kind)
    if like is not None:
        volume = _brought(volume, stored_volume(like), names=(source, like))
    save_volume(volume, target, as_stored=True)
    family = next((known for known in FAMILIES if suffix(source) in known), ())
    lost = [] if suffix(target) in family and like is None else list(_beyond_geometry(header))
    if lost:
        warnings.warn(check.fields_lost(target, lost), stacklevel=2)
    return volume


def _whole(data: Array, *, kind: Kind, path: Path) -> Array:
    """Return labels or instances (*S) as they are stored, or if that is as real numbers, as whole ones.

    Raises:
        InputError: if they are not whole.
    """
    instances = kind == "instances"
    (check.instance_ids if instances else check.whole_numbers)(data, path)
    return data if data.dtype.kind in "bui" else data.astype(np.uint64 if instances else np.int32)


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


def kind_of(volume: Volume) -> Kind:
    """Tell by its values, as they are stored, what a volume is: ids too wide or too many for labels are instances."""
    if looks_like_labels(volume):
        return "labels" if volume.data.max() <= GREATEST else "instances"
    return "instances" if volume.data.dtype == np.uint64 and _in_pieces(volume.data) else "image"


def looks_like_labels(volume: Volume) -> bool:
    """Tell whether a volume looks like a label map: few values, whole and not negative, most next to their like."""
    if volume.data.dtype.kind == "f" and not np.isfinite(volume.data).all():
        return False
    values = np.unique(volume.data)
    return len(values) <= MOST_LABELS and not (values % 1).any() and bool(values[0] >= 0) and _in_pieces(volume.data)


def _in_pieces(data: Array) -> bool:
    """Tell whether most voxels that are not 0 are next to their like."""
    inside = data[1:][data[1:] > 0]
    before = data[:-1][data[1:] > 0]
    return bool(inside.size) and float((inside == before).mean()) > 0.5
