"""The mean and spread of a volume's intensities, cell by cell: what it takes to make any part of it ready."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from limner import check
from limner.blocks.working import Crew, box_of, boxes, told_before
from limner.cluster import Item, Made
from limner.cluster.work import Step
from limner.data.intensity import CELL, Moments
from limner.files.parts import StoredImage


def measured(image: StoredImage, state: str, *, crew: Crew, work: Path) -> Moments:
    """Return the moments of an image.

    Args:
        image: on disk.
        state: hash of how its files looked at the beginning.
        crew: measures the cells.
        work: folder of what is kept on the way.

    Raises:
        InputError: for an image that cannot be read, is not finite, or constant.
    """
    shape = image.grid.shape
    cells = boxes(shape, [CELL] * len(shape))
    found = crew.work(Measuring(image.path.absolute(), state), cells, home=work / Measuring.name)
    moments = Moments.joined([Moments(**one.record) for one in found])
    if not moments.spread:
        check.varied(np.array([moments.mean]), image.path)
    return moments


@dataclass(frozen=True)
class Measuring:
    """How a process begins to measure intensities.

    Args:
        volume: file or store of the image, absolute.
        state: hash of how its files looked at the beginning.
    """

    volume: Path
    state: str
    name: ClassVar[str] = "intensities"

    @property
    def facts(self) -> dict[str, Any]:
        """What all cells have in common."""
        return {"limner": version("limner"), "volume": self.state, "stage": self.name}

    def __call__(self) -> Measured:
        """Open the volume."""
        with told_before():
            return Measured(self, StoredImage.opened(self.volume))


@dataclass(frozen=True, eq=False)
class Measured:
    """Measures the intensities of cells."""

    asked: Measuring
    image: StoredImage

    @property
    def facts(self) -> dict[str, Any]:
        """What all cells have in common."""
        return self.asked.facts

    def __call__(self, item: Item, *, step: Step) -> Made:
        """Measure those of a cell.

        Raises:
            InputError: if it cannot be read, or is not finite.
        """
        step("measuring")
        values = self.image.read(box_of(item))
        check.finite(values, self.image.path)
        return Made(asdict(Moments.of(values)))
