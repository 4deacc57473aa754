"""What is odd about the voxels of a scan or a label map, in words."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from limner.files.kinds import looks_like_labels
from limner.space import Array, Grid, LabelTable, Volume

#: Squared difference of neighbours over that of voxels two apart: 0.25 in what is perfectly smooth, 1 in noise. Scans
#: have 0.40 to 0.69, conformed ones the least; scans made finer 1.5 to 2.1 times have 0.30 to 0.40, an average of
#: people 0.29.
SMOOTH, SHARP = 0.35, 0.40
#: Voxels along each axis that are looked at, and the longest way of a blur in voxels.
SIDE, FARTHEST = 128, 8
#: Slices as many times as thick as the other axes' voxels are thick.
THICK = 2.5
#: Share of voxels that have the highest value, or are negative, from which it is said.
CUT_OFF, NEGATIVE = 0.002, 0.001
#: Fewer values than this are few.
FEW = 64
#: Least share of whole numbers in a label map that was interpolated.
WHOLE = 0.8


def image_oddities(volume: Volume) -> Iterator[str]:
    """Yield what is odd about an image: its voxels, its blur, its values."""
    yield from _voxels(volume)
    yield from _blurs(volume)
    yield from _values(volume.data)
    if _interpolated(volume.data):
        yield "most values are whole numbers, and next to their like: labels that were interpolated?"


def label_oddities(stored: Volume, table: LabelTable) -> Iterator[str]:
    """Yield what is odd about a label map: how its numbers are stored, and which structures it lacks."""
    values = np.unique(stored.data)
    if stored.data.dtype.kind == "f":
        yield f"labels are stored as {stored.data.dtype.name}; whole numbers take less room and cannot be mixed"
    if values.tolist() == [0, 255]:
        yield "labels are 0 and 255: a mask for display; write 0 and 1, or name 255 with --labels TABLE"
    present = set(table.structure_of[np.isin(table.ids, values)].tolist()) - {0}
    wanted = set(range(1, len(table.structures)))
    missing = [table.structures[index] for index in sorted(wanted - present)]
    if missing and len(missing) <= len(wanted) / 2:
        yield f"no voxel of {', '.join(missing)}"


def _voxels(volume: Volume) -> Iterator[str]:
    sizes = volume.grid.voxel_sizes
    unit, factor = volume.grid.unit
    if sizes.max() > THICK * sizes.min():
        longest, shortest = sizes.max() * factor, sizes.min() * factor
        yield f"voxels are {longest:.3g} {unit} long along one axis and {shortest:.3g} along another"
    extent = np.array(volume.grid.shape) * sizes
    if volume.data.ndim == 3 and unit == "mm" and not 20 < extent.max() < 600:
        yield f"the image is {extent.max():.3g} mm long: is the voxel size in mm?"


def _blurs(volume: Volume) -> Iterator[str]:
    """Yield along which axes an image is blurred more than its voxels say."""
    middle = tuple(slice(max(0, (size - SIDE) // 2), (size + SIDE) // 2) for size in volume.data.shape)
    data = volume.data[middle]
    inside = data > np.percentile(data, 100 * (1 - _share_inside(data)))
    blurs = [_blur(data, inside, axis=axis) for axis in range(data.ndim)]
    unit, factor = volume.grid.unit
    sizes = volume.grid.voxel_sizes * factor
    axes = [axis for axis, blur in enumerate(blurs) if blur > 1]
    if axes:
        told = [
            f"{sizes[axis]:.2g} {unit} along axis {axis + 1}, blurred like {blurs[axis] * sizes[axis]:.2g} {unit}"
            for axis in axes
        ]
        yield f"voxels are {'; '.join(told)}: the image was made finer than it was scanned, smoothed, or averaged"


def _share_inside(data: Array) -> float:
    """Return the share of voxels to look at: the brighter four fifths of what is not background."""
    values, counts = np.unique(data.ravel()[:: max(1, data.size // 100_000)], return_counts=True)
    return float(0.8 * (1 - counts[values.argmin()] / counts.sum()))


def _blur(data: Array, inside: NDArray[np.bool_], *, axis: int) -> float:
    """Return how many voxels apart along an axis values differ as neighbours do in a scan; 1 if they are sharp."""
    lags = [lag for lag in range(1, FARTHEST + 1) if 2 * lag < data.shape[axis]]
    ratios = [_ratio(data, inside, axis=axis, lag=lag) for lag in lags]
    if not ratios or not np.isfinite(ratios).all() or ratios[0] > SMOOTH:
        return 1.0
    # The first lag that is sharp; between lags, as on a straight line.
    reached = next((index for index, ratio in enumerate(ratios) if ratio >= SHARP), None)
    if reached is None:
        return float(lags[-1])
    return float(np.interp(SHARP, ratios[reached - 1 : reached + 1], lags[reached - 1 : reached + 1]))


def _ratio(data: Array, inside: NDArray[np.bool_], *, axis: int, lag: int) -> float:
    """Return the mean squared difference of voxels `lag` apart over that of voxels twice as far."""
    near, far = (_difference(data, inside, axis=axis, lag=lag * times) for times in (1, 2))
    return near / far if far else float("nan")


def _difference(data: Array, inside: NDArray[np.bool_], *, axis: int, lag: int) -> float:
    along, kept = np.moveaxis(data, axis, 0), np.moveaxis(inside, axis, 0)
    both = kept[lag:] & kept[:-lag]
    if not both.any():
        return 0.0
    return float(np.square((along[lag:] - along[:-lag])[both], dtype=np.float64).mean())


def _values(data: Array) -> Iterator[str]:
    """Yield what is odd about an image's values."""
    low, high = float(data.min()), float(data.max())
    filled = max(1, int(np.count_nonzero(data != low)))
    cut = np.count_nonzero(data == high) / filled
    levels = len(np.unique(data))
    if levels < FEW:
        yield f"there are only {levels} different values"
    elif cut > CUT_OFF:
        yield f"{cut:.1%} of what is not the lowest value has the highest, {high:.4g}: intensities were cut off"
    negative = np.count_nonzero(data < 0) / data.size
    if negative > NEGATIVE:
        yield f"{negative:.1%} of the voxels are negative, down to {low:.4g}: computed tomography, or standardised"


def _interpolated(data: Array) -> bool:
    """Tell whether an image looks like a label map between whose numbers something was interpolated."""
    whole = data % 1 == 0
    if data.min() < 0 or whole.all() or whole.mean() < WHOLE or not (data[whole] > 0).any():
        return False
    rounded = np.where(whole, data, 0)
    return looks_like_labels(Volume(rounded, Grid(data.shape, np.eye(data.ndim + 1)), "image"))
