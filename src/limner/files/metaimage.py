"""MetaImages: `.mha`, and `.mhd`, whose voxels lie in a file of their own, and which is only read."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from limner import check
from limner.files import itk, packed
from limner.space import Array, Volume

KIND = "MetaImageIO"
#: The last entry of a header whose voxels follow, which is no longer than that.
LOCAL, LONGEST = re.compile(rb"^ElementDataFile\s*=\s*LOCAL\r?\n", re.MULTILINE), 1 << 16
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
    _check_packed(path)
    found = itk.reader(path, KIND)
    check.one_value(path, ["vector"] * (found.GetNumberOfComponents() > 1))
    if path.suffix.lower() == ".mha":
        check.enough_bytes(path, itk.promised(found), packed=True)
    header = itk.header(found, fields=itk.fields_of(found))
    return itk.voxels(found, path, dtype=dtype), header.affine, header


def _check_packed(path: Path) -> None:
    """Refuse voxels in the file itself that are compressed and damaged.

    Raises:
        InputError: with the reason.
    """
    with path.open("rb") as file:
        content = file.read(LONGEST)
    header = LOCAL.search(content)
    if header and re.search(rb"^CompressedData\s*=\s*True", content[: header.end()], re.MULTILINE):
        packed.check_whole(path, start=header.end(), kind=packed.ZLIB)


def write(volume: Volume, path: Path) -> None:
    """Write a volume, with the geometry and the fields it came with if that was by ITK.

    Written here, because ITK takes no notice of a disk that is full.

    Raises:
        OSError: if the disk refuses.
    """
    kept = itk.header_for(volume)
    data = volume.data.astype(volume.data.dtype.newbyteorder("<"), copy=False)
    content = zlib.compress(data.tobytes(order="F"), itk.LEVEL)
    # MetaImage lists the directions axis by axis.
    entries = {
        "ObjectType": "Image",
        "NDims": data.ndim,
        "BinaryData": True,
        "BinaryDataByteOrderMSB": False,
        "CompressedData": True,
        "CompressedDataSize": len(content),
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
        file.write(content)


def _row(numbers: Iterable[float]) -> str:
    """Return numbers to the last digit, apart by spaces."""
    return " ".join(repr(number) for number in np.array(numbers).tolist())
