"""A lower bound: a U-Net that segments scans without labels and without a prior, part of benchmarks/anatomy.py.

It learns from all scans at once, by what its classes tell of the image: the squared error of an image made of one mean
for each class, or minus their mutual information. Its classes have no names; they get those that suit the reference
best, which flatters it.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from limner.data.batch import IGNORE
from limner.data.loader import Loader
from limner.evaluation.overlap import contingency, dice
from limner.networks.rows import rows_within
from limner.networks.unet import UNet

#: What it may learn by.
OBJECTIVES = ("image error", "mutual information")
#: Steps of the optimiser, a scan each, and their size.
STEPS, PACE = 300, 2e-3
#: Intensities are told apart in so many steps between so many standard deviations.
BINS, WIDEST = 32, 2.5
TINY = 1e-12


class Unguided(nn.Module):
    """A U-Net that assigns K classes, which have one mean each."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.network = UNet(1, classes)
        self.means = nn.Parameter(torch.linspace(-WIDEST, WIDEST, classes))

    def shares(self, image: Tensor, mask: Tensor) -> Tensor:
        """Return (N, K) probabilities of the classes at the N voxels of a mask."""
        return rows_within(self.network(image), mask).softmax(1)

    def loss(self, image: Tensor, mask: Tensor, *, objective: str) -> Tensor:
        """Return what is minimised."""
        shares, values = self.shares(image, mask), rows_within(image, mask)[:, 0]
        if objective == "image error":
            return (values - shares @ self.means).square().mean()
        return -information(shares, values)


def information(shares: Tensor, values: Tensor) -> Tensor:
    """Return the mutual information, nats, of classes (N, K) and values (N,)."""
    bins = ((values / WIDEST + 1) / 2 * BINS).long().clamp(0, BINS - 1)
    joint = shares.new_zeros(BINS, shares.shape[1]).index_add(0, bins, shares) / len(values)
    alone = joint.sum(0, keepdim=True) * joint.sum(1, keepdim=True)
    # Kept above 0: where nobody is, 0 log 0 is 0, but its gradient would be no number.
    return torch.xlogy(joint, (joint / alone.clamp_min(TINY)).clamp_min(TINY)).sum()


def learned(loader: Loader, *, classes: int, objective: str, steps: int, device: str) -> list[list[float]]:
    """Train on a loader's scans, and return the Dice of each structure in each of them."""
    torch.manual_seed(0)
    model = Unguided(classes).to(device)
    optimiser = torch.optim.Adam(model.parameters(), PACE)
    for step in range(steps):
        batch = loader.batch(step)[0].to(device)
        optimiser.zero_grad()
        model.loss(batch.image, batch.mask, objective=objective).backward()
        optimiser.step()
    tables = [
        _counted(model.eval(), loader, number, classes=classes, device=device) for number in range(len(loader.cases))
    ]
    order = _named(sum(tables))
    return [dice(_reordered(table, order))[1:-1].tolist() for table in tables]


@torch.no_grad()
def _counted(model: Unguided, loader: Loader, number: int, *, classes: int, device: str) -> np.ndarray:
    """Return how often each class meets each structure in a scan."""
    batch = loader.whole(loader.cases[number])[0].to(device)
    found = np.zeros(batch.mask.shape, int)
    found[batch.mask.cpu().numpy()] = model.shares(batch.image, batch.mask).argmax(1).cpu().numpy()
    true = batch.labels.cpu().numpy()
    return contingency(found[true != IGNORE], true[true != IGNORE], ids=range(classes))


def _named(table: np.ndarray) -> np.ndarray:
    """Return the class that stands for each structure, all different, so that the sum of Dice is largest."""
    overlap = table[:-1, :-1]
    scores = 2 * overlap / (overlap.sum(0, keepdims=True) + overlap.sum(1, keepdims=True)).clip(min=1)
    rows, structures = linear_sum_assignment(-scores)
    return rows[np.argsort(structures)]


def _reordered(table: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return a table with its rows, but the last, in another order."""
    return table[[*order, len(order)]]
