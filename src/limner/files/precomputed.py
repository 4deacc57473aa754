"""neuroglancer's precomputed volumes, `.precomputed`, written in several scales; images raw, ids packed.

A folder with `info` and one of chunks for each scale, that any server of files can offer: axes are x, y, z, in nm.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from limner.files import compressed
from limner.files.coordinates import counted
from limner.files.pyramids import Level, Watch, fill, levels, parts, unwatched
from limner.files.sources import Source
from limner.space import Array, Box, Volume

#: Voxels along each axis of a chunk, which is a file, and of what is written at a time.
CHUNK, PART = (64, 64, 64), (256, 256, 256)


def write(volume: Volume, path: Path) -> None:
    """Write a volume into a folder that is new or empty.

    Raises:
        OSError: if the disk refuses.
    """
    stream(Source.of(volume), path)


def stream(source: Source, path: Path, *, watch: Watch = unwatched) -> None:
    """Write voxels, part by part, into a folder that is new or empty, after a warning of what is lost of their place.

    Raises:
        OSError: if the disk refuses.
    """
    upright = source.upright().unsigned(path, least=4)
    box, sizes = counted(upright.grid, path.suffix)
    pyramid = levels(box, sizes)
    packed = source.kind != "image"
    scales = [Scale(path / _key(level, sizes), level.box, upright.dtype, packed=packed) for level in pyramid]
    info = {
        "@type": "neuroglancer_multiscale_volume",
        "type": "image" if source.kind == "image" else "segmentation",
        "data_type": upright.dtype.name,
        "num_channels": 1,
        "scales": [scale.info(level, sizes) for scale, level in zip(scales, pyramid, strict=True)],
    }
    (path / "info").write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
    fill(upright, scales, pyramid=pyramid, watch=watch)


def _key(level: Level, sizes: Sequence[float]) -> str:
    """Return what a scale is called: its voxel sizes x, y, z in nm."""
    return "_".join(f"{size:.12g}" for size in reversed(np.multiply(sizes, level.factors)))


@dataclass(frozen=True, eq=False)
class Scale:
    """One scale.

    Args:
        folder: of its chunks.
        box: of its voxels, z, y, x.
        dtype: of them.
        packed: whether chunks are as `compressed` makes them.
    """

    folder: Path
    box: Box
    dtype: np.dtype[Any]
    packed: bool
    block: tuple[int, ...] = PART

    def __post_init__(self) -> None:
        """Make the folder."""
        self.folder.mkdir(parents=True)

    def info(self, level: Level, sizes: Sequence[float]) -> dict[str, Any]:
        """Return what `info` says of the scale; `sizes` (3,) are those of the finest voxels, nm."""
        how = {"encoding": "compressed_segmentation", "compressed_segmentation_block_size": list(compressed.BLOCK)}
        return {
            "key": self.folder.name,
            "size": list(reversed(self.box.shape)),
            "resolution": [float(f"{size:.12g}") for size in reversed(np.multiply(sizes, level.factors))],
            "voxel_offset": list(reversed(self.box.start)),
            "chunk_sizes": [list(reversed(CHUNK))],
            **(how if self.packed else {"encoding": "raw"}),
        }

    def write(self, box: Box, data: Array) -> None:
        """Write a part, chunk by chunk."""
        for chunk in parts(box, CHUNK, origin=self.box.start):
            inner = data[chunk.moved([-first for first in box.start]).slices]
            # In the order of memory of x, y, z in Fortran, which is that of z, y, x in C.
            content = np.ascontiguousarray(inner, self.dtype.newbyteorder("<"))
            self._file(chunk).write_bytes(compressed.packed(content) if self.packed else content.tobytes())

    def read(self, box: Box) -> Array:
        """Return voxels that were written."""
        found = np.zeros(box.shape, self.dtype)
        for part in parts(box, CHUNK, origin=self.box.start):
            chunk = self._around(part)
            there, here = (part.moved([-first for first in one.start]).slices for one in (chunk, box))
            found[here] = self._chunk(chunk)[there]
        return found

    def _around(self, part: Box) -> Box:
        """Return the chunk that a part lies in."""
        steps = (
            first + (start - first) // size * size
            for start, first, size in zip(part.start, self.box.start, CHUNK, strict=True)
        )
        start = tuple(steps)
        return Box(start, tuple(np.add(start, CHUNK).tolist())).intersected(self.box)

    def _chunk(self, box: Box) -> Array:
        """Return a chunk that was written."""
        content = self._file(box).read_bytes()
        if self.packed:
            return compressed.unpacked(content, box.shape, dtype=self.dtype)
        return np.frombuffer(content, self.dtype.newbyteorder("<")).reshape(box.shape)

    def _file(self, box: Box) -> Path:
        """Return the file of a chunk."""
        ranges = zip(reversed(box.start), reversed(box.stop), strict=True)
        return self.folder / "_".join(f"{start}-{stop}" for start, stop in ranges)
