"""NRRD images: `.nrrd`, and `.nhdr`, whose voxels lie in a file of their own, and which is only read."""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from limner import check
from limner.files import itk
from limner.space import Array, Volume

KIND = "NrrdImageIO"
REAL = {"float32": "float", "float64": "double"}
MAGIC = b"NRRD000"
#: No header is as long; what is, is no header.
LONGEST = 1 << 20


def read(path: Path, dtype: type | None) -> tuple[Array, Array | None, itk.Header]:
    """Return data (*S) in `dtype` (None: as stored), the affine (D+1, D+1) in mm if the file says it, and the header.

    Warns about a file that does not say where its axes lead, or in which space or unit they are.

    Raises:
        InputError: if the file is damaged, or holds several values per voxel.
    """
    fields = entries(path)
    check.one_value(path, [kind for kind in fields.get("kinds", "").split() if kind not in ("domain", "space", "???")])
    found = itk.reader(path, KIND)
    if path.suffix.lower() == ".nrrd":
        check.enough_bytes(path, itk.promised(found), packed=fields.get("encoding", "raw") != "raw")
    placed = "space directions" in fields
    header = itk.header(found, fields=itk.fields_of(found), placed=placed)
    data = itk.voxels(found, path, dtype=dtype)
    if not placed:
        return data, _spaced(path, header, told="spacings" in fields), header
    if "space" not in fields:
        warnings.warn(check.no_space(path), stacklevel=4)
    units = {unit for unit in fields.get("space units", "").replace('"', " ").split() if unit not in ("mm", "")}
    for unit in sorted(units):
        warnings.warn(check.other_unit(path, unit), stacklevel=4)
    return data, header.affine, header


def _spaced(path: Path, header: itk.Header, *, told: bool) -> Array | None:
    """Return the affine of a file without directions, of voxel sizes alone; none if they are not told either."""
    if not told:
        return None
    warnings.warn(check.no_directions(path, header.spacing), stacklevel=5)
    return np.diag([*header.spacing, 1.0])


def entries(path: Path) -> dict[str, str]:
    """Return the fields of a header, in lower case, by their names.

    Raises:
        InputError: if the file is none.
    """
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise check.unreadable(path, "it does not begin as NRRD files do")
        text = file.read(LONGEST).replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    lines = text.decode("latin-1").lower().splitlines()[1:]
    pairs = (line.partition(": ") for line in lines if not line.startswith("#") and ":=" not in line)
    return {name.strip(): value.strip() for name, _, value in pairs if value}


def write(volume: Volume, path: Path) -> None:
    """Write a volume, with the geometry and the fields it came with if that was by ITK.

    Written here, because ITK takes no notice of a disk that is full.

    Raises:
        OSError: if the disk refuses.
    """
    kept = itk.header_for(volume)
    data = volume.data.astype(volume.data.dtype.newbyteorder("<"), copy=False)
    vectors = (kept.matrix * kept.spacing).T
    lines = [
        "NRRD0004",
        f"type: {REAL.get(data.dtype.name, data.dtype.name)}",
        f"dimension: {data.ndim}",
        "space: left-posterior-superior" if data.ndim == len(itk.LPS) else f"space dimension: {data.ndim}",
        f"sizes: {' '.join(map(str, data.shape))}",
        f"space directions: {' '.join(map(_vector, vectors))}",
        f"kinds:{' domain' * data.ndim}",
        "endian: little",
        "encoding: gzip",
        f"space origin: {_vector(kept.origin)}",
        *(f"{name}:={value}" for name, value in kept.fields),
    ]
    with path.open("wb") as file:
        file.write("\n".join([*lines, "", ""]).encode())
        # No name and no time, so that files are the same each time.
        with gzip.GzipFile("", "wb", itk.LEVEL, file, mtime=0) as packed:
            packed.write(data.tobytes(order="F"))


def _vector(numbers: Iterable[float]) -> str:
    """Return numbers as NRRD writes vectors, to the last digit."""
    return f"({','.join(repr(float(number)) for number in numbers)})"
