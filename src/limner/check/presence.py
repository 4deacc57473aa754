"""Word images of which nobody knows what they show, where somebody must, and images that are too small."""

from __future__ import annotations

from collections.abc import Sequence

from limner.check.errors import InputError, InputWarning


def deep_enough(shape: Sequence[int], *, levels: int) -> None:
    """Refuse images of which nothing is left after so many halvings.

    Args:
        shape: of the images, voxels.
        levels: halvings.

    Raises:
        InputError: with the size that would do.
    """
    if min(shape) <= 2**levels:
        raise InputError(
            f"images of {' x '.join(map(str, shape))} voxels are halved {levels} times by the network; expected more "
            f"than {2**levels} along each axis: give fewer features (and, for discriminators, scales), or larger crops"
        )


def absences(present: Sequence[int], method: str, *, others: Sequence[str]) -> None:
    """Refuse scans of which none is known to be without any target, where the method translates to such.

    Args:
        present: how many scans show a target, and how many show none.
        method: that needs both.
        others: methods that need none.

    Raises:
        InputError: with both counts.
    """
    showing, without = present
    if not showing or not without:
        raise InputError(
            f"method '{method}' learns from scans with and without the target but {showing} are marked with it and "
            f"{without} without; expected some of each: fill the table's column present with 1 and 0, or take one of "
            f"{', '.join(others)}, which need none without"
        )


def absent_mask(case: str, voxels: int) -> InputError:
    """Word a mask that shows a target in a scan that is marked to be without it."""
    return InputError(
        f"'{case}' is marked absent (present 0) but its labels show {voxels} voxels of the target; expected none: "
        "correct the column present, or the labels"
    )


def targets_agree(targets: int, structures: Sequence[str]) -> None:
    """Refuse a column present with another number of targets than the label table has structures.

    Raises:
        InputError: with both.
    """
    if targets not in (0, len(structures)):
        raise InputError(
            f"present has {targets} targets but the label table has the structures {', '.join(structures)}; expected "
            "as many: complete the column, or give data.table"
        )


def labels_nobody(fraction: float, people: int) -> InputError:
    """Word a share of labels that is too small for one person's."""
    return InputError(
        f"labels of a share of {fraction:g} were wanted but none of {people} people has any; expected labels of at "
        "least one: raise data.labelled, or add labels"
    )


def unique_fits(targets: int, features: int) -> None:
    """Refuse a code that is too narrow to be shared by so many targets.

    Raises:
        InputError: with both.
    """
    if features // 4 < targets:
        raise InputError(
            f"a quarter of the code's {features} channels is shared by {targets} targets; expected one for each at "
            "least: widen the last of codec.features"
        )


def both_in_batches(stage: str, apart: str, *, batch: int, method: str) -> None:
    """Refuse a stage whose batches may lack scans with, or without a target, where a step needs both.

    Raises:
        InputError: with the setting.
    """
    if apart != "present" or batch < 2:
        raise InputError(
            f"stage '{stage}' has apart '{apart}' and a batch of {batch} but method '{method}' learns from scans with "
            "and without the target at once; expected apart 'present' and a batch of at least 2: set them"
        )


def half_batch(showing: int, without: int, *, cases: Sequence[str]) -> InputError:
    """Word a batch that lacks images with, or images without a target.

    Args:
        showing: how many show one.
        without: how many show none.
        cases: in the batch.
    """
    names = ", ".join(f"'{case}'" for case in cases)
    return InputError(
        f"a batch has {showing} scans with and {without} without the target ({names}); expected some of each: set the "
        "stage's apart to present, and a batch of at least 2"
    )


def kinds_there(kinds: Sequence[tuple[str, int, int]]) -> None:
    """Refuse batches of which a part would be of a kind that no scan is of.

    Args:
        kinds: what each kind has, how many scans are of it, and how many of a batch are to be.

    Raises:
        InputError: with the kind.
    """
    for what, found, wanted in kinds:
        if wanted > 0 and not found:
            raise InputError(
                f"{wanted} scans of each batch are to be of those with {what} but there are none in training; expected "
                "at least one: complete the columns present and labels, or change the stage's apart, labelled or batch"
            )


def learns_unsupervised(method: str) -> InputWarning:
    """Word a method that has no labels to learn from but can do without."""
    return InputWarning(
        f"no scan for training has labels: '{method}' learns to translate alone, and what it segments means nothing"
    )
