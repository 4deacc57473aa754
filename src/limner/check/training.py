"""Word runs, checkpoints and models that cannot be used, and losses that cannot be learned from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from limner.check.errors import InputError


def not_finite(term: str, value: float, *, stage: str, step: int, cases: Sequence[str]) -> InputError:
    """Word a loss term, or a gradient, that is no number any more.

    Args:
        term: its name.
        value: what it is.
        stage: that was being trained.
        step: counted from 1.
        cases: in the batch.
    """
    names = ", ".join(f"'{case}'" for case in cases)
    return InputError(
        f"'{term}' is {value:g} at step {step} of stage '{stage}' on {names}; expected a finite number: look at "
        "the scan, or train in a new folder with a lower learning_rate, or with clip; the last checkpoint is kept"
    )


def nothing_learned(player: str, terms: Mapping[str, float], *, stage: str, step: int, still: int) -> InputError:
    """Word a player of a method that no loss moves any more.

    Args:
        player: its name.
        terms: of its loss.
        stage: that was being trained.
        step: counted from 1.
        still: steps before that which left it without any gradient.
    """
    words = ", ".join(f"'{name}' is {value:.4g}" for name, value in terms.items())
    return InputError(
        f"the gradient of '{player}' has been 0 for {still} steps at step {step} of stage '{stage}' ({words}), so it "
        "learns nothing any more, as discriminators that tell all images apart; expected some: train in a new folder "
        "with other weights or a lower learning_rate; the last checkpoints are kept"
    )


def checkpoint_damaged(path: Path, reason: object) -> InputError:
    """Word a checkpoint whose file does not hold what it should."""
    words = " ".join(str(reason).split()) or type(reason).__name__
    return InputError(
        f"checkpoint '{path}' is damaged ({words}); expected the file as `limner train` wrote it: delete it, and "
        "--resume goes on from the one before"
    )


def checkpoint_version(path: Path, found: object, *, expected: str) -> None:
    """Refuse a checkpoint of another format or version.

    Raises:
        InputError: with both.
    """
    if found != expected:
        raise InputError(
            f"checkpoint '{path}' is of format '{found}' but this limner reads '{expected}': train again, or resume "
            "with the version that wrote it"
        )


def checkpoint_of_another_method(path: Path, reason: object) -> InputError:
    """Word a checkpoint whose tensors are not those of the method."""
    words = " ".join(str(reason).split())
    return InputError(
        f"checkpoint '{path}' does not fit the method ({words}); expected tensors of the same names and shapes: "
        "keep the method's options as they were, or train in a new folder"
    )


def without_tensorboard() -> InputError:
    """Word event files that were asked for without the library that writes them."""
    return InputError(
        "tensorboard = true but tensorboard is not installed; expected it: run `pip install 'limner[tensorboard]'`, "
        "or set tensorboard to false (metrics.jsonl has the same numbers)"
    )


def run_exists(path: Path) -> InputError:
    """Word a run that would begin where there is one."""
    return InputError(
        f"run '{path}' exists already; expected a new folder: go on with it by --resume, or choose another -o"
    )


def run_occupied(path: Path) -> InputError:
    """Word a run that would begin in a folder of something else."""
    return InputError(f"'{path}' exists and is no run; expected a new folder, or one to --resume: choose another -o")


def another_recipe(path: Path, key: str, *, found: object, given: object) -> InputError:
    """Word a run that was begun with another recipe.

    Args:
        path: of the run.
        key: of the first setting that differs.
        found: its value in the run's recipe.
        given: its value now.
    """
    return InputError(
        f"run '{path}' has the recipe's {key} = {found} but {given} was given; expected the recipe that it was begun "
        f"with: resume it with '{path / 'recipe.toml'}', or choose another -o"
    )


def no_device(wanted: int, found: int) -> InputError:
    """Word GPUs that are not there."""
    return InputError(
        f"{wanted} CUDA device{'s' * (wanted > 1)} wanted but {found} found; expected as many: lower devices, or set "
        "device to cpu"
    )


def too_little_memory(needed: float, available: float, *, stage: str, crop: Sequence[int]) -> InputError:
    """Word a stage that cannot fit.

    Args:
        needed: bytes that a step was estimated to take.
        available: bytes on the device.
        stage: that needs most.
        crop: that would fit, voxels.
    """
    return InputError(
        f"a step of stage '{stage}' takes about {needed / 2**30:.3g} GiB but {available / 2**30:.3g} GiB are "
        f"available; expected less: set stages.{stage}.crop to {list(crop)}, or lower its batch, or work at a coarser "
        "spacing"
    )


def labels_needed(method: str) -> InputError:
    """Word scans without labels for a method that labels teach."""
    return InputError(
        f"method '{method}' learns from labels but no scan for training has any; expected at least one: add a column "
        "labels to the table, or set data.labels to their folder"
    )


def adapts_nothing(method: str, known: Sequence[str]) -> InputError:
    """Word a model that was to be adapted but only labels teach.

    Args:
        method: of the model.
        known: methods that learn without labels.
    """
    return InputError(
        f"method '{method}' learns from labels alone, and cannot be adapted to scans without them; expected a model of "
        f"{' or '.join(known)}: give such a model, or go on with `limner train --from`"
    )


def other_method(model: Path, name: str, *, expected: str) -> InputError:
    """Word a model to start from that is of another method than the recipe's."""
    return InputError(
        f"model '{model}' is of method '{name}' but the recipe trains '{expected}'; expected the same: give another "
        "--from, or another recipe"
    )


def other_task(model: Path, *, found: object, expected: object) -> InputError:
    """Word a model to start from whose images or classes are not the recipe's."""
    return InputError(
        f"model '{model}' has {found} but the recipe's scans and prior have {expected}; expected the same: train "
        "without --from, or with the scans' kind and prior that the model has"
    )


def model_missing(path: Path) -> InputError:
    """Word a path that holds no model."""
    found = "is a file" if path.is_file() else "has no model.json" if path.is_dir() else "does not exist"
    return InputError(f"model '{path}' {found}; expected a folder made by `limner train`, such as RUN/model: check it")


def model_occupied(path: Path) -> InputError:
    """Word a path at which a model would replace something that is none."""
    return InputError(f"'{path}' exists and is no model; expected a new path or a model to replace: choose another")


def model_damaged(path: Path, reason: object) -> InputError:
    """Word a model whose files do not hold what they should."""
    words = " ".join(str(reason).split()) or type(reason).__name__
    return InputError(
        f"model '{path}' is damaged ({words}); expected the files as `limner train` wrote them: copy it again, or "
        "train again"
    )


def model_version(path: Path, found: object, *, expected: str) -> None:
    """Refuse a model of another format or version.

    Raises:
        InputError: with both.
    """
    if found != expected:
        raise InputError(
            f"model '{path}' is of format '{found}' but this limner reads '{expected}': train it again, or use the "
            "version that wrote it"
        )


def tables_agree(table: Sequence[str], prior: Sequence[str]) -> None:
    """Refuse a label table whose structures are not those of the prior, in its order.

    Raises:
        InputError: with both.
    """
    if tuple(table) != tuple(prior):
        raise InputError(
            f"data.table has the structures {', '.join(table)} but the prior has {', '.join(prior)}; expected the "
            "same: leave data.table out for the prior's own table, or build the prior with it"
        )
