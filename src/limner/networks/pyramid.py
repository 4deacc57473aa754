"""A U-Net that works at several resolutions, so that it can learn at a coarse one first."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.networks.layers import CONVOLUTION, LAYOUT, LINEAR, MAXIMUM, MEAN

#: Factor of the intensities of which scores are told directly: those of a narrow Gaussian need large weights.
STEEPNESS = 8.0


class PyramidUNet(nn.Module):
    """A U-Net that sees the image at every level, and may begin below the finest.

    Level 0 is the finest; every next one has half the voxels along each axis. A network trained from level 1 on images
    of half the resolution keeps what it has learned when level 0 joins in: the scores of level 1 are interpolated, and
    the features of level 0 add to them, at first nothing. A voxel's own intensity and its square have a direct way to
    its scores, in which the log-likelihood of a Gaussian is linear; its weights are the same at both levels.

    Args:
        channels: of the image, C.
        classes: K.
        features: channels at each level, the finest first; at least three levels.
        dimensions: 2 or 3.
        level: the finest in use, 0 or 1.

    Source: our own; U-Net after Ronneberger et al. 2015, scores summed over levels as in Laplacian pyramids.
    """

    def __init__(
        self, channels: int, classes: int, *, features: Sequence[int], dimensions: int = 3, level: int = 0
    ) -> None:
        super().__init__()
        self.dimensions, self.levels, self.level = dimensions, len(features), level
        made = CONVOLUTION[dimensions]
        pairs = list(pairwise(features))
        self.stem = nn.ModuleList(made(channels, wide, 3, padding=1) for wide in features)
        self.down = nn.ModuleList(made(fine, coarse, 3, padding=1) for fine, coarse in pairs)
        self.up = nn.ModuleList(made(coarse, fine, 1) for fine, coarse in pairs)
        self.mix = nn.ModuleList(made(fine, fine, 3, padding=1) for fine, _ in pairs)
        self.head = nn.ModuleList(made(features[level], classes, 1) for level in (0, 1))
        self.tone = made(2 * channels, classes, 1, bias=False)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")
            else:
                nn.init.zeros_(parameter)
        first, joining = self.head[1], (self.head[0], self.down[0], self.tone)
        nn.init.normal_(first.get_parameter("weight"), std=0.03)
        for module in joining:
            nn.init.zeros_(module.get_parameter("weight"))
        self.to(memory_format=LAYOUT[dimensions])  # type: ignore[call-overload]

    @property
    def stride(self) -> int:
        """Return what sizes of images are multiples of, in voxels."""
        return int(2 ** (self.levels - 1 - self.level))

    @property
    def context(self) -> int:
        """Return the voxels on each side that a voxel's scores depend on, at most."""
        return 4 * self.stride - 3

    def forward(self, image: Tensor) -> Tensor:
        """Return scores (B, K, *S) of images (B, C, *S), whose voxels are those of the finest level in use."""
        images = [image.contiguous(memory_format=LAYOUT[self.dimensions])]
        for _ in range(self.level + 1, self.levels):
            images.append(MEAN[self.dimensions](images[-1], 2))
        first = self.stem[self.level](images[0])
        if self.level == 1:  # as if level 0 had no features: they change no score when they join in
            first = first.mul_(0.5**0.5)
        skips = [first.relu_()]
        for depth, seen in enumerate(images[1:], self.level + 1):
            above = self.down[depth - 1](MAXIMUM[self.dimensions](skips[-1], 2))
            # Not in bf16, in which oneDNN returns NaN for one channel of one voxel; and coarse levels are quick.
            with torch.autocast(image.device.type, enabled=False):
                own = self.stem[depth](seen)
            skips.append(above.add_(own).mul_(0.5**0.5).relu_())
        return self._scores(skips).add_(self.tone(STEEPNESS * torch.cat([image, image.square()], 1)))

    def _scores(self, skips: list[Tensor]) -> Tensor:
        """Return the scores of the finest level in use, from the coarsest up."""
        inner = skips.pop()
        for depth in range(self.levels - 2, self.level - 1, -1):
            risen = functional.interpolate(self.up[depth](inner), scale_factor=2.0, mode="nearest")
            inner = self.mix[depth](risen.add_(skips.pop()).mul_(0.5**0.5)).relu_()
            if depth == 1:
                coarse: Tensor = self.head[1](inner)
        if self.level == 1:
            return coarse
        finer = functional.interpolate(coarse, scale_factor=2.0, mode=LINEAR[self.dimensions])
        return finer.add_(self.head[0](inner))
