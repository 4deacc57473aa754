"""What a run is made of: scans, labels, a prior, and the method that a stage trains."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from limner import check
from limner.data.cohort import Case, read_cohort, read_maps, revealed, split
from limner.data.loader import Loader
from limner.data.sampling import patterned
from limner.data.scan import Preparation, Scan
from limner.data.store import Kept, Store
from limner.data.volumes import OBJECTS, TRAINING, VALIDATION, Volumes
from limner.methods import METHODS, method_class
from limner.methods.method import Task, Trainable
from limner.methods.placement import place_scan
from limner.priors.atlas import Atlas, Placement
from limner.priors.storage import SHIPPED, load_prior
from limner.space import LabelTable
from limner.training.recipe import BRAIN, Recipe, Stage

#: Name and version of how scans are placed: another is done again.
PLACER = "bias 1"


@dataclass(frozen=True, eq=False)
class Materials:
    """Everything that a recipe names, opened.

    Args:
        recipe: that names it.
        cache: folder for prepared scans.
        training: the scans to learn from.
        validation: those kept out.
        maps: label maps to learn from.
        prior: of the recipe, if any.
        table: of the label maps' ids.
        volumes: pieces of volumes, of which `training` and `validation` are then the cases.
    """

    recipe: Recipe
    cache: Path
    training: tuple[Case, ...]
    validation: tuple[Case, ...]
    maps: tuple[Case, ...]
    prior: Atlas | None
    table: LabelTable
    volumes: Volumes | None = None

    @classmethod
    def of(cls, recipe: Recipe, *, cache: Path) -> Materials:
        """Open what a recipe names.

        Raises:
            InputError: for a prior, a table or scans that cannot be used, and scans without labels where they teach.
        """
        data, prior = recipe.data, recipe.prior
        check.suits(recipe.method.name, [stage.data for stage in recipe.stages], instances=_instances(recipe))
        if _instances(recipe) and data.volumes:
            volumes = Volumes.opened(data.volumes)
            parts = volumes.cases(TRAINING), volumes.cases(VALIDATION)
            check.split_has_scans("training", len(parts[0]), people=len(volumes.pieces))
            return cls(recipe, data.cache or cache, *parts, (), None, OBJECTS, volumes)
        atlas = None if prior is None else load_prior(SHIPPED if prior == BRAIN else prior)
        known = LabelTable.freesurfer()
        if atlas and atlas.table.structures != known.structures:
            known = atlas.table  # of other labels than FreeSurfer's, whose table knows more ids than an atlas has met
        table = LabelTable.read(data.table) if data.table else known
        if atlas:
            check.tables_agree(table.structures, atlas.table.structures)
        maps = read_maps(data.maps) if data.maps else ()
        cohort = read_cohort(data.scans, labels=data.labels) if data.scans else ()
        training, validation = split(cohort, validation=data.validation, seed=recipe.seed) if cohort else ((), ())
        if data.labelled is not None or data.labelled_people is not None:
            training = revealed(training, data.labelled, people=data.labelled_people, seed=data.draw)
        _check_known(recipe, training, table=table)
        return cls(recipe, data.cache or cache, training, validation, maps, atlas, table)

    @property
    def examined(self) -> tuple[Case, ...]:
        """The scans that the method is scored on: those with labels that were kept out, or else those in training."""
        return tuple(case for case in self.validation if case.labels) or tuple(
            case for case in self.training if case.labels
        )

    @cached_property
    def task(self) -> Task:
        """What the method is built for: the scans' channels and axes, and the table's structures."""
        first = self.store(self.recipe.stages[0]).prepared((self.training or self.maps)[0])
        return Task(first.image.shape[0], len(self.table.structures), first.mask.ndim)

    def method(self, stage: Stage) -> Trainable:
        """Return the method with a stage's options; its weights are random."""
        built: Trainable = method_class(self.recipe.method.name)(self.task, self.recipe.options(stage))
        return built

    def preparation(self, stage: Stage) -> Preparation:
        """Return how a stage's scans are made ready."""
        data = self.recipe.data
        return Preparation(spacing=stage.spacing, margin=data.margin, region=data.region, intensity=data.intensity)

    def store(self, stage: Stage) -> Kept:
        """Return where a stage's scans are kept."""
        if self.volumes:
            return self.volumes
        return Store(self.cache, self.preparation(stage), self.table, self.prior, self._place, PLACER)

    def loader(self, stage: Stage, *, stride: int, process: tuple[int, int] = (0, 1), **options: Any) -> Loader:
        """Return what makes a stage's batches.

        Args:
            stage: of the recipe.
            stride: of the method.
            process: number of this process, and of all.
            options: of the loader, where they are not the stage's.
        """
        number = self.recipe.stages.index(stage)
        seed = int(np.random.SeedSequence([self.recipe.seed, number]).generate_state(1)[0])
        options = {"batch": stage.batch, "crop": stage.crop, "seed": seed, "process": process} | options
        cases, variation = self.cases(stage), self.recipe.data.variation if stage.data == "scans" else None
        if stage.apart == "present" or stage.labelled:
            apart, labelled = stage.apart == "present", stage.labelled if options["batch"] == stage.batch else 0
            options["batch"] = patterned(cases, batch=options["batch"], apart=apart, labelled=labelled)
        return Loader(self.store(stage), cases, stride=stride, variation=variation, **options)

    def cases(self, stage: Stage) -> tuple[Case, ...]:
        """Return what a stage learns from."""
        return self.maps if stage.data == "maps" else self.training

    def unprepared(self) -> Iterator[tuple[Kept, Case]]:
        """Yield each scan that a stage needs, with the store that prepares it."""
        stages = {(stage.spacing, stage.data): stage for stage in self.recipe.stages}
        for stage in stages.values():
            others = () if stage.data == "maps" else self.examined
            cases = dict.fromkeys((*self.cases(stage), *others))
            # Slices of stacks are read as they are.
            yield from ((self.store(stage), case) for case in cases if case.slice is None)

    def _place(self, scan: Scan) -> Placement:
        """Return where a scan lies in the prior."""
        if self.prior is None:
            return Placement(np.eye(scan.grid.dimensions + 1), 0.0)
        # The same points as when a scan is segmented.
        rng = np.random.default_rng(0)
        found = place_scan(scan.image, scan.mask, grid=scan.grid, atlas=self.prior, rng=rng, oriented=scan.oriented)
        check.like_sized(found.scale)
        return found


def _instances(recipe: Recipe) -> bool:
    """Tell whether a recipe's method tells objects apart that have no names."""
    return bool(getattr(method_class(recipe.method.name), "instances", False))


def _check_known(recipe: Recipe, training: Sequence[Case], *, table: LabelTable) -> None:
    """Refuse scans of which too little is known for a method to learn from.

    Raises:
        InputError: for scans without labels, or targets that are always or never there, or in a batch, where that is
            too little.
    """
    name = recipe.method.name
    kind = method_class(name)
    if training:
        check.targets_agree(len(training[0].present), table.structures[1:])
    if kind.needs_labels and not any(case.labels for case in training):
        raise check.labels_needed(name)
    if kind.needs_both:
        shows = sum(1 in case.present for case in training)
        absent = sum(bool(case.present) and not any(case.present) for case in training)
        others = [other for other in METHODS if not getattr(method_class(other), "needs_both", False)]
        check.absences((shows, absent), name, others=others)
        for stage in recipe.stages:
            check.both_in_batches(stage.name, stage.apart, batch=stage.batch, method=name)
        if not any(case.labels for case in training):
            warnings.warn(check.learns_unsupervised(name), stacklevel=3)
