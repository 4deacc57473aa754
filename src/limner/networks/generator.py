"""The generator of translation: images without targets, what targets add to them, and where they are."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from limner import check
from limner.networks.translator import SEGMENT, Code, CodecOptions, Decoder, Encoder


class Generator(nn.Module):
    """An encoder, a common decoder, and a residual decoder for each target.

    A quarter of the code's channels is unique, shared out among the targets; the rest is common to all images.

    Args:
        channels: of the images, C.
        targets: T.
        options: widths and so on.
        spectral: whether weights are normalised, but those that segment.
        separate: whether a decoder of its own segments, instead of the residual decoders in their second mode.
        dimensions: 2 or 3.

    Source: Vorontsov et al. 2022, Table 1 and sections 3 and 5.
    """

    def __init__(
        self, channels: int, targets: int, *, options: CodecOptions, spectral: bool, separate: bool, dimensions: int
    ) -> None:
        super().__init__()
        width = options.features[-1]
        check.unique_fits(targets, width)
        self.targets, self.unique = targets, width // 4 // targets
        self.common_width = width - self.unique * targets
        shared: dict[str, Any] = {"options": options, "dimensions": dimensions}
        each = self.common_width + self.unique
        bare: dict[str, Any] = {"kernel": 5, "short": False, "segments": 0 if separate else channels}
        self.encoder = Encoder(channels, spectral=spectral, **shared)
        self.common = Decoder(self.common_width, channels, spectral=spectral, **shared)
        self.residual = nn.ModuleList(
            Decoder(each, channels, spectral=spectral, **bare, **shared) for _ in range(targets)
        )
        self.segmenter = Decoder(width, targets, **shared) if separate else None

    def encoded(self, image: Tensor) -> Code:
        """Return the codes (N channels) of images (B, C, *S)."""
        return cast("Code", self.encoder(image))

    def absent(self, code: Code) -> Tensor:
        """Return images (B, C, *S) without any target, of the codes' common part."""
        found: Tensor = self.common(code.values[:, : self.common_width], code.skips)
        return found.tanh()

    def added(self, code: Code, shown: Tensor) -> Tensor:
        """Return what the targets that are shown (B, T) bool add to images, (B, C, *S)."""
        each = []
        for target, decoder in enumerate(self.residual):
            found: Tensor = decoder(self._parts(code.values, target), code.skips).tanh()
            each.append(found * shown[:, target].view(-1, *[1] * (found.ndim - 1)))
        return torch.stack(each).sum(0) if len(each) > 1 else each[0]

    def scores(self, code: Code) -> Tensor:
        """Return scores (B, T, *S) of the targets."""
        if self.segmenter is not None:
            return cast("Tensor", self.segmenter(*code))
        each = [
            decoder(self._parts(code.values, target), code.skips, mode=SEGMENT)
            for target, decoder in enumerate(self.residual)
        ]
        return torch.cat(each, 1)

    def given(self, values: Tensor, unique: Tensor) -> Tensor:
        """Return codes (B, N, *s) with other unique parts (B, T, U, *s)."""
        return torch.cat([values[:, : self.common_width], unique.flatten(1, 2).to(values)], 1)

    def drawn(self, values: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """Return unique parts (B, T, U, *s), standard normal, for codes (B, N, *s): torch's own draws without `rng`."""
        shape = len(values), self.targets, self.unique, *values.shape[2:]
        return torch.randn(shape, device=values.device, generator=rng)

    def _parts(self, values: Tensor, target: int) -> Tensor:
        """Return the common part of codes and a target's unique part."""
        begin = self.common_width + target * self.unique
        return torch.cat([values[:, : self.common_width], values[:, begin : begin + self.unique]], 1)
