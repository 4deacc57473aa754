"""Look over the sections of a volume before it is segmented, a few at a time, and keep what was found as a table."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from limner import check
from limner.files import open_volume, replacing
from limner.files.parts import SUFFIXES, StoredImage
from limner.preparation.faults import Fault, Measures, faults, measured, middle
from limner.space import Array, Box

#: What the name of a volume's table ends in.
ENDING = "_sections.csv"
COLUMNS = ("section", "level", "contrast", "detail", "moved_y", "moved_x", "faults")
#: Sections of fewer than these have no neighbours to be judged by.
FEWEST = 5
#: Of what is read at a time.
BYTES = 64e6


def looked_over(path: Path) -> tuple[Measures, tuple[Fault, ...]] | None:
    """Return what was measured in each section of a volume, and what is wrong with which; None of a single image.

    Of volumes that are read in parts, a few sections are in memory at a time.

    Raises:
        InputError: for a volume that cannot be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", check.InputWarning)  # whoever opens it to use it is told
        if not path.name.lower().endswith(SUFFIXES):
            return judged(open_volume(path).data)
        image = StoredImage.opened(path)
    return _judged(_read(image)) if _is_stack(image.grid.shape) else None


def judged(data: Array) -> tuple[Measures, tuple[Fault, ...]] | None:
    """Return the same of a volume in memory, (Z, Y, X)."""
    return _judged(data) if _is_stack(data.shape) else None


def _is_stack(shape: Sequence[int]) -> bool:
    return len(shape) == 3 and shape[0] >= FEWEST


def _judged(sections: Iterator[Array] | Array) -> tuple[Measures, tuple[Fault, ...]]:
    found = measured(sections)
    return found, faults(found)


def _read(image: StoredImage) -> Iterator[Array]:
    """Yield the middle of each section of an image on disk."""
    Z, *plane = image.grid.shape
    spans = [middle(size) for size in plane]
    area = np.prod([span.stop - span.start for span in spans])
    step = max(1, int(BYTES / (4 * area)))
    for first in range(0, Z, step):
        start, stop = (tuple(getattr(span, end) for span in spans) for end in ("start", "stop"))
        yield from image.read(Box((first, *start), (min(Z, first + step), *stop)))


def keep(found: Measures, wrong: Sequence[Fault], *, path: Path) -> None:
    """Write a line for each section: means over its parts, and what is wrong with it.

    Raises:
        InputError: if the disk refuses.
    """
    words: dict[int, list[str]] = {}
    for one in wrong:
        words.setdefault(one.section, []).append(str(one))
    means = zip(*(one.mean((1, 2)) for one in (found.level, np.exp(found.contrast), np.exp(found.detail))), strict=True)
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for section, (numbers, moves) in enumerate(zip(means, found.moves, strict=True)):
            told = [f"{number:.5g}" for number in numbers] + [f"{move:.0f}" for move in moves]
            table.writerow([section, *told, "; ".join(words.get(section, []))])
