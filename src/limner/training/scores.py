"""How well a method labels the scans whose labels are known, while it is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from limner.data.batch import IGNORE
from limner.data.cohort import Case
from limner.data.loader import Loader
from limner.evaluation.overlap import contingency, dice
from limner.methods.affinity import Affinity, edges_of
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


def cut_dice(method: Affinity, loader: Loader, *, cases: Sequence[Case], fabric: Fabric) -> dict[str, float]:
    """Return the Dice over all cases of the edges between direct neighbours that are cut, by their offset.

    An edge is cut whose affinity is below 0.5, and truly, one whose ends are not of one object; only edges that are
    known count. It is the borders alone that this looks at, not what an error does to the segments.

    Args:
        method: predicts affinities; left in training mode.
        loader: opens the cases.
        cases: with instances.
        fabric: where to compute.
    """
    method.eval()
    counts: dict[str, Tensor] = {}
    for case in cases[fabric.global_rank :: fabric.world_size]:
        batch, _ = loader.whole(case)
        with torch.no_grad(), fabric.autocast():
            prediction = method.predict(batch.image.to(fabric.device), None)
        for name, (found, true) in cut_edges(prediction.cpu(), batch.labels, offsets=method.offsets).items():
            counts[name] = counts.get(name, 0) + torch.stack([(found & true).sum() * 2, found.sum() + true.sum()])
    method.train()
    names = [str(list(offset)) for offset in method.offsets if sum(map(abs, offset)) == 1]
    total = summed(torch.stack([counts.get(name, torch.zeros(2)).double() for name in names]).to(fabric.device), fabric)
    return {name: float(same / both) for name, (same, both) in zip(names, total.cpu(), strict=True) if both}


def cut_edges(
    prediction: Tensor, labels: Tensor, *, offsets: Sequence[tuple[int, ...]]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return which known edges between direct neighbours are cut, as predicted and truly, by their offset.

    Args:
        prediction: (B, C, *S) affinities.
        labels: (B, *S) ids of instances.
        offsets: (C, D) voxels.
    """
    together, known = edges_of(labels, tuple(offsets))
    return {
        str(list(offset)): (
            (prediction[:, channel] < 0.5) & known[:, channel],
            ~together[:, channel] & known[:, channel],
        )
        for channel, offset in enumerate(offsets)
        if sum(map(abs, offset)) == 1
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
