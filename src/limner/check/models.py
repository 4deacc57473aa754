"""Word models that do not fit what they are applied to, and results that cannot be written where they should."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from limner.check.errors import InputError


def same_structures(prior: Sequence[str], model: Sequence[str]) -> None:
    """Refuse a prior with other structures than the model it is given for, or in another order.

    Args:
        prior: the prior's structures.
        model: the model's structures.

    Raises:
        InputError: with the first that differs.
    """
    if tuple(prior) == tuple(model):
        return
    lacking = [name for name in model if name not in prior]
    unknown = [name for name in prior if name not in model]
    differing = [f"lacks {', '.join(lacking)}"] * bool(lacking) + [f"has {', '.join(unknown)}"] * bool(unknown)
    found = " and ".join(differing) or f"has them in the order {', '.join(prior)}"
    raise InputError(
        f"the prior {found}; expected the model's structures {', '.join(model)}: leave out --prior for the model's "
        "own, or give one with the same label table"
    )


def model_channels(found: int, expected: int) -> None:
    """Refuse a scan with another number of images than the model was trained on.

    Raises:
        InputError: with both numbers.
    """
    if found != expected:
        raise InputError(
            f"the scan has {found} image{'s' * (found > 1)} but the model was trained on {expected}; expected as many, "
            "in the same order: give the first as the scan and the others with --channel"
        )


def model_dimensions(shape: Sequence[int], expected: int) -> None:
    """Refuse an image with another number of axes than the model's.

    Raises:
        InputError: with the image's shape.
    """
    if len(shape) != expected:
        raise InputError(
            f"the image has shape {tuple(shape)} but the model was trained on {expected} axes; expected as many: "
            "give such an image, or a model for this one"
        )


def labels_alone(out: Path, option: str) -> InputError:
    """Word what was asked for by an option where there is room for the labels alone."""
    return InputError(f"output '{out}' is one file but {option} writes several; expected a folder: choose another -o")


def prior_of_another_world(method: str) -> InputError:
    """Word a prior that was given for a model whose knowledge lies in the world of its own."""
    return InputError(
        f"a model of '{method}' knows shapes where its own prior has them but another prior was given; expected none: "
        "leave out --prior, or train a model with that prior"
    )


def draws_nothing(method: str) -> InputError:
    """Word samples that were asked for of a method that draws none."""
    return InputError(
        f"method '{method}' draws no samples; expected a model of anatomy for --samples: leave it out, or give such a "
        "--model"
    )


def run_metrics(path: Path, reason: object) -> InputError:
    """Word what a run left of itself and cannot be read any more."""
    return InputError(
        f"'{path}' cannot be read ({type(reason).__name__}: {reason}); expected it as `limner train` wrote it: restore "
        "it, or train again"
    )
