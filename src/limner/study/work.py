"""What is done with a cell of a study: train it, choose weights in validation, and test them once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limner import check
from limner.cluster import Item, Made
from limner.cluster.inputs import contents
from limner.cluster.work import Step
from limner.config import load
from limner.data.batch import IGNORE, Batch
from limner.data.cohort import Case, read_cohort
from limner.data.loader import Loader
from limner.evaluation.surface import hausdorff, surface_distances
from limner.files import replacing
from limner.methods.method import Trainable
from limner.methods.storage import load_model
from limner.study.cells import Cell, StudyRecipe
from limner.study.pictures import picture
from limner.training.materials import Materials
from limner.training.recipe import Recipe
from limner.training.run import CACHE, METRICS, train

CELLS, RUN, TEST, PICTURE, STUDY = "cells", "run", "test.json", "pictures.png", "study.toml"
#: The hash of what a cell's images and labels held when it was begun.
ORIGIN = "origin"
#: Images that are looked at together.
TOGETHER = 50


@dataclass(frozen=True)
class Begin:
    """Returns the work on a study's cells.

    Args:
        out: the study's folder, which holds its recipe.
    """

    out: Path

    def __call__(self) -> CellWork:
        return CellWork(self.out, load(self.out / STUDY, StudyRecipe))


@dataclass(frozen=True, eq=False)
class CellWork:
    """Does the cells of a study.

    Args:
        out: the study's folder.
        study: its recipe.
    """

    out: Path
    study: StudyRecipe

    @property
    def facts(self) -> dict[str, Any]:
        """What all cells have in common."""
        shared = {"recipe": self.study.recipe, "version": version("limner")}
        facts: dict[str, Any] = json.loads(json.dumps(shared))
        return facts

    def item(self, cell: Cell) -> Item:
        """Return a cell as an item of the ledger."""
        recipe = self.study.run(cell.row, cell.amount, seed=cell.seed)
        inputs = _inputs(recipe)
        own = {"row": cell.row, "amount": cell.amount, "seed": cell.seed}
        return Item(cell.name, inputs, own | {"run": recipe.model_dump(mode="json")})

    def __call__(self, item: Item, *, step: Step) -> Made:
        """Train and test a cell; one that was stopped goes on."""
        folder = self.out / CELLS / item.name
        # Not the study's of this process, which may have begun with fewer rows.
        recipe = Recipe.model_validate(item.facts["run"])
        _claim(folder, item)
        cache = recipe.data.cache or (self.out / CACHE).absolute()
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"cache": cache})})
        step("training")
        train(recipe, folder / RUN, resume=True, progress=False)
        step("testing")
        found = tested(recipe, folder)
        own = {key: item.facts[key] for key in ("row", "amount", "seed")}
        record = own | {"method": recipe.method.name} | found
        with replacing(folder / TEST) as temporary:
            temporary.write_text(json.dumps(record) + "\n", encoding="utf-8")
        files = [folder / TEST, *folder.glob(PICTURE)]
        return Made(own | {"soft": found["soft"], "validation": found["validation"]}, files)


def _inputs(recipe: Recipe) -> tuple[Path, ...]:
    """Return the files that a run is made from: the table, and the images and labels that it names."""
    data = recipe.data
    if data.scans is None:
        return ()
    cases = read_cohort(data.scans, labels=data.labels)
    named = (path for case in cases for path in (*case.images, case.labels, case.mask))
    return tuple(dict.fromkeys(path for path in (data.scans, data.table, *named) if path))


def _claim(folder: Path, item: Item) -> None:
    """Note what a cell's folder is made from: weights must not be tested on images that they have learned from.

    Raises:
        InputError: if the folder was made from other images, labels or splits.
    """
    origin, now = folder / ORIGIN, contents(item.inputs)
    if origin.exists():
        check.same_origin(folder, origin.read_text(encoding="utf-8"), expected=now)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(origin) as temporary:
        temporary.write_text(now, encoding="utf-8")


def tested(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Return how the weights that a run chose do on the scans for testing, JSON-ready; draw some of them.

    `cases` has for each case and structure the voxels that are found, true and both, sums of probabilities for the soft
    Dice, and HD95 in mm where the voxel size is known.
    """
    model = load_model(folder / RUN / "model")
    materials, stage = Materials.of(recipe, cache=folder / CACHE), recipe.stages[-1]
    device = torch.device("cuda" if recipe.device != "cpu" and torch.cuda.is_available() else "cpu")
    method = model.method.to(device)
    loader = materials.loader(stage, stride=method.stride)
    structures = materials.table.structures[1:]
    rows: list[dict[str, Any]] = []
    changes: list[float] = []
    present, absent = cases_to_test(recipe)
    named = {case.name: case for case in present}
    for batch in _batches(loader, present):
        moved = batch.to(device)
        with torch.no_grad():
            shares = method.predict(moved.image, None, mask=moved.mask)
            changes += removal(method, moved)
        rows += [row for one in _counted(batch, shares.cpu(), structures=structures, cases=named) for row in one]
    lines = [json.loads(line) for line in (folder / RUN / METRICS).read_text(encoding="utf-8").splitlines()]
    scored = [line["dice"]["mean"] for line in lines if "dice" in line and line["stage"] == stage.name]
    last = {line["stage"]: line for line in lines}.values()  # of each stage
    picture(method, loader, presence=present, absent=absent, out=folder / PICTURE)
    return {
        "soft": {name: _soft([row for row in rows if row["structure"] == name]) for name in structures},
        "validation": max(scored, default=None),
        "steps": sum(line["step"] for line in last),
        "seconds": sum(line["seconds"] for line in last),
        "labelled": sum(case.labels is not None for case in materials.training),
        "removal": float(np.median(changes)) if changes else None,
        "cases": rows,
    }


def cases_to_test(recipe: Recipe) -> tuple[list[Case], list[Case]]:
    """Return the scans for testing: those with labels, and those that are known to show nothing."""
    if recipe.data.scans is None:
        return [], []
    cases = [case for case in read_cohort(recipe.data.scans, labels=recipe.data.labels) if case.split == "test"]
    absent = [case for case in cases if case.present and not any(case.present)]
    return [case for case in cases if case.labels], absent


def removal(method: Trainable, batch: Batch) -> list[float]:
    """Return for each image how much more it changes inside its mask than outside when the target is taken out."""
    take = getattr(method, "removed", None)
    if take is None:
        return []
    absent, _ = take(batch.image)
    change = (absent - batch.image).abs().mean(1)
    inside, outside = batch.labels > 0, (batch.labels == 0) & batch.mask
    both = [(one[ins].mean(), one[outs].mean()) for one, ins, outs in zip(change, inside, outside, strict=True)]
    return [float(first / second) for first, second in both if torch.isfinite(first / second)]


def _batches(loader: Loader, cases: Sequence[Case]) -> Iterator[Batch]:
    """Yield whole scans, slices of stacks many at a time."""
    together = TOGETHER if all(case.slice is not None for case in cases) else 1
    for begin in range(0, len(cases), together):
        yield loader.whole(*cases[begin : begin + together])[0]


def _counted(
    batch: Batch, shares: Tensor, *, structures: Sequence[str], cases: Mapping[str, Case]
) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each structure, one for each scan of a batch, given (B, K, *S) probabilities."""
    found, known = shares.argmax(1), (batch.labels != IGNORE) & batch.mask
    for target, name in enumerate(structures, start=1):
        predicted, true = (found == target) & known, (batch.labels == target) & known
        share = shares[:, target] * known
        columns = {
            "found": predicted,
            "true": true,
            "both": predicted & true,
            "share": share,
            "shared": share * true,
        }
        sums = {key: value.flatten(1).double().sum(1).tolist() for key, value in columns.items()}
        rows: list[dict[str, Any]] = [{"case": case, "structure": name} for case in batch.case]
        for number, row in enumerate(rows):
            row |= {key: round(values[number], 4) for key, values in sums.items()}
            if measured(cases[row["case"]], batch.world[number]):
                row["hd95"] = _distance(predicted[number], true[number], world=batch.world[number])
        yield rows


def measured(case: Case, world: Tensor) -> bool:
    """Tell whether voxel sizes are known: a table says those of slices, and a flat picture of unit pixels says none.

    Args:
        case: a scan.
        world: (D+1, D+1) of its voxels.
    """
    if case.slice is not None:
        return bool(case.spacing)
    return len(world) > 3 or not torch.equal(world, torch.eye(3).to(world))


def _distance(predicted: Tensor, true: Tensor, *, world: Tensor) -> float | None:
    """Return the 95th percentile of the distance between surfaces, mm; None where one is empty."""
    if not predicted.any() or not true.any():
        return None
    spacing = world[:-1, :-1].norm(dim=0).numpy()
    return round(hausdorff(surface_distances(predicted.numpy(), true.numpy(), spacing=spacing)), 4)


def _soft(rows: Sequence[dict[str, Any]]) -> float:
    """Return the Dice of all scans together, of probabilities: as published."""
    total = {key: sum(row[key] for row in rows) for key in ("share", "true", "shared")}
    return float((2 * total["shared"] + 1) / (total["share"] + total["true"] + 1))
