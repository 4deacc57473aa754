"""OME-Zarr, `.ome.zarr`, written as a pyramid, version 0.5 (Zarr 3) or 0.4 (Zarr 2); labels beside their image.

It is read as any Zarr store.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from limner.files import zarrays
from limner.files.multiscales import Description, Version
from limner.files.pyramids import Level, Watch, fill, levels, unwatched
from limner.files.sources import Source
from limner.files.zarrays import ArrayTarget, read, read_ids
from limner.space import Box, Grid, Volume

__all__ = ["adopted", "read", "read_ids", "stream", "write"]

#: Voxels along each axis of a chunk and of a file of chunks, by the number of axes.
CHUNK, SHARD = {2: 512, 3: 64}, {2: 2048, 3: 256}
#: Under which labels stand that are written beside their image.
LABELS = "labels"


def write(volume: Volume, path: Path) -> None:
    """Write a volume into a folder that is new or empty.

    Raises:
        OSError: if the disk refuses.
    """
    stream(Source.of(volume), path)


def stream(
    source: Source,
    path: Path,
    *,
    labels: Source | None = None,
    version: Version = "0.5",
    name: str = "volume",
    watch: Watch = unwatched,
) -> None:
    """Write voxels, part by part, into a folder that is new or empty.

    Args:
        source: the voxels.
        path: of the folder.
        labels: of an image, written into it.
        version: of OME-Zarr.
        name: of the image.
        watch: told how far it has come.

    Raises:
        OSError: if the disk refuses.
    """
    _image(source, path, described=Description(source.grid, source.kind, name, version), watch=watch)
    if labels:
        described = Description(labels.grid, labels.kind, LABELS, version)
        _group(path / LABELS, {LABELS: [LABELS]}, described=described)
        _image(labels, path / LABELS / LABELS, described=described, watch=watch, of="../../")


def _image(source: Source, path: Path, *, described: Description, watch: Watch, of: str | None = None) -> None:
    """Write one image, or labels, those `of` an image that lies there."""
    pyramid = levels(Box.whole(source.grid.shape), source.grid.voxel_sizes.tolist())
    _group(path, described.attributes(pyramid, source=of), described=described)
    numbered = enumerate(pyramid)
    targets = [_array(path / str(index), level, described=described, dtype=source.dtype) for index, level in numbered]
    fill(source, targets, pyramid=pyramid, watch=watch)


def _group(path: Path, attributes: dict[str, Any], *, described: Description) -> None:
    """Make a group; attributes that have no version yet get it."""
    import zarr

    told = attributes if {"ome", "multiscales"} & set(attributes) else described.wrapped(attributes)
    zarr.create_group(path, zarr_format=described.format, attributes=told)


def _array(path: Path, level: Level, *, described: Description, dtype: Any) -> ArrayTarget:
    """Make the array of a scale."""
    shape = level.box.shape
    chunks = tuple(min(extent, CHUNK[len(shape)]) for extent in shape)
    parts = tuple(
        min(SHARD[len(shape)], -(-extent // chunk) * chunk) for extent, chunk in zip(shape, chunks, strict=True)
    )
    shards = parts if described.format == 3 and parts != chunks else None
    layout = {"chunks": chunks, "shards": shards, "zarr_format": described.format, "attributes": described.told(level)}
    return ArrayTarget(zarrays.new(path, shape, dtype=dtype, axes=described.axes, **layout), parts)


def adopted(store: Path, group: Path, *, grid: Grid, watch: Watch) -> Path:
    """Make an image out of a store of one array of ids: scales are written beside it, and it becomes the finest.

    Args:
        store: of version 3; it is gone afterwards.
        group: folder of the image, which what was half done may fill.
        grid: of its voxels.
        watch: told how far it has come.

    Returns:
        The folder of the image.

    Raises:
        OSError: if the disk refuses.
    """
    import zarr

    shutil.rmtree(group, ignore_errors=True)
    array: Any = zarr.open_array(store, mode="r")
    source = Source(grid, "instances", array.dtype, array.__getitem__)
    described = Description(grid, source.kind, LABELS, "0.5")
    pyramid = levels(Box.whole(grid.shape), grid.voxel_sizes.tolist())
    _group(group, described.attributes(pyramid), described=described)
    numbered = list(enumerate(pyramid))[1:]
    coarser = [_array(group / str(index), level, described=described, dtype=array.dtype) for index, level in numbered]
    fill(source, [ArrayTarget(array, ()), *coarser], pyramid=pyramid, done=1, watch=watch)
    metadata = json.loads((store / "zarr.json").read_text())
    (store / "zarr.json").write_text(json.dumps({**metadata, "dimension_names": described.axes}))
    store.replace(group / "0")
    return group
