"""What a study compares: a recipe for all, what differs for each method, and the cells that follow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from limner import check
from limner.config import Settings, checked, load
from limner.methods import METHODS
from limner.training.recipe import Count, Recipe

Fraction = Annotated[float, Field(gt=0, le=1)]


class StudyMethod(Settings):
    """One row of a study.

    Args:
        method: that is trained, a key of METHODS.
        options: of the method.
        stages: what differs in all of the recipe's stages.
        at: by share of labels, written as in `labels`, options that differ there.
        variant_of: row that it stands in for if it is the best in validation, as published for the mean teacher.
    """

    method: str
    options: dict[str, Any] = Field(default_factory=dict)
    stages: dict[str, Any] = Field(default_factory=dict)
    at: dict[str, dict[str, Any]] = Field(default_factory=dict)
    variant_of: str | None = None


class StudyRecipe(Settings):
    """Everything that decides what a study finds.

    Args:
        recipe: what all runs have in common: as a recipe for `limner train`, without its method.
        methods: by the name of the row, in its order; the first is what the others are compared with.
        options: of all methods, where a row does not say otherwise.
        seeds: runs of each, by the recipe's seed and those that follow it.
        labels: shares of the labels that are used.
        people: numbers of people whose labels are used, beside the shares.
    """

    recipe: dict[str, Any]
    methods: Annotated[dict[str, StudyMethod], Field(min_length=1)]
    options: dict[str, Any] = Field(default_factory=dict)
    seeds: Count = 3
    labels: tuple[Fraction, ...] = ()
    people: tuple[Count, ...] = ()

    @property
    def amounts(self) -> tuple[str, ...]:
        """How much is labelled, in words, the least first: "2 people", "0.1"."""
        return (*(f"{count} people" for count in self.people), *(f"{share:g}" for share in self.labels)) or ("1",)

    def run(self, name: str, amount: str, *, seed: int) -> Recipe:
        """Return the recipe of one cell.

        Args:
            name: of the row.
            amount: of `amounts`.
            seed: counted from 0.

        Raises:
            InputError: for what is wrong in it, by the key it stands under.
        """
        row, common = self.methods[name], self.recipe
        options = merged(merged(self.options, row.options), row.at.get(amount, {}))
        label = (
            {"labelled_people": int(amount.split(maxsplit=1)[0])} if "people" in amount else {"labelled": float(amount)}
        )
        values = dict(common) | {
            "seed": int(common.get("seed", 0)) + seed,
            "data": dict(common.get("data", {})) | label,
            "method": {"name": row.method, "options": options},
            "stages": [merged(stage, row.stages) for stage in common.get("stages", ())],
        }
        recipe = checked(values, Recipe, source="study", under="recipe")
        recipe.options(source="study")
        for stage in recipe.stages:
            recipe.options(stage, source="study")
        return recipe


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Args:
        row: name of its method's row.
        amount: of labels.
        seed: counted from 0.
    """

    row: str
    amount: str
    seed: int

    @property
    def name(self) -> str:
        """Fit for a folder."""
        return re.sub(r"[^\w.]+", "-", f"{self.row} {self.amount} seed {self.seed}")


def cells(study: StudyRecipe) -> Iterator[Cell]:
    """Yield the cells of a study: all rows with one seed before the next, so that what is there can be compared."""
    for seed in range(study.seeds):
        for amount in study.amounts:
            for row in study.methods:
                yield Cell(row, amount, seed)


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings, the second's where both have one."""
    both = dict(first)
    for key, value in second.items():
        there = both.get(key)
        both[key] = merged(there, value) if isinstance(there, Mapping) and isinstance(value, Mapping) else value
    return both


def load_study(path: Path, *, overrides: Sequence[str] = ()) -> StudyRecipe:
    """Return the study of a TOML file, having seen to it that each of its runs can be begun.

    Args:
        path: of the file.
        overrides: `key=value` each, as `limner.config.load` takes them.

    Raises:
        InputError: for whatever is wrong in the file.
    """
    study = load(path, StudyRecipe, overrides=overrides)
    for name, row in study.methods.items():
        if row.method not in METHODS:
            raise check.unknown_name("method", row.method, known=METHODS)
        if row.variant_of is not None and row.variant_of not in study.methods:
            raise check.unknown_name("row", row.variant_of, known=study.methods)
        for amount in row.at:
            if amount not in study.amounts:
                raise check.unknown_name("amount of labels", amount, known=study.amounts)
        for amount in study.amounts:
            study.run(name, amount, seed=0)
    check.cells_apart([cell.name for cell in cells(study)])
    return study
