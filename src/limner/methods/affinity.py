"""Affinity: a network says which voxels near each other belong together, and a decoder makes segments of that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from limner import check
from limner.config import Settings
from limner.data.batch import IGNORE, Batch
from limner.data.electron import Microscopy, spoiled, varied
from limner.data.tones import Tones
from limner.instances import ends, nearest
from limner.instances.decoding import Decoder, decoded
from limner.losses import balanced_cross_entropy, known_square
from limner.methods import descriptors
from limner.methods.method import Task, Trainable
from limner.methods.mirroring import averaged, views
from limner.networks.options import ResidualOptions
from limner.priors.prior import PlacedPrior
from limner.space import Array

Weight = Annotated[float, Field(ge=0)]
#: Steps of the long-range offsets along each axis that are learned unless others are asked for.
FAR = (3, 9)


class AffinityOptions(Settings):
    """What a recipe may say about affinities.

    Args:
        network: that scores edges.
        offsets: from a voxel to its partners, one row each; the direct neighbours, and those 3 and 9 voxels before it
            along each axis, unless given.
        far_weight: of the loss of offsets that are no direct neighbours'.
        shape_width: sd in voxels of the window of local shape descriptors, which are learned beside; 0 learns none.
        shape_weight: of their loss.
        microscopy: how pieces are changed before they are learned from.
        mirrored: whether predictions are averaged over "flips" of every axis, and with "all" over exchanged axes too,
            as far as `microscopy` exchanges them.
        tones: curve that intensities go through before the network sees them, of a model that was adapted.
        decoder: of the segments.
    """

    network: ResidualOptions = ResidualOptions()
    offsets: tuple[tuple[int, ...], ...] = ()
    far_weight: Weight = 0.5
    shape_width: Weight = 0.0
    shape_weight: Weight = 2.0
    microscopy: Microscopy = Microscopy()
    mirrored: Literal["none", "flips", "all"] = "none"
    tones: Tones | None = None
    decoder: Decoder = Decoder()


class Affinity(Trainable):
    """Segmenter of objects without names: learns affinities from a labelled piece, and decodes those of the rest.

    Source: Lee et al. 2017 (arXiv 1706.00120), nearest and long-range affinities learned together; Sheridan et al.,
    Nature Methods 2023, local shape descriptors as a further target; Wiese 2018 for components, the first decoder.
    """

    Options = AffinityOptions
    supervised = True
    instances = True
    options: AffinityOptions

    def __init__(self, task: Task, options: AffinityOptions) -> None:
        super().__init__(task, options)
        steps = tuple(tuple(-far * abs(step) for step in row) for far in FAR for row in nearest(task.dimensions))
        self.offsets = options.offsets or (*nearest(task.dimensions), *steps)
        check.offsets(self.offsets, dimensions=task.dimensions)
        near = [sum(map(abs, offset)) == 1 for offset in self.offsets]
        self.near = [channel for channel, direct in enumerate(near) if direct]
        self.far = [channel for channel, direct in enumerate(near) if not direct]
        shapes = descriptors.count(task.dimensions) if options.shape_width else 0
        outputs = len(self.offsets) + shapes
        self.network = options.network.made(task.channels, outputs, dimensions=task.dimensions)

    @property
    def stride(self) -> int:
        """Image sizes are padded to multiples of this, in voxels."""
        return self.network.stride

    @property
    def context(self) -> int:
        """Voxels around a voxel, on each side, that its prediction depends on."""
        return self.network.context

    def losses(self, batch: Batch, prior: PlacedPrior | None) -> Iterator[tuple[str, dict[str, Tensor]]]:  # noqa: ARG002
        """Yield balanced cross-entropy of near and far edges, and the squared error of shapes."""
        image, labels = varied(batch.image, torch.where(batch.mask, batch.labels, IGNORE), by=self.options.microscopy)
        scores = self.network(self._toned(image)).float()
        targets, known = edges_of(labels, self.offsets)
        terms = {"near": self._edge_loss(scores, targets, known=known, channels=self.near)}
        if self.far and self.options.far_weight:
            terms["far"] = self.options.far_weight * self._edge_loss(scores, targets, known=known, channels=self.far)
        if self.options.shape_width:
            shapes, there = descriptors.descriptors(labels, self.options.shape_width)
            found = scores[:, len(self.offsets) :]
            terms["shape"] = self.options.shape_weight * known_square(found, shapes, known=there)
        yield "model", terms

    @staticmethod
    def _edge_loss(scores: Tensor, targets: Tensor, *, known: Tensor, channels: list[int]) -> Tensor:
        return balanced_cross_entropy(scores[:, channels], targets[:, channels], known=known[:, channels])

    def predict(self, image: Tensor, prior: PlacedPrior | None, *, mask: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Return (B, C, *S) float32 affinities, one for each offset; S is a multiple of the stride."""

        def seen(view: Tensor) -> Tensor:
            scores: Tensor = self.network(self._toned(view))
            return scores[:, : len(self.offsets)].float().sigmoid()

        if self.options.mirrored == "none":
            return seen(image)
        groups = self.options.microscopy.exchanged if self.options.mirrored == "all" else ()
        ways = list(views(self.task.dimensions, exchanged=groups))
        return averaged(seen, image, offsets=self.offsets, ways=ways)

    def views(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return images as they are, and with defects, noise and another tone, as `microscopy` has them."""
        return image, spoiled(image, by=self.options.microscopy)

    def _toned(self, image: Tensor) -> Tensor:
        """Return images as the network is to see them."""
        return self.options.tones(image) if self.options.tones else image

    def segment(self, prediction: Tensor) -> Array:
        """Return the segments of affinities, (B, *S) from 1 on; 0 where there is none."""
        values = prediction.float().cpu().numpy()
        return np.stack([decoded(one, self.offsets, by=self.options.decoder) for one in values]).astype(np.int64)


def edges_of(labels: Tensor, offsets: tuple[tuple[int, ...], ...]) -> tuple[Tensor, Tensor]:
    """Return which voxels belong together with their partners, and of which that is known, both (B, C, *S) bool.

    Args:
        labels: (B, *S) ids of instances; 0 belongs together with nothing, and IGNORE is unknown.
        offsets: (C, D) voxels.
    """
    shape = (len(labels), len(offsets), *labels.shape[1:])
    together = torch.zeros(shape, dtype=torch.bool, device=labels.device)
    known = torch.zeros_like(together)
    for channel, offset in enumerate(offsets):
        here, there = ends(offset, labels.shape[1:])
        one, other = labels[:, *here], labels[:, *there]
        together[:, channel][:, *here] = (one == other) & (one > 0)
        known[:, channel][:, *here] = (one != IGNORE) & (other != IGNORE)
    return together, known
