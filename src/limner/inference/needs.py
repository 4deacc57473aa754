"""What segmenting a scan will take: memory and time, from how many voxels its brain may fill."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from limner.data.scan import shows_head
from limner.inference.approach import Approach, approach
from limner.inference.memory import memory_needed
from limner.space import Box, Volume

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
    """Estimate what `limner segment` takes for a scan, with the prior that ships and without a model."""
    head = shows_head(image)
    box = Box.around(image.data != image.data.flat[0]).size * image.grid.voxel_volume
    minutes = MINUTES * (0.5 + 0.5 * min(box / LARGEST_BOX, 1)) * (2 if head else 1)
    return Needs(memory_needed(image, _usual(), channels=1, mask=None), max(1.0, minutes), head)


@cache
def _usual() -> Approach:
    """Return how scans are segmented if nothing else is asked for."""
    return approach(None, None)
