"""Models that learned from T1 on T2-FLAIR, as they are, adapted, and taught by FLAIR: part of benchmarks/anatomy.py."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import brains
import numpy as np
import shapes
import studies
from studies import Study

from limner.files import open_volume, save_volume
from limner.inference import segment_volume
from limner.training.adaptation import adapt

PATIENTS = ("patient-1", "patient-2")
#: What is scored: structures that FLAIR shows by its own contrast.
SCORED = ("lateral ventricle", "cerebral white matter")
#: By a model that learned from T1, as it is or gone on with FLAIR, or by one that saw FLAIR after the maps.
WAYS = ("taught by T1", "adapted", "taught by FLAIR")
#: Steps of adapting.
STEPS = 50


@dataclass(frozen=True)
class Flair:
    """The patients with FLAIR.

    Args:
        data: folder of the data.
        work: folder of all that is kept.
        references: folder of label maps PATIENT.nii.gz; without it, the mixture labels the same patients' T1.
    """

    data: Path
    work: Path
    references: Path | None

    def reference(self, patient: str) -> Path:
        """Return the file of a patient's reference."""
        return (self.references or self.work / "flair-references").absolute() / f"{patient}.nii.gz"

    def refer(self, patient: str) -> None:
        """Label a patient's T1 by the mixture, if there is no reference."""
        path = self.reference(patient)
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            found = segment_volume(open_volume(self.data / "flair_ms" / patient / "t1.nii.gz"))
            save_volume(found.labels, path)

    def references_made(self) -> dict[str, Callable[[], object]]:
        """Return what makes the references that are missing."""
        return {f"reference of {patient}": partial(self.refer, patient) for patient in PATIENTS}

    def table(self) -> None:
        """Write the table of scans."""
        with (self.work / "flair.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "labels", "case"])
            for patient in PATIENTS:
                writer.writerow([self.scan(patient), self.reference(patient), patient])

    def scan(self, patient: str) -> Path:
        """Return the file of a patient's FLAIR."""
        return self.data / "flair_ms" / patient / "flair.nii.gz"

    def fill(self, study: Study, way: str) -> None:
        """Compute the cells of one way to label FLAIR that are missing, having trained what it takes."""
        run, model = self.run(study, way), study.run("scans") / "model"
        if way == "adapted":
            model = run
            if not model.exists():
                found = adapt(study.run("scans") / "model", [*map(self.scan, PATIENTS)], out=model, steps=STEPS)
                told = {"drift": found.drift, "before": found.before, "after": found.after}
                run.with_suffix(".json").write_text(json.dumps(told))
        elif way == "taught by FLAIR":
            on_flair(study).train("scans")
            model = run / "model"
        studies.fill(run, studies.opened(model), on_flair(study).loader(), steps=STEPS)

    def run(self, study: Study, way: str) -> Path:
        """Return the folder that a way's cells are named by."""
        run = on_flair(study).run("scans")
        return run if way == "taught by FLAIR" else run.with_name(f"{run.name}-{way.replace(' ', '-')}")

    def text(self, of: Sequence[Study]) -> str:
        """Return the table of FLAIR."""
        chosen = [brains.STRUCTURES.index(name) for name in SCORED]
        lines = [
            "| prior | model | row | " + " | ".join(SCORED) + " | mean of twelve |",
            "|" + "---|" * (len(SCORED) + 4),
        ]
        for study in of:
            for number, way in enumerate(WAYS):
                cells = studies.cells(self.run(study, way), PATIENTS)
                rows = shapes.ROWS if number == 0 else shapes.ROWS[4:]
                lines += [self._line(study, way, row, cells=cells, chosen=chosen) for row in rows if cells]
        source = (
            "label maps that were given" if self.references else "the mixture on the same patients' T1, no other tool"
        )
        told = f"Two patients with lesions; reference: {source}. Models of T1 learned from the seven brains.\n"
        return "\n".join([told, *lines, "", *self._drifts(of)])

    def _line(self, study: Study, way: str, row: str, *, cells: Sequence[Any], chosen: Sequence[int]) -> str:
        """Return one line of that table."""
        values = np.nanmean(np.array([cell["rows"][row] for cell in cells], float), 0)
        shown = [studies.WORLDS[study.world], f"{study.name}, {way}", row]
        return "| " + " | ".join([*shown, *(f"{values[k]:.3f}" for k in chosen), f"{np.nanmean(values):.3f}"]) + " |"

    def _drifts(self, of: Sequence[Study]) -> list[str]:
        """Return in words what adapting did."""
        told = []
        for study in of:
            path = self.run(study, "adapted").with_suffix(".json")
            if path.exists():
                found = json.loads(path.read_text())
                told.append(
                    f"Adapting {study.name} ({studies.WORLDS[study.world]}) in {STEPS} steps: objective "
                    f"{found['before']:.4f} to {found['after']:.4f} nats per voxel, drift {found['drift']:.2%}.\n"
                )
        return told


def on_flair(study: Study) -> Study:
    """Return the same study of FLAIR in the place of T1."""
    return replace(study, scans="flair")
