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
from limner.files.nanometres import affine_of, attributes, narrowed
from limner.space import Array, Volume

#: Voxels along an axis of a chunk: 64 x 64 x 64 ids are 2 MB.
CHUNK = 64


def read(path: Path, dtype: type | None) -> tuple[Array, Array | None, None]:
    """Return data (*S) in `dtype` (None: as stored), affine (D+1, D+1) in mm if there is a resolution, and no header.

    Raises:
        InputError: if the store is damaged, or it is not evident which of its arrays is meant.
    """
    import zarr

    try:
        content = zarr.open(path, mode="r")
        array, told = (
            (content, dict(content.attrs)) if isinstance(content, zarr.Array) else _member(content, path, dtype=dtype)
        )
        check.numeric(array.dtype, path)
        data = np.asarray(array[...])
    except check.InputError:
        raise
    except Exception as error:
        # zarr and its codecs raise whatever they stumble over.
        raise check.unreadable(path, error) from error
    return data if dtype is None else data.astype(dtype, copy=False), affine_of(told, path), None


def write(volume: Volume, path: Path, *, version: Literal[2, 3] = 3) -> None:
    """Write a volume as one array of a Zarr `version`, 2 or 3, into a folder that is new or empty.

    Raises:
        OSError: if the disk refuses.
    """
    import zarr

    data = narrowed(volume.data) if volume.kind == "image" else volume.data
    told = {**attributes(volume.grid), "units": "nm", "axis_names": list("zyx"[-data.ndim :])}
    chunks = tuple(min(size, CHUNK) for size in data.shape)
    array = zarr.create_array(
        path, shape=data.shape, dtype=data.dtype, chunks=chunks, zarr_format=version, attributes=told
    )
    array[...] = data


def _member(group: Any, path: Path, *, dtype: type | None) -> tuple[Any, Mapping[str, Any]]:
    """Return the array of a group that is meant, and what is said of its voxels."""
    import zarr

    scales = group.attrs.get("ome", group.attrs).get("multiscales")
    if scales:
        finest = scales[0]["datasets"][0]
        return group[finest["path"]], _ome(scales[0]["axes"], finest["coordinateTransformations"])
    name = LABELS if dtype is None else RAW
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
