"""N5, `.n5`, read through tensorstore, which is an extra: an array of a container, or a container of a single one.

N5 tells shapes, voxel sizes and offsets as x, y, z; here they are z, y, x.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from limner import check
from limner.files.hdf5 import LABELS, RAW
from limner.files.nanometres import affine_of
from limner.space import Array

ATTRIBUTES = "attributes.json"
#: What the finest of several scales is called.
FINEST = "s0"


def read(path: Path, dtype: type | None) -> tuple[Array, Array | None, None]:
    """Return data (*S) in `dtype` (None: as stored), affine (D+1, D+1) in mm if there is a resolution, and no header.

    Read is the image of a container that holds ids too.

    Raises:
        InputError: as `handle` does.
    """
    return _named(path, RAW, dtype=dtype)


def read_ids(path: Path, dtype: type | None) -> tuple[Array, Array | None, None]:
    """Return the same of the neuron ids.

    Raises:
        InputError: as `handle` does.
    """
    return _named(path, LABELS, dtype=dtype)


def _named(path: Path, name: str, *, dtype: type | None) -> tuple[Array, Array | None, None]:
    """Return data, affine and no header of the array called `name`."""
    array, told = handle(path, name)
    data = array[...]
    return data if dtype is None else data.astype(dtype, copy=False), affine_of(told, path), None


def handle(path: Path, name: str) -> tuple[Stored, dict[str, Any]]:
    """Return the array called `name` of a container, or the only one, unread, and its attributes in our words.

    Raises:
        InputError: without tensorstore; if the container is damaged, or it is not evident which array is meant.
    """
    tensorstore = library(path)
    try:
        folder = _chosen(path, name)
        told = {**(_attributes(folder.parent) if folder.name == FINEST else {}), **_attributes(folder)}
        spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{folder}{os.sep}"}}
        found = Stored(tensorstore.open(spec, read=True).result().T)
        check.numeric(found.dtype, path)
        return found, _geometry(told)
    except check.InputError:
        raise
    except Exception as error:
        # tensorstore has no errors of its own, and attributes may be anything.
        raise check.unreadable(path, error) from error


def library(path: Path) -> Any:
    """Return tensorstore.

    Raises:
        InputError: if it is not installed.
    """
    try:
        import tensorstore
    except ImportError as error:
        raise check.without_tensorstore(path) from error
    return tensorstore


@dataclass(frozen=True, eq=False)
class Stored:
    """An array that tensorstore has opened; what is asked of it is read then.

    Args:
        array: z, y, x.
    """

    array: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along each axis."""
        return tuple(self.array.shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of its numbers."""
        dtype: np.dtype[Any] = np.dtype(self.array.dtype.numpy_dtype)
        return dtype

    def __getitem__(self, slices: Any) -> Array:
        """Return a part, as far as there is one; all of it if asked for `...`."""
        if slices is not ...:
            # tensorstore, unlike others, refuses to be asked for more than there is.
            slices = tuple(slice(*part.indices(size)) for part, size in zip(slices, self.shape, strict=True))
        return np.asarray(self.array[slices].read().result())


def _chosen(path: Path, name: str) -> Path:
    """Return the folder of the array that is meant.

    Raises:
        InputError: if that is not evident.
    """
    found = {folder.relative_to(path).as_posix(): folder for folder in _arrays(path)}
    # Of several scales the finest stands for all.
    scales = {key.rpartition("/")[0] or "." for key in found if key.rpartition("/")[2] == FINEST}
    images = {key: folder for key, folder in found.items() if (key.rpartition("/")[0] or ".") not in scales}
    images |= {key: path / key / FINEST for key in scales}
    if name not in images and len(images) != 1:
        raise check.ambiguous_arrays(path, sorted(images), key=name)
    return images[name] if name in images else next(iter(images.values()))


def _arrays(folder: Path) -> Iterator[Path]:
    """Yield the folders that are arrays, none of which lies in another."""
    if "dimensions" in _attributes(folder):
        yield folder
        return
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        yield from _arrays(inner)


def _attributes(folder: Path) -> dict[str, Any]:
    """Return what a folder says of itself.

    Raises:
        InputError: if it is damaged.
    """
    path = folder / ATTRIBUTES
    if not path.exists():
        return {}
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise check.unreadable(path, error) from error
    return told if isinstance(told, dict) else {}


def _geometry(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return where voxels lie as attributes of ours, from those of the N5 viewer, Paintera and COSEM."""
    transform, sizes = told.get("transform"), told.get("pixelResolution")
    if isinstance(transform, dict) and "scale" in transform:
        # In the order of axes that it names itself.
        lengths, offset = transform["scale"], transform.get("translate")
        reverse = next(iter(transform.get("axes", "zyx"))) == "x"
        units = transform.get("units", "nm")
    else:
        lengths = told.get("resolution", sizes.get("dimensions") if isinstance(sizes, dict) else sizes)
        offset, units, reverse = told.get("offset"), told.get("units", told.get("unit", "nm")), True
        units = sizes.get("unit", units) if isinstance(sizes, dict) and "resolution" not in told else units
    if lengths is None:
        return {}
    turned = slice(None, None, -1 if reverse else 1)
    units = units if isinstance(units, str) else list(units)[turned]
    return {"resolution": list(lengths)[turned], "units": units} | ({"offset": list(offset)[turned]} if offset else {})
