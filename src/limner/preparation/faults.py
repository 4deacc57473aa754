"""Sections of a stack that will fail: blurred, noisy, dark, bright, missing or misaligned, told before they are used.

Nothing is known of what a sound section looks like but what its neighbours look like: a section is judged by how far it
is from the median of those around it, in units of how far sections of the same stack usually are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from limner.preparation.sections import alike, compared
from limner.space import Array

#: Parts along either axis that a section is looked at in, as many as have `EDGE` voxels: half of the faults of real
#: sections are in a part of them.
PARTS, EDGE = 4, 24
#: Voxels along an axis in the middle of a section that are looked at.
SIDE = 1024
#: Sections on either side that one is compared with; a run of bad ones must be fewer than half of them.
REACH = 7
#: Usual deviations, as sd, from which something is odd; and how odd it must be besides, since some stacks are so even
#: that any change is. Brightness is in usual contrasts, detail and contrast are logs of ratios, moves are in voxels.
ODD = 5.0
LEVEL, DETAIL, MOVE = 0.7, 0.6, 2.0
#: Log of the contrast, by its neighbours', below which a part shows nothing.
NOTHING = math.log(0.2)
#: Turns a median of distances into the sd of a normal distribution.
NORMAL = 1.4826
SMALLEST = 1e-6


class Fault(NamedTuple):
    """What is wrong with a section.

    Args:
        section: its number, from 0 on.
        kind: in a word.
        reason: in words, with figures.
    """

    section: int
    kind: str
    reason: str

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.kind}: {self.reason}"


@dataclass(frozen=True, eq=False)
class Measures:
    """What was measured in each section, in each of its parts.

    Args:
        level: (Z, P, Q) mean intensity.
        contrast: (Z, P, Q) log of the sd of intensities.
        detail: (Z, P, Q) log of the sd of what differs from the mean of 3 x 3 voxels, over that of all.
        moves: (Z, 2) voxels along y and x by which it seems to lie beside the one before.
        gains: (Z,) by how much more alike the two are once it is moved back; correlation.
    """

    level: NDArray[np.float64]
    contrast: NDArray[np.float64]
    detail: NDArray[np.float64]
    moves: NDArray[np.float64]
    gains: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.level)


def measured(sections: Iterable[Array], *, farthest: int = 16) -> Measures:
    """Measure sections (Y, X), of which two at a time are kept.

    Args:
        sections: of a stack, in order.
        farthest: that neighbours may lie apart along each axis, voxels.
    """
    rows: list[NDArray[np.float64]] = []
    moves: list[NDArray[np.float64]] = []
    before: Array | None = None
    for whole in sections:
        section = np.asarray(whole[tuple(map(middle, whole.shape))], np.float32)
        rows.append(_of_parts(section))
        even = float(section.std()) < SMALLEST
        moves.append(np.zeros(3) if before is None or even else _moved(before, section, farthest=farthest))
        before = before if even else section
    level, contrast, detail = np.stack(rows, axis=1)
    found = np.stack(moves)
    return Measures(level, contrast, detail, found[:, :2], found[:, 2])


def faults(found: Measures) -> tuple[Fault, ...]:
    """Return what is wrong with which sections, the first one first; a section that shows nothing has no other fault.

    Source: our own; distances from a running median in units of their median, as in Hampel's filter (1974).
    """
    missing = _missing(found)
    lost = {one.section for one in missing}
    level, detail = _apart(found.level) / _usual(found.contrast), _apart(found.detail)
    others = [
        *_beyond(-detail, "blurred", least=DETAIL, words=lambda far: f"{math.exp(-far):.0%} of its neighbours' detail"),
        *_beyond(detail, "noisy", least=DETAIL, words=lambda far: f"{math.exp(far):.1f} times its neighbours' detail"),
        *_beyond(-level, "dark", least=LEVEL, words=lambda far: f"darker by {far:.1f} of the usual contrast"),
        *_beyond(level, "bright", least=LEVEL, words=lambda far: f"brighter by {far:.1f} of the usual contrast"),
        *_misaligned(found),
    ]
    return tuple(sorted([*missing, *(one for one in others if one.section not in lost)]))


def _moved(before: Array, section: Array, *, farthest: int) -> NDArray[np.float64]:
    """Return by how much a section lies beside the one before, and how much is gained if it is moved back, (3,)."""
    back, _ = compared(before, section, farthest=farthest)
    gain = alike(before, section, shift=back) - alike(before, section, shift=(0, 0))
    return np.array([*-back, gain])


def middle(size: int) -> slice:
    """Return what is looked at along an axis of `size` voxels."""
    return slice(max(0, (size - SIDE) // 2), min(size, (size + SIDE) // 2))


def _of_parts(section: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return level, contrast and detail of each part of a section, (3, P, Q)."""
    from scipy.ndimage import uniform_filter

    fine = section - uniform_filter(section, 3)
    cuts = [np.array_split(np.arange(size), min(PARTS, max(1, size // EDGE))) for size in section.shape]
    found = np.empty((3, *map(len, cuts)))
    for row, rows in enumerate(cuts[0]):
        for column, columns in enumerate(cuts[1]):
            place = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            spread, texture = (float(one[place].std()) + SMALLEST for one in (section, fine))
            found[:, row, column] = section[place].mean(), math.log(spread), math.log(texture / spread)
    return found


def _apart(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far the values (Z, ...) of each section are from the median of those around it."""
    around = np.empty_like(values)
    for section in range(len(values)):
        first, last = max(0, section - REACH), section + REACH + 1
        others = np.concatenate([values[first:section], values[section + 1 : last]])
        around[section] = np.median(others, axis=0) if len(others) else values[section]
    return values - around


def _usual(contrast: NDArray[np.float64]) -> float:
    """Return the contrast of a usual part (Z, P, Q) that shows anything: stacks may be padded."""
    shown = contrast[contrast > math.log(10 * SMALLEST)]
    return math.exp(float(np.median(shown))) if shown.size else 1.0


def _limit(apart: NDArray[np.float64], least: float) -> float:
    """Return the distance from which something is odd."""
    return max(least, ODD * NORMAL * float(np.median(np.abs(apart))))


def _beyond(apart: NDArray[np.float64], kind: str, *, least: float, words: Callable[[float], str]) -> Iterator[Fault]:
    """Yield the sections of which a part is too far above its neighbours, (Z, P, Q)."""
    parts = apart.reshape(len(apart), -1)
    odd = parts > _limit(apart, least)
    for section in np.flatnonzero(odd.any(1)).tolist():
        count = int(odd[section].sum())
        yield Fault(section, kind, f"{words(float(parts[section].max()))}, in {count} of {parts.shape[1]} parts")


def _missing(found: Measures) -> list[Fault]:
    """Return the sections that show nothing in more than half of their parts."""
    empty = (_apart(found.contrast) < NOTHING).reshape(len(found), -1).mean(1)
    return [Fault(section, "missing", "no contrast") for section in np.flatnonzero(empty > 0.5).tolist()]


def _misaligned(found: Measures) -> Iterator[Fault]:
    """Yield the sections that lie beside the one before, unless they came back from where that one was."""
    apart = _apart(found.moves)
    limit, came_back = _limit(apart, MOVE), False
    # Beside a blurred section phases are noise, and their highest peak may lie anywhere near: nothing is gained there.
    odd = (np.abs(apart).max(1) >= limit) & (found.gains > 0)
    for section in np.flatnonzero(odd).tolist():
        if came_back:
            came_back = False
            continue
        came_back = (
            bool(odd[section + 1 : section + 2].any()) and np.abs(apart[section : section + 2].sum(0)).max() <= limit
        )
        down, right = (round(step) for step in apart[section].tolist())
        how = "alone" if came_back else "with all that follow"
        yield Fault(section, "misaligned", f"moved by {down} {right} voxels along y x, {how}")
