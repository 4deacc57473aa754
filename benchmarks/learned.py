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
from typing import Any, TypeAlias

import torch

from limner.data.cohort import Case, read_cohort
from limner.evaluation import evaluate
from limner.files import open_volume
from limner.inference.approach import approach
from limner.methods.storage import load_model
from limner.space import LabelTable, Volume
from limner.training.materials import Materials
from limner.training.recipe import load_recipe

#: Scan, reference, and orientation if the file does not say, by person.
People: TypeAlias = dict[str, tuple[Path, Path, str | None]]
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


@dataclass(frozen=True)
class Run:
    """One training of a row, and whom its model labels.

    Args:
        title: of the row.
        prior: folder of the prior.
        work: folder of everything that is kept.
        number: of the fold.
        taught: people it is trained on.
        labelled: people it is scored on.
    """

    title: str
    prior: Path
    work: Path
    number: int
    taught: People
    labelled: People

    @property
    def folder(self) -> Path:
        """Return where the run is."""
        name = "".join(letter if letter.isalnum() else "-" for letter in self.title)
        return self.work / f"run-{self.prior.name}-{name}-{self.number}"

    @property
    def stored(self) -> Path:
        """Return where its scores are, once it is finished."""
        return self.work / f"{self.folder.name}.json"

    def options(self) -> list[str]:
        """Return what its recipe says otherwise than the file."""
        cohort = table(self.taught, self.work / f"{self.folder.name}.csv")
        folders = (f"data.scans={cohort}", f"data.cache={self.work / 'scans'}", f"prior={self.prior.absolute()}")
        return [*folders, *ROWS[self.title].changes]

    def finish(self) -> None:
        """Train and score, or go on with it."""
        if not self.stored.exists():
            seconds = _trained(self)
            cases = _labelled(self.folder, table(self.labelled, self.work / f"{self.folder.name}-labelled.csv"))
            content = {case: {"rows": rows, "seconds": seconds} for case, rows in cases.items()}
            self.stored.write_text(json.dumps(content))


def runs(title: str, people: People, *, prior: Path, work: Path) -> list[Run]:
    """Return the trainings that a row is made of with one prior."""
    folds = [(HALVES[0], HALVES[1]), (HALVES[1], HALVES[0])] if ROWS[title].halves else [(tuple(people),) * 2]
    return [
        Run(title, prior, work, number, *({person: people[person] for person in half} for half in fold))
        for number, fold in enumerate(folds)
    ]


def prepare(prior: Path, person: str, *, people: People, work: Path) -> None:
    """Place one person's scan and keep what the rows learn from, so that many runs need not do it."""
    cohort = table({person: people[person]}, work / f"prepared-{prior.name}-{person}.csv")
    changes = [f"data.scans={cohort}", f"data.cache={work / 'scans'}", f"prior={prior.absolute()}"]
    recipe = load_recipe(RECIPES / "sae.toml", overrides=changes)
    for store, case in Materials.of(recipe, cache=work / "scans").unprepared():
        store.prepared(case)


def table(people: People, path: Path) -> Path:
    """Write the scans' table."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "labels", "case", "person", "orientation"])
        for person, (scan, labels, letters) in people.items():
            writer.writerow([scan.absolute(), labels.absolute(), person, person, letters or ""])
    return path


def _trained(run: Run) -> float:
    """Train through the command line, and return the seconds that the steps took, over all of its sessions."""
    recipe = str(RECIPES / ROWS[run.title].recipe)
    command = [sys.executable, "-m", "limner", "train", recipe, "-o", str(run.folder), "--resume"]
    began = time.perf_counter()
    options = [part for change in run.options() for part in ("--set", change)]
    subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)
    sys.stderr.write(f"{run.folder.name}: {time.perf_counter() - began:.0f} s\n")
    return seconds(run.folder)


def seconds(folder: Path) -> float:
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
    model = load_model(folder / "model")
    model.method.to("cuda" if torch.cuda.is_available() else "cpu")
    how = approach(model, None)
    scan, placement = materials.store(materials.recipe.stages[-1]).placed(case)
    placed = placement and placement.placed(how.atlas, grid=scan.grid, mask=scan.mask)
    classes = how.segmenter.segment(how.predict(scan, placed)[None])[0]
    ids = scan.pasted(how.identified(classes, placed))
    if case.labels is None:
        raise ValueError(f"{case.name} has no labels to compare with")
    truth = open_volume(case.labels, kind="labels")
    return evaluate(Volume(ids, truth.grid, "labels"), truth, table=LabelTable.freesurfer(), case=case.name)
