"""What OME-Zarr 0.4 and 0.5 say of an image in several scales: its axes, their units, scale and translation.

Read are images (or labels) of two or three axes of space; axes of channels or time if they have one element.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from limner import check
from limner.files.nanometres import PER_MM, attributes, in_nanometres, nanometres, placed
from limner.files.pyramids import Level
from limner.space import Array, Grid, Kind
from limner.space.grid import oriented_axes

Version: TypeAlias = Literal["0.4", "0.5"]
#: Attributes of an array that what OME says goes before.
GEOMETRY = ("resolution", "voxel_size", "offset", "units", "unit")
#: What axes are called, by the axis of the world that they follow.
NAMES = "xyz"
#: How many of each unit are a mm.
UNITS = {"nm": ("nanometer", 1e6), "mm": ("millimeter", 1.0)}
#: Of the versions before 0.3, which do not name them.
FIVE = "tczyx"


@dataclass(frozen=True, eq=False)
class Slice:
    """An array on disk with some of its axes left out, of which each has one element.

    Args:
        array: all of it.
        kept: the axes that are left.
    """

    array: Any
    kept: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what is left."""
        return tuple(self.array.shape[axis] for axis in self.kept)

    @property
    def ndim(self) -> int:
        """Axes that are left."""
        return len(self.kept)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of its numbers."""
        dtype: np.dtype[Any] = np.dtype(self.array.dtype)
        return dtype

    def __getitem__(self, slices: Any) -> Array:
        """Return a part of what is left; all of it if asked for `...`."""
        asked = [slice(None)] * self.ndim if slices is ... else list(slices)
        whole: list[Any] = [0] * self.array.ndim
        for axis, part in zip(self.kept, asked, strict=True):
            whole[axis] = part
        return np.asarray(self.array[tuple(whole)])


def finest(group: Any, path: Path, *, ids: bool) -> tuple[Any, dict[str, Any]] | None:
    """Return the finest scale of an OME image, unread, with attributes in our words; None of another group.

    Args:
        group: of a store.
        path: of it.
        ids: whether the labels that belong to the image are wanted, where there are some.

    Raises:
        InputError: for several images, several labels, several channels or times, or an unknown unit.
    """
    told = _told(group)
    if "bioformats2raw.layout" in told:
        series = sorted(name for name, _ in group.groups() if name.isdecimal())
        check.one_of(path, series, what="images")
        return finest(group[series[0]], path, ids=ids)
    if "multiscales" not in told:
        return None
    names = list(_told(group["labels"]).get("labels", [])) if ids and "labels" in group else []
    if names:
        check.one_of(path / "labels", names, what="labels")
        return finest(group["labels"][names[0]], path, ids=False)
    return _image(group, told["multiscales"][0], path=path)


def _told(group: Any) -> dict[str, Any]:
    """Return what a group says as OME asks; since 0.5 under a name of its own."""
    attributes = dict(group.attrs)
    return dict(attributes.get("ome", attributes))


def _image(group: Any, scales: Mapping[str, Any], *, path: Path) -> tuple[Any, dict[str, Any]]:
    """Return the first scale of an image and its attributes."""
    first = scales["datasets"][0]
    array = group[first["path"]]
    axes = [{"name": axis} if isinstance(axis, str) else dict(axis) for axis in scales.get("axes", FIVE)]
    spatial = tuple(index for index, axis in enumerate(axes) if _is_space(axis))
    others = [index for index in range(len(axes)) if index not in spatial]
    sizes = {axes[index]["name"]: array.shape[index] for index in others}
    check.one_value(path, [f"{size} along {name}" for name, size in sizes.items() if size > 1])
    own = dict(array.attrs)
    if others:
        warnings.warn(
            check.squeezed(path, array.shape, kept=tuple(array.shape[axis] for axis in spatial)), stacklevel=7
        )
        array = Slice(array, spatial)
    transforms = [*first.get("coordinateTransformations", ()), *scales.get("coordinateTransformations", ())]
    geometry = _geometry([axes[index] for index in spatial], _combined(transforms, spatial), path=path)
    if not geometry:
        return array, own
    rest = {key: value for key, value in own.items() if key not in GEOMETRY}
    return array, {**geometry, **rest}


def _is_space(axis: Mapping[str, Any]) -> bool:
    """Tell whether an axis is one of space."""
    return bool(axis.get("type", "space" if axis["name"] in NAMES else "") == "space")


def _combined(transforms: Sequence[Mapping[str, Any]], spatial: Sequence[int]) -> tuple[Array, Array] | None:
    """Return scale and translation (D,) of transforms one after another; None if there is no scale."""
    scale, translation, scaled = np.ones(len(spatial)), np.zeros(len(spatial)), False
    for transform in transforms:
        if transform["type"] == "scale":
            factors = np.asarray(transform["scale"], np.float64)[list(spatial)]
            scale, translation, scaled = scale * factors, translation * factors, True
        elif transform["type"] == "translation":
            translation = translation + np.asarray(transform["translation"], np.float64)[list(spatial)]
    return (scale, translation) if scaled else None


def _geometry(axes: Sequence[Mapping[str, Any]], placing: tuple[Array, Array] | None, *, path: Path) -> dict[str, Any]:
    """Return where voxels are as attributes of ours; nothing if there is no scale, or one of 1 without a unit.

    Another one without a unit is taken as micrometres, as in OME-TIFF, after a warning.

    Raises:
        InputError: for an unknown unit, or a scale that is not positive.
    """
    units = [axis.get("unit") for axis in axes]
    if placing is None or (None in units and (placing[0] == 1).all()):
        return {}
    if None in units:
        warnings.warn(check.no_unit(path), stacklevel=8)
        units = [unit or "micrometer" for unit in units]
    check.resolution(*placing, path=path)
    factors = in_nanometres(units, path, axes=len(axes)) / PER_MM
    sizes, offset = (nanometres(lengths * factors) for lengths in placing)
    names, usual = [axis["name"] for axis in axes], list(NAMES[: len(axes)])[::-1]
    if names != usual and sorted(names) == sorted(usual):
        return {"affine": placed(sizes, offset, axes=[NAMES.index(name) for name in names]).tolist()}
    return {"resolution": sizes, "offset": offset}


@dataclass(frozen=True, eq=False)
class Description:
    """What OME is told of an image.

    Args:
        grid: of its finest scale.
        kind: what it is.
        name: what it is called.
        version: of OME-Zarr.
    """

    grid: Grid
    kind: Kind
    name: str
    version: Version

    @property
    def axes(self) -> list[str]:
        """What the axes are called, as stored."""
        return [NAMES[axis] for axis in oriented_axes(self.grid.affine)[0]]

    @property
    def format(self) -> Literal[2, 3]:
        """Version of Zarr."""
        return 2 if self.version == "0.4" else 3

    def attributes(self, pyramid: Sequence[Level], *, source: str | None = None) -> dict[str, Any]:
        """Return the attributes of the group.

        Args:
            pyramid: the scales, called 0, 1 and so on.
            source: where the image that labels belong to lies, from where they are.
        """
        unit, _ = UNITS[self.grid.unit[0]]
        scales = {
            "name": self.name,
            "axes": [{"name": name, "type": "space", "unit": unit} for name in self.axes],
            "datasets": [self._dataset(index, level) for index, level in enumerate(pyramid)],
            "type": "mean" if self.kind == "image" else "mode",
        }
        label: dict[str, Any] = {} if source is None else {"source": {"image": source}}
        told = {"multiscales": [scales]} | ({} if self.kind == "image" else {"image-label": label})
        return self.wrapped(told)

    def wrapped(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """Return attributes with the version, where each version of OME-Zarr has it."""
        if self.version != "0.4":
            return {"ome": {"version": self.version, **told}}
        scales = [{**one, "version": "0.4"} for one in told.get("multiscales", ())]
        label = {"image-label": {**told["image-label"], "version": "0.4"}} if "image-label" in told else {}
        return {**told, **({"multiscales": scales} if scales else {}), **label}

    def told(self, level: Level) -> dict[str, Any]:
        """Return the attributes of the array of a scale, as other arrays have them, which say what OME cannot."""
        factors = np.array(level.factors)
        affine = self.grid.affine @ np.diag([*factors, 1])
        affine[:-1, -1] = self.grid.world((factors - 1) / 2)
        return attributes(Grid(level.box.shape, affine))

    @property
    def _is_plain(self) -> bool:
        """Whether scale and translation say where voxels are."""
        axes = oriented_axes(self.grid.affine)[0]
        sizes, offset = nanometres(self.grid.voxel_sizes), nanometres(self.grid.affine[list(axes), -1])
        return np.array_equal(placed(sizes, offset, axes=axes), self.grid.affine)

    def _dataset(self, index: int, level: Level) -> dict[str, Any]:
        """Return what is said of one scale; a voxel lies in the middle of those that it stands for."""
        _, per_mm = UNITS[self.grid.unit[0]]
        axes = oriented_axes(self.grid.affine)[0]
        sizes = self.grid.voxel_sizes * per_mm
        offset = self.grid.affine[list(axes), -1] * per_mm if self._is_plain else np.zeros(len(sizes))
        scale, translation = sizes * level.factors, offset + sizes * (np.array(level.factors) - 1) / 2
        transforms = [
            {"type": "scale", "scale": _digits(scale)},
            {"type": "translation", "translation": _digits(translation)},
        ]
        return {"path": str(index), "coordinateTransformations": transforms}


def _digits(lengths: Array) -> list[float]:
    """Return lengths in the twelve digits that survive the way through mm."""
    return [float(f"{length:.12g}") for length in lengths.tolist()]
