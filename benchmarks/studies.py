"""Models of benchmarks/anatomy.py: what they learn from, their runs, and the cells of the scans that they label."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import brains
import learned
import shapes
import torch

from limner.data.cohort import read_cohort
from limner.data.loader import Loader
from limner.methods.anatomy import Anatomy
from limner.methods.storage import load_model
from limner.training.materials import Materials
from limner.training.recipe import Recipe, load_recipe
from limner.training.run import METRICS, train

#: Priors by their names in brains.py, and in the tables.
WORLDS = {"good affine": "16 maps, affine, 1 mm", "good": "16 maps that bend, 1 mm"}
#: Coronal slices, each with a code of its own.
SLICES = 'method.options.shape={shape=[40, 48, 48], spacing=4, slices="coronal", features=[16, 32, 32]}'
#: Models: recipe, the priors that they are asked for with, and what else is changed, as `limner train --set` takes it.
MODELS: dict[str, tuple[str, Sequence[str], Sequence[str]]] = {
    "volumes": ("anatomy.toml", tuple(WORLDS), ()),
    "slices": ("anatomy.toml", tuple(WORLDS), (SLICES, "stages.shape.steps=3000")),
    "slices, longer": ("anatomy.toml", ("good affine",), (SLICES, "stages.shape.steps=6000")),
    "published, coarser": (
        "anatomy-published.toml",
        ("good affine",),
        (
            *("method.options.shape.shape=[48, 48, 48]", "method.options.shape.spacing=4", "stages.shape.spacing=4"),
            *("stages.shape.steps=300", "stages.images.steps=60", "stages.scans.steps=120"),
        ),
    ),
    "published": ("anatomy-published.toml", ("good affine",), ()),
}
#: What is learned first, and what follows.
PARTS = ("maps", "scans")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
#: Threads of the CPU where seconds are told.
TIMED = 2


@dataclass(frozen=True)
class Study:
    """A model with a prior.

    Args:
        name: of the model.
        world: name of the prior.
        data: folder of the data.
        work: folder of all that is kept.
        changes: of the recipe, beyond the model's.
        scans: name of the table of scans that it learns from after the maps, and labels.
    """

    name: str
    world: str
    data: Path
    work: Path
    changes: tuple[str, ...] = ()
    scans: str = "people"

    @property
    def parts(self) -> tuple[str, ...]:
        """What is worth a look: an encoder of images knows nothing before it has seen scans."""
        return PARTS if self.recipe("maps").options().sees == "posterior" else PARTS[1:]

    def recipe(self, part: str) -> Recipe:
        """Return the recipe of what is learned from "maps", or of all that follows, from "scans"."""
        file, _, changes = MODELS[self.name]
        places = (
            f"prior={brains.prior_folder(self.world, data=self.data, work=self.work)}",
            f"data.maps={self.data / 'label_maps'}",
            f"data.scans={self.work / self.scans}.csv",
            f"data.cache={self.work / 'scans'}",
        )
        recipe = load_recipe(learned.RECIPES / file, overrides=[*changes, *self.changes, *places])
        stages = recipe.stages[:1] if part == "maps" else recipe.stages[1:]
        return recipe.model_copy(update={"stages": stages})

    def materials(self, part: str) -> Materials:
        """Return what a recipe names."""
        return _materials(self, part)

    def run(self, part: str) -> Path:
        """Return the folder of a run."""
        name = f"run-anatomy-{self.world}-{self.name}-{part if part == 'maps' else self.scans}"
        return self.work / name.replace(", ", "-").replace(" ", "-")

    def train(self, part: str) -> None:
        """Train what is not trained yet."""
        if (self.run(part) / "model").exists():
            return
        began, start = time.perf_counter(), None
        if part == "scans":
            start = self.run("maps") / "model"
        train(self.recipe(part), self.run(part), resume=True, start=start, progress=False)
        print(f"{self.run(part).name}: {time.perf_counter() - began:.0f} s", flush=True)

    def loader(self) -> Loader:
        """Return what opens the scans, as the last stage sees them."""
        materials = self.materials("scans")
        return materials.loader(materials.recipe.stages[-1], stride=1)

    def fill(self, part: str) -> None:
        """Compute the cells that are missing, one for each scan."""
        steps = sum(stage.steps for stage in self.recipe(part).stages)
        fill(self.run(part), opened(self.run(part) / "model"), self.loader(), steps=steps)

    def cells(self, part: str) -> list[dict[str, Any]]:
        """Return the cells of a model that are there."""
        return cells(self.run(part), names(self.work / f"{self.scans}.csv"))

    def time(self) -> None:
        """Tell the seconds of the first scan on each device, if they are not told yet."""
        run = self.run("scans")
        told = self.seconds()
        for device in dict.fromkeys(("cpu", DEVICE)):
            name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
            if name not in told:
                torch.set_num_threads(TIMED)
                loader = self.loader()
                told[name] = shapes.seconds(opened(run / "model", device), loader.whole(loader.cases[0]))
                self._seconds.write_text(json.dumps(told))

    def seconds(self) -> dict[str, dict[str, float]]:
        """Return what `time` told."""
        return json.loads(self._seconds.read_text()) if self._seconds.exists() else {}

    @property
    def _seconds(self) -> Path:
        return self.run("scans").with_name(f"{self.run('scans').name.replace('run', 'seconds', 1)}.json")


@lru_cache(maxsize=2)
def _materials(study: Study, part: str) -> Materials:
    """Return what a recipe names: a prior takes seconds to read, and is asked for scan by scan."""
    return Materials.of(study.recipe(part), cache=study.work / "scans")


def opened(model: Path, device: str = DEVICE) -> Anatomy:
    """Return a trained method, on the GPU if there is one."""
    method: Any = load_model(model).method
    return method.to(device).eval()


def fill(run: Path, method: Anatomy, loader: Loader, *, steps: int) -> None:
    """Compute and keep what is to be told of each scan by a method; what is kept already stays."""
    left = [number for number, case in enumerate(loader.cases) if not _cell(run, case.name).exists()]
    codes = [shapes.coded(method, loader.whole(case)) for case in loader.cases] if left else []
    for number in left:
        case, own, other = loader.cases[number], codes[number], codes[number - 1]
        loaded = loader.whole(case)
        content = {
            "rows": shapes.rows(method, loaded, own=own, other=other),
            "open": shapes.left_open(method, loaded, own=own),
            "numbers": shapes.numbers_used(codes),
            "trained": learned.seconds(run) if (run / METRICS).exists() else 0,
            "steps": steps,
            "device": torch.cuda.get_device_name() if DEVICE == "cuda" else "CPU",
        }
        _cell(run, case.name).write_text(json.dumps(content))
        print(_cell(run, case.name).stem, flush=True)


def names(table: Path) -> list[str]:
    """Return the names of a table's scans."""
    return [case.name for case in read_cohort(table)]


def cells(run: Path, scans: Sequence[str]) -> list[dict[str, Any]]:
    """Return what is kept of scans."""
    paths = [_cell(run, name) for name in scans]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def _cell(run: Path, case: str) -> Path:
    """Return the file of a cell."""
    return run.with_name(f"{run.name.replace('run', 'cell', 1)}-{case}.json")


def preparations(studies: Sequence[Study]) -> tuple[dict[str, Callable[[], object]], ...]:
    """Return what is to be placed and kept, in two rounds: the first places once what is asked for in many ways."""
    wanted = [
        (study, part, number, case.name)
        for study in studies
        for part in PARTS
        for number, (_, case) in enumerate(study.materials(part).unprepared())
    ]
    first = {(item[0].world, item[-1]): item for item in reversed(wanted)}
    return tuple(
        {
            f"{study.run(part).name}, {number}, {name} prepared": partial(_prepare, study, part, number)
            for study, part, number, name in chosen
        }
        for chosen in (first.values(), wanted)
    )


def _prepare(study: Study, part: str, number: int) -> None:
    """Place one map or scan, if it was not, and keep what is learned from."""
    store, case = list(study.materials(part).unprepared())[number]
    store.prepared(case)
