"""Autoencoder: what the network learns by reconstructing all images helps it to segment the few with labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, cast

import torch
from pydantic import Field
from torch import Tensor

from limner.config import Settings
from limner.data.batch import Batch
from limner.losses import difference
from limner.methods.method import Task
from limner.methods.supervised import Supervised, SupervisedOptions
from limner.networks.options import NetworkOptions
from limner.networks.translator import Codec, Decoder
from limner.priors.prior import PlacedPrior


class CodecNetwork(NetworkOptions):
    """A codec.

    Args:
        kind: there is no other.
    """

    kind: Literal["codec"] = "codec"


class AutoencoderOptions(SupervisedOptions):
    """What a recipe may say about the autoencoder.

    Args:
        network: a codec.
        objective: of the labels.
        segmentation: weight of what labels teach.
        reconstruction: weight of the reconstruction of all images.
    """

    network: CodecNetwork = CodecNetwork()
    objective: Literal["dice and entropy", "batch dice"] = "batch dice"
    segmentation: Annotated[float, Field(ge=0)] = 1.0
    reconstruction: Annotated[float, Field(ge=0)] = 1.0


class Autoencoder(Supervised):
    """Segmenter with a second decoder that reconstructs the image from the code alone, without long skips.

    Source: the autoencoding baseline of Vorontsov et al. 2022.
    """

    Options = AutoencoderOptions
    options: AutoencoderOptions

    def __init__(self, task: Task, options: Settings) -> None:
        super().__init__(task, options)
        codec = self.options.network.codec
        alone = codec.model_copy(update={"skips": "none"})
        self.reconstructor = Decoder(codec.features[-1], task.channels, options=alone, dimensions=task.dimensions)

    def losses(self, batch: Batch, prior: PlacedPrior | None) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Yield what labels teach, and how far the reconstruction is from the image."""
        network = cast("Codec", self.network)
        code = network.encoder(batch.image)
        taught = self.taught(network.scores(code), batch, prior=prior)
        made = torch.tanh(self.reconstructor(*code))
        terms = {name: self.options.segmentation * term for name, term in taught.items()}
        gap = difference(made.float(), batch.image, mask=batch.mask).mean()
        yield "model", terms | {"reconstruction": self.options.reconstruction * gap}
