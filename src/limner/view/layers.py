"""What is shown of files: a layer each, and one of the errors; voxels are read as they are looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, count
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from limner.evaluation import common_boxes
from limner.files import is_store, stem, storing, suffix
from limner.files.affinities import StoredAffinities
from limner.files.unread import UnreadVolume
from limner.space import Array, Box, Grid, LabelTable
from limner.view.errors import INSTANCES, STRUCTURES, Errors, Pair, Slices, Voxels, differences

Role: TypeAlias = Literal["image", "labels", "affinities", "truth", "errors"]
#: Types of grey values that the browser draws; others are made float32.
GREY = tuple(np.dtype(name) for name in ("u1", "i1", "u2", "i2", "u4", "i4", "f4"))
#: Voxels along each axis, about the middle, by which the contrast is chosen.
SAMPLE = 128


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer of the viewer.

    Args:
        name: unique among the layers.
        role: what it shows.
        grid: (3-D) of its voxels.
        dtype: of what is read: unsigned where they are ids.
        voxels: where they are read from.
        channels: how many there are; affinities have 1 to 3, before the other axes.
        window: grey values shown as black and as white.
        instances: whether ids mean nothing but that voxels belong together.
        names: of ids, where they have some.
        colours: red, green, blue of ids, 0 to 255.
        visible: from the beginning.
    """

    name: str
    role: Role
    grid: Grid
    dtype: np.dtype[Any]
    voxels: Voxels
    channels: int = 0
    window: tuple[float, float] | None = None
    instances: bool = False
    names: Mapping[int, str] = field(default_factory=dict)
    colours: Mapping[int, tuple[int, int, int]] = field(default_factory=dict)
    visible: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array, (*S) or (C, *S)."""
        return ((self.channels,) if self.channels else ()) + self.grid.shape

    def read(self, slices: Slices) -> Array:
        """Return a part of the array, in its type; ids below 0 are 0, since there are none in the browser."""
        data = self.voxels.read(slices)
        if self.dtype.kind == "u" and data.dtype.kind == "i":
            data = np.maximum(data, 0)
        return np.ascontiguousarray(data, self.dtype)


def layers_of(
    image: Path,
    *,
    labels: Sequence[Path] = (),
    affinities: Path | None = None,
    truth: Path | None = None,
    table: LabelTable,
    instances: bool | None = None,
) -> list[Layer]:
    """Return the layers of files whose voxels coincide with the image's, wherever they begin and end.

    Args:
        image: a scan or a volume.
        labels: label maps, or instances.
        affinities: with their offsets.
        truth: reference labels; what differs from each of `labels` is a layer of its own.
        table: names and colours of ids, unless they mean instances.
        instances: whether they do; as the format of each file says if None.

    Raises:
        InputError: for a file that cannot be read, affinities without offsets, or voxels that do not coincide with the
            image's.
    """
    named = _Names()
    shown = [_image(image, named(image, "image"))]
    if affinities:
        shown.append(_affinities(affinities, named(affinities, "affinities"), visible=not labels))
    found = [_labels(path, named(path, "labels"), table=table, instances=instances) for path in labels]
    true: list[Layer] = []
    if truth:
        layer = _labels(truth, named(truth, "truth"), table=table, instances=instances)
        true = [replace(layer, role="truth", visible=not found)]
        # The many colours of instances would hide those of errors.
        found = [replace(layer, visible=not layer.instances) for layer in found]
    for layer in [*shown[1:], *found, *true]:
        common_boxes(layer.grid, shown[0].grid, case=shown[0].name, names=(f"{layer.role} '{layer.name}'", "image"))
    return [*shown, *found, *true, *(_errors(each, reference) for each in found for reference in true)]


class _Names:
    """Names files by their stems, led by their folder or followed by their role where that is taken."""

    def __init__(self) -> None:
        self._taken: dict[str, Path] = {}

    def __call__(self, path: Path, role: Role) -> str:
        """Return a name that no layer has yet."""
        own, place = stem(path), path.absolute()
        longer = [f"{place.parent.name}_{own}", f"{own} ({role})"]
        # A file may hold an image and ids.
        longer = longer[::-1] if place in self._taken.values() else longer
        choices = chain([own], longer, (f"{own} ({role} {number})" for number in count(2)))
        name = next(name for name in choices if name not in self._taken)
        self._taken[name] = place
        return name


def _image(path: Path, name: str) -> Layer:
    """Return the layer of an image, in a contrast that suits its middle."""
    volume = UnreadVolume.opened(path)
    stored = volume.array.dtype.newbyteorder("=")
    dtype = stored if stored in GREY else np.dtype(np.uint8 if stored.kind == "b" else np.float32)
    return Layer(name, "image", volume.grid, dtype, volume, window=_window(volume))


def _window(volume: UnreadVolume) -> tuple[float, float]:
    """Return the grey values to show as black and as white: few lie outside, the lowest aside, which is mostly air."""
    starts = [max(0, (size - SAMPLE) // 2) for size in volume.grid.shape]
    values = volume.read(tuple(slice(start, start + SAMPLE) for start in starts)).astype(np.float32)
    values = values[np.isfinite(values)]
    inside = values[values > values.min(initial=np.inf)]
    if not inside.size:
        return 0.0, 1.0
    low, high = np.percentile(inside, [0.5, 99.7])
    return float(low), float(high if high > low else low + 1)


def _labels(path: Path, name: str, *, table: LabelTable, instances: bool | None) -> Layer:
    """Return the layer of a file of labels or instances; of labels that are few, with names and colours."""
    many = suffix(path) in storing.MICROSCOPES if instances is None else instances
    volume = UnreadVolume.opened(path, kind="instances" if many else "labels")
    dtype = np.dtype(f"u{volume.array.dtype.itemsize}")
    known = [label for label in table.labels if label.id and not many]
    if known and volume.in_memory:
        there = set(np.unique(volume.array).tolist())
        known = [label for label in known if label.id in there]
    return Layer(
        name,
        "labels",
        volume.grid,
        dtype,
        volume,
        instances=many,
        names={label.id: label.name for label in known},
        colours={label.id: label.colour for label in known},
    )


@dataclass(frozen=True, eq=False)
class _Neighbours:
    """Affinities of direct neighbours.

    Args:
        stored: all of them.
        chosen: (C,) channels.
        grid: of three axes, where the affinities may have two.
    """

    stored: StoredAffinities
    chosen: tuple[int, ...]
    grid: Grid

    def read(self, slices: Slices) -> Array:
        """Return a part, (C, *box)."""
        channels, *box = slices
        start, stop, _ = zip(
            *(part.indices(size) for part, size in zip(box, self.grid.shape, strict=True)), strict=True
        )
        inner = Box(start, stop)
        D = self.stored.grid.dimensions
        data = self.stored.read(Box(inner.start[:D], inner.stop[:D]), self.chosen[channels])
        return data.reshape(len(data), *inner.shape)


def _affinities(path: Path, name: str, *, visible: bool) -> Layer:
    """Return the layer of affinities: between direct neighbours along the last axis, the one before, and the first."""
    stored = (StoredAffinities.opened if is_store(path) else StoredAffinities.in_file)(path)
    direct = [channel for channel, offset in enumerate(stored.offsets) if sum(map(abs, offset)) == 1]
    near = {int(np.flatnonzero(stored.offsets[channel])[0]): channel for channel in direct}
    chosen = tuple(near[axis] for axis in sorted(near, reverse=True)) or (0,)
    grid = stored.grid.thick()
    dtype = np.dtype(np.uint8 if stored.array.dtype == np.uint8 else np.float32)
    voxels = _Neighbours(stored, chosen, grid)
    return Layer(name, "affinities", grid, dtype, voxels, channels=len(chosen), visible=visible)


def _errors(labels: Layer, truth: Layer) -> Layer:
    """Return the layer of where labels differ from the truth."""
    boxes = common_boxes(labels.grid, truth.grid, case=labels.name, names=("labels", "truth"))
    kinds = INSTANCES if truth.instances else STRUCTURES
    pair = Pair(labels, truth, boxes)
    compare = pair.matched().errors if truth.instances else differences
    return Layer(
        f"errors of {labels.name}",
        "errors",
        labels.grid.cropped(boxes[0]),
        np.dtype(np.uint8),
        Errors(pair, compare),
        names={error: name for error, (name, _) in kinds.items()},
        colours={error: colour for error, (_, colour) in kinds.items()},
    )
