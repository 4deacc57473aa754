"""Which network, as a recipe says it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from limner.config import Settings
from limner.networks.pyramid import PyramidUNet
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
