"""What `limner segment` says of its output folder, in `manifest.json`.

It is an object with

- "limner" (version), "created" (date), "method", "options" (by name), "citation" (lines);
- "model": its "name" and "hash", or null or nothing for a method that is not trained;
- "prior": its "name" and "hash", or null;
- "table": the label table, as `LabelTable.as_dict` gives it;
- "cases": for each scan its "name", "image" (absolute path), "labels" and "uncertainty" (names of files in the folder,
  or nothing), "notes" (lines), "error" (null if it succeeded), "seconds", and, only if the scan's file does not say
  where its axes lead, the "orientation" that was found, such as "LIA".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limner import check
from limner.report.case import CaseReport
from limner.space import LabelTable

MANIFEST = "manifest.json"
FILES = ("image", "labels", "uncertainty")

Facts = dict[str, str | list[str]]


@dataclass(frozen=True)
class Entry:
    """One scan of a manifest.

    Args:
        case: what the report says of it, without its volumes.
        files: its "image", "labels" and "uncertainty", as far as there are any.
        orientation: where its axes lead, if its file does not say.
    """

    case: CaseReport
    files: Mapping[str, Path]
    orientation: str | None


@dataclass(frozen=True)
class Manifest:
    """What was run on which scans.

    Args:
        entries: the scans.
        table: names the labels.
        facts: what was run, by name, in words.
    """

    entries: tuple[Entry, ...]
    table: LabelTable
    facts: Facts


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of an output folder.

    Raises:
        InputError: if there is none, or it is not of the form above.
    """
    path = folder / MANIFEST
    if not path.exists():
        raise check.manifest(path, "does not exist")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise check.manifest(path, f"cannot be read ({error})") from error
    try:
        entries = tuple(_entry(case, folder) for case in content["cases"])
        return Manifest(entries, _completed(LabelTable.from_dict(content["table"])), _facts(content))
    except check.InputError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise check.manifest(path, f"has a missing or wrong field ({error!r})") from error


def _entry(case: Mapping[str, Any], folder: Path) -> Entry:
    """Return a scan as the manifest describes it."""
    # A scan without an error has labels; one with an error may have nothing.
    needed = set() if case["error"] is not None else {"labels"}
    files = {layer: folder / case[layer] for layer in FILES if layer in needed or case[layer]}
    notes, seconds = tuple(map(str, case["notes"])), float(case["seconds"])
    return Entry(
        CaseReport(
            str(case["name"]),
            notes=notes,
            verdict=str(case.get("verdict", "")),
            reason=str(case.get("reason", "")),
            error=case["error"],
            seconds=seconds,
        ),
        files,
        case.get("orientation"),
    )


def _completed(table: LabelTable) -> LabelTable:
    """Return a table that agrees with FreeSurfer's with the rest of that: references may have labels no prior had."""
    whole = LabelTable.freesurfer()
    shared = [label for label in table.labels[1:] if label.id in whole]
    if not shared or any(label != whole[label.id] for label in shared):
        return table
    return LabelTable((*table.labels, *(label for label in whole.labels if label.id not in table)), table.structures)


def _facts(content: Mapping[str, Any]) -> Facts:
    """Return what was run, in words."""
    created = content["created"].replace("T", " ")[:16]
    facts: Facts = {"Made by": f"limner {content['limner']}, {created}", "Method": content["method"]}
    for name, used in (("Model", content.get("model")), ("Prior", content["prior"])):
        if used is not None:
            facts[name] = "{name} (sha256 {hash:.12})".format_map(used)
    options = ", ".join(_settings(content["options"]))
    if options:
        facts["Options"] = options
    return facts | {"Please cite": list(content["citation"])}


def _settings(options: Mapping[str, Any]) -> Iterator[str]:
    """Yield each option that says something, and its value."""
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _settings(value)
        elif value not in (None, False, "", []):
            yield f"{name} {value}".replace("_", " ")
