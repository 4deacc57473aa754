"""Word tasks that cannot be built, and studies that cannot be run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from limner.check.errors import InputError


def new_folder(path: Path) -> None:
    """Refuse a folder that holds something already.

    Raises:
        InputError: naming it.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"'{path}' exists already; expected a new folder: choose another -o, or delete it")


def source_given(task: str, source: Path | None) -> None:
    """Refuse a task that is made of data of which nobody said where they are.

    Raises:
        InputError: with the option.
    """
    if source is None:
        raise InputError(
            f"task '{task}' is made of data but --source is not given; expected the file of digits (.npz with x and "
            "y), or the folder of scans: add it"
        )


def sources_found(folder: Path, count: int, *, kind: str) -> None:
    """Refuse a folder without what a task is made of.

    Raises:
        InputError: with what was looked for.
    """
    if not count:
        raise InputError(f"'{folder}' holds no {kind}; expected at least one: correct --source")


def size_within(size: int, shape: Sequence[int]) -> None:
    """Refuse a size that is larger than the image.

    Raises:
        InputError: with both.
    """
    if size > min(shape):
        raise InputError(
            f"slices of {' x '.join(map(str, shape))} pixels cannot become {size} x {size}; expected at most "
            f"{min(shape)}: lower --size"
        )


def fits(shape: Sequence[int], size: int, *, name: str) -> None:
    """Refuse a volume that is larger than the cube that it is to be put into.

    Raises:
        InputError: with both.
    """
    if max(shape) > size:
        raise InputError(
            f"'{name}' has shape {tuple(shape)}, larger than {size} along an axis; expected it to fit: raise --size"
        )


def without_sklearn() -> InputError:
    """Word digits that come with a library which is not installed."""
    return InputError(
        "digits-smoke is made of scikit-learn's digits but scikit-learn is not installed; expected it: run `pip "
        "install scikit-learn`, or build another task with --source"
    )


def variation_alone(prior: object) -> InputError:
    """Word scans that are to be varied although a prior lies on them."""
    return InputError(
        f"data.variation is given with the prior '{prior}'; expected one of the two, as a prior lies on the scan as it "
        "was: leave one of them out"
    )


def same_study(path: Path, found: object, *, given: object) -> None:
    """Refuse a folder of a study whose runs have another recipe in common.

    Raises:
        InputError: naming the folder.
    """
    if found != given:
        raise InputError(
            f"'{path}' holds a study of another recipe; expected the one in '{path / 'study.toml'}', to which methods, "
            "seeds and labels may be added: choose another -o, or run that recipe"
        )


def cells_apart(names: Sequence[str]) -> None:
    """Refuse a study two of whose runs would have one folder.

    Raises:
        InputError: naming it.
    """
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InputError(
            f"two runs of the study would lie in the folder '{twice}'; expected names of rows that differ in more than "
            "spaces and signs: rename one"
        )


def tested_on_some(count: int) -> None:
    """Refuse a study without anything to test on.

    Raises:
        InputError: with what is lacking.
    """
    if not count:
        raise InputError(
            "the study has nothing to test on: no image has labels and the split 'test'; expected some: "
            "add a column 'split' with train, validation and test"
        )


def same_origin(folder: Path, found: str, *, expected: str) -> None:
    """Refuse to go on with a run of a study, or to test it again, after its images or labels have changed.

    Raises:
        InputError: naming its folder.
    """
    if found != expected:
        raise InputError(
            f"'{folder}' learned from other images, labels or splits than there are now; expected the same: choose "
            "another -o, or delete it to train again"
        )


def no_study(path: Path) -> InputError:
    """Word a folder of something else that a study was to be run in."""
    return InputError(
        f"'{path}' exists and is no study; expected a new folder, or a study to go on with: choose another -o"
    )
