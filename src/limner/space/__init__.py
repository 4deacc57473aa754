"""Where voxels are and what their labels mean: grids, boxes, label tables, resampling. No torch."""

from __future__ import annotations

from limner.space.affinities import Affinities, Offsets
from limner.space.boxes import Block, Box, blocks
from limner.space.grid import Array, Grid, Kind, Volume
from limner.space.labels import Label, LabelTable
from limner.space.resample import averaged, led, reoriented, resampled

__all__ = [
    "Affinities",
    "Array",
    "Block",
    "Box",
    "Grid",
    "Kind",
    "Label",
    "LabelTable",
    "Offsets",
    "Volume",
    "averaged",
    "blocks",
    "led",
    "reoriented",
    "resampled",
]
