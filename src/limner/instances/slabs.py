"""Runs of sections, which are worked on side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Part = TypeVar("Part")
Result = TypeVar("Result")

#: Sections in a slab: the same whatever the number of threads, so that sums are the same to the last bit.
THICKNESS = 16


def slabs(sections: int, thickness: int = THICKNESS) -> list[tuple[int, int]]:
    """Return the first section of each slab and one past its last."""
    return [(start, min(start + thickness, sections)) for start in range(0, sections, thickness)]


def each(work: Callable[[Part], Result], parts: Iterable[Part], *, threads: int | None = None) -> list[Result]:
    """Return what `work` makes of each part, in their order, by `threads` (None: one per core)."""
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        return list(pool.map(work, parts))
