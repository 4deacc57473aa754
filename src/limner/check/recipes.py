"""Word recipes that cannot be read, or that say what cannot be done."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path

from limner.check.errors import InputError


def unknown_name(kind: str, name: str, *, known: Iterable[str]) -> InputError:
    """Word a name that means nothing, with the nearest that does.

    Args:
        kind: what it names, such as "method".
        name: as the user wrote it.
        known: the names there are.
    """
    names = list(known)
    return InputError(f"{kind} '{name}' is not known; expected one of {', '.join(names)}: {_remedy(name, names)}")


def unknown_setting(source: object, key: str, *, known: Iterable[str]) -> InputError:
    """Word a setting that its part of a recipe does not have.

    Args:
        source: the file.
        key: where the setting stands, such as `stages[1].stesp`.
        known: the last names that its place may have.
    """
    names = list(known)
    name = key.rpartition(".")[2]
    expected = f"one of {', '.join(names)}" if names else "none there"
    return InputError(f"'{source}' has the unknown setting {key}; expected {expected}: {_remedy(name, names)}")


def missing_setting(source: object, key: str) -> InputError:
    """Word a setting that has no default and was not given."""
    return InputError(f"'{source}' lacks the setting {key}; expected a value: add it to the file, or --set {key}=VALUE")


def wrong_setting(source: object, key: str, *, value: object, expected: str) -> InputError:
    """Word a setting of the wrong type, or of a value that cannot be.

    Args:
        source: the file.
        key: where the setting stands, such as `stages[1].steps`.
        value: what it was set to.
        expected: what it may be set to, in words.
    """
    shown = repr(value)
    shown = {"True": "true", "False": "false"}.get(shown, shown)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    return InputError(f"'{source}' sets {key} to {shown}; expected {expected}: correct the value")


def not_toml(path: Path, reason: object) -> InputError:
    """Word a file that is no TOML."""
    return InputError(
        f"'{path}' cannot be read as TOML ({reason}); expected lines such as `steps = 100` under headings in brackets: "
        "correct that place"
    )


def override(text: str) -> InputError:
    """Word an override that is no pair of key and value."""
    return InputError(f"override '{text}' has no key or no '='; expected KEY=VALUE, such as stages.0.steps=100")


def override_place(text: str, part: str, *, found: Sequence[str]) -> InputError:
    """Word an override whose key leads nowhere.

    Args:
        text: the override.
        part: the part of its key that is not found.
        found: what is there instead; empty below a single value.
    """
    expected = f"one of {', '.join(found)}" if found else "no more parts, as a single value has none"
    return InputError(f"override '{text}' leads nowhere at '{part}'; expected {expected}: correct the key")


def stage_names(names: Sequence[str]) -> None:
    """Refuse a recipe without stages, or in which two have the same name.

    Raises:
        InputError: with the names.
    """
    if not names:
        raise InputError("there are no stages; expected at least one: add a [[stages]] section")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(
            f"two stages are called '{twice}' ({', '.join(names)}); expected a name for each: rename one of them"
        )


def stage_start(stage: str, start: str, *, earlier: Sequence[str]) -> None:
    """Refuse a stage that starts from one that does not come before it.

    Raises:
        InputError: with the stages that do.
    """
    if start not in earlier:
        expected = f"an earlier stage, one of {', '.join(earlier)}" if earlier else "nothing, as it is the first stage"
        raise InputError(f"stage '{stage}' starts from '{start}'; expected {expected}: correct start")


def stage_data(stage: str, data: str, *, given: object) -> None:
    """Refuse a stage that learns from what the recipe does not name.

    Args:
        stage: its name.
        data: what it learns from, "scans" or "maps".
        given: where the recipe says that they are.

    Raises:
        InputError: if it does not.
    """
    if given is None:
        raise InputError(
            f"stage '{stage}' learns from {data} but data.{data} is not given; expected their folder: add it to the "
            f"file, or --set data.{data}=FOLDER"
        )


def labelled_fit(stage: str, labelled: int, *, batch: int) -> None:
    """Refuse batches of which more are to have labels than there are.

    Raises:
        InputError: with both.
    """
    if labelled > batch:
        raise InputError(
            f"stage '{stage}' wants {labelled} scans with labels in a batch of {batch}; expected at most as many: "
            "lower labelled, or raise batch"
        )


def trains_nothing(method: str, trainable: Sequence[str]) -> InputError:
    """Word a method that has nothing to learn."""
    return InputError(
        f"method '{method}' has nothing to train; expected one of {', '.join(trainable)}: choose one, or run "
        "`limner segment` without training"
    )


def outliers_of_a_model() -> InputError:
    """Word an option of the mixture that was given for a trained model."""
    return InputError(
        "--outliers belongs to the mixture but --model was given; expected one of the two: leave one of them out"
    )


def _remedy(name: str, known: Sequence[str]) -> str:
    """Return what to do about a name: the nearest known one, if any is near."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{near[0]}'?" if near else "correct the name"


def suits(method: str, data: Sequence[str], *, instances: bool) -> None:
    """Refuse stages whose data a method cannot learn from.

    Args:
        method: its name.
        data: of each stage.
        instances: whether the method tells objects apart.

    Raises:
        InputError: naming what it learns from.
    """
    wrong = [kind for kind in data if (kind == "volumes") is not instances]
    if wrong:
        expected = "volumes" if instances else "scans or maps"
        raise InputError(
            f"method '{method}' cannot learn from {wrong[0]}; expected {expected}: set the stages' data to it, or "
            "choose another method"
        )
