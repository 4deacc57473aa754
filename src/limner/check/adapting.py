"""Word volumes of another kind than a model learned from, and sections of another kind than their neighbours."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from limner.check.errors import InputError, InputWarning

#: Edge of a voxel, nm, of files that do not say.
UNSAID = 1e6
#: Sections that are named before the rest is counted.
LISTED = 5


def faulty_sections(name: str, told: Sequence[str], *, sections: int) -> InputWarning:
    """Word sections of a volume that will fail.

    Args:
        name: of the volume.
        told: of each, its number and what is wrong with it.
        sections: of the volume.
    """
    more = f"; and {len(told) - LISTED} more" if len(told) > LISTED else ""
    return InputWarning(
        f"sections of '{name}', of which there are {sections}, are unlike their neighbours: "
        f"{'; '.join(told[:LISTED])}{more}: segments will be wrong there; look at them, and mend or replace them"
    )


def sections_table(path: Path, reason: object) -> InputError:
    """Word a table of sections that cannot be read."""
    return InputError(
        f"'{path}' cannot be read ({type(reason).__name__}: {reason}); expected the table of sections that "
        "`limner segment` wrote: restore it, or segment again"
    )


def voxels_alike(path: Path, found: Sequence[float], *, expected: Sequence[float], farthest: float) -> None:
    """Refuse a volume whose voxels are far larger or smaller than those that a model learned from.

    Args:
        path: of the volume.
        found: edges of its voxels, nm.
        expected: the same of the model's volumes.
        farthest: how many times as large, or as small, they may be.

    Raises:
        InputError: with both.
    """
    if UNSAID in (*found, *expected):
        return
    ratios = [one / other for one, other in zip(found, expected, strict=True)]
    if max(ratios) > farthest or min(ratios) < 1 / farthest:
        sizes = [" x ".join(f"{size:.4g}" for size in sizes) for sizes in (found, expected)]
        raise InputError(
            f"voxels of '{path}' are {sizes[0]} nm but the model learned from {sizes[1]} nm; expected at most "
            f"{farthest:g} times as large or as small: resample it, as `limner convert --like` does, or correct its "
            "resolution"
        )


def look_unknown(path: Path) -> InputError:
    """Word a model that does not know what the volumes that it learned from looked like."""
    return InputError(
        f"model '{path}' does not say what the volumes that it learned from look like; expected it to, as those that "
        "are trained now: give a volume of their kind with --like"
    )


def one_volume(count: int) -> None:
    """Refuse to adapt a model that tells objects apart to several volumes at once.

    Raises:
        InputError: with how many there are.
    """
    if count > 1:
        raise InputError(
            f"{count} volumes were given; expected one, since intensities of different volumes are matched by "
            "different curves: adapt to each by itself, or join them first"
        )


def only_volumes(options: Sequence[str]) -> None:
    """Refuse options of `limner adapt` that only a model that tells objects apart can follow.

    Raises:
        InputError: naming the first.
    """
    if options:
        raise InputError(f"{options[0]} is for models that tell objects apart; expected such a MODEL: leave it out")


def curve(given: Sequence[float], wanted: Sequence[float]) -> None:
    """Refuse a curve whose points do not ascend, or are not pairs.

    Raises:
        InputError: with how many there are.
    """
    if len(given) != len(wanted) or any(after <= before for before, after in itertools.pairwise(given)):
        raise InputError(
            f"tones have {len(given)} intensities given and {len(wanted)} wanted; expected as many of both, and those "
            "given ascending: leave them out, or take them from a model that `limner adapt` made"
        )
