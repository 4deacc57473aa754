"""Encoders of maps as Gaussians over a few numbers, and the decoders that mirror them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.networks.layers import CONVOLUTION, MAXIMUM

#: How what comes out of a dense layer is bounded.
Bound: TypeAlias = Literal["softsign", "tanh"]


def bounded(values: Tensor, form: Bound) -> Tensor:
    """Return values that grow like a logarithm, of the same sign and shape.

    Args:
        values: any.
        form: "softsign", x / (1 + |x|), or "tanh", each times ln(2 + |x|).

    Source: Dalca et al. 2018, where it is softsign in the text and tanh in the public layers; their slope a is 1 here.
    """
    sign = functional.softsign(values) if form == "softsign" else values.tanh()
    return sign * (2 + values.abs()).log()


class Encoder(nn.Module):
    """Turns maps into mean and log-variance of a Gaussian over Z numbers.

    Args:
        channels: of the maps, C.
        shape: of the maps, multiples of the stride.
        features: channels at each level, the finest first; a level has half the voxels of the one before on each axis.
        latent: Z.
        bound: of mean and log-variance.

    Source: Dalca et al. 2018: one 3x3 convolution and ELU a level, maximum in between, and two dense layers.
    """

    def __init__(
        self, channels: int, *, shape: Sequence[int], features: Sequence[int], latent: int, bound: Bound
    ) -> None:
        super().__init__()
        self.bound: Bound = bound
        self.dimensions = len(shape)
        made = CONVOLUTION[self.dimensions]
        self.levels = nn.ModuleList(made(i, o, 3, padding=1) for i, o in pairwise((channels, *features)))
        inner = features[-1] * prod(coarsest(shape, features))
        self.mean, self.log_variance = nn.Linear(inner, latent), nn.Linear(inner, latent)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, Z) means and (B, Z) log-variances of maps (B, C, *shape)."""
        values = maps
        for depth, convolution in enumerate(self.levels):
            values = functional.elu(convolution(MAXIMUM[self.dimensions](values, 2) if depth else values))
        flat = values.flatten(1)
        return bounded(self.mean(flat), self.bound), bounded(self.log_variance(flat), self.bound)


class Decoder(nn.Module):
    """Turns Z numbers into one score per class and voxel.

    Args:
        classes: K.
        shape: of the scores, multiples of the stride.
        features: channels at each level, the finest first.
        latent: Z.

    Source: Dalca et al. 2018: a dense layer, then nearest neighbours and 3x3 convolutions, the mirror of the encoder.
    """

    def __init__(self, classes: int, *, shape: Sequence[int], features: Sequence[int], latent: int) -> None:
        super().__init__()
        self.begun = (features[-1], *coarsest(shape, features))
        made = CONVOLUTION[len(shape)]
        self.dense = nn.Linear(latent, prod(self.begun))
        widths = (features[-1], *reversed(features))
        self.levels = nn.ModuleList(made(i, o, 3, padding=1) for i, o in pairwise(widths))
        self.head = made(features[0], classes, 1)

    def forward(self, code: Tensor) -> Tensor:
        """Return scores (B, K, *shape) of codes (B, Z)."""
        values = functional.elu(self.dense(code)).view(-1, *self.begun)
        for depth, convolution in enumerate(self.levels):
            risen = functional.interpolate(values, scale_factor=2.0, mode="nearest") if depth else values
            values = functional.elu(convolution(risen))
        scores: Tensor = self.head(values)
        return scores


def drawn(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return one sample of each Gaussian (B, *), differentiable by its mean and log-variance.

    The same standard normal draw serves all of a batch, whose loss is then the mean of its scans' losses.
    """
    return mean + (log_variance / 2).exp() * torch.randn_like(mean[:1])


def coarsest(shape: Sequence[int], features: Sequence[int]) -> tuple[int, ...]:
    """Return the voxels along each axis at the last level."""
    return tuple(size // 2 ** (len(features) - 1) for size in shape)
