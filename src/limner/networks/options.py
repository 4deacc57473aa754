"""Which network, as a recipe says it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from limner import check
from limner.config import Settings
from limner.networks.pyramid import PyramidUNet
from limner.networks.residual import ResidualUNet
from limner.networks.translator import Codec, CodecOptions
from limner.networks.unet import UNet

Width = Annotated[int, Field(ge=1)]


class NetworkOptions(Settings):
    """Which network turns images into scores.

    Args:
        kind: "pyramid" (ours; can learn at half the resolution first), "unet" (that of Yu et al. 2020) or "codec" (that
            of Vorontsov et al. 2022).
        features: channels at each level, the finest first, of a pyramid or a U-Net.
        codec: of a codec.
    """

    kind: Literal["pyramid", "unet", "codec"] = "pyramid"
    features: Annotated[tuple[Width, ...], Field(min_length=3)] = (8, 16, 32, 48, 64)
    codec: CodecOptions = CodecOptions()

    @property
    def local(self) -> bool:
        """Whether what it says of a voxel depends on what lies near it alone."""
        return self.kind != "codec"

    def made(self, channels: int, classes: int, *, dimensions: int, level: int = 0) -> PyramidUNet | UNet | Codec:
        """Return the network, with random weights; `level` is the finest of a pyramid in use."""
        if self.kind == "codec":
            return Codec(channels, classes, options=self.codec, dimensions=dimensions)
        if self.kind == "unet":
            return UNet(channels, classes, features=self.features, dimensions=dimensions)
        return PyramidUNet(channels, classes, features=self.features, dimensions=dimensions, level=level)


#: The same along all axes, or one for each.
Edges = Width | tuple[Width, ...]


class ResidualOptions(Settings):
    """A residual U-Net whose levels need not shrink all axes alike.

    Args:
        features: channels at each level, the finest first.
        pools: for each level but the last, by how much it shrinks to the next: all axes alike, or one number for each
            axis, as [1, 2, 2] for thick sections; 2 unless given.
        kernels: for each level, the edge of its kernels in voxels, odd; 3 unless given.
    """

    features: Annotated[tuple[Width, ...], Field(min_length=2)] = (12, 24, 48)
    pools: tuple[Edges, ...] = ()
    kernels: tuple[Edges, ...] = ()

    @model_validator(mode="after")
    def _levels_agree(self) -> ResidualOptions:
        """Refuse lists that are not of one level each."""
        levels = len(self.features)
        for name, given, wanted in (("pools", self.pools, levels - 1), ("kernels", self.kernels, levels)):
            if given and len(given) != wanted:
                raise check.network_levels(name, len(given), wanted=wanted)
        return self

    def made(self, channels: int, outputs: int, *, dimensions: int) -> ResidualUNet:
        """Return the network, with random weights.

        Raises:
            InputError: for a list that does not have a number for each axis, or a kernel without a middle.
        """
        levels = len(self.features)
        pools = [_each(edge, dimensions) for edge in self.pools or (2,) * (levels - 1)]
        kernels = [_each(edge, dimensions) for edge in self.kernels or (3,) * levels]
        for kernel in kernels:
            check.odd_kernel(kernel)
        return ResidualUNet(
            channels, outputs, features=self.features, pools=pools, kernels=kernels, dimensions=dimensions
        )


def _each(edge: Edges, dimensions: int) -> tuple[int, ...]:
    """Return a number for each axis."""
    edges = (edge,) * dimensions if isinstance(edge, int) else edge
    check.edge_per_axis(edges, dimensions)
    return edges
