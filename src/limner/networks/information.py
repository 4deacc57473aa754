"""How much one part of a code tells of the other."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


class Information(nn.Module):
    """Estimates the mutual information of two parts of codes from below; the better it is trained, the nearer.

    Args:
        channels: of each part.
        hidden: units of each hidden layer.

    Source: Vorontsov et al. 2022 watch an estimate by such a network, of three hidden layers of 1000 (MINE, Belghazi et
    al. 2018). Ours is the bound of van den Oord et al. 2018 (InfoNCE), which batches of few images do not inflate, and
    which is at most the logarithm of their number. Parts are averaged over their places, so that images may have any
    size, and standardised over the batch: averages of codes that were normalised hardly differ otherwise.
    """

    def __init__(self, channels: tuple[int, int], *, hidden: int = 1000) -> None:
        super().__init__()
        widths = (sum(channels), hidden, hidden, hidden)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.network = nn.Sequential(*layers, nn.Linear(hidden, 1))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the estimate, nats, for parts (B, C, *s) and (B, D, *s) of at least two codes."""
        first, second = (
            functional.batch_norm(part.flatten(2).mean(2), None, None, training=True) for part in (first, second)
        )
        count = len(first)
        pairs = torch.cat([first[:, None].expand(-1, count, -1), second.expand(count, -1, -1)], 2)
        scores = self.network(pairs)[..., 0]  # of the first part of each code with the second of every other
        estimate: Tensor = (scores.diagonal() - scores.logsumexp(1)).mean() + math.log(count)
        return estimate
