"""Networks that turn an image into one score per class and voxel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.networks.layers import CONVOLUTION, LAYOUT, MAXIMUM


class UNet(nn.Module):
    """A U-Net of one convolution a level, without normalisation.

    Args:
        channels: of the image, C.
        classes: K.
        features: channels at each level, the finest first; at least two levels. A level has half the voxels of the one
            before along each axis.
        head: edge of the last convolution's kernel in voxels, odd.
        dimensions: 2 or 3.

    Source: the encoder of Yu et al. 2020 (SAE), whose code has these features and a head of 3: 90,652 parameters.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        features: Sequence[int] = (4, 8, 16, 32, 32),
        head: int = 3,
        dimensions: int = 3,
    ) -> None:
        super().__init__()
        self.dimensions, self.levels = dimensions, len(features)
        made = CONVOLUTION[dimensions]
        inputs = (channels, *features[:-1])
        self.down = nn.ModuleList(made(i, o, 3, padding=1) for i, o in zip(inputs, features, strict=True))
        outputs = (classes, *features[:-2])
        joined = zip((*outputs[1:], features[-1]), features[:-1], outputs, strict=True)
        self.up = nn.ModuleList(made(low + skip, o, 3, padding=1) for low, skip, o in joined)
        self.head = made(classes, classes, head, padding=head // 2)
        self.to(memory_format=LAYOUT[dimensions])  # type: ignore[call-overload]

    @property
    def stride(self) -> int:
        """Return what sizes of images are multiples of, in voxels."""
        return int(2 ** (self.levels - 1))

    @property
    def context(self) -> int:
        """Return the voxels on each side that a voxel's scores depend on, at most."""
        return 4 * self.stride - 3 + self.head.kernel_size[0] // 2

    def forward(self, image: Tensor) -> Tensor:
        """Return scores (B, K, *S) of images (B, C, *S); S is a multiple of the stride."""
        values = image.contiguous(memory_format=LAYOUT[self.dimensions])
        skips = []
        for depth, convolution in enumerate(self.down):
            values = convolution(MAXIMUM[self.dimensions](values, 2) if depth else values).relu_()
            skips.append(values)
        for convolution, skip in zip(reversed(self.up), reversed(skips[:-1]), strict=True):
            values = functional.interpolate(values, scale_factor=2.0, mode="nearest")
            values = convolution(torch.cat([values, skip], 1)).relu_()
        scores: Tensor = self.head(values)
        return scores
