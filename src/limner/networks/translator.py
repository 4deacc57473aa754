"""Encoder and decoders that translate between images with and without something."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from limner import check
from limner.config import Settings
from limner.networks.spectral import Convolution

Width = Annotated[int, Field(ge=1)]
Normalisation: TypeAlias = Literal["instance", "layer", "batch", "none"]
Skips: TypeAlias = Literal["compressed", "concatenated", "summed", "none"]
#: Modes of a decoder: what it makes when it translates, and when it segments.
TRANSLATE, SEGMENT = 0, 1


class CodecOptions(Settings):
    """Encoder and decoders, as a recipe says them; the defaults are the paper's for images of 128 pixels and more.

    Args:
        features: channels at each level, the finest first; the last are those of the code.
        encoder: its normalisation.
        decoder: normalisation of all decoders.
        skips: how what the encoder saw at a level reaches the decoders: "compressed" to one map, "concatenated",
            "summed", or "none".
        refined: whether one more convolution follows at the finest level, as in the public code.
        head: edge of the last kernel; that of the other convolutions, as printed, unless given (7 in the public code,
            whose segmentation also passes through as many maps as the image has).
        dropout: share of the values of each block that is left out at random.
    """

    features: Annotated[tuple[Width, ...], Field(min_length=3)] = (16, 32, 64, 128, 256, 512)
    encoder: Normalisation = "instance"
    decoder: Normalisation = "layer"
    skips: Skips = "compressed"
    refined: bool = False
    head: Literal[1, 3, 5, 7] | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Code(NamedTuple):
    """What an encoder says of images.

    Args:
        values: (B, N, *s) at the coarsest level.
        skips: what it saw at each level before, the finest first.
    """

    values: Tensor
    skips: tuple[Tensor, ...]

    def taken(self, chosen: slice | Tensor) -> Code:
        """Return the code of some of the images."""
        return Code(self.values[chosen], tuple(skip[chosen] for skip in self.skips))


class Normalised(nn.Module):
    """Normalisation by one of several sets of scales and shifts.

    Args:
        channels: of the maps.
        kind: over each map ("instance"), all maps of an image ("layer"), the batch ("batch"), or not at all.
        modes: sets of scales and shifts to choose from; none has neither.

    Source: Vorontsov et al. 2022; in layers, scales begin between 0 and 1 as in the public code, but the variance is
    torch's, over n where the public code has n - 1.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int, *, kind: Normalisation, modes: int) -> None:
        super().__init__()
        self.kind = kind
        modes = 0 if kind == "none" else modes
        begin = torch.rand if kind == "layer" else torch.ones
        self.scale = nn.ParameterList([nn.Parameter(begin(channels)) for _ in range(modes)])
        self.shift = nn.ParameterList([nn.Parameter(torch.zeros(channels)) for _ in range(modes)])
        if kind == "batch":
            self.register_buffer("mean", torch.zeros(channels))
            self.register_buffer("variance", torch.ones(channels))

    def forward(self, values: Tensor, mode: int = 0) -> Tensor:
        """Return values (B, C, *S) normalised."""
        scale, shift = (self.scale[mode], self.shift[mode]) if len(self.scale) else (None, None)
        if self.kind == "layer":
            return functional.group_norm(values, 1, scale, shift)
        if self.kind == "instance":
            return functional.group_norm(values, values.shape[1], scale, shift)
        if self.kind == "batch":
            state = self.mean, self.variance
            return functional.batch_norm(values, *state, weight=scale, bias=shift, training=self.training)
        return values


class Block(nn.Module):
    """Normalise, rectify, rise or fall by a factor of two, convolve; with a short skip around it, if wanted.

    Args:
        channels: of what comes in and of what goes out.
        kernel: edge in voxels.
        kind: of normalisation.
        stride: 2 to fall.
        rises: whether sizes double first.
        short: whether what comes in is added to what goes out.
        options: `spectral`, `modes`, `dropout`, `dimensions`.
    """

    def __init__(
        self,
        channels: tuple[int, int],
        *,
        kernel: int,
        kind: Normalisation,
        stride: int = 1,
        rises: bool = False,
        short: bool = False,
        **options: float,
    ) -> None:
        super().__init__()
        spectral, dimensions = bool(options["spectral"]), int(options["dimensions"])
        self.norm = Normalised(channels[0], kind=kind, modes=int(options.get("modes", 0)))
        self.convolution = Convolution(channels, kernel=kernel, stride=stride, spectral=spectral, dimensions=dimensions)
        widens = short and channels[0] != channels[1]
        self.around = Convolution(channels, kernel=1, spectral=spectral, dimensions=dimensions) if widens else None
        self.short, self.stride, self.rises = short, stride, rises
        self.dropout = float(options.get("dropout", 0))

    def forward(self, values: Tensor, mode: int = 0) -> Tensor:
        """Return (B, O, *S') of values (B, I, *S)."""
        inner = functional.relu(self.norm(values, mode))
        if self.dropout:
            inner = functional.dropout(inner, self.dropout, self.training)
        found: Tensor = self.convolution(risen(inner) if self.rises else inner)
        if not self.short:
            return found
        thin = values[:, :, *[slice(None, None, self.stride)] * (values.ndim - 2)]
        aside = thin if self.around is None else self.around(thin)
        return found + (risen(aside) if self.rises else aside)


class Encoder(nn.Module):
    """Turns images into codes.

    Args:
        channels: of the images.
        options: widths and so on.
        spectral: whether its weights are normalised.
        dimensions: 2 or 3.

    Source: Vorontsov et al. 2022, Table 1.
    """

    def __init__(self, channels: int, *, options: CodecOptions, spectral: bool, dimensions: int) -> None:
        super().__init__()
        first, *_, last = options.features
        self.first = Convolution((channels, first), kernel=3, spectral=spectral, dimensions=dimensions)
        shared: dict[str, Any] = {"spectral": spectral, "dropout": options.dropout, "dimensions": dimensions}
        modes = int(options.encoder != "instance")
        self.blocks = nn.ModuleList(
            Block(pair, kernel=3, kind=options.encoder, stride=2, short=True, modes=modes, **shared)
            for pair in pairwise(options.features)
        )
        self.norm = Normalised(last, kind=options.encoder, modes=modes)

    def forward(self, image: Tensor) -> Code:
        """Return the code of images (B, C, *S).

        Raises:
            InputError: if the images are too small for so many levels.
        """
        check.deep_enough(tuple(image.shape[2:]), levels=len(self.blocks))
        values, skips = self.first(image), []
        for block in self.blocks:
            skips.append(values)
            values = block(values)
        return Code(functional.relu(self.norm(values)), tuple(skips))


class Decoder(nn.Module):
    """Turns codes into maps: an image, a residual, or what is where.

    Args:
        inputs: channels of the code that it is given.
        outputs: maps.
        options: widths and so on.
        kernel: edge of its convolutions.
        short: whether its blocks have short skips.
        spectral: whether its weights are normalised, but those of its second head.
        segments: channels of the image if it has a second mode, in which it segments by scales, shifts and a head of
            its own; 0 if it has not.
        dimensions: 2 or 3.

    Source: Vorontsov et al. 2022, Table 1 and section 3.3.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        options: CodecOptions,
        kernel: int = 3,
        short: bool = True,
        spectral: bool = False,
        segments: int = 0,
        dimensions: int = 2,
    ) -> None:
        super().__init__()
        self.skips = options.skips
        widths = options.features[-2::-1]
        extra = {"compressed": [1] * len(widths), "concatenated": list(widths)}.get(self.skips, [0] * len(widths))
        joined = [width + more for width, more in zip(widths, extra, strict=True)]
        shared: dict[str, Any] = {"spectral": spectral, "modes": 1 + (segments > 0), "dimensions": dimensions}
        kind = options.decoder
        self.begin = Convolution((inputs, widths[0]), kernel=kernel, spectral=spectral, dimensions=dimensions)
        self.blocks = nn.ModuleList(
            Block(pair, kernel=kernel, kind=kind, rises=True, short=short, dropout=options.dropout, **shared)
            for pair in zip(joined, widths[1:], strict=False)
        )
        self.refine = Block((joined[-1],) * 2, kernel=kernel, kind=kind, **shared) if options.refined else None
        self.head = Block((joined[-1], outputs), kernel=options.head or kernel, kind=kind, **(shared | {"modes": 1}))
        self.compressors = nn.ModuleList(
            nn.Sequential(
                Normalised(width, kind="instance", modes=0),
                Convolution((width, 1), kernel=1, spectral=spectral, dimensions=dimensions),
            )
            for width in (widths if self.skips == "compressed" else ())
        )
        self.segmenter = _segmenter(joined[-1], segments, options=options, dimensions=dimensions) if segments else None

    def forward(self, values: Tensor, skips: Sequence[Tensor], *, mode: int = TRANSLATE) -> Tensor:
        """Return maps (B, O, *S) of codes (B, I, *s), or scores (B, 1, *S) if it segments."""
        # Upsampled first, so that the first block is one too, of neither norm nor rectifier.
        values = self._joined(self.begin(risen(values)), skips, level=0)
        for level, block in enumerate(self.blocks, start=1):
            values = self._joined(block(values, mode), skips, level=level)
        if self.refine is not None:
            values = self.refine(values, mode)
        head = self.head if mode == TRANSLATE or self.segmenter is None else self.segmenter
        found: Tensor = head(values)
        return found

    def _joined(self, values: Tensor, skips: Sequence[Tensor], *, level: int) -> Tensor:
        """Return maps cropped to the size that the encoder had at a level, and what it saw there."""
        skip = skips[-1 - level]
        values = values[:, :, *[slice(size) for size in skip.shape[2:]]]
        if self.skips == "none":
            return values
        if self.skips == "summed":
            return values + skip
        return torch.cat([values, self.compressors[level](skip) if self.skips == "compressed" else skip], 1)


def _segmenter(channels: int, image: int, *, options: CodecOptions, dimensions: int) -> nn.Module:
    """Return the head of a decoder that segments: 1x1 as printed, or through as many maps as the image has."""
    plain: dict[str, Any] = {"kind": options.decoder, "spectral": False, "modes": 1, "dimensions": dimensions}
    if options.head is None:
        return Block((channels, 1), kernel=1, **plain)
    last = Convolution((image, 1), kernel=1, dimensions=dimensions)
    return nn.Sequential(Block((channels, image), kernel=options.head, **plain), last)


class Codec(nn.Module):
    """One encoder and one decoder that give every voxel a score for each class, that of the background being 0.

    Args:
        channels: of the image, C.
        classes: K.
        options: widths and so on.
        dimensions: 2 or 3.

    Source: Vorontsov et al. 2022, the network of segmentation alone; with one class beside the background, the softmax
    of its scores is the sigmoid there.
    """

    #: Sizes need not be multiples of anything, and every voxel sees all of the image.
    stride, context = 1, 0

    def __init__(self, channels: int, classes: int, *, options: CodecOptions, dimensions: int) -> None:
        super().__init__()
        self.encoder = Encoder(channels, options=options, spectral=False, dimensions=dimensions)
        self.decoder = Decoder(options.features[-1], classes - 1, options=options, dimensions=dimensions)

    def forward(self, image: Tensor) -> Tensor:
        """Return scores (B, K, *S) of images (B, C, *S)."""
        return self.scores(self.encoder(image))

    def scores(self, code: Code) -> Tensor:
        """Return scores (B, K, *S) of images' codes."""
        return with_background(self.decoder(*code))


def with_background(scores: Tensor) -> Tensor:
    """Return scores (B, K, *S) of all classes, given those (B, K - 1, *S) of all but the background."""
    return torch.cat([torch.zeros_like(scores[:, :1]), scores], 1)


def risen(values: Tensor) -> Tensor:
    """Return values (B, C, *S) with every voxel doubled along each axis."""
    return functional.interpolate(values, scale_factor=2.0, mode="nearest")
