"""A head of a few boxes whose every direction can be told apart; shared by the tests of the report."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from limner.report import CaseReport
from limner.space import Grid, Label, LabelTable, Volume, reoriented

LEFT, RIGHT, NOSE, CROWN = 11, 50, 3, 4
TABLE = LabelTable(
    (
        Label(NOSE, "Nose", (200, 60, 60), "nose", "skin"),
        Label(CROWN, "Crown", (60, 200, 60), "crown", "skin"),
        Label(LEFT, "Left-Ear", (60, 60, 200), "ear", "skin"),
        Label(RIGHT, "Right-Ear", (70, 70, 210), "ear", "skin"),
    )
)
SIZES = (2.0, 3.0, 4.0)
BOXES = {
    LEFT: np.s_[4:8, 14:18, 8:12],
    RIGHT: np.s_[32:35, 14:18, 8:12],
    NOSE: np.s_[18:22, 26:30, 9:11],
    CROWN: np.s_[17:23, 12:20, 16:18],
}


def head(orientation: str = "RAS") -> CaseReport:
    """A case of (40, 32, 20) voxels of 2 x 3 x 4 mm in RAS order, stored in another one; each label is brighter."""
    labels = np.zeros((40, 32, 20), np.int32)
    image = np.zeros(labels.shape, np.float32)
    image[3:37, 6:30, 3:19] = 40
    for brightness, (label, box) in enumerate(BOXES.items()):
        labels[box] = label
        image[box] = 80 + 20 * brightness
    affine = np.diag([*SIZES, 1.0])
    affine[:2, 3] = -40, -50
    grid = Grid(labels.shape, affine)
    layers = {
        "image": Volume(image, grid, "image"),
        "labels": Volume(labels, grid, "labels"),
        "uncertainty": Volume(image / 160, grid, "image"),
    }
    return CaseReport("head", **{name: reoriented(layer, orientation) for name, layer in layers.items()})


def with_reference(case: CaseReport) -> CaseReport:
    """The case with its own labels, moved by a voxel, as its reference."""
    return replace(case, reference=replace(case.labels, data=np.roll(case.labels.data, 1, axis=0)))
