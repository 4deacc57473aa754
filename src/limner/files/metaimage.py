"""MetaImages: `.mha`, and `.mhd`, whose voxels lie in a file of their own, and which is only read."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from limner import check
from limner.files import itk
from limner.space import Array, Volume

KIND = "MetaImageIO"
NAMES = {
    "u1": "MET_UCHAR",
    "i1": "MET_CHAR",
    "u2": "MET_USHORT",
    "i2": "MET_SHORT",
    "u4": "MET_UINT",
    "i4": "MET_INT",
    "u8": "MET_ULONG_LONG",
    "i8": "MET_LONG_LONG",
    "f4": "MET_FLOAT",
    "f8": "MET_DOUBLE",
}


def read(path: Path, dtype: type | None) -> tuple[Array, Array, itk.Header]:
    """Return data (*S) in `dtype` (None: as stored), the affine (D+1, D+1) in mm, and the header.

    Raises:
        InputError: if the file is damaged, or holds several values per voxel.
    """
    found = itk.reader(path, KIND)
    check.one_value(path, ["vector"] * (found.GetNumberOfComponents() > 1))
    if path.suffix.lower() == ".mha":
        check.enough_bytes(path, itk.promised(found), packed=True)
    header = itk.header(found, fields=itk.fields_of(found))
    return itk.voxels(found, path, dtype=dtype), header.affine, header


def write(volume: Volume, path: Path) -> None:
    """Write a volume, with the geometry and the fields it came with if that was by ITK.

    Written here, because ITK takes no notice of a disk that is full.

    Raises:
        OSError: if the disk refuses.
    """
    kept = itk.header_for(volume)
    data = volume.data.astype(volume.data.dtype.newbyteorder("<"), copy=False)
    packed = zlib.compress(data.tobytes(order="F"), itk.LEVEL)
    # MetaImage lists the directions axis by axis.
    entries = {
        "ObjectType": "Image",
        "NDims": data.ndim,
        "BinaryData": True,
        "BinaryDataByteOrderMSB": False,
        "CompressedData": True,
        "CompressedDataSize": len(packed),
        "TransformMatrix": _row(kept.matrix.T.ravel()),
        "Offset": _row(kept.origin),
        "ElementSpacing": _row(kept.spacing),
        **dict(kept.fields),
        "DimSize": _row(data.shape),
        "ElementType": NAMES[data.dtype.str[1:]],
        "ElementDataFile": "LOCAL",
    }
    with path.open("wb") as file:
        file.write("".join(f"{name} = {value}\n" for name, value in entries.items()).encode())
        file.write(packed)


def _row(numbers: Iterable[float]) -> str:
    """Return numbers to the last digit, apart by spaces."""
    return " ".join(repr(number) for number in np.array(numbers).tolist())
