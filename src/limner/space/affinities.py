"""How surely voxels belong together with others near them: an array of several channels that knows what each is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from limner import check
from limner.space.grid import Array, Grid

Offsets = Sequence[Sequence[int]]


@dataclass(frozen=True, eq=False)
class Affinities:
    """Affinities of the voxels of a grid with their partners.

    Args:
        data: (C, *S), float32 from 0 (apart) to 1 (together), or uint8 from 0 to 255.
        offsets: (C, D) voxels. Channel c at voxel v speaks of v and v + offsets[c]; of nothing where that lies outside.
        grid: of the shape S.

    Raises:
        InputError: if the shapes do not go together.
    """

    data: Array
    offsets: tuple[tuple[int, ...], ...]
    grid: Grid

    def __post_init__(self) -> None:
        """Store plain integers and check that data, offsets and grid agree."""
        offsets = tuple(tuple(int(step) for step in offset) for offset in self.offsets)
        object.__setattr__(self, "offsets", offsets)
        check.affinities(self.data, offsets, shape=self.grid.shape)
