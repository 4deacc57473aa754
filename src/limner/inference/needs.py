"""What segmenting a scan will take: memory and time, from how many voxels its brain may fill."""

from __future__ import annotations

from typing import NamedTuple

from limner.data.scan import shows_head
from limner.space import Box, Volume

#: Of a mixture with the prior that ships, measured on one brain with and without its skull at 1, 1.5 and 2 mm: bytes
#: to begin with, and for each voxel of the box around the brain.
BEGINNING, EACH = 1.9e9, 140.0
#: What a brain's box fills at most, mm3: of a head, nobody knows before it is found.
LARGEST_BOX = 5.2e6
#: Minutes on two cores for a stripped brain of 1 mm, half of them whatever its voxels are; a head takes twice as long.
MINUTES = 1.0


class Needs(NamedTuple):
    """What segmenting takes.

    Args:
        memory: bytes, at the peak.
        minutes: on two cores.
        head: whether the brain must be found first.
    """

    memory: float
    minutes: float
    head: bool

    def __str__(self) -> str:
        """Return it in words."""
        what = "a head" if self.head else "a brain without its skull"
        return f"{what}; about {self.memory / 1e9:.1f} GB and {self.minutes:.0f} min on two cores"


def needs(image: Volume) -> Needs:
    """Estimate what `limner segment` takes for a scan without a model."""
    head = shows_head(image)
    box = Box.around(image.data != image.data.flat[0]).size * image.grid.voxel_volume
    voxels = min(box, LARGEST_BOX) / image.grid.voxel_volume
    minutes = MINUTES * (0.5 + 0.5 * voxels / LARGEST_BOX) * (2 if head else 1)
    return Needs(BEGINNING + EACH * voxels, max(1.0, minutes), head)
