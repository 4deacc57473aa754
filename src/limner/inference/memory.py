"""How much memory segmenting a scan takes, before it is begun."""

from __future__ import annotations

from limner.data.scan import shows_head
from limner.inference.approach import Approach
from limner.space import Box, Volume

#: The libraries and a prior; bytes.
LOADED = 0.5e9
#: What aligning takes for the voxels that it looks at, and how many voxels a scan has before these grow no more; bytes.
ALIGNING, LOOKED_AT = 1.5e9, 500_000
#: What any voxel of the scan takes while it is aligned; bytes.
ALIGNED = 20.0
#: What predicting takes for the voxels that Gaussians are fitted on, and what is left of aligning; bytes.
PREDICTING = 0.5e9
#: What a voxel of the brain's box takes for each class and each part of the prior, while they are predicted; bytes.
PREDICTED = 8.0
#: What a voxel of each further image takes; bytes.
CHANNEL = 12.0
#: A brain's box in a head, mm3: one that was found, made as much larger as the largest of five brains is.
BRAIN = 6.2e6


def memory_needed(image: Volume, how: Approach, *, channels: int, mask: Volume | None) -> float:
    """Return about how many bytes a process takes at its peak when it segments a scan (docs/design/0009).

    What a trained network takes for itself is not in it.

    Args:
        image: the scan.
        how: it is segmented.
        channels: images of it.
        mask: where the brain is, if that is known.
    """
    voxels, further = image.data.size, CHANNEL * (channels - 1) * image.data.size
    some = min(1.0, voxels / LOOKED_AT)
    if how.atlas is None:
        return LOADED + further + PREDICTED * 2 * len(how.known.structures) * voxels
    maps = len(how.known.structures) + len(how.atlas.parts.class_of)
    predicting = PREDICTING * some + PREDICTED * maps * _box(image, mask)
    return LOADED + further + max(ALIGNING * some + ALIGNED * voxels, predicting)


def _box(image: Volume, mask: Volume | None) -> float:
    """Return the voxels of the box around the brain; in a head, as many as it may be."""
    if mask is not None:
        return float(Box.around(mask.data != 0).size)
    if shows_head(image):
        return min(BRAIN / image.grid.voxel_volume, float(image.data.size))
    return float(Box.around(image.data != image.data.flat[0]).size)
