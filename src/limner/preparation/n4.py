"""The gain of a scan's coils by N4, for those who want it taken out before anything else sees the scan."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from limner import check
from limner.space import Array, Volume

if TYPE_CHECKING:
    import SimpleITK

#: Edge in mm of the voxels that N4 looks at: the gain is far smoother.
SPACING = 4.0
#: Voxels of that size that the head or brain fills at least: N4's splines need some.
FEWEST = 64


def evened(volume: Volume, mask: Volume | None = None) -> Volume:
    """Return an image without the gain that N4 finds, its intensities in about the same unit.

    Args:
        volume: a head or a stripped brain, its intensities as a coil gave them; what has the value of its first corner,
            as the background of a stripped scan does, keeps it.
        mask: non-zero where the gain is to be told from, on the image's grid; by default where the image is brighter
            than half of Otsu's threshold.

    Raises:
        InputError: for an image that is no volume, a mask on another grid, or next to nothing that is bright enough.

    Source: Tustison et al. 2010 (N4), SimpleITK's filter with its own settings, at 4 mm.
    """
    import SimpleITK

    check.solid(volume.data.shape)
    data = volume.data.astype(np.float32)
    if mask is not None:
        check.same_grid(mask.grid, volume.grid, case="the scan", names=("mask", "image"))
    inside = (_bright(data) if mask is None else mask.data != 0) & (data > 0)
    image, where = (_as_sitk(array, volume) for array in (data, inside.astype(np.uint8)))
    factors = [max(1, int(SPACING / size)) for size in volume.grid.voxel_sizes]
    small, few = SimpleITK.Shrink(image, factors), SimpleITK.Shrink(where, factors)
    check.mask_not_empty(int(SimpleITK.GetArrayViewFromImage(few).sum()) // FEWEST)
    n4 = SimpleITK.N4BiasFieldCorrectionImageFilter()
    n4.Execute(small, few)
    log_gain = SimpleITK.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image)).T
    log_gain -= log_gain[inside].mean()
    return replace(volume, data=np.where(data == data.flat[0], data, data * np.exp(-log_gain)))


def _bright(data: Array) -> Array:
    """Return where an image is brighter than half of Otsu's threshold, which may part dark tissue from bright."""
    import SimpleITK

    otsu = SimpleITK.OtsuThresholdImageFilter()
    otsu.Execute(SimpleITK.GetImageFromArray(data))
    return np.asarray(data > otsu.GetThreshold() / 2)


def _as_sitk(array: Array, volume: Volume) -> SimpleITK.Image:
    """Return an array as SimpleITK has it: where it lies in the world makes no difference, the size of voxels does."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(volume.grid.voxel_sizes.tolist())
    return image
