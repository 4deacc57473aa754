"""What a prior is: it scores a segmentation in nats before it sees the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from limner.priors.neighbours import NeighbourTable
    from limner.space import Grid


@dataclass(frozen=True, eq=False)
class Parts:
    """The parts that a prior's classes are made of, each of one tissue; intensities are tied by tissue.

    Most classes have one part. A class that gathers several tissues, as "rest" does, has one part for each, so that a
    voxel near the third ventricle expects the intensity of fluid and one near the accumbens that of grey matter.

    Args:
        class_of: (P,) int64, the class that each part belongs to.
        tissue_of: (P,) int64, index into `tissues`.
        tissues: names, background's first.

    Source: intensities tied as in Puonti et al. 2016 (SAMSEG); several parts in a class are our own.
    """

    class_of: Tensor
    tissue_of: Tensor
    tissues: tuple[str, ...]


class PlacedPrior(Protocol):
    """A prior on one scan's grid: K classes, P parts, S the grid's shape.

    That of a batch of scans has maps with a leading axis, (B, K, *S) and (B, P, *S), and takes masks (B, *S).
    """

    @property
    def parts(self) -> Parts:
        """The parts that the classes are made of."""

    @property
    def neighbours(self) -> NeighbourTable | None:
        """Which classes lie beside which, if that is known."""

    @property
    def neighbour_weight(self) -> float:
        """Weight of the neighbours' energy."""

    def log_probability(self) -> Tensor:
        """Return (K, *S) nats, normalised over the classes."""

    def part_probability(self) -> Tensor:
        """Return (P, *S) probabilities of the parts, floored and normalised."""

    def parts_within(self, mask: Tensor) -> Tensor:
        """Return (N, P) probabilities of the parts at the N voxels of a mask (*S), floored and normalised."""

    def energy(self, q: Tensor) -> Tensor:
        """Return the expected -log p of segmentations `q` (B, K, *S): (B,) nats, without the entropy of `q`."""

    def messages(self, q: Tensor) -> Tensor:
        """Return d energy / d q, (B, K, *S) nats."""


class Prior(Protocol):
    """Knowledge that can be placed on any grid."""

    def place(self, grid: Grid) -> PlacedPrior:
        """Return the prior on `grid`, whose affine leads to the prior's own world."""
