"""What is told of many scans in the tables of their folder: volumes, verdicts, and the manifest."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from limner.cluster import Outcome
from limner.files import replacing
from limner.inference.quality import Quality

MANIFEST = "manifest.json"
VOLUMES = "volumes.csv"
VERDICTS = "qc.csv"
COLUMNS = ("id", "name", "structure", "volume_mm3", "low_mm3", "high_mm3", "intracranial_share")
#: Tables are written again when the scans have grown by this share: the work stays in proportion to the scans.
GROWTH = 0.1


@dataclass(frozen=True)
class Case:
    """One scan of a run, as the manifest records it.

    Args:
        name: unique in the run.
        image: path of the scan, absolute.
        labels: file name in the output folder.
        uncertainty: file name in the output folder.
        mask: file name in the output folder, if the brain was found in a head.
        orientation: where the scan's axes lead, if its file does not say.
        notes: what was tolerated, and how well the scan was aligned.
        verdict: whether to believe the labels: "pass", "look" or "fail"; nothing if there is no telling.
        reason: of a verdict that is no pass.
        error: why it failed, if it did.
        seconds: time taken.
    """

    name: str
    image: str
    labels: str = ""
    uncertainty: str = ""
    mask: str = ""
    orientation: str | None = None
    notes: tuple[str, ...] = ()
    verdict: str = ""
    reason: str = ""
    error: str | None = None
    seconds: float = 0.0

    @classmethod
    def of(cls, outcome: Outcome, path: Path) -> Case:
        """Return a scan as its outcome tells."""
        told = dict(outcome.record.get("case", {}))
        notes = (*outcome.notes, *told.pop("notes", ()))
        image = str(path.absolute())
        return cls(outcome.name, image, notes=notes, error=outcome.error, seconds=outcome.seconds, **told)


class Tables:
    """The tables of a folder that fills with results, always in the order in which the scans were given."""

    def __init__(self, out: Path, scans: Mapping[str, Path], *, told: Mapping[str, Any]) -> None:
        """Take note of the scans by name, and of what the manifest tells of all of them."""
        self.out, self.scans, self.told = out, scans, told
        self.outcomes: dict[str, Outcome] = {}
        self._written = 0

    @property
    def cases(self) -> list[Case]:
        """The scans of which it is known what came of them."""
        return [Case.of(outcome, self.scans[outcome.name]) for outcome in self._ordered()]

    def add(self, outcome: Outcome) -> None:
        """Take note of what came of a scan, and write the tables if there is enough that is new."""
        self.outcomes[outcome.name] = outcome
        if len(self.outcomes) >= self._written * (1 + GROWTH) and not outcome.known:
            self.write()

    def write(self) -> None:
        """Write `volumes.csv`, `qc.csv` and `manifest.json`, each whole or not at all; without any scan, nothing.

        Raises:
            InputError: if the disk refuses.
        """
        if not self.outcomes:
            return
        volumes, measures = list(self._rows("volumes")), list(self._rows("measures"))
        manifest = {
            "limner": version("limner"),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            **self.told,
            "cases": [asdict(case) for case in self.cases],
        }
        self._save(VOLUMES, _csv(["case", *COLUMNS], volumes))
        self._save(VERDICTS, _csv(["case", "verdict", "reason", *(one.name for one in fields(Quality))], measures))
        self._save(MANIFEST, json.dumps(manifest, indent=1, default=str) + "\n")
        self._written = len(self.outcomes)

    def _ordered(self) -> Iterator[Outcome]:
        return (self.outcomes[name] for name in self.scans if name in self.outcomes)

    def _rows(self, kind: str) -> Iterator[dict[str, Any]]:
        """Yield the rows of a table: a scan has one, or several."""
        for outcome in self._ordered():
            if outcome.error is None:
                found = outcome.record[kind]
                yield from ({"case": outcome.name, **row} for row in (found if isinstance(found, list) else [found]))

    def _save(self, name: str, words: str) -> None:
        with replacing(self.out / name) as temporary:
            temporary.write_text(words, encoding="utf-8")


def _csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as comma-separated values."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
