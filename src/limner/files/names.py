"""What a case is called, and which reference belongs to which prediction: arithmetic on paths, no file is opened."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from limner import check
from limner.files import stem

LABELS_ENDING = "_labels"


def case_names(paths: Sequence[Path]) -> list[str]:
    """Return a name for each path: its stem, led by as many parent folders as it takes to make all names differ.

    All are lengthened alike and joined by `_`: `person-1/brain.mgz` and `person-2/brain.mgz` become `person-1_brain`
    and `person-2_brain`. Upper and lower case count as equal, since there are disks on which they are.

    Raises:
        InputError: if paths differ in their suffix only, or one is given twice.
    """
    return _unique_names(paths, [stem(path) for path in paths])


def paired(predictions: Sequence[Path], references: Sequence[Path]) -> list[tuple[str, Path, Path]]:
    """Find the reference of each prediction by their names.

    One prediction and one reference belong together whatever they are called. Of more, a prediction belongs to the
    reference of its own name (suffix and `_labels` aside, with as many parent folders as agree); failing that, to the
    reference whose folder leads its name (`out/person-1_brain_labels.mgz`, `person-1/aseg.mgz`), or the other way
    round, or is called as its own folder is.

    Returns:
        For each prediction, in their order, its case, itself, and its reference. The case is named as `case_names`
        does, without `_labels`.

    Raises:
        InputError: if a prediction has no reference or several, or several predictions have the same one. References
            that are nobody's are left out with an InputWarning.
    """
    cases = _unique_names(predictions, [_bare(path) for path in predictions])
    if len(predictions) == len(references) == 1:
        return [(cases[0], predictions[0], references[0])]
    keys = {path: _keys(path) for path in references}
    suiting = {path: _suiting(_keys(path), keys) for path in predictions}
    claims = Counter(found[0] for found in suiting.values() if len(found) == 1)
    wrong = {path: found for path, found in suiting.items() if len(found) != 1 or claims[found[0]] > 1}
    if wrong:
        raise check.unpaired(wrong)
    spare = [path for path in references if not claims[path]]
    if spare:
        warnings.warn(check.without_prediction(spare), stacklevel=2)
    return [(case, path, suiting[path][0]) for case, path in zip(cases, predictions, strict=True)]


def _bare(path: Path) -> str:
    """Return the stem without the ending that marks a label map."""
    return stem(path).removesuffix(LABELS_ENDING)


def _folders(path: Path) -> list[str]:
    """Return the joined names of the nearest folder, the nearest two, and so on: `c`, `b_c`, `a_b_c` of `/a/b/c/x`."""
    # normpath, not resolve: a link's target may be named by a checksum.
    names = Path(os.path.normpath(path.absolute())).parent.parts[1:]
    return list(accumulate(reversed(names), lambda inner, outer: f"{outer}_{inner}"))


def _lengthened(path: Path, name: str) -> list[str]:
    """Return the name alone, led by the nearest folder, by the nearest two, and so on."""
    return [name, *(f"{folder}_{name}" for folder in _folders(path))]


def _unique_names(paths: Sequence[Path], stems: Sequence[str]) -> list[str]:
    """Return `stems` led by as many folders of `paths` as make them unique."""
    choices = [_lengthened(path, name) for path, name in zip(paths, stems, strict=True)]
    for depth in range(max(map(len, choices), default=1)):
        names = [longer[min(depth, len(longer) - 1)] for longer in choices]
        if len({name.casefold() for name in names}) == len(names):
            return names
    raise check.same_names(_repeated(paths, names))


def _repeated(paths: Sequence[Path], names: Sequence[str]) -> list[Path]:
    """Return the paths whose name another one has too."""
    counts = Counter(name.casefold() for name in names)
    return [path for path, name in zip(paths, names, strict=True) if counts[name.casefold()] > 1]


class _Keys(NamedTuple):
    """What a path can be recognised by.

    Args:
        names: its bare name alone, led by its folder, by two of them, and so on.
        folders: the folder, the nearest two, and so on.
        leads: what its bare name begins with: `a`, `a_b` and `a_b_c` of `a_b_c`.
    """

    names: set[str]
    folders: set[str]
    leads: set[str]


def _keys(path: Path) -> _Keys:
    """Return what a path can be recognised by."""
    leads = accumulate(_bare(path).split("_"), lambda lead, part: f"{lead}_{part}")
    return _Keys(set(_lengthened(path, _bare(path))), set(_folders(path)), set(leads))


def _suiting(prediction: _Keys, references: Mapping[Path, _Keys]) -> list[Path]:
    """Return the references that share most with a prediction: none, one, or several that share as much."""
    scores = {path: _likeness(prediction, reference) for path, reference in references.items()}
    best = max(scores.values(), default=(0, 0))
    return [path for path, score in scores.items() if score == best > (0, 0)]


def _likeness(one: _Keys, other: _Keys) -> tuple[int, int]:
    """Return 2 for a name in common, 1 for a folder of one that is the other's or leads its name; and its length."""
    names = one.names & other.names
    # Two names that merely begin alike share no folder, and are strangers: brain_1, brain_2.
    folders = one.folders & (other.folders | other.leads) | one.leads & other.folders
    return (2 if names else 1 if folders else 0), max(map(len, names or folders), default=0)
