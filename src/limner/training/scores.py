"""How well a method labels the scans whose labels are known, while it is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from lightning_fabric import Fabric

from limner.data.batch import IGNORE
from limner.data.cohort import Case
from limner.data.loader import Loader
from limner.evaluation.overlap import contingency, dice
from limner.methods.method import Trainable
from limner.space.labels import BACKGROUND, REST
from limner.training.processes import summed

#: Slices that are looked at together.
TOGETHER = 50


def mean_dice(
    method: Trainable, loader: Loader, *, cases: Sequence[Case], structures: Sequence[str], fabric: Fabric
) -> dict[str, float]:
    """Return the mean Dice over scans of each structure, at the voxel size that is trained at.

    Processes share the scans, and all return the mean. Background and rest are left out, as is a structure that none
    of the scans shows.

    Args:
        method: left in training mode.
        loader: opens the scans.
        cases: with labels.
        structures: names of the K classes.
        fabric: where to compute.
    """
    method.eval()
    totals = np.zeros((2, len(structures)))
    mine = cases[fabric.global_rank :: fabric.world_size]
    # Slices of stacks are small, and thousands.
    together = TOGETHER if all(case.slice is not None for case in mine) else 1
    for begin in range(0, len(mine), together):
        some = mine[begin : begin + together]
        for overlaps in _overlaps(method, loader, cases=some, classes=len(structures), fabric=fabric):
            totals += np.nan_to_num(overlaps), np.isfinite(overlaps)
    method.train()
    total, count = summed(torch.from_numpy(totals).to(fabric.device), fabric).cpu().numpy()
    return {
        name: float(total[index] / count[index])
        for index, name in enumerate(structures)
        if name not in (BACKGROUND, REST) and count[index]
    }


def _overlaps(
    method: Trainable, loader: Loader, *, cases: Sequence[Case], classes: int, fabric: Fabric
) -> Iterator[np.ndarray]:
    """Yield the Dice of each class on each of some whole scans, (K,); nan where neither labels nor method show it."""
    batch, prior = loader.whole(*cases)
    on_device, prior = batch.to(fabric.device), prior.to(fabric.device) if prior else None
    with torch.no_grad(), fabric.autocast():
        prediction = method.predict(on_device.image, prior, mask=on_device.mask)
    for found, true in zip(method.segment(prediction), batch.labels.numpy(), strict=True):
        known = true != IGNORE
        yield dice(contingency(found[known], true[known], ids=range(classes)))
