"""An SAE that learned from T1 on T2-FLAIR, as it is and adapted: part of benchmarks/anatomy.py.

Its network looks at intensities, which mean something else in FLAIR: whoever has a model of T1 and no labels adapts it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import learned
from contrasts import PATIENTS, SCORED, Flair

from limner.evaluation import evaluate
from limner.files import open_volume
from limner.inference import segment_volume
from limner.methods.storage import load_model
from limner.training.adaptation import adapt
from limner.training.recipe import load_recipe
from limner.training.run import train

#: Steps of adapting, a scan each, and the learning rate: half of that which taught the model.
WAYS, RATE = {"taught by T1": 0, "adapted in 50 steps": 50, "adapted in 200 steps": 200}, 2e-3


@dataclass(frozen=True)
class Network:
    """An SAE of the seven T1 brains at 2 mm.

    Args:
        flair: the patients.
        prior: folder of its prior.
    """

    flair: Flair
    prior: Path

    def fill(self) -> None:
        """Train, adapt and score what is missing."""
        for way, steps in WAYS.items():
            for patient in PATIENTS:
                if not (cell := self._cell(way, patient)).exists():
                    cell.write_text(json.dumps(self._scores(self._model(way, steps), patient)))
                    print(cell.stem, flush=True)

    def rows(self) -> Iterator[list[str]]:
        """Yield ways, and the mean over patients of each structure that is scored and of all twelve."""
        for way in WAYS:
            paths = [self._cell(way, patient) for patient in PATIENTS]
            if all(path.exists() for path in paths):
                cells = [json.loads(path.read_text()) for path in paths]
                yield [way, *(f"{fmean(cell[name] for cell in cells):.3f}" for name in (*SCORED, "mean"))]

    def _scores(self, model: Path, patient: str) -> dict[str, float]:
        """Return the Dice of each structure, and their mean, by a model."""
        network = load_model(model)
        found = segment_volume(open_volume(self.flair.scan(patient)), method=network)
        reference = open_volume(self.flair.reference(patient), kind="labels")
        rows = evaluate(found.labels, reference, table=network.table, case=patient, distances=False)
        return {row["structure"]: row["value"] for row in rows if row["metric"] == "dice"}

    def _model(self, way: str, steps: int) -> Path:
        """Return the folder of a way's model, having learned it if need be."""
        run = self.flair.work / "run-sae-people"
        places = (f"data.scans={self.flair.work / 'people.csv'}", f"data.cache={self.flair.work / 'scans'}")
        recipe = load_recipe(learned.RECIPES / "sae.toml", overrides=[f"prior={self.prior}", *places, "stages.fine="])
        source = train(recipe, run, resume=True, progress=False)
        adapted = self.flair.work / f"run-sae-flair-{steps}"
        if steps and not adapted.exists():
            scans = [self.flair.scan(patient) for patient in PATIENTS]
            told = adapt(source, scans, out=adapted, steps=steps, learning_rate=RATE, progress=False)
            print(f"{way}: objective {told.before:.4f} to {told.after:.4f}, drift {told.drift:.1%}", flush=True)
        return adapted if steps else source

    def _cell(self, way: str, patient: str) -> Path:
        """Return the file of a cell."""
        return self.flair.work / f"cell-sae-{way.replace(' ', '-')}-{patient}.json"
