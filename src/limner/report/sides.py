"""Left and right of one structure beside one another, as readers compare them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from limner.space import LabelTable

SIDE = re.compile(r"(?<![a-z])(?:(left|lh|l)|right|rh|r)(?![a-z])[-_ .]?", re.IGNORECASE)


class Pair(NamedTuple):
    """Two labels whose names differ in the side alone, or a label without another side.

    Args:
        name: what both are called but for the side.
        left: row in the table of the left one, or of the only one.
        right: row in the table of the right one, if there is one.
    """

    name: str
    left: int
    right: int | None

    @property
    def rows(self) -> list[int]:
        """Rows in the table of both, or of the only one."""
        return [self.left] if self.right is None else [self.left, self.right]


def paired(table: LabelTable) -> Iterator[Pair]:
    """Yield the labels of a table but the background, in their order, each right one with its left one."""
    sides = [_split(name) for name in table.names]
    row_of = {side: row for row, side in enumerate(sides)}
    for row, (name, left) in enumerate(sides):
        other = None if left is None else row_of.get((name, not left))
        if row and (left or other is None):
            yield Pair(table.names[row] if other is None else name, row, other)


def _split(name: str) -> tuple[str, bool | None]:
    """Return a name without its side, and whether that is the left one; None if it has none."""
    found = SIDE.search(name)
    return (name, None) if found is None else (SIDE.sub("", name, count=1).strip("-_ ."), found[1] is not None)
