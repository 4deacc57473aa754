"""Small people on disk: the tiny head, another for each seed, with their labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import tiny
from limner.data.cohort import Case, read_cohort
from limner.data.scan import Scan
from limner.files import save_volume
from limner.priors.atlas import Placement
from limner.priors.deformation import Warp
from limner.space import Grid, reoriented


def cohort(folder: Path, count: int = 3) -> tuple[Case, ...]:
    """Heads 0 to count - 1, the last of them stored along other axes and cut shorter."""
    for seed in range(count):
        image, labels = tiny.image(seed), tiny.labels()
        if seed == count - 1:
            data = labels.data.copy()
            data[:, :, 14:] = 0
            labels = reoriented(replace(labels, data=data), "LIA")
            image = reoriented(replace(image, data=image.data * (data > 0)), "LIA")
        save_volume(image, folder / f"head-{seed}.nii.gz")
        save_volume(labels, folder / f"head-{seed}_labels.nii.gz")
    return read_cohort(folder)


#: A displacement that varies from place to place, up to 1.6 mm.
WARP = Warp(Grid((8, 8, 8), np.diag([8.0, 8, 8, 1])), torch.linspace(0, 0.2, 3 * 8**3).view(3, 8, 8, 8))


def aside(scan: Scan) -> Placement:
    """Place a scan 2 mm to the right of where it is, and bend it."""
    transform = np.eye(scan.grid.dimensions + 1)
    transform[0, -1] = 2
    return Placement(transform, 0.0, WARP)
