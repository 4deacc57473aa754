"""Convolutions that reflect at the border, and their weights divided by their largest singular value, once a step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.networks.layers import APPLIED, LAYOUT

#: Convolutions, and the weights that they are to take.
Weights: TypeAlias = "list[tuple[Convolution, Tensor]]"
#: Keeps a vector of zeros from being divided by its norm.
TINY = 1e-12


class Convolution(nn.Module):
    """A convolution over an image that goes on beyond its border as in a mirror.

    Args:
        channels: of what comes in and of what goes out.
        kernel: edge in voxels.
        stride: 2 halves the size.
        spectral: whether the weights are divided by their largest singular value.
        dimensions: 2 or 3.

    Source: Vorontsov et al. 2022: reflection, Kaiming's initialisation; spectral normalisation: Miyato et al. 2018.
    """

    left: Tensor
    right: Tensor

    def __init__(
        self, channels: tuple[int, int], *, kernel: int, stride: int = 1, spectral: bool = False, dimensions: int = 2
    ) -> None:
        super().__init__()
        inputs, outputs = channels
        self.stride, self.dimensions, self.spectral = stride, dimensions, spectral
        self.weight = nn.Parameter(torch.empty(outputs, inputs, *[kernel] * dimensions))
        bound = self.weight[0].numel() ** -0.5
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound))
        nn.init.kaiming_normal_(self.weight)
        self.padding = (kernel - 1) // 2, (kernel - (stride > 1)) // 2
        self.held: Tensor | None = None
        if spectral:
            rows, columns = outputs, self.weight[0].numel()
            self.register_buffer("left", functional.normalize(torch.randn(rows), dim=0))
            self.register_buffer("right", functional.normalize(torch.randn(columns), dim=0))

    def forward(self, values: Tensor) -> Tensor:
        """Return (B, O, *S / stride) of values (B, I, *S)."""
        values = values.contiguous(memory_format=LAYOUT[self.dimensions])
        if self.padding[1]:
            # A mirror needs more voxels than it shows; nothing lies beyond a map that is smaller.
            mirrored = min(values.shape[2:]) > max(self.padding)
            values = functional.pad(values, self.padding * self.dimensions, "reflect" if mirrored else "constant")
        weight = self.normalised() if self.held is None else self.held
        return APPLIED[self.dimensions](values, weight, self.bias, self.stride)

    def normalised(self, largest: Tensor | None = None) -> Tensor:
        """Return the weights over their largest singular value, which is looked up if it is not given."""
        if not self.spectral:
            return self.weight
        if largest is None:
            largest = torch.dot(self.left, self.weight.detach().flatten(1).mv(self.right))
        found: Tensor = _Divided.apply(self.weight, self.left, self.right, largest)  # type: ignore[no-untyped-call]
        return found


class _Divided(torch.autograd.Function):
    """Weights over their largest singular value, left W right; in the gradient, the vectors are constants."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, left: Tensor, right: Tensor, largest: Tensor) -> Tensor:
        found = weight / largest
        ctx.save_for_backward(found, left, right, largest)
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        found, left, right, largest = ctx.saved_tensors
        along = torch.dot(gradient.flatten(), found.flatten())
        whole = torch.addr(gradient.flatten(1), along * left, right, alpha=-1) / largest
        return whole.view_as(gradient), None, None, None


def convolutions(modules: Iterable[nn.Module]) -> list[Convolution]:
    """Return the convolutions in modules whose weights are normalised."""
    found = [one for module in modules for one in module.modules() if isinstance(one, Convolution)]
    return [one for one in found if one.spectral]


@torch.no_grad()
def improved(layers: Sequence[Convolution]) -> list[Tensor]:
    """Bring singular vectors nearer to what they are by a step of the power method; return the values they give."""
    matrices = [layer.weight.flatten(1) for layer in layers]
    rights = _units([matrix.t().mv(layer.left) for matrix, layer in zip(matrices, layers, strict=True)])[0]
    lefts, largest = _units([matrix.mv(right) for matrix, right in zip(matrices, rights, strict=True)])
    for layer, left, right in zip(layers, lefts, rights, strict=True):
        layer.left, layer.right = left, right
    return largest


def _units(vectors: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Return vectors over their norms, and the norms: of all at once, as a step has a hundred small ones."""
    norms = list(torch._foreach_norm(vectors))  # noqa: SLF001 -- as torch's own optimisers do it
    return [vector / (norm + TINY) for vector, norm in zip(vectors, norms, strict=True)], norms


def normal_weights(*modules: nn.Module, improve: bool = False) -> Weights:
    """Return the normalised weights of modules' convolutions.

    Args:
        modules: whose convolutions.
        improve: whether the power method takes a step first.
    """
    layers = convolutions(modules)
    if not layers:
        return []
    # In half precision, the vectors would be lost.
    with torch.autocast(layers[0].weight.device.type, enabled=False):
        values = improved(layers) if improve else [None] * len(layers)
        return [(layer, layer.normalised(value)) for layer, value in zip(layers, values, strict=True)]


@contextmanager
def held(weights: Weights) -> Iterator[None]:
    """Have convolutions take these weights in the context; what they held before they hold again after it."""
    before = [(layer, layer.held) for layer, _ in weights]
    for layer, weight in weights:
        layer.held = weight
    try:
        yield
    finally:
        for layer, former in before:
            layer.held = former


@contextmanager
def normalised(*modules: nn.Module, improve: bool = False) -> Iterator[None]:
    """Normalise the weights of modules once for all that is computed in the context.

    Args:
        modules: whose convolutions.
        improve: whether the power method takes a step first.

    Source: as Miyato et al. 2018, but once a step instead of once a call, which is most of a published step's time.
    """
    with held(normal_weights(*modules, improve=improve)):
        yield
