"""HDF5 in the layout of CREMI, `.hdf`, `.h5`, `.hdf5`: raw and neuron ids in one file, resolution and offset in nm.

Labels of padded files begin somewhere inside their raw: the offset says where.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from limner import check
from limner.files.nanometres import affine_of, attributes
from limner.space import Array, Volume

RAW, LABELS = "volumes/raw", "volumes/labels/neuron_ids"
FORMAT = "0.2"


def read(path: Path, dtype: type | None) -> tuple[Array, Array | None, None]:
    """Return data (*S), affine (D+1, D+1) in mm if the file has a resolution, and no header.

    Read is the raw, in `dtype` or if that is None as stored. A file of one array may call it anything.

    Raises:
        InputError: if the file is damaged, or has several arrays and none of that name.
    """
    return _named(path, RAW, dtype=dtype)


def read_ids(path: Path, dtype: type | None) -> tuple[Array, Array | None, None]:
    """Return the same of the neuron ids.

    Raises:
        InputError: as `read` does.
    """
    return _named(path, LABELS, dtype=dtype)


def _named(path: Path, name: str, *, dtype: type | None) -> tuple[Array, Array | None, None]:
    """Return data, affine and no header of the array called `name`."""
    data, told = opened(path, name)
    return data if dtype is None else data.astype(dtype, copy=False), affine_of(told, path), None


def opened(path: Path, name: str, *, dimensions: tuple[int, ...] = (2, 3)) -> tuple[Array, dict[str, Any]]:
    """Return the array called `name`, or the only one of as many axes, and its attributes.

    Raises:
        InputError: if the file is damaged, or it is not evident which array is meant.
    """
    array, told = handle(path, name, dimensions=dimensions)
    try:
        return array[()], told
    except Exception as error:
        raise check.unreadable(path, error) from error
    finally:
        array.file.close()


def _only(content: Any, name: str, *, path: Path, dimensions: tuple[int, ...]) -> Any:
    """Return the only array of as many axes, where none is called `name`."""
    import h5py

    found: dict[str, Any] = {}
    content.visititems(lambda key, item: found.update({key: item} if isinstance(item, h5py.Dataset) else {}))
    fitting = [key for key, item in found.items() if len(item.shape) in dimensions and item.dtype.kind in "buif"]
    if len(fitting) != 1:
        raise check.ambiguous_arrays(path, list(found), key=name)
    return found[fitting[0]]


def handle(path: Path, name: str, *, dimensions: tuple[int, ...] = (2, 3)) -> tuple[Any, dict[str, Any]]:
    """Return the array called `name`, or the only one of as many axes, unread, and its attributes.

    The file stays open as long as the array is used.

    Raises:
        InputError: as `opened` does.
    """
    import h5py

    try:
        with path.open("rb"):  # which says why a file cannot be read; the library does not
            content: Any = h5py.File(path, "r")
        array = content[name] if name in content else _only(content, name, path=path, dimensions=dimensions)
        check.numeric(array.dtype, path)
        return array, dict(array.attrs)
    except check.InputError:
        raise
    except Exception as error:
        # h5py raises whatever its library stumbles over.
        raise check.unreadable(path, error) from error


def write(volume: Volume, path: Path) -> None:
    """Write an image as the raw, or labels and instances as the neuron ids, of a file that holds nothing else.

    Raises:
        OSError: if the disk refuses.
    """
    write_all({RAW if volume.kind == "image" else LABELS: volume}, path)


def write_all(volumes: Mapping[str, Volume], path: Path) -> None:
    """Write volumes under their names into one file; ids as uint64 unless some are negative, as CREMI asks.

    Raises:
        OSError: if the disk refuses.
    """
    ready = {
        name: (volume.data if volume.kind == "image" else _wide(volume.data), attributes(volume.grid))
        for name, volume in volumes.items()
    }
    create(ready, path)


def create(arrays: Mapping[str, tuple[Array, Mapping[str, Any]]], path: Path) -> None:
    """Write arrays with their attributes into one new file.

    Raises:
        OSError: if the disk refuses.
    """
    import h5py

    with h5py.File(path, "w") as content:
        content.attrs["file_format"] = FORMAT
        for name, (data, told) in arrays.items():
            # A chunk of affinities is of one channel.
            chunks = tuple(1 if data.ndim - axis > 3 else min(size, 64) for axis, size in enumerate(data.shape))
            stored = content.create_dataset(name, data=data, chunks=chunks, compression="gzip", compression_opts=4)
            stored.attrs.update(told)


def _wide(labels: Array) -> Array:
    """Return labels as uint64, or as they are if some are negative."""
    return labels if labels.min() < 0 else labels.astype(np.uint64)
