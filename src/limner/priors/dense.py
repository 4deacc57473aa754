"""The location prior of a batch: maps of the parts that were interpolated once and kept, ready for a network's loss."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from limner.networks.rows import taken
from limner.priors.atlas import FLOOR, NEIGHBOUR_WEIGHT, Atlas
from limner.priors.neighbours import NeighbourTable, neighbour_energy, neighbour_messages
from limner.priors.prior import Parts
from limner.space import Array, Grid

# Voxels at a time, few enough for what is made of them to stay in the processor's cache.
_CHUNK = 1 << 15


def part_maps(atlas: Atlas, grid: Grid) -> Array:
    """Return an atlas's parts on a grid as they are kept: (*S, P) float16, a voxel's parts side by side, no floor.

    Args:
        atlas: the atlas.
        grid: (*S), its affine leading to the atlas's world.

    Source: our own.
    """
    return atlas.sampled(grid).half().movedim(0, -1).contiguous().numpy()


@dataclass(frozen=True, eq=False)
class DensePrior:
    """An atlas on the scans of a batch: like a placed atlas, with one map for each scan.

    Args:
        parts: that the K classes are made of.
        probability: (B, P, *S) float16 or float32 that sums to about 1 over the parts; best a view of memory in which a
            voxel's parts lie side by side.
        neighbours: which classes lie beside which, if that is known.
        neighbour_weight: of the neighbour table's energy.
        world: (B, D+1, D+1) voxel indices to mm of the atlas's world, for priors that know more of it.

    Source: the spatial prior of Yu et al. 2020 (SAE); floor and weight as in `limner.priors.atlas`.
    """

    parts: Parts
    probability: Tensor
    neighbours: NeighbourTable | None = None
    neighbour_weight: float = NEIGHBOUR_WEIGHT
    world: Tensor | None = None

    @classmethod
    def of(cls, atlas: Atlas, grid: Grid) -> DensePrior:
        """Return the prior of a batch of one scan: an atlas on a grid whose affine leads to the atlas's world."""
        probability = torch.from_numpy(part_maps(atlas, grid)).movedim(-1, 0)[None]
        world = torch.tensor(grid.affine)[None]
        return cls(atlas.parts, probability, atlas.neighbours, world=world)

    @property
    def classes(self) -> int:
        """Number of classes, K."""
        return int(self.parts.class_of.max()) + 1

    def to(self, device: torch.device | str) -> DensePrior:
        """Return the prior on another device, its memory in the same order."""
        parts = replace(self.parts, class_of=self.parts.class_of.to(device), tissue_of=self.parts.tissue_of.to(device))
        world = None if self.world is None else self.world.to(device)
        return replace(self, parts=parts, probability=self.probability.to(device), world=world)

    def part_probability(self) -> Tensor:
        """Return (B, P, *S) float32 probabilities of the parts, floored and normalised."""
        floored = self.probability.float() + FLOOR
        return floored.div_(floored.sum(1, keepdim=True))

    def parts_within(self, mask: Tensor) -> Tensor:
        """Return (N, P) float32 probabilities of the parts at a mask's N voxels (B, *S), floored and normalised."""
        floored = taken(self.probability, mask).float().add_(FLOOR)
        return floored.div_(floored.sum(1, keepdim=True))

    def log_probability(self) -> Tensor:
        """Return (B, K, *S) nats, normalised over the classes."""
        return self._log_probability

    @cached_property
    def _log_probability(self) -> Tensor:
        voxels = self.probability.movedim(1, -1)
        member = torch.nn.functional.one_hot(self.parts.class_of, self.classes).to(voxels.device, torch.float32)
        found = torch.empty(*voxels.shape[:-1], self.classes, device=voxels.device)
        chunks = torch.split(voxels.reshape(-1, voxels.shape[-1]), _CHUNK)
        # A product in bfloat16 would round what is to be summed exactly.
        with torch.autocast(voxels.device.type, enabled=False):
            for parts, classes in zip(chunks, torch.split(found.view(-1, self.classes), _CHUNK), strict=True):
                torch.mm(parts.float() + FLOOR, member, out=classes)
                classes.div_(classes.sum(1, keepdim=True)).log_()
        return found.movedim(-1, 1)

    def energy(self, q: Tensor) -> Tensor:
        """Return the expected -log p of `q` (B, K, *S), location and neighbours together: (B,) nats."""
        location = -(q * self.log_probability().to(q)).flatten(1).sum(1)
        if self.neighbours is None:
            return location
        return location + self.neighbour_weight * neighbour_energy(q, self.neighbours)

    def messages(self, q: Tensor) -> Tensor:
        """Return d energy / d q, (B, K, *S) nats."""
        location = -self.log_probability().to(q)
        if self.neighbours is None:
            return location
        return location + self.neighbour_weight * neighbour_messages(q, self.neighbours)
