"""The location prior: how likely each label is at each place, learned from label maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limner.priors.bias import Bias
from limner.priors.deformation import Warp, Warps
from limner.priors.neighbours import NeighbourTable, neighbour_energy, neighbour_messages
from limner.priors.prior import Parts
from limner.priors.sparse import STILL, Bend, SparseMaps
from limner.space import Array, Grid, LabelTable

#: Probability that every part keeps everywhere. A floor of 1e-3 costs 0.01 to 0.02 of Dice in small structures.
FLOOR = 1e-5
#: Every how many voxels along each axis a mask is looked at.
LATTICE = 3
#: Weight of the neighbour table's energy. Every pair counts twice and every voxel has 26 neighbours that know the same
#: things, so that at weight 1 the table outvotes location and intensity together.
NEIGHBOUR_WEIGHT = 0.02


@dataclass(frozen=True, eq=False)
class Atlas:
    """A probabilistic atlas.

    Args:
        table: the labels it knows.
        grid: where its voxels lie, in the atlas's own world (mm, RAS+).
        maps: probabilities of the table's rows on that grid.
        neighbours: which classes lie beside which in the same maps, if they were counted.
        provenance: how it was built, JSON-ready.
        warps: how it may bend; None for an atlas that does not.
        warp: how it is bent to the scan it is for, if it is.
        kept: (P,) share of each part that lies inside the mask of the scan it is for; None for no scan in particular.
        head: of the whole head in the same world, its classes being tissues; None if only the brain is known.

    Source: the spatial prior of Van Leemput et al. 1999 and of Yu et al. 2020 (SAE), p(s) = prod_j p_j(s_j).
    """

    table: LabelTable
    grid: Grid
    maps: SparseMaps
    neighbours: NeighbourTable | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    warps: Warps | None = None
    warp: Warp | None = None
    kept: Tensor | None = None
    head: Atlas | None = None

    @cached_property
    def part_of(self) -> Array:
        """Part of each row of the table, (L,): labels of one class and one tissue are one part."""
        pairs = list(zip(self.table.structure_of.tolist(), self.table.tissue_of.tolist(), strict=True))
        order = sorted(set(pairs))
        return np.array([order.index(pair) for pair in pairs])

    @cached_property
    def parts(self) -> Parts:
        """The parts of the classes, the background's first."""
        first = [int(np.flatnonzero(self.part_of == part)[0]) for part in range(self.part_of.max() + 1)]
        class_of = torch.as_tensor(self.table.structure_of[first])
        return Parts(class_of, torch.as_tensor(self.table.tissue_of[first]), self.table.tissues)

    @cached_property
    def centres(self) -> Array:
        """Centre of mass of each row's map in voxels, (L, 3)."""
        return self.maps.centres(len(self.table))

    @cached_property
    def bend(self) -> Bend:
        """How the warp moves places, in voxels."""
        return self.warp.on(self.grid) if self.warp else STILL

    def within(self, mask: Tensor, grid: Grid) -> Atlas:
        """Return the atlas for what a mask (*S) shows, p(part | place, inside).

        Whoever drew the mask left little background in it: by Bayes' rule a part counts there in proportion to the
        share of it that lies inside. Otherwise the background takes cortex at the edge of stripped scans.

        Args:
            mask: what is to be segmented; one that is everywhere changes nothing.
            grid: (*S), its affine leading to the atlas's world; what lies beyond it does not count as outside.
        """
        every = (slice(None, None, LATTICE),) * mask.ndim
        few = mask[every]
        parts = self.sampled(Grid(tuple(few.shape), grid.affine @ np.diag([LATTICE] * mask.ndim + [1])))
        return replace(self, kept=(parts[:, few].sum(1) + FLOOR) / (parts.flatten(1).sum(1) + FLOOR))

    def sampled(self, grid: Grid) -> Tensor:
        """Return (P, *S) probabilities of the parts on a grid, whose affine leads to the atlas's world; no floor."""
        matrix = np.linalg.inv(self.grid.affine) @ grid.affine
        groups = len(self.parts.class_of)
        parts = torch.from_numpy(
            self.maps.sampled(matrix, grid.shape, group_of=self.part_of, groups=groups, bend=self.bend)
        )
        if self.kept is None:
            return parts
        parts.mul_(self.kept.view(-1, *[1] * len(grid.shape)))
        return parts.div_(parts.sum(0))

    def place(self, grid: Grid) -> PlacedAtlas:
        """Return the atlas on `grid`, whose affine leads to the atlas's world (`Grid.moved` by the alignment)."""
        return PlacedAtlas(self, grid)


@dataclass(frozen=True, eq=False)
class PlacedAtlas:
    """An atlas on a scan's grid; K classes are the table's structures.

    Args:
        atlas: the atlas.
        grid: (*S), its affine leading to the atlas's world.
        neighbour_weight: of the neighbour table's energy, none if 0.
    """

    atlas: Atlas
    grid: Grid
    neighbour_weight: float = NEIGHBOUR_WEIGHT

    @property
    def parts(self) -> Parts:
        """The parts of the K classes."""
        return self.atlas.parts

    @property
    def neighbours(self) -> NeighbourTable | None:
        """Which classes lie beside which, if that is known."""
        return self.atlas.neighbours

    def parts_within(self, mask: Tensor) -> Tensor:
        """Return (N, P) floored and normalised probabilities of the parts at a mask's N voxels, (*S) or (1, *S)."""
        return self.part_probability()[:, mask.view(self.grid.shape)].T.contiguous()

    def part_probability(self) -> Tensor:
        """Return (P, *S) probabilities of the parts, floored and normalised."""
        return self.atlas.sampled(self.grid).add_(FLOOR).div_(1 + len(self.parts.class_of) * FLOOR)

    def log_probability(self) -> Tensor:
        """Return (K, *S) nats, normalised over the classes."""
        return self._log_probability

    @cached_property
    def _log_probability(self) -> Tensor:
        classes = torch.zeros(len(self.atlas.table.structures), *self.grid.shape)
        return classes.index_add_(0, self.parts.class_of, self.part_probability()).log_()

    def energy(self, q: Tensor) -> Tensor:
        """Return the expected -log p of `q` (B, K, *S), location and neighbours together: (B,) nats."""
        location = -torch.einsum("bk...,k...->b", q, self.log_probability().to(q))
        neighbours = self.atlas.neighbours
        return location if neighbours is None else location + self.neighbour_weight * neighbour_energy(q, neighbours)

    def messages(self, q: Tensor) -> Tensor:
        """Return d energy / d q, (B, K, *S) nats."""
        location = self.log_probability().to(q)
        if self.atlas.neighbours is None:
            return -location.expand_as(q)
        # In place: a copy of all maps is what most of the memory goes to while a scan is segmented.
        return neighbour_messages(q, self.atlas.neighbours).mul_(self.neighbour_weight).sub_(location)

    def identified(self, classes: Array) -> Array:
        """Return the likeliest label id of each voxel given its class, p(id | class, voxel): (*S) to (*S) int32."""
        table = self.atlas.table
        rows = self.atlas.maps.identified(
            self._matrix, classes, class_of=table.structure_of, centres=self.atlas.centres, bend=self.atlas.bend
        )
        return np.asarray(table.ids[rows])

    @property
    def _matrix(self) -> Array:
        """(4, 4) from the scan's voxel indices to the atlas's."""
        return np.asarray(np.linalg.inv(self.atlas.grid.affine) @ self.grid.affine)


@dataclass(frozen=True, eq=False)
class Placement:
    """Where a scan lies in an atlas, and what it would look like there but for the gain of its coils.

    Args:
        transform: (4, 4) from the scan's world to the atlas's, mm.
        score: mean log evidence in nats per voxel, of intensities scaled to unit variance; it compares placements of
            one scan.
        warp: how the atlas bends after that, if it does.
        bias: the scan's gain, if it has one: intensities that may be negative have none.
        told: how much the atlas tells of the scan's intensities beyond their histogram, nats per voxel: next to nothing
            where it does not lie right, or where there is nothing to see.
        sides: by how much its score exceeds that of its mirror image, before any bending.
    """

    transform: Array
    score: float
    warp: Warp | None = None
    bias: Bias | None = None
    told: float = 0.0
    sides: float = 0.0

    @property
    def scale(self) -> float:
        """How many times as large as the atlas the scan is, in length."""
        return 1 / float(np.cbrt(abs(np.linalg.det(self.transform))))

    def before(self, change: Array) -> Placement:
        """Return the same in another world of the scan, (4, 4) from which to this one is given."""
        bias = self.bias and self.bias.before(change)
        return replace(self, transform=self.transform @ change, bias=bias)

    def evened(self, image: Tensor, grid: Grid) -> Tensor:
        """Return the scan's image (C, *S) on `grid` without its gain."""
        return image if self.bias is None else self.bias.evened(image, grid)

    def placed(self, atlas: Atlas, *, grid: Grid, mask: Tensor) -> PlacedAtlas:
        """Return the atlas where the scan lies, for what a mask (*S) of the scan shows.

        Args:
            atlas: that the scan was aligned to.
            grid: (*S) of the scan.
            mask: what is to be segmented.
        """
        world = grid.moved(self.transform)
        return replace(atlas, warp=self.warp).within(mask, world).place(world)
