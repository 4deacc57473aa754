"""WEBKNOSSOS datasets, `.webknossos`, written without its library: a Zarr 3 array for each magnification, and JSON.

A folder with `datasource-properties.json` and one for each layer, `color` or `segmentation`; axes are c, x, y, z.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from limner import check
from limner.files.coordinates import counted
from limner.files.pyramids import Level, Watch, fill, levels, unwatched
from limner.files.sources import Source
from limner.space import Array, Box, Volume

#: Voxels along each axis of a chunk, and of a file of chunks, in which parts are written.
CHUNK, SHARD = 32, 256
#: How WEBKNOSSOS calls types that numpy calls otherwise.
TYPES = {"float32": "float", "float64": "double"}
AXES = {"c": 0, "x": 1, "y": 2, "z": 3}


def write(volume: Volume, path: Path) -> None:
    """Write a volume into a folder that is new or empty.

    Raises:
        OSError: if the disk refuses.
    """
    stream(Source.of(volume), path)


def stream(
    source: Source,
    path: Path,
    *,
    labels: Source | None = None,
    name: str = "volume",
    watch: Watch = unwatched,
) -> None:
    """Write voxels, part by part, into a folder that is new or empty, after a warning of what is lost of their place.

    Args:
        source: the voxels.
        path: of the folder.
        labels: of an image, written as a layer beside it; their voxels coincide.
        name: of the dataset.
        watch: told how far it has come.

    Raises:
        OSError: if the disk refuses.
    """
    sources = [each.upright().unsigned(path) for each in (source, labels) if each]
    placed = [counted(each.grid, path.suffix) for each in sources]
    # Coordinates begin at 0; what lies before is moved there, all layers alike.
    lowest = np.minimum(0, np.min([box.start for box, _ in placed], axis=0)).tolist()
    if any(lowest):
        warnings.warn(check.moved_to_zero(path.suffix, [-first for first in reversed(lowest)]), stacklevel=3)
    layers = []
    for each, (box, sizes) in zip(sources, placed, strict=True):
        layers.append(_layer(each, path, pyramid=levels(box.moved([-first for first in lowest]), sizes), watch=watch))
    told = {
        "id": {"name": name, "team": ""},
        "dataLayers": layers,
        "scale": {"factor": placed[0][1][::-1], "unit": "nanometer"},
        "version": 1,
    }
    (path / "datasource-properties.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def _layer(source: Source, path: Path, *, pyramid: Sequence[Level], watch: Watch) -> dict[str, Any]:
    """Write a layer, and return what is said of it."""
    name = "color" if source.kind == "image" else "segmentation"
    targets = [Magnification(path / name / _name(level), level, dtype=source.dtype) for level in pyramid]
    fill(source, targets, pyramid=pyramid, origin=(0, 0, 0), watch=watch)
    box = pyramid[0].box
    width, height, depth = reversed(box.shape)
    mags = [
        {"mag": list(reversed(level.factors)), "path": f"./{name}/{_name(level)}", "axisOrder": AXES}
        for level in pyramid
    ]
    told = {
        "name": name,
        "category": name,
        "boundingBox": {"topLeft": list(reversed(box.start)), "width": width, "height": height, "depth": depth},
        "dataFormat": "zarr3",
        "mags": mags,
        "numChannels": 1,
        "elementClass": TYPES.get(source.dtype.name, source.dtype.name),
    }
    return told if source.kind == "image" else {**told, "largestSegmentId": targets[0].largest}


def _name(level: Level) -> str:
    """Return what a magnification is called: its factors along x, y, z, or the one that they have in common."""
    factors = [str(factor) for factor in reversed(level.factors)]
    return "-".join(factors) if len(set(factors)) > 1 else factors[0]


class Magnification:
    """One array of a layer, from the dataset's origin on.

    Args:
        path: of its folder.
        level: of the pyramid.
        dtype: of its voxels.
    """

    block = (SHARD, SHARD, SHARD)

    def __init__(self, path: Path, level: Level, *, dtype: np.dtype[Any]) -> None:
        import zarr
        from zarr.codecs import BloscCodec, TransposeCodec

        self.largest = 0
        self._array: Any = zarr.create_array(
            path,
            shape=(1, *reversed(level.box.stop)),
            dtype=np.dtype(dtype.str),
            chunks=(1, CHUNK, CHUNK, CHUNK),
            shards=(1, SHARD, SHARD, SHARD),
            # As in the library's own files: x fastest.
            filters=[TransposeCodec(order=(3, 2, 1, 0))],
            compressors=[BloscCodec(cname="zstd", shuffle="shuffle")],
            dimension_names=list(AXES),
        )

    def write(self, box: Box, data: Array) -> None:
        """Write a part, z, y, x."""
        self.largest = max(self.largest, int(data.max()))
        self._array[(0, *reversed(box.slices))] = data.transpose()

    def read(self, box: Box) -> Array:
        """Return a part that was written."""
        return np.asarray(self._array[(0, *reversed(box.slices))]).transpose()
