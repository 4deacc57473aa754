"""Zarr arrays, `.zarr`, of version 2 and 3: `resolution` and `offset` in nm among the attributes.

A group is read if it is an OME image (its finest scale), or holds one volume, or the names of CREMI's layout.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from limner import check
from limner.files.hdf5 import LABELS, RAW
from limner.files.nanometres import affine_of, attributes
from limner.space import Array, Volume

#: Voxels along an axis of a chunk: 64 x 64 x 64 ids are 2 MB.
CHUNK = 64


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
    create(path, volume.data, told=attributes(volume.grid), version=version)


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
    import zarr

    # A chunk of affinities is of one channel.
    spans = [1 if len(shape) - axis > 3 else span for axis, span in enumerate(shards or shape)]
    return zarr.create_array(
        path,
        shape=shape,
        # By name, because of the two that C has for 64 bits zarr knows one.
        dtype=np.dtype(np.dtype(dtype).str),
        # Shards hold whole chunks.
        chunks=tuple(_chunk(span) if shards else min(span, CHUNK) for span in spans),
        shards=shards,
        zarr_format=version,
        attributes={**told, "units": "nm", "axis_names": list("czyx"[-len(shape) :])},
    )


def _chunk(span: int) -> int:
    """Return the most voxels, up to `CHUNK`, that divide a span."""
    return next(size for size in range(min(span, CHUNK), 0, -1) if span % size == 0)


def _member(group: Any, path: Path, *, name: str) -> tuple[Any, dict[str, Any]]:
    """Return the array of a group that is meant, and what is said of its voxels."""
    import zarr

    scales = group.attrs.get("ome", group.attrs).get("multiscales")
    if scales:
        finest = scales[0]["datasets"][0]
        return group[finest["path"]], _ome(scales[0]["axes"], finest["coordinateTransformations"])
    arrays = {key: item for key, item in group.members(max_depth=None) if isinstance(item, zarr.Array)}
    if name not in arrays and len(arrays) != 1:
        raise check.ambiguous_arrays(path, sorted(arrays), key=name)
    array = arrays[name] if name in arrays else next(iter(arrays.values()))
    return array, dict(array.attrs)


def _ome(axes: list[dict[str, Any]], transforms: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the voxel sizes and offset of an OME image, in its own units, as attributes of ours."""
    stated = {each["type"]: each[each["type"]] for each in transforms if each["type"] in ("scale", "translation")}
    spatial = [index for index, axis in enumerate(axes) if axis.get("type", "space") == "space"]
    units = [axes[index].get("unit") for index in spatial]
    if "scale" not in stated or None in units:
        return {}
    told = {"resolution": [stated["scale"][index] for index in spatial], "units": units}
    offset = stated.get("translation")
    return told | ({"offset": [offset[index] for index in spatial]} if offset else {})
