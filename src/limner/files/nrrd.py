"""NRRD images: `.nrrd`, and `.nhdr`, whose voxels lie in a file of their own, and which is only read."""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from limner import check
from limner.files import itk, packed
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
    check.one_value(
        path, [kind for kind in fields.get("kinds", "").lower().split() if kind not in ("domain", "space", "???")]
    )
    _check_packed(path, fields)
    found = itk.reader(path, KIND)
    if path.suffix.lower() == ".nrrd":
        check.enough_bytes(path, itk.promised(found), packed=fields.get("encoding", "raw").lower() != "raw")
    placed = "space directions" in fields
    header = itk.header(found, fields=itk.fields_of(found), placed=placed)
    data = itk.voxels(found, path, dtype=dtype)
    if not placed:
        return data, _spaced(path, header, told="spacings" in fields), header
    if "space" not in fields:
        warnings.warn(check.no_space(path), stacklevel=4)
    units = {unit for unit in fields.get("space units", "").lower().replace('"', " ").split() if unit not in ("mm", "")}
    for unit in sorted(units):
        warnings.warn(check.other_unit(path, unit), stacklevel=4)
    return data, header.affine, header


def _check_packed(path: Path, fields: Mapping[str, str]) -> None:
    """Refuse voxels that are compressed by gzip and damaged.

    Raises:
        InputError: with the reason.
    """
    if fields.get("encoding", "").lower() not in ("gz", "gzip"):
        return
    name = fields.get("data file") or fields.get("datafile")
    if name is None:
        packed.check_whole(path, start=len(_header(path)))
    elif (path.parent / name).is_file():
        packed.check_whole(path.parent / name)


def _spaced(path: Path, header: itk.Header, *, told: bool) -> Array | None:
    """Return the affine of a file without directions, of voxel sizes alone; none if they are not told either."""
    if not told:
        return None
    warnings.warn(check.no_directions(path, header.spacing), stacklevel=5)
    return np.diag([*header.spacing, 1.0])


def entries(path: Path) -> dict[str, str]:
    """Return the fields of a header by their names, which are in lower case.

    Raises:
        InputError: if the file is none.
    """
    lines = _header(path).decode("latin-1").splitlines()[1:]
    pairs = (line.partition(": ") for line in lines if not line.startswith("#") and ":=" not in line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs if value}


def _header(path: Path) -> bytes:
    """Return the header of a file, up to the empty line that ends it.

    Raises:
        InputError: if the file is none.
    """
    with path.open("rb") as file:
        content = file.read(LONGEST)
    if not content.startswith(MAGIC):
        raise check.unreadable(path, "it does not begin as NRRD files do")
    ends = [content.find(mark) + len(mark) for mark in (b"\n\n", b"\r\n\r\n") if mark in content]
    return content[: min(ends, default=len(content))]


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
        with gzip.GzipFile("", "wb", itk.LEVEL, file, mtime=0) as stream:
            stream.write(data.tobytes(order="F"))


def _vector(numbers: Iterable[float]) -> str:
    """Return numbers as NRRD writes vectors, to the last digit."""
    return f"({','.join(repr(float(number)) for number in numbers)})"
