"""A trained model goes on learning from scans of another kind, without labels."""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from limner import check
from limner.files.names import case_names
from limner.methods import METHODS, method_class
from limner.methods.method import Trainable
from limner.methods.storage import Model, claim_model, load_model, model_hash, prior_home, save_model
from limner.training.materials import Materials
from limner.training.recipe import DataSettings, MethodSettings, Recipe, Stage
from limner.training.run import CACHE, train


@dataclass(frozen=True)
class Adaptation:
    """What adapting a model did.

    Args:
        steps: of the optimiser.
        scans: learned from.
        before: objective of the source on the scans, nats per voxel.
        after: of the adapted model.
        drift: norm of the change of all weights, as a share of theirs.
        source: hash of the source's weights.
    """

    steps: int
    scans: int
    before: float
    after: float
    drift: float
    source: str


def adapt(
    model: str | Path,
    scans: Sequence[Path],
    *,
    out: str | Path,
    steps: int = 50,
    learning_rate: float = 2e-4,
    seed: int = 0,
    progress: bool = True,
) -> Adaptation:
    """Go on with the objective of a model, which needs no labels, on new scans; the source stays as it is.

    Args:
        model: folder of the source.
        scans: image files, of one channel, as stripped as the source's were.
        out: folder for the adapted model.
        steps: of the optimiser, one scan each.
        learning_rate: which falls to 0.
        seed: of the order and the noise.
        progress: whether to show progress on stderr.

    Raises:
        InputError: for a method that only labels teach, for scans that the model is not for, and as `train` does.

    Source: Yu et al. 2020 and Dalca et al. 2018, whose objectives ask for no labels; to adapt is our own.
    """
    model, out = Path(model), Path(out)
    source = load_model(model)
    if source.method.supervised:
        raise check.adapts_nothing(source.name, _unsupervised())
    claim_model(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".adapting-") as folder:
        work = Path(folder)
        recipe = _recipe(source, model, cohort=_cohort(scans, work / "scans.csv"), steps=steps, rate=learning_rate)
        recipe = recipe.model_copy(update={"seed": seed})
        found = load_model(train(recipe, work / "run", start=model, progress=progress))
        materials = Materials.of(recipe, cache=work / "run" / CACHE)
        told = Adaptation(
            steps=steps,
            scans=len(scans),
            before=objective(source.method, materials),
            after=objective(found.method, materials),
            drift=drift(source.method.state_dict(), found.method.state_dict()),
            source=model_hash(model),
        )
        provenance = {**source.provenance, "adapted": asdict(told)}
        save_model(replace(found, provenance=provenance), work / "model")
        if out.exists():
            shutil.rmtree(out)
        (work / "model").replace(out)
    return told


@torch.no_grad()
def objective(method: Trainable, materials: Materials) -> float:
    """Return the mean over scans of the sum of a method's loss terms, nats per voxel, its noise always the same."""
    stage = materials.recipe.stages[-1]
    loader, values = materials.loader(stage, stride=method.stride), []
    for case in materials.training:
        batch, prior = loader.whole(case)
        torch.default_generator.manual_seed(0)
        values.append(sum(float(term) for _, terms in method.losses(batch, prior) for term in terms.values()))
    return fmean(values)


def drift(before: dict[str, Tensor], after: dict[str, Tensor]) -> float:
    """Return the norm of the change of all weights, as a share of theirs."""
    change = sum(float((after[name] - weights).square().sum()) for name, weights in before.items())
    return float((change / sum(float(weights.square().sum()) for weights in before.values())) ** 0.5)


def _recipe(source: Model, model: Path, *, cohort: Path, steps: int, rate: float) -> Recipe:
    """Return the recipe that goes on with a model."""
    options = source.method.adapting().model_dump(mode="json", exclude_none=True)
    preparation = source.preparation
    stage = Stage(
        name="adapted",
        steps=steps,
        spacing=preparation.spacing,
        learning_rate=rate,
        clip=1.0,
        schedule="cosine",
    )
    return Recipe(
        prior=str(prior_home(model)) if source.prior else None,
        data=DataSettings(scans=cohort, margin=preparation.margin),
        method=MethodSettings(name=source.name, options=options),
        stages=(stage,),
    )


def _cohort(scans: Sequence[Path], path: Path) -> Path:
    """Write the table of scans, and return it."""
    for scan in scans:
        check.existing_file(scan)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "case"])
        writer.writerows([scan.absolute(), name] for scan, name in zip(scans, case_names(scans), strict=True))
    return path


def _unsupervised() -> list[str]:
    """Return the names of the methods that learn without labels."""
    kinds = {name: method_class(name) for name in METHODS}
    return [name for name, kind in kinds.items() if issubclass(kind, Trainable) and not kind.supervised]
