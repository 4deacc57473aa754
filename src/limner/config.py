"""Settings as TOML: loaded, overridden, checked, saved resolved."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from limner import check


class Settings(BaseModel):
    """Values of a recipe: frozen, of fixed names and types."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)


def absolute(path: Path) -> Path:
    """Return a path as the user means it now: a run may be resumed from another folder."""
    return path.expanduser().absolute()


UserPath = Annotated[Path, AfterValidator(absolute)]
Chosen = TypeVar("Chosen", bound=Settings)

#: What a setting may be, by pydantic's name of what is wrong with it; braces are filled from pydantic's context.
EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "a table of settings",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "a number of at most {le:g}",
    "list_type": "a list in square brackets",
    "literal_error": "{expected}",
    "model_type": "a table of settings",
    "path_type": "a path in quotes",
    "string_pattern_mismatch": "text of letters, digits, '-' and '_'",
    "string_too_short": "some text",
    "string_type": "text in quotes",
    "too_long": "at most {max_length} values",
    "too_short": "at least {min_length} values",
    "tuple_type": "a list in square brackets",
}


def load(path: Path, model: type[Chosen], *, overrides: Sequence[str] = ()) -> Chosen:
    """Return the settings of a TOML file.

    Args:
        path: of the file.
        model: what the file should hold.
        overrides: `key=value` each, such as `stages.0.steps=100`; the parts of a list are called by number from 0, or
            by their `name`. Values are TOML, or text without quotes; an empty one takes the setting away.

    Raises:
        InputError: for a file that is missing or no TOML, an override that leads nowhere, and a setting that is
            unknown, missing, of the wrong type or impossible.
    """
    check.existing_file(path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise check.not_toml(path, error) from error
    for override in overrides:
        _override(values, override)
    return checked(values, model, source=path)


def checked(values: Mapping[str, Any], model: type[Chosen], *, source: object, under: str = "") -> Chosen:
    """Return values as settings.

    Args:
        values: as TOML has them.
        model: what they should be.
        source: the file they come from, for messages.
        under: the key that they stand under in the file, for messages.

    Raises:
        InputError: for a setting that is unknown, missing, of the wrong type or impossible.
    """
    try:
        # Through JSON, which knows no more types than TOML, pydantic can be strict: "10" is no number.
        return model.model_validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        raise _worded(error, model, source=source, under=under) from error


def save(settings: Settings, path: Path) -> None:
    """Write settings as TOML, defaults too; `load` gives them back.

    Raises:
        InputError: where the file cannot be written.
    """
    import tomli_w

    beside = path.with_name(f".{path.name}.part")
    try:
        beside.write_text(tomli_w.dumps(settings.model_dump(mode="json", exclude_none=True)), encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise check.unwritable(path, error) from error


def _override(values: dict[str, Any], override: str) -> None:
    """Set one value among nested tables and lists to what a `key=value` says."""
    key, equals, text = override.partition("=")
    parts = re.sub(r"\[(\w+)\]", r".\1", key.strip()).split(".")
    if not equals or not all(parts):
        raise check.override(override)
    place: Any = values
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        if isinstance(place, list):
            found: Any = _position(place, part, override=override)
        elif isinstance(place, dict):
            found = part
        else:
            raise check.override_place(override, part, found=())
        if following is None:  # the last part of the key
            _set(place, found, text=text.strip())
        else:
            place = place[found] if isinstance(place, list) else place.setdefault(found, {})


def _set(place: Any, key: Any, *, text: str) -> None:
    """Set or, without a text, take away one entry of a table or list."""
    if text:
        place[key] = _value(text)
    elif isinstance(place, list) or key in place:
        del place[key]


def _position(entries: Sequence[Any], part: str, *, override: str) -> int:
    """Return which entry of a list is meant, by number or by its name."""
    names = [entry.get("name") if isinstance(entry, dict) else None for entry in entries]
    if part in names:
        return names.index(part)
    if not part.isdigit() or int(part) >= len(entries):
        known = [str(name or number) for number, name in enumerate(names)]
        raise check.override_place(override, part, found=known)
    return int(part)


def _value(text: str) -> Any:
    """Return a value written as TOML, or the text itself where it is none."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if len(parsed) == 1 else text


def _worded(error: ValidationError, model: type[Settings], *, source: object, under: str) -> check.InputError:
    """Return the first thing wrong in a user's words."""
    details: Any = error.errors(include_url=False)[0]
    kind, place, context = details["type"], details["loc"], details.get("ctx", {})
    key = ".".join(filter(None, [under, _key(place)]))
    if isinstance(context.get("error"), check.InputError):
        return check.InputError(f"'{source}': {context['error']}")
    if kind == "extra_forbidden":
        return check.unknown_setting(source, key, known=_fields(model, place[:-1]))
    if kind == "missing":
        return check.missing_setting(source, key)
    expected = EXPECTED[kind].format(**context) if kind in EXPECTED else _plain(details["msg"])
    return check.wrong_setting(source, key, value=details["input"], expected=expected)


def _key(place: Sequence[int | str]) -> str:
    """Return `stages[1].steps` for ("stages", 1, "steps")."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")


def _fields(model: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    """Return the names that settings at a place may have."""
    for part in place:
        if isinstance(part, str) and part in model.model_fields:
            model = next(_models(model.model_fields[part].annotation), model)
    return list(model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models inside a type, such as those of `tuple[Stage, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def _plain(message: str) -> str:
    """Return what pydantic expects without its own words around it."""
    return message.removeprefix("Input should be ").removeprefix("Value error, ")
