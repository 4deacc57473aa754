"""A volume from one format to another, and onto another grid; what does not come along is said."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from limner import check
from limner.files import (
    itk,
    nifti,
    ome,
    precomputed,
    replacing_folder,
    save_volume,
    stem,
    store_of,
    stored_volume,
    storing,
    suffix,
    webknossos,
    zarrays,
)
from limner.files.kinds import kind_of
from limner.files.multiscales import Version
from limner.files.pyramids import Watch, unwatched
from limner.files.sources import Source
from limner.files.unread import HANDLES, UnreadVolume
from limner.space import Array, Grid, Kind, Volume, averaged

#: Distance in mm from which qform and sform are two.
DIFFERENT = 1e-2
#: Formats whose headers can be told in one another's, by what they have in common.
FAMILIES = ((".nii.gz", ".nii"), (".mgz", ".mgh"), (".nrrd", ".nhdr", ".mha", ".mhd"))
#: What writes formats part by part.
STREAMS: dict[str, Callable[..., None]] = {
    ".ome.zarr": ome.stream,
    ".zarr": zarrays.stream,
    ".precomputed": precomputed.stream,
    ".webknossos": webknossos.stream,
}
#: Formats in which labels stand beside their image.
WITH_LABELS = (".ome.zarr", ".webknossos")


def convert(
    source: Path,
    target: Path,
    *,
    like: Path | None = None,
    kind: Kind | None = None,
    labels: Path | None = None,
    version: Version | None = None,
    watch: Watch = unwatched,
) -> Volume | Source:
    """Write a volume in another format, by suffix, with the voxels in the type that they are stored in.

    From a store, or HDF5, to a store it goes part by part, and may be larger than memory. Warns about all that the new
    file does not keep.

    Args:
        source: a file, or the folder of a DICOM series.
        target: the new file.
        like: a file whose grid the volume is brought to: an image by linear interpolation, labels by the nearest voxel,
            or where the grid is coarser by the mean, and by the most frequent.
        kind: what the volume is; told by the values unless given. Of a file of an image and ids, it is the image
            unless given.
        labels: a file of labels or instances that are written beside the image, where the format has a place for both.
        version: of OME-Zarr; 0.5 unless given.
        watch: told how many parts are written, and of how many, where it goes part by part.

    Returns:
        What was written.

    Raises:
        InputError: for a source that cannot be read, a target that cannot be written or cannot hold the voxels, grids
            that do not meet.
    """
    for path in (source, target):
        check.local(path)
    check.another_file(source, target)
    for path in filter(None, (source, labels)):
        check.outside(target, path, store=store_of(path) is not None)
    ending = suffix(target)
    if version and ending != ".ome.zarr":
        raise check.only_ome(target)
    if labels:
        check.labels_beside(target, fits=ending in WITH_LABELS, known=WITH_LABELS)
    if ending not in STREAMS:
        volume = _read(source, target, like=like, kind=kind)
        save_volume(volume, target, as_stored=True)
        return volume
    what = _voxels(source, target, like=like, kind="image" if labels else kind, watch=watch)
    more: dict[str, Any] = {"name": stem(target)} if ending in WITH_LABELS else {}
    more |= {"version": version} if version else {}
    if labels:
        ids: Kind = "labels" if kind == "labels" else "instances"
        more["labels"] = _voxels(labels, target, like=like, kind=ids)
        _meet(more["labels"].grid, what.grid, names=(labels, source))
    with replacing_folder(target) as temporary:
        STREAMS[ending](what, temporary, watch=watch, **more)
    return what


def _voxels(source: Path, target: Path, *, like: Path | None, kind: Kind | None, watch: Watch = unwatched) -> Source:
    """Return what is to be written: on disk where that can be read part by part, and in memory otherwise."""
    if like is None and suffix(source) in HANDLES:
        volume = UnreadVolume.opened(source, kind=kind or "image")
        if not volume.in_memory:
            return _unread(volume, target, kind=kind or kind_of(volume, watch=watch))
    found = _read(source, target, like=like, kind=kind)
    return Source.of(replace(found, data=storing.kept(found.data, suffix(target), path=target)))


def _unread(volume: UnreadVolume, target: Path, *, kind: Kind) -> Source:
    """Return a volume on disk as what is to be written; ids are looked at when they are read."""
    dtype = storing.streamed(volume.array.dtype, suffix(target), kind=kind, path=target)
    if kind == "image":
        return Source(volume.grid, kind, dtype, volume.read)
    return Source(volume.grid, kind, dtype, lambda slices: _whole(volume.read(slices), kind=kind, path=volume.path))


def _meet(labels: Grid, image: Grid, *, names: tuple[Path, Path]) -> None:
    """Refuse labels whose voxels do not coincide with those of their image.

    Raises:
        InputError: with how they lie.
    """
    case, called = names[1].name, (f"labels '{names[0].name}'", "image")
    there, here = labels.thick(), image.thick()
    axes = np.linalg.solve(here.affine[:-1, :-1], there.affine[:-1, :-1])
    check.same_axes(np.asarray(axes, np.float64), case=case, names=called)
    check.same_lattice(here.indices(there.affine[:-1, -1]), case=case, names=called)


def _read(source: Path, target: Path, *, like: Path | None, kind: Kind | None) -> Volume:
    """Return a volume that is to be written, on the grid of another if need be, after a warning of what is lost."""
    volume = stored_volume(source, kind=kind or "image")
    header, kind = volume.header, kind or kind_of(volume)
    if kind != "image":
        volume = replace(volume, data=_whole(volume.data, kind=kind, path=source), kind=kind)
    if like is not None:
        volume = _brought(volume, stored_volume(like), names=(source, like))
    family = next((known for known in FAMILIES if suffix(source) in known), ())
    lost = [] if suffix(target) in family and like is None else list(_beyond_geometry(header))
    if lost:
        warnings.warn(check.fields_lost(target, lost), stacklevel=3)
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
