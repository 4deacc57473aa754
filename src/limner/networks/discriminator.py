"""Networks that tell real images from made ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner import check
from limner.networks.layers import POOL
from limner.networks.spectral import Convolution
from limner.networks.translator import Normalised


class Discriminator(nn.Module):
    """Tells real images from made ones at three scales, each by a network of its own.

    Args:
        channels: of the images.
        features: channels of each level.
        scales: each has half the size of the one before.
        dimensions: 2 or 3.

    Source: Vorontsov et al. 2022 and its public code: 4x4 convolutions that halve, leaky rectifiers of 0.2, layer
    normalisation but after the first; average pooling over 3 voxels between scales.
    """

    def __init__(self, channels: int, *, features: Sequence[int], scales: int, dimensions: int) -> None:
        super().__init__()
        self.levels = len(features)
        self.scales = nn.ModuleList(_Critic(channels, features=features, dimensions=dimensions) for _ in range(scales))
        self.pool = POOL[dimensions](3, stride=2, padding=1, count_include_pad=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return (B,) how real images (B, C, *S) look: the mean over scales of the mean over what each sees."""
        maps = [found.flatten(1) for found in self.maps(image)]
        exact = torch.promote_types(maps[0].dtype, torch.float32)
        return torch.stack([found.mean(1, dtype=exact) for found in maps]).mean(0)

    def maps(self, image: Tensor) -> list[Tensor]:
        """Return what each scale says of each place.

        Raises:
            InputError: if the images are too small for so many scales and levels.
        """
        check.deep_enough(tuple(image.shape[2:]), levels=self.levels + len(self.scales) - 1)
        found = []
        for scale in self.scales:
            found.append(scale(image))
            image = self.pool(image)
        return found


class _Critic(nn.Module):
    """One scale of a discriminator."""

    def __init__(self, channels: int, *, features: Sequence[int], dimensions: int) -> None:
        super().__init__()
        shared: dict[str, Any] = {"spectral": True, "dimensions": dimensions}
        widths = (channels, *features)
        self.levels = nn.ModuleList(Convolution(pair, kernel=4, stride=2, **shared) for pair in pairwise(widths))
        self.norms = nn.ModuleList(Normalised(width, kind="layer", modes=1) for width in features[1:])
        self.last = Convolution((features[-1], 1), kernel=1, **shared)

    def forward(self, image: Tensor) -> Tensor:
        values = functional.leaky_relu(self.levels[0](image), 0.2)
        for level, norm in zip(self.levels[1:], self.norms, strict=True):
            values = functional.leaky_relu(norm(level(values)), 0.2)
        found: Tensor = self.last(values)
        return found
