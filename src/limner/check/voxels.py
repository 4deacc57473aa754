"""Refuse arrays of voxels that are no image or no labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from limner.check.errors import InputError


def numeric(dtype: np.dtype[Any], name: object) -> None:
    """Refuse voxels that are not single real numbers, such as colours or complex values.

    Raises:
        InputError: naming the stored type.
    """
    if dtype.kind not in "buif":
        raise InputError(
            f"'{name}' holds values of type {dtype}; expected one real number per voxel: convert it to grey values"
        )


def three_dimensional(shape: tuple[int, ...], name: object) -> None:
    """Refuse anything but a 2-D or 3-D array with voxels in it.

    Raises:
        InputError: with the shape found.
    """
    if len(shape) not in (2, 3):
        remedy = "save one of its volumes as a file of its own" if len(shape) > 3 else "give an image"
        raise InputError(f"'{name}' has {len(shape)} dimensions, shape {shape}; expected three (or two): {remedy}")
    if 0 in shape:
        raise InputError(
            f"'{name}' has no voxels, shape {shape}; expected at least one along each axis: export it again"
        )


def finite(data: NDArray[Any], name: object) -> None:
    """Refuse an array with NaN or infinite values.

    Raises:
        InputError: with how many there are.
    """
    bad = data.size - int(np.count_nonzero(np.isfinite(data)))
    if bad:
        raise InputError(
            f"'{name}' has NaN or infinite values in {bad} of {data.size} voxels; expected finite ones: "
            "replace them, e.g. with numpy.nan_to_num, or export the image again"
        )


def varied(data: NDArray[Any], name: object) -> None:
    """Refuse an image that has the same value everywhere.

    Raises:
        InputError: with that value.
    """
    low, high = data.min(), data.max()
    if low == high:
        raise InputError(
            f"'{name}' is constant, {low:g} in every voxel; expected an image with contrast: check what was exported"
        )


def whole_numbers(data: NDArray[Any], name: object) -> None:
    """Refuse labels that are not whole numbers of at most 32 bits.

    Raises:
        InputError: with the first wrong value and its voxel.
    """
    if np.can_cast(data.dtype, np.int32):
        return
    info = np.iinfo(np.int32)
    right = (data >= info.min) & (data <= info.max)
    if data.dtype.kind == "f":
        right &= np.rint(data) == data
    wrong = data.size - int(np.count_nonzero(right))
    if wrong:
        voxel = tuple(int(i) for i in np.unravel_index(int(np.argmin(right)), data.shape))
        whole = data.dtype.kind != "f"
        remedy = (
            "if they tell objects apart, say so: --instances, or --kind instances in convert"
            if whole
            else "give a label map (resampled by nearest neighbour if at all), not an image"
        )
        # Rounded to six digits, ids of 64 bits are nobody's.
        value = int(data[voxel]) if whole else f"{data[voxel]:g}"
        raise InputError(
            f"labels '{name}' hold {value} at voxel {voxel}, one of {wrong} such values; expected whole "
            f"numbers of at most 32 bits: {remedy}"
        )


def instance_ids(data: NDArray[Any], name: object) -> None:
    """Refuse instances whose ids are not whole numbers from 0 on; they may take all of 64 bits.

    Raises:
        InputError: with the first wrong value and its voxel.
    """
    if data.dtype.kind in "bu":
        return
    right = data >= 0
    if data.dtype.kind == "f":
        # From 2**53 on floating point skips whole numbers, and ids would have run together already.
        right &= (np.rint(data) == data) & (data <= 2**53)
    wrong = data.size - int(np.count_nonzero(right))
    if wrong:
        voxel = tuple(int(i) for i in np.unravel_index(int(np.argmin(right)), data.shape))
        raise InputError(
            f"instances '{name}' hold {data[voxel]:g} at voxel {voxel}, one of {wrong} such values; expected whole "
            "numbers from 0 (none) on: store ids as unsigned integers"
        )


def volume(data: NDArray[Any], shape: tuple[int, ...], *, kind: str) -> None:
    """Refuse a volume whose data do not fit its grid or its kind.

    Raises:
        InputError: for another shape, an unknown kind, or labels or instances that are not integers.
    """
    if data.shape != shape:
        raise InputError(f"volume has data of shape {data.shape}; expected that of its grid, {shape}: crop both alike")
    if kind not in ("image", "labels", "instances"):
        raise InputError(f"volume has kind '{kind}'; expected 'image', 'labels' or 'instances': choose one")
    if kind != "image" and data.dtype.kind not in "bui":
        raise InputError(f"volume of {kind} has data of type {data.dtype}; expected integers: convert with astype")


def label_map(kind: str, name: object) -> None:
    """Refuse an image where labels are meant.

    Raises:
        InputError: naming which.
    """
    if kind != "labels":
        raise InputError(f"{name} was opened as an image; expected labels: open it with kind='labels'")
