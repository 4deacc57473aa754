"""The shape model: how whole anatomies differ, learned from label maps, as a prior on the location prior's grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from limner import check
from limner.config import Settings
from limner.networks.autoencoder import Bound, Decoder, Encoder
from limner.networks.layers import MEAN
from limner.networks.rows import rows_within
from limner.priors.neighbours import NeighbourTable, neighbour_energy, neighbour_messages
from limner.priors.prior import Parts, PlacedPrior

Size = Annotated[int, Field(ge=1)]
#: Axis of the atlas's world that the slices of a plane are stacked along.
PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}


class ShapeOptions(Settings):
    """What a recipe may say about the shape model.

    Args:
        shape: voxels of its lattice along the axes of the atlas's world; every next level halves them.
        spacing: of the lattice, mm; what it says is interpolated to a scan's voxels, and added to the location prior.
        centre: of the lattice in the atlas's world, mm.
        slices: plane whose slices are looked at one by one, each with its own code, as published; none for volumes.
        features: channels at each level, the finest first.
        latent: numbers in a code.
        bound: how mean and log-variance of a code are bounded.
    """

    shape: Annotated[tuple[Size, ...], Field(min_length=3, max_length=3)] = (20, 24, 24)
    spacing: Annotated[float, Field(gt=0)] = 8.0
    centre: Annotated[tuple[float, ...], Field(min_length=3, max_length=3)] = (1.0, -12.0, -12.0)
    slices: Literal["sagittal", "coronal", "axial"] | None = None
    features: Annotated[tuple[Size, ...], Field(min_length=2)] = (16, 32, 16)
    latent: Size = 32
    bound: Bound = "softsign"

    def affine(self, dimensions: int) -> np.ndarray:
        """Return (D+1, D+1), from the lattice's indices to the atlas's world; in 2-D by its first two axes."""
        shape, centre = (np.array(values[:dimensions], float) for values in (self.shape, self.centre))
        affine = np.diag([*[self.spacing] * dimensions, 1.0])
        affine[:-1, -1] = centre - self.spacing * (shape - 1) / 2
        return affine


class ShapeModel(nn.Module):
    """An auto-encoder of label maps on a lattice in the atlas's world.

    Args:
        channels: of the maps that are encoded.
        classes: K of the scores that are decoded.
        dimensions: of the lattice, 2 or 3.
        options: of the lattice and its networks.

    Raises:
        InputError: for a lattice whose sizes are no multiples of the stride.

    Source: Dalca et al. 2018; a lattice in the atlas's world, and volumes, are our own.
    """

    def __init__(self, channels: int, classes: int, *, dimensions: int, options: ShapeOptions) -> None:
        super().__init__()
        self.options, self.shape = options, tuple(options.shape[:dimensions])
        self.affine = torch.from_numpy(options.affine(dimensions))
        self.axis = PLANES[options.slices] if options.slices and dimensions == 3 else None
        seen = tuple(size for axis, size in enumerate(self.shape) if axis != self.axis)
        check.lattice_divides(seen, 2 ** (len(options.features) - 1))
        features, latent = options.features, options.latent
        self.encoder = Encoder(channels, shape=seen, features=features, latent=latent, bound=options.bound)
        self.decoder = Decoder(classes, shape=seen, features=features, latent=latent)

    @property
    def codes(self) -> int:
        """Codes of a scan: one, or one for each slice."""
        return 1 if self.axis is None else self.shape[self.axis]

    def encoded(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and log-variances (B, codes, Z) of maps on the lattice (B, C, *L)."""
        mean, log_variance = self.encoder(self._sliced(maps))
        return self._scans(mean.float()), self._scans(log_variance.float())

    def decoded(self, code: Tensor) -> Tensor:
        """Return scores (B, K, *L) of codes (B, codes, Z)."""
        scores: Tensor = self.decoder(code.flatten(0, 1)).float()
        return scores if self.axis is None else self._scans(scores).movedim(1, 2 + self.axis)

    def _scans(self, values: Tensor) -> Tensor:
        """Return what there is of each code (B x codes, *) by scan, (B, codes, *)."""
        return values.view(-1, self.codes, *values.shape[1:])

    def _sliced(self, maps: Tensor) -> Tensor:
        """Return the lattice's slices (B x codes, C, *), if it is to be seen by slices."""
        return maps if self.axis is None else maps.movedim(2 + self.axis, 1).flatten(0, 1)

    def gathered(self, values: Tensor, world: Tensor) -> Tensor:
        """Return a scan's maps on the lattice, (B, C, *L), 0 outside the scan.

        A voxel of the lattice that is larger than the scan's is the mean of about what it covers.

        Args:
            values: (B, C, *S).
            world: (B, D+1, D+1) from the scan's voxel indices to the atlas's world.
        """
        sizes = world[0, :-1, :-1].norm(dim=0).tolist()
        blocks = [max(1, round(self.options.spacing / size)) for size in sizes]
        # From the indices of the blocks' centres to those of the scan.
        coarser = torch.diag(world.new_tensor([*blocks, 1]))
        coarser[:-1, -1] = (world.new_tensor(blocks) - 1) / 2
        steps = torch.linalg.inv(world @ coarser) @ self.affine.to(world)
        means = _means(values, blocks)
        grid = _normalised_grid(steps, shape=self.shape, source=means.shape[2:]).to(means)
        return functional.grid_sample(means, grid, align_corners=True)

    def interpolated(self, maps: Tensor, *, mask: Tensor, world: Tensor) -> Tensor:
        """Return the lattice's maps (B, K, *L) at the N voxels of a mask (B, *S): (N, K), linearly interpolated.

        Args:
            maps: on the lattice; its border goes on outside.
            mask: (B, *S) bool.
            world: (B, D+1, D+1) from the scan's voxel indices to the atlas's world.
        """
        steps = torch.linalg.inv(self.affine.to(world)) @ world
        rows = []
        for one, where, step in zip(maps, mask, steps, strict=True):
            places = where.nonzero().to(step) @ step[:-1, :-1].T + step[:-1, -1]
            points = _normalised(places, self.shape).to(one).view(1, -1, *[1] * (where.ndim - 1), where.ndim)
            found = functional.grid_sample(one[None], points, align_corners=True, padding_mode="border")
            rows.append(found[0].flatten(1).T)
        return torch.cat(rows)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the KL divergence of Gaussians from the standard one, nats, of each of their numbers.

    Source: Dalca et al. 2018, eq. 11, whose printed sign is the opposite.
    """
    return (mean.square() + log_variance.exp() - log_variance - 1) / 2


@dataclass(frozen=True, eq=False)
class ShapedPrior:
    """A placed prior to which a shape model adds its scores.

    Args:
        base: the location prior of one scan, or of a batch.
        scores: of the classes at each voxel, (K, *S), or of a batch (B, K, *S), as the base's log-probability.
        axis: of the classes: 0, or 1 for a batch.

    Source: Dalca et al. 2018, softmax(scores + log p) for the printed sigmoid; the parts of a class share its scores.
    """

    base: PlacedPrior
    scores: Tensor
    axis: int = 0

    @property
    def parts(self) -> Parts:
        """The parts that the classes are made of."""
        return self.base.parts

    @property
    def neighbours(self) -> NeighbourTable | None:
        """Which classes lie beside which, if that is known."""
        return self.base.neighbours

    @property
    def neighbour_weight(self) -> float:
        """Weight of the neighbours' energy."""
        return self.base.neighbour_weight

    def log_probability(self) -> Tensor:
        """Return (K, *S) or (B, K, *S) nats, normalised over the classes."""
        return self._log_probability

    @cached_property
    def _log_probability(self) -> Tensor:
        return (self.base.log_probability() + self.scores).log_softmax(self.axis)

    def part_probability(self) -> Tensor:
        """Return (P, *S) or (B, P, *S) probabilities of the parts, normalised."""
        parts = self.base.part_probability() * self._factors.index_select(self.axis, self.parts.class_of)
        return parts / parts.sum(self.axis, keepdim=True)

    def parts_within(self, mask: Tensor) -> Tensor:
        """Return (N, P) probabilities of the parts at the N voxels of a mask, normalised."""
        factors = rows_within(
            self._factors if self.axis else self._factors[None], mask.view(-1, *mask.shape[-self._dimensions :])
        )
        parts = self.base.parts_within(mask) * factors[:, self.parts.class_of]
        return parts / parts.sum(1, keepdim=True)

    def energy(self, q: Tensor) -> Tensor:
        """Return the expected -log p of `q` (B, K, *S), shape, location and neighbours together: (B,) nats."""
        own = -(q * self.log_probability().to(q)).flatten(1).sum(1)
        if self.neighbours is None:
            return own
        return own + self.neighbour_weight * neighbour_energy(q, self.neighbours)

    def messages(self, q: Tensor) -> Tensor:
        """Return d energy / d q, (B, K, *S) nats."""
        own = -self.log_probability().to(q).expand_as(q)
        return own if self.neighbours is None else own + self.neighbour_weight * neighbour_messages(q, self.neighbours)

    @property
    def _dimensions(self) -> int:
        """Axes of the grid."""
        return self.scores.ndim - 1 - self.axis

    @cached_property
    def _factors(self) -> Tensor:
        """What each class's probability is multiplied by, of the scores' shape; the largest at a voxel is 1."""
        return (self.scores - self.scores.amax(self.axis, keepdim=True)).exp()


def _means(values: Tensor, blocks: Sequence[int]) -> Tensor:
    """Return the means of blocks of voxels of maps (B, C, *S), which go on beyond their end with nothing."""
    ends = [(-size % block) for size, block in zip(values.shape[2:], blocks, strict=True)]
    padding = [number for end in reversed(ends) for number in (0, end)]
    return MEAN[len(blocks)](functional.pad(values, padding), tuple(blocks))


def _normalised(places: Tensor, shape: Sequence[int]) -> Tensor:
    """Return indices (..., D) as grid_sample wants them: the last axis first, -1 and 1 at the ends."""
    ends = places.new_tensor([max(size - 1, 1) for size in shape])
    return (2 * places / ends - 1).flip(-1)


def _normalised_grid(steps: Tensor, *, shape: Sequence[int], source: Sequence[int]) -> Tensor:
    """Return where each voxel of a grid lies in another for grid_sample, (B, *shape, D).

    Args:
        steps: (B, D+1, D+1) from the grid's voxel indices to the other's.
        shape: of the grid.
        source: shape of the other.
    """
    axes = [torch.arange(size, dtype=steps.dtype, device=steps.device) for size in shape]
    indices = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    places = indices.flatten(0, -2) @ steps[:, :-1, :-1].mT + steps[:, None, :-1, -1]
    return _normalised(places, source).view(len(steps), *shape, len(shape))
