"""Which network, as a recipe says it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from limner.config import Settings
from limner.networks.pyramid import PyramidUNet
from limner.networks.unet import UNet

Width = Annotated[int, Field(ge=1)]


class NetworkOptions(Settings):
    """Which network turns images into scores.

    Args:
        kind: "pyramid" (ours; can learn at half the resolution first) or "unet" (that of Yu et al. 2020).
        features: channels at each level, the finest first.
    """

    kind: Literal["pyramid", "unet"] = "pyramid"
    features: Annotated[tuple[Width, ...], Field(min_length=3)] = (8, 16, 32, 48, 64)

    def made(self, channels: int, classes: int, *, dimensions: int, level: int = 0) -> PyramidUNet | UNet:
        """Return the network, with random weights; `level` is the finest of a pyramid in use."""
        if self.kind == "unet":
            return UNet(channels, classes, features=self.features, dimensions=dimensions)
        return PyramidUNet(channels, classes, features=self.features, dimensions=dimensions, level=level)
