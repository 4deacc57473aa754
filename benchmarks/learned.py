"""Train and score the rows of the brain table that learn: each row, prior and fold is a run of `limner train`.

A run that was stopped is resumed; one that is finished is only read.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limner.data.cohort import Case, read_cohort
from limner.evaluation import evaluate
from limner.files import open_volume
from limner.inference.approach import approach
from limner.methods.storage import load_model
from limner.space import LabelTable, Volume
from limner.training.materials import Materials
from limner.training.recipe import load_recipe

RECIPES = Path(__file__).parents[1] / "recipes"
#: Two halves of the people, for rows that are scored on people they were not trained on.
HALVES = (("person-1", "person-3", "person-5", "person-7"), ("person-2", "person-4", "person-6"))


@dataclass(frozen=True)
class Row:
    """A way to learn.

    Args:
        recipe: file in recipes/.
        changes: `key=value` each, as `limner train --set` takes them.
        weak: whether it is asked for with the weak priors too.
        halves: whether each half of the people is labelled by what the other half taught; else all teach, and all are
            labelled, which is fair only where no label enters.
    """

    recipe: str
    changes: tuple[str, ...] = ()
    weak: bool = True
    halves: bool = False

    def wanted(self, prior: str, *, weak: Sequence[str]) -> bool:
        """Tell whether the row is asked for with a prior: the one that ships is the good one again."""
        return prior == "good" or (self.weak and prior in weak)


ROWS = {
    "SAE without neighbours": Row("sae.toml", ("method.options.neighbour_weight=0",)),
    "SAE": Row("sae.toml"),
    "SAE, decoder as likelihood": Row("sae.toml", ('method.options.likelihood="decoder"',), weak=False),
    "SAE, published network": Row(
        "sae.toml", ('method.options.network={kind="unet", features=[4, 8, 16, 32, 32]}',), weak=False
    ),
    "SAE, three times as long": Row("sae.toml", ("stages.coarse.steps=1200", "stages.fine.steps=150"), weak=False),
    "SAE, other half of the people": Row("sae.toml", weak=False, halves=True),
    "supervised, other half of the people": Row("supervised.toml", weak=False, halves=True),
}


def scored(
    title: str, people: dict[str, tuple[Path, Path, str | None]], *, prior: Path, work: Path
) -> dict[str, dict[str, Any]]:
    """Return each person's scores by one row with one prior, and the seconds that training took."""
    row, found = ROWS[title], {}
    name = "".join(letter if letter.isalnum() else "-" for letter in title)
    folds = [(HALVES[0], HALVES[1]), (HALVES[1], HALVES[0])] if row.halves else [(tuple(people), tuple(people))]
    for number, (taught, labelled) in enumerate(folds):
        folder = work / f"run-{prior.name}-{name}-{number}"
        cohort = _table({person: people[person] for person in taught}, work / f"{folder.name}.csv")
        stored = work / f"{folder.name}.json"
        if not stored.exists():
            seconds = _trained(row, cohort, prior=prior, work=work, folder=folder)
            chosen = {person: people[person] for person in labelled}
            cases = _labelled(folder, _table(chosen, work / f"{folder.name}-labelled.csv"))
            stored.write_text(json.dumps({case: {"rows": rows, "seconds": seconds} for case, rows in cases.items()}))
        found |= json.loads(stored.read_text())
    return found


def _table(people: dict[str, tuple[Path, Path, str | None]], path: Path) -> Path:
    """Write the scans' table."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "labels", "case", "person", "orientation"])
        for person, (scan, labels, letters) in people.items():
            writer.writerow([scan.absolute(), labels.absolute(), person, person, letters or ""])
    return path


def _trained(row: Row, cohort: Path, *, prior: Path, work: Path, folder: Path) -> float:
    """Train through the command line, and return the seconds that the steps took, over all of its sessions."""
    changes = [f"data.scans={cohort}", f"data.cache={work / 'scans'}", f"prior={prior.absolute()}", *row.changes]
    options = [part for change in changes for part in ("--set", change)]
    command = [str(Path(sys.executable).parent / "limner"), "train", str(RECIPES / row.recipe), "-o", str(folder)]
    began = time.perf_counter()
    subprocess.run([*command, "--resume", *options], check=True, stdout=subprocess.DEVNULL)
    sys.stderr.write(f"{folder.name}: {time.perf_counter() - began:.0f} s\n")
    return _seconds(folder)


def _seconds(folder: Path) -> float:
    """Return the seconds that a run's steps took."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return sum(
        max(line["seconds"] for line in lines if line["stage"] == stage) for stage in {x["stage"] for x in lines}
    )


def _labelled(folder: Path, cohort: Path) -> dict[str, Sequence[Any]]:
    """Return each case's scores by a run's model, where the mixture's alignment put it."""
    recipe = load_recipe(folder / "recipe.toml", overrides=[f"data.scans={cohort}"])
    materials = Materials.of(recipe, cache=folder / "cache")
    return {case.name: _scores(case, materials, folder=folder) for case in read_cohort(cohort)}


def _scores(case: Case, materials: Materials, *, folder: Path) -> Sequence[Any]:
    """Return one case's scores."""
    how = approach(load_model(folder / "model"), None)
    scan, placement = materials.store(materials.recipe.stages[-1]).placed(case)
    placed = placement and placement.placed(how.atlas, grid=scan.grid, mask=scan.mask)
    classes = how.segmenter.segment(how.predict(scan, placed)[None])[0]
    ids = scan.pasted(how.identified(classes, placed))
    if case.labels is None:
        raise ValueError(f"{case.name} has no labels to compare with")
    truth = open_volume(case.labels, kind="labels")
    return evaluate(Volume(ids, truth.grid, "labels"), truth, table=LabelTable.freesurfer(), case=case.name)
