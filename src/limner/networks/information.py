"""How much one part of a code tells of the other."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn


class Information(nn.Module):
    """Estimates the mutual information of two parts of codes from below; the better it is trained, the nearer.

    Args:
        channels: of each part.
        hidden: units of each hidden layer.

    Source: Belghazi et al. 2018 (MINE), as Vorontsov et al. 2022 watch it: three hidden layers of 1000. Here the parts
    are averaged over their places first, so that the network fits images of any size.
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
        first, second = (part.flatten(2).mean(2) for part in (first, second))
        order = torch.randperm(len(second), device=second.device)
        together = self.network(torch.cat([first, second], 1)).mean()
        apart = self.network(torch.cat([first, second[order]], 1)).logsumexp(0) - math.log(len(first))
        estimate: Tensor = together - apart[0]
        return estimate
