"""A deep U-Net whose levels need not shrink all axes alike: for volumes of thick sections, and for large textures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.networks.layers import CONVOLUTION, LAYOUT, MAXIMUM

#: What the variance of a normal variable is multiplied by so that it is 1 once it is rectified.
RECTIFIED = 2 / (1 - 1 / math.pi)
HALF = math.sqrt(0.5)
#: Of the weights at first, over the root of how many there are in a kernel; over the learning rate, steps to turn.
SIZE = 0.01
APPLIED = {2: functional.conv2d, 3: functional.conv3d}

Steps = Sequence[int]


class ResidualUNet(nn.Module):
    """A U-Net of residual blocks of two convolutions whose kernels are standardised, without other normalisation.

    What a voxel's scores are does not depend on how large the piece is that is looked at, as it would with statistics
    of the piece.

    Args:
        channels: of the image, C.
        outputs: scores of a voxel, K.
        features: channels at each level, the finest first; at least two levels.
        pools: for each level but the last, by how much every axis shrinks to the next: 1, 2, ... each.
        kernels: for each level, the edges of its kernels in voxels, odd.
        dimensions: 2 or 3.

    Source: Lee et al. 2017 (arXiv 1706.00120), a residual U-Net that sums and pools anisotropically; standardised
    kernels after Brock et al. 2021 (arXiv 2101.08692) instead of their normalisation of batches.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        *,
        features: Sequence[int],
        pools: Sequence[Steps],
        kernels: Sequence[Steps],
        dimensions: int = 3,
    ) -> None:
        super().__init__()
        self.dimensions, self.pools, self.kernels = dimensions, [tuple(pool) for pool in pools], list(kernels)
        inputs = (channels, *features[:-1])
        levels = zip(inputs, features, kernels, strict=True)
        self.down = nn.ModuleList(_Block(given, wide, kernel=kernel) for given, wide, kernel in levels)
        finer = list(zip(features[1:], features[:-1], kernels[:-1], strict=True))
        ones = (1,) * dimensions
        self.rise = nn.ModuleList(_Standardised(coarse, fine, kernel=ones, variance=0.5) for coarse, fine, _ in finer)
        self.up = nn.ModuleList(_Block(fine, fine, kernel=kernel) for _, fine, kernel in finer)
        self.head = CONVOLUTION[dimensions](features[0], outputs, 1)
        nn.init.normal_(self.head.weight, std=0.1 / math.sqrt(features[0]))
        nn.init.zeros_(self.head.get_parameter("bias"))
        self.to(memory_format=LAYOUT[dimensions])  # type: ignore[call-overload]

    @property
    def steps(self) -> list[tuple[int, ...]]:
        """Return the size of each level's voxels along each axis, in voxels of the finest."""
        sizes = [(1,) * self.dimensions]
        for pool in self.pools:
            sizes.append(tuple(size * factor for size, factor in zip(sizes[-1], pool, strict=True)))
        return sizes

    @property
    def stride(self) -> int:
        """Return what sizes of images are multiples of, in voxels."""
        return max(self.steps[-1])

    @property
    def context(self) -> int:
        """Return the voxels on each side that a voxel's scores depend on, at most."""
        return max(self.contexts)

    @property
    def contexts(self) -> tuple[int, ...]:
        """Return the same for each axis."""
        convolutions = [4] * len(self.pools) + [2]
        reach = [step - 1 for step in self.steps[-1]]
        for count, size, kernel in zip(convolutions, self.steps, self.kernels, strict=True):
            reach = [far + count * (edge // 2) * step for far, edge, step in zip(reach, kernel, size, strict=True)]
        return tuple(reach)

    def forward(self, image: Tensor) -> Tensor:
        """Return scores (B, K, *S) of images (B, C, *S); S is a multiple of the stride."""
        values = image.contiguous(memory_format=LAYOUT[self.dimensions])
        skips = []
        for depth, block in enumerate(self.down):
            values = block(MAXIMUM[self.dimensions](values, self.pools[depth - 1]) if depth else values)
            skips.append(values)
        skips.pop()
        for depth in reversed(range(len(self.pools))):
            factors = [float(factor) for factor in self.pools[depth]]
            risen = functional.interpolate(self.rise[depth](values), scale_factor=factors, mode="nearest")
            values = self.up[depth](torch.add(risen, skips.pop(), alpha=HALF))
        scores: Tensor = self.head(values)
        return scores


class _Block(nn.Module):
    """Two convolutions beside a shortcut; what comes out has about the variance of what goes in."""

    def __init__(self, inputs: int, outputs: int, *, kernel: Steps) -> None:
        super().__init__()
        self.first = _Standardised(inputs, outputs, kernel=kernel, variance=RECTIFIED)
        self.second = _Standardised(outputs, outputs, kernel=kernel, variance=0.5 * RECTIFIED)
        # The kernel of a single weight has no spread that could be standardised: one channel goes to all.
        mixes = inputs not in (1, outputs)
        ones = (1,) * len(kernel)
        self.beside = _Standardised(inputs, outputs, kernel=ones, variance=0.5 * RECTIFIED) if mixes else None

    def forward(self, values: Tensor) -> Tensor:
        branch = self.second(functional.relu(self.first(values), inplace=True))
        if self.beside is not None:
            return functional.relu(branch + self.beside(values), inplace=True)
        return functional.relu(torch.add(branch, values, alpha=HALF * math.sqrt(RECTIFIED)), inplace=True)


class _Standardised(nn.Module):
    """A convolution whose kernels have mean 0, and multiply the variance of their input by `variance`."""

    def __init__(self, inputs: int, outputs: int, *, kernel: Steps, variance: float) -> None:
        super().__init__()
        self.inputs, self.factor = inputs * math.prod(kernel), math.sqrt(variance)
        self.padding = tuple(edge // 2 for edge in kernel)
        # Their size changes nothing but how fast they turn: so that a step of Adam changes what comes out by as much
        # whatever the width. Kernels of the usual size made wide networks explode in ten steps.
        self.weight = nn.Parameter(torch.randn(outputs, inputs, *kernel) * (SIZE * math.sqrt(self.inputs)))
        self.gain = nn.Parameter(torch.ones(outputs, *[1] * (1 + len(kernel))))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, values: Tensor) -> Tensor:
        axes = tuple(range(1, self.weight.ndim))
        spread, mean = torch.var_mean(self.weight, axes, correction=0, keepdim=True)
        weight = (self.weight - mean) * torch.rsqrt(spread * self.inputs + 1e-4) * (self.gain * self.factor)
        convolution: Any = APPLIED[len(self.padding)]
        found: Tensor = convolution(values, weight, self.bias, padding=self.padding)
        return found
