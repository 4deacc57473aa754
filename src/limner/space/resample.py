"""A volume on another grid, or with its axes in another order."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limner import check
from limner.space.grid import LETTERS, Grid, Volume, oriented_axes


def resampled(volume: Volume, grid: Grid) -> Volume:
    """Return the volume on `grid`: images by linear interpolation, others by nearest neighbour, zero outside.

    Returns:
        Volume with data of `grid.shape`: images as float32, others in their own type. A matching grid changes no value.
    """
    from scipy import ndimage

    labels = volume.kind != "image"
    dtype = volume.data.dtype if labels else np.dtype(np.float32)
    if volume.grid.matches(grid):
        return replace(volume, data=volume.data.astype(dtype, copy=False), grid=grid)
    if volume.kind == "instances":
        # Not the ids themselves, which would pass through floating point, where they run together from 2**53 on.
        names = np.unique(np.append(volume.data.reshape(-1), dtype.type(0)))
        ranks = np.searchsorted(names, volume.data).astype(np.int32)
        data = names[resampled(replace(volume, data=ranks, kind="labels"), grid).data]
        return replace(volume, data=data, grid=grid)
    matrix = np.linalg.inv(volume.grid.affine) @ grid.affine
    data = ndimage.affine_transform(
        volume.data,
        matrix[:-1, :-1],
        matrix[:-1, -1],
        output_shape=grid.shape,
        output=dtype,
        order=0 if labels else 1,
        # Unlike "constant", this keeps the outer half of the voxels at the border.
        mode="grid-constant",
    )
    return replace(volume, data=data, grid=grid)


def reoriented(volume: Volume, orientation: str) -> Volume:
    """Return the volume with its axes permuted and flipped so that they lead where `orientation` says, such as "RAS".

    Every voxel keeps its value and its place in the world. The data are contiguous; an orientation that is already
    right gives back the volume itself.

    Raises:
        InputError: if `orientation` does not name each world axis once.
    """
    wanted = named_axes(orientation, volume.grid.dimensions)
    axes, signs = oriented_axes(volume.grid.affine)
    order = [axes.index(axis) for axis, _ in wanted]
    flips = [signs[source] != sign for source, (_, sign) in zip(order, wanted, strict=True)]
    if order == sorted(order) and not any(flips):
        return volume
    turned = volume.data.transpose(order)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    turn = _turn(turned.shape, order, flips=flips)
    return replace(volume, data=np.ascontiguousarray(turned), grid=Grid(turned.shape, volume.grid.affine @ turn))


def named_axes(orientation: str, dimensions: int) -> list[tuple[int, int]]:
    """Return the world axis and the direction, 1 or -1, that each letter of an orientation names.

    Raises:
        InputError: if they do not name each world axis once.
    """
    named = [
        (axis, 1 if letter == pair[1] else -1)
        for letter in orientation
        for axis, pair in enumerate(LETTERS[:dimensions])
        if letter in pair
    ]
    if len(orientation) != dimensions or sorted(axis for axis, _ in named) != list(range(dimensions)):
        raise check.orientation(orientation, LETTERS[:dimensions])
    return named


def led(grid: Grid, orientation: str) -> Grid:
    """Return a grid of the same voxels, about the same origin, with its axes leading where `orientation` says.

    Raises:
        InputError: if that does not name each world axis once.
    """
    affine = np.zeros((grid.dimensions + 1, grid.dimensions + 1))
    affine[-1, -1] = 1
    for column, (axis, sign) in enumerate(named_axes(orientation, grid.dimensions)):
        affine[axis, column] = sign * grid.voxel_sizes[column]
    return Grid(grid.shape, affine)


def _turn(shape: tuple[int, ...], order: list[int], *, flips: list[bool]) -> NDArray[np.float64]:
    """Return the (D+1, D+1) matrix from indices of the turned array to indices of the original."""
    turn = np.zeros((len(shape) + 1, len(shape) + 1))
    turn[-1, -1] = 1
    for target, (source, flip) in enumerate(zip(order, flips, strict=True)):
        turn[source, target] = -1 if flip else 1
        turn[source, -1] = shape[target] - 1 if flip else 0
    return turn


def averaged(volume: Volume, grid: Grid) -> Volume:
    """Return the volume on `grid`, where coarser by the mean of an image in each voxel, or the most frequent label.

    Where it is no coarser, images are interpolated linearly and labels taken from the nearest voxel, as by `resampled`.
    A voxel is looked at in as many points along each axis as it spans voxels of the volume. Of labels equally frequent
    the lowest is taken; outside the volume all is zero.

    Returns:
        Volume with data of `grid.shape`: labels in their own type, images as float32.
    """
    steps = np.abs(np.linalg.inv(volume.grid.affine) @ grid.affine)[:-1, :-1].max(0)
    # The twentieth keeps a voxel that is hardly larger from being looked at twice.
    counts = np.maximum(1, np.ceil(steps - 0.05)).astype(int).tolist()
    if max(counts) == 1:
        return resampled(volume, grid)
    places = itertools.product(*((np.arange(count) + 0.5) / count - 0.5 for count in counts))
    points = (resampled(volume, _shifted(grid, np.array(place))).data for place in places)
    if volume.kind != "image":
        return replace(volume, data=most_frequent(np.stack(list(points))), grid=grid)
    total = np.zeros(grid.shape)
    for values in points:
        total += values
    return replace(volume, data=(total / np.prod(counts)).astype(np.float32), grid=grid)


def _shifted(grid: Grid, offset: NDArray[np.float64]) -> Grid:
    """Return a grid moved by a part of a voxel, (D,)."""
    affine = grid.affine.copy()
    affine[:-1, -1] = grid.world(offset)
    return Grid(grid.shape, affine)


def most_frequent(labels: NDArray[Any]) -> NDArray[Any]:
    """Return the most frequent of N labels (N, *S) at each voxel, the lowest of equals, (*S)."""
    labels = np.sort(labels, axis=0)
    found: NDArray[Any] = labels[0].copy()
    most = np.ones(labels.shape[1:], np.int64)
    run = most.copy()
    for before, here in itertools.pairwise(labels):
        run = np.where(here == before, run + 1, 1)
        longer = run > most
        found[longer], most[longer] = here[longer], run[longer]
    return found
