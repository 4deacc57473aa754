"""What segmenting a scan will take: memory and time."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from limner.data.scan import shows_head
from limner.inference.approach import Approach, approach
from limner.inference.memory import memory_needed
from limner.space import Volume

#: Minutes on two cores for a stripped brain of 1 mm with the prior that ships; a head takes twice as long. With fewer
#: voxels it is half as long at least.
MINUTES = 1.0
#: Voxels of such a brain's box of 1 mm.
USUAL = 5e6


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
        return f"{what}; about {self.memory / 1e9:.1f} GB and {max(1, self.minutes):.0f} min on two cores"


def needs(image: Volume) -> Needs:
    """Estimate what `limner segment` takes for a scan with the prior that ships and no model."""
    head = shows_head(image)
    memory = memory_needed(image, _usual(), channels=1, mask=None)
    share = min(1 / image.grid.voxel_volume, image.data.size / USUAL)
    minutes = MINUTES * (0.5 + 0.5 * share) * (2 if head else 1)
    return Needs(memory, minutes, head)


@cache
def _usual() -> Approach:
    """Return how scans are segmented unless something else is asked for."""
    return approach(None, None)
