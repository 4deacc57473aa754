"""Zarr arrays, `.zarr`, of version 2 and 3: `resolution` and `offset` in nm among the attributes.

A group is read if it is an OME image (its finest scale), or holds one volume, or the names of CREMI's layout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from limner import check
from limner.files import multiscales
from limner.files.hdf5 import LABELS, RAW
from limner.files.nanometres import affine_of, attributes
from limner.files.pyramids import Watch, fill, levels, unwatched
from limner.files.sources import Source
from limner.space import Array, Box, Volume

#: Voxels along an axis of a chunk: 64 x 64 x 64 ids are 2 MB.
CHUNK = 64
#: What compresses chunks of version 2, so that readers in other languages know it, as they have from the beginning.
BLOSC = {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1}
#: Of what is written at a time.
PART = 256


def read(path: Path, dtype: type | None) -> tuple[Array, Array | None, None]:
    """Return data (*S) in `dtype` (None: as stored), affine (D+1, D+1) in mm if there is a resolution, and no header.

    Read is the image of a group that holds ids too.

    Raises:
        InputError: if the store is damaged, or it is not evident which of its arrays is meant.
    """
    return _named(path, RAW, dtype=dtype)


def read_ids(path: Path, dtype: type | None) -> tuple[Array, Array | None, None]:
    """Return the same of the neuron ids.

    Raises:
        InputError: as `read` does.
    """
    return _named(path, LABELS, dtype=dtype)


def _named(path: Path, name: str, *, dtype: type | None) -> tuple[Array, Array | None, None]:
    """Return data, affine and no header of the array called `name` in a group."""
    data, told = opened(path, name)
    return data if dtype is None else data.astype(dtype, copy=False), affine_of(told, path), None


def opened(path: Path, name: str) -> tuple[Array, dict[str, Any]]:
    """Return the array of a store, of a group the one called `name` or the only one, and its attributes.

    Raises:
        InputError: if the store is damaged, or it is not evident which array is meant.
    """
    array, told = handle(path, name)
    return region(array, (), path=path), told


def handle(path: Path, name: str) -> tuple[Any, dict[str, Any]]:
    """Return the array of a store, of a group the one called `name` or the only one, unread, and its attributes.

    Raises:
        InputError: if the store is damaged, or it is not evident which array is meant.
    """
    import zarr

    try:
        content: Any = zarr.open(path, mode="r")
        single = isinstance(content, zarr.Array)
        array, told = (content, dict(content.attrs)) if single else _member(content, path, name=name)
        check.numeric(array.dtype, path)
    except check.InputError:
        raise
    except Exception as error:
        # zarr raises whatever it stumbles over.
        raise check.unreadable(path, error) from error
    return array, told


def region(array: Any, slices: tuple[slice | int, ...], *, path: Path) -> Array:
    """Return what lies in a part of a store's array; all of it without slices.

    Raises:
        InputError: if a chunk cannot be decoded.
    """
    try:
        return np.asarray(array[slices or ...])
    except Exception as error:
        # Codecs raise whatever they stumble over.
        raise check.unreadable(path, error) from error


def write(volume: Volume, path: Path, *, version: Literal[2, 3] = 3) -> None:
    """Write a volume as one array of a Zarr `version`, 2 or 3, into a folder that is new or empty.

    Raises:
        OSError: if the disk refuses.
    """
    stream(Source.of(volume), path, version=version)


def stream(source: Source, path: Path, *, version: Literal[2, 3] = 3, watch: Watch = unwatched) -> None:
    """Write voxels as one array, part by part.

    Raises:
        OSError: if the disk refuses.
    """
    told = attributes(source.grid)
    array = allocate(path, source.grid.shape, dtype=source.dtype, told=told, version=version)
    whole = Box.whole(source.grid.shape)
    parts = tuple(PART if source.grid.dimensions == 3 else extent for extent in whole.shape)
    fill(source, [ArrayTarget(array, parts)], pyramid=levels(whole, told["resolution"])[:1], watch=watch)


@dataclass(frozen=True, eq=False)
class ArrayTarget:
    """A level of a pyramid in an array.

    Args:
        array: opened for writing.
        block: voxels along each axis of what is written at a time: whole files.
    """

    array: Any
    block: tuple[int, ...]

    def write(self, box: Box, data: Array) -> None:
        """Write a part."""
        self.array[box.slices] = data

    def read(self, box: Box) -> Array:
        """Return a part that was written."""
        return np.asarray(self.array[box.slices])


def create(path: Path, data: Array, *, told: Mapping[str, Any], version: Literal[2, 3] = 3) -> None:
    """Write an array with its attributes into a folder that is new or empty.

    Raises:
        OSError: if the disk refuses.
    """
    allocate(path, data.shape, dtype=data.dtype, told=told, version=version)[...] = data


def allocate(
    path: Path,
    shape: tuple[int, ...],
    *,
    dtype: Any,
    told: Mapping[str, Any],
    shards: tuple[int, ...] | None = None,
    version: Literal[2, 3] = 3,
) -> Any:
    """Make an array without data in a folder that is new or empty, and return it.

    Args:
        path: of the folder.
        shape: of the array.
        dtype: of its numbers.
        told: its attributes, beside the units and the names of its axes.
        shards: shape of what one file holds, so that blocks of this shape can be written side by side; a file per
            chunk unless given.
        version: of the format.

    Raises:
        OSError: if the disk refuses.
    """
    # A chunk of affinities is of one channel.
    spans = [1 if len(shape) - axis > 3 else span for axis, span in enumerate(shards or shape)]
    # Shards hold whole chunks.
    chunks = tuple(_chunk(span) if shards else min(span, CHUNK) for span in spans)
    names = list("czyx"[-len(shape) :])
    attributes = {**told, "units": "nm", "axis_names": names}
    layout = {"chunks": chunks, "shards": shards, "zarr_format": version, "attributes": attributes}
    return new(path, shape, dtype=dtype, axes=names, **layout)


def new(path: Path, shape: tuple[int, ...], *, dtype: Any, axes: Sequence[str], **layout: Any) -> Any:
    """Make an array without data, and return it.

    Args:
        path: of a folder that is new or empty.
        shape: of the array.
        dtype: of its numbers.
        axes: what each is called.
        layout: what else zarr is told: chunks, shards, format, attributes.

    Raises:
        OSError: if the disk refuses.
    """
    import zarr

    if layout.get("zarr_format") == 2:
        layout |= {"compressors": BLOSC, "chunk_key_encoding": {"name": "v2", "separator": "/"}}
    else:
        layout |= {"dimension_names": list(axes)}
    # By name, because of the two types that C has for 64 bits zarr knows one.
    return zarr.create_array(path, shape=shape, dtype=np.dtype(np.dtype(dtype).str), **layout)


def _chunk(span: int) -> int:
    """Return the most voxels, up to `CHUNK`, that divide a span."""
    return next(size for size in range(min(span, CHUNK), 0, -1) if span % size == 0)


def _member(group: Any, path: Path, *, name: str) -> tuple[Any, dict[str, Any]]:
    """Return the array of a group that is meant, and what is said of its voxels."""
    import zarr

    image = multiscales.finest(group, path, ids=name == LABELS)
    if image:
        return image
    arrays = {key: item for key, item in group.members(max_depth=None) if isinstance(item, zarr.Array)}
    if name not in arrays and len(arrays) != 1:
        raise check.ambiguous_arrays(path, sorted(arrays), key=name)
    array = arrays[name] if name in arrays else next(iter(arrays.values()))
    return array, dict(array.attrs)
