"""Images of label maps, so that a map can be placed as a scan is placed."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from limner.space import Box, LabelTable, Volume
from limner.space.labels import REST

#: Spread of a tissue's intensities, where neighbouring tissues' means are 1 apart.
NOISE = 0.5
#: How far from the structures, in mm, a stripped scan shows what else belongs to the brain, such as fluid.
NEAR = 6.0


def painted(labels: Volume, table: LabelTable, *, name: str = "label map") -> Volume:
    """Return an image of a label map as of a stripped scan: each tissue has its own intensity, and there is noise.

    What the table ties to the background is 0, as all around a stripped brain, and so is the rest far from any
    structure, such as the fluid about the spine.

    Args:
        labels: ids.
        table: whose tissues are told apart.
        name: of the map, for messages.

    Raises:
        InputError: for ids that the table does not know.

    Source: our own.
    """
    from scipy import ndimage

    rows = table.rows(labels.data, name)
    classes, tissues = table.structure_of[rows], table.tissue_of[rows]
    whole = len(table.structures) - (table.structures[-1] == REST)
    structures = (classes > 0) & (classes < whole)
    sizes = labels.grid.voxel_sizes
    # Distances are asked for in the box that they can be near in, not in the whole head.
    box = Box.around(structures).grown(math.ceil(NEAR / min(sizes))).clipped(structures.shape).slices
    near = np.zeros_like(structures)
    near[box] = ndimage.distance_transform_edt(~structures[box], sampling=sizes) <= NEAR
    noise = np.random.default_rng(0).normal(0, NOISE, tissues.shape)
    # Never negative: intensities that are have no gain, and are placed otherwise.
    values = np.where((classes > 0) & near, (4 + tissues + noise).clip(min=1), 0)
    return replace(labels, data=values.astype(np.float32), kind="image")
