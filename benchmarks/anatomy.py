"""What each prior adds on real brains, location, neighbours, bending and shape, and what a shape model leaves open.

    LIMNER_DATA=FOLDER python benchmarks/anatomy.py

Shape models learn from `label_maps/` alone, and label scans that nobody labelled. Placements, trainings and cells
(prior, model, scan) are stored as soon as they are done, under --work, so that a run that was stopped goes on. A GPU is
used if there is one.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import brains
import learned
import numpy as np
import shapes
import unguided
from contrasts import SCORED, WAYS, Flair, on_flair
from networks_on_flair import Network
from studies import DEVICE, MODELS, PARTS, TIMED, WORLDS, Study, preparations

from limner.data.loader import Loader

#: What needs no shape model.
WITHOUT = (shapes.LIKELIHOOD, shapes.PRIOR, shapes.ATLAS, shapes.ATLAS_BESIDE)
#: What is compared with what, scan by scan.
COMPARED = (
    (shapes.DECODER, shapes.PRIOR),
    (shapes.DECODER, shapes.DECODER_OTHER),
    (shapes.SHAPE, shapes.ATLAS),
    (shapes.SHAPE_BESIDE, shapes.ATLAS_BESIDE),
    (shapes.AGAIN, shapes.ATLAS_BESIDE),
)
#: Voxel size in mm at which the lower bound is learned.
COARSE = 2.0


def markdown(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def dice_rows(studies: Sequence[Study]) -> Iterator[list[str]]:
    """Yield prior, model, row, and the mean Dice over people: of all structures, and of each."""
    for world in dict.fromkeys(study.world for study in studies):
        own = [study for study in studies if study.world == world]
        for study, part in ((one, part) for one in own for part in one.parts):
            cells = study.cells(part)
            rows = [row for row in shapes.ROWS if (study, part) == (own[0], own[0].parts[0]) or row not in WITHOUT]
            for row in [row for row in rows if cells and row in cells[0]["rows"]]:
                model = "" if row in WITHOUT else f"{study.name}, after {part}"
                yield [WORLDS[world], model, row, *shown(scores(cells, row))]


def scores(cells: Sequence[dict[str, Any]], row: str) -> np.ndarray:
    """Return Dice by scan and structure."""
    return np.array([cell["rows"][row] for cell in cells], float)


def shown(values: np.ndarray) -> list[str]:
    """Return the mean of Dice (scans, structures) with its standard error, and that of each structure."""
    means = np.nanmean(values, 1)
    error = f" ± {means.std(ddof=1) / len(means) ** 0.5:.3f}" if len(means) > 1 else ""
    return [f"{means.mean():.3f}{error}", *(f"{value:.3f}" for value in np.nanmean(values, 0))]


def difference_rows(studies: Sequence[Study]) -> Iterator[list[str]]:
    """Yield prior, model, what is compared, the mean difference in Dice over people, and in how many it is positive."""
    for study in studies:
        for part in study.parts:
            cells = study.cells(part)
            pairs = [pair for pair in COMPARED if cells and {*pair} <= cells[0]["rows"].keys()]
            for first, second in pairs:
                gaps = np.nanmean(scores(cells, first) - scores(cells, second), 1)
                better = f"{(gaps > 0).sum()} of {len(gaps)}"
                model = f"{study.name}, after {part}"
                yield [WORLDS[study.world], model, first, second, f"{gaps.mean():+.4f}", better]


def open_rows(studies: Sequence[Study]) -> Iterator[list[str]]:
    """Yield what entropy, intervals and codes are worth, and what they cost."""
    for study in studies:
        for part in study.parts:
            if (cells := study.cells(part)) and "open" in cells[0]:
                yield [WORLDS[study.world], f"{study.name}, after {part}", *opened(cells)]


#: Areas by their names in a cell, in the table's order.
AREAS = ("entropy", "brain", "shape", "posterior", "distance")
OPEN = (
    *("prior", "model", "AUC of entropy", "in the reference's brain", "of the part in the code"),
    *("of entropy without samples", "of distance to a border", "intervals that hold", "their median width"),
    *("numbers in use", "steps", "training, minutes", "on"),
)


def opened(cells: Sequence[dict[str, Any]]) -> list[str]:
    """Return the fields of one row of that table."""
    every, numbers = [cell["open"] for cell in cells], cells[0]["numbers"]
    return [
        *(f"{np.mean([one[name] for one in every]):.3f}" for name in AREAS),
        f"{np.mean([held for one in every for held in one['held']]):.0%}",
        f"{np.median([width for one in every for width in one['widths']]):.0%}",
        f"{sum(number > shapes.ACTIVE for number in numbers)} of {len(numbers)}",
        f"{cells[0]['steps']}",
        f"{cells[0]['trained'] / 60:.1f}",
        cells[0]["device"],
    ]


def seconds_rows(studies: Sequence[Study]) -> Iterator[list[str]]:
    """Yield the seconds of a scan that is placed, by device."""
    for study in studies:
        for device, found in study.seconds().items():
            yield [WORLDS[study.world], study.name, device, *(f"{found[name]:.1f}" for name in ("labels", "samples"))]


def bound_rows(work: Path) -> Iterator[list[str]]:
    """Yield the lower bound: what is learned without labels and without a prior."""
    for objective in unguided.OBJECTIVES:
        path = bound(work, objective)
        if path.exists():
            yield [objective, *shown(np.array(json.loads(path.read_text()), float))]


def bound(work: Path, objective: str) -> Path:
    """Return the file of a lower bound."""
    return work / f"cell-unguided-{objective.replace(' ', '-')}.json"


def learn_bound(study: Study, objective: str, *, steps: int) -> None:
    """Compute a lower bound, if it is missing, on scans as they are prepared for a study."""
    path = bound(study.work, objective)
    if not path.exists():
        materials = study.materials("scans")
        stage = materials.recipe.stages[-1].model_copy(update={"spacing": COARSE})
        loader = Loader(materials.store(stage), materials.training, stride=16)
        classes = len(materials.table.structures)
        found = unguided.learned(loader, classes=classes, objective=objective, steps=steps, device=DEVICE)
        path.write_text(json.dumps(found))


def box_plot(studies: Sequence[Study], path: Path) -> None:
    """Draw the Dice of each structure by some rows of the first model, as the paper's figure 6."""
    from matplotlib.figure import Figure

    cells = studies[0].cells(studies[0].parts[0])
    rows = (shapes.PRIOR, shapes.DECODER, shapes.ATLAS_BESIDE, shapes.SHAPE_BESIDE)
    figure = Figure(figsize=(11, 4), layout="constrained")
    axes = figure.subplots()
    for number, row in enumerate(rows):
        places = np.arange(len(brains.STRUCTURES)) + 0.2 * number
        drawn = axes.boxplot(list(scores(cells, row).T), positions=places, widths=0.15, patch_artist=True)
        for box in drawn["boxes"]:
            box.set_facecolor(f"C{number}")
        axes.plot([], [], color=f"C{number}", linewidth=8, label=row)
    axes.set_xticks(np.arange(len(brains.STRUCTURES)) + 0.3, brains.STRUCTURES, rotation=30, ha="right")
    axes.set_ylabel("Dice")
    axes.legend(loc="lower right", fontsize="small")
    figure.savefig(path, dpi=100)


def text(studies: Sequence[Study], network: Network, *, command: str, note: str) -> str:
    """Return the page of results."""
    differences = ("prior", "model", "row", "less this row", "difference in mean Dice", "better in")
    return f"""# Anatomy: what each prior adds, and what a shape model leaves open

`LIMNER_DATA=FOLDER python benchmarks/anatomy.py {command}`, {dt.date.today()}, {brains.machine()}.
{note}

Seven stripped T1 brains, FreeSurfer labels as reference (silver standard), left and right merged. Priors and shape
models come from the 16 label maps of other people. Rows of a prior lie in the same place: where the mixture's alignment
put it. "After maps" is the shape model alone, whose code is read off the scan; "after scans" its encoder has gone on
with the seven scans, without labels, in their own voxels unless a recipe says otherwise: there Dice is taken.
"Another's code" is that of the person before. "Gaussians fitted again" takes the shaped prior for the mixture's.

## Dice

{markdown(("prior", "model", "row", "mean ± s.e.", *brains.STRUCTURES), dice_rows(studies))}

## Differences

{markdown(differences, difference_rows(studies))}

## What is open, and what it costs

Areas under the ROC curve of what tells that a voxel inside the brain is labelled wrongly, by decoder and likelihood;
background and rest, such as the fluid around the brain, count as one, as the reference does not tell them apart. 95 %
intervals of {shapes.DRAWS} samples' volumes, structure by structure, against the reference's. A number of a code is in
use if its divergence is more than {shapes.ACTIVE} nats.

{markdown(OPEN, open_rows(studies))}

Seconds of person 1, who is placed; {TIMED} threads on a CPU.

{markdown(("prior", "model", "on", "labels", "100 samples"), seconds_rows(studies))}

## FLAIR

{network.flair.text(studies)}
An SAE that the seven T1 brains taught at 2 mm with the prior that bends, all of whose weights adapting moves:

{markdown(("SAE", *SCORED, "mean of twelve"), network.rows())}

## Without any prior

A U-Net that learns from the seven scans at {COARSE:g} mm, from the image alone; its classes are given the names that
suit the reference best.

{markdown(("learned by", "mean ± s.e.", *brains.STRUCTURES), bound_rows(studies[0].work))}
"""


def main() -> None:
    """Fill what is missing, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(".bench"), help="folder of priors and finished cells")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/anatomy.md"))
    parser.add_argument("--priors", nargs="*", default=[*WORLDS], choices=[*WORLDS])
    parser.add_argument("--models", nargs="*", default=["volumes"], choices=[*MODELS])
    parser.add_argument("--persons", nargs="*", metavar="NAME", help="only these, such as person-1")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="changes of all recipes")
    parser.add_argument("--flair", nargs="*", default=[], choices=[*MODELS], help="models to try on FLAIR")
    parser.add_argument("--references", type=Path, help="label maps PATIENT.nii.gz of the patients with FLAIR")
    parser.add_argument("--bound", type=int, default=unguided.STEPS, help="steps of the lower bound; 0 leaves it out")
    parser.add_argument("--workers", type=int, default=1, help="processes; OMP_NUM_THREADS says how many threads each")
    parser.add_argument("--note", default="", help="what else is to be said of where cells were computed")
    arguments = parser.parse_args()
    rest = [part for part in sys.argv[1:] if part not in ("--note", arguments.note)]
    data, work = Path(os.environ["LIMNER_DATA"]), arguments.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    people = brains.scans(data)
    learned.table({name: people[name] for name in arguments.persons or people}, work / "people.csv")
    studies = [
        Study(name, world, data, work, tuple(arguments.set))
        for world in arguments.priors
        for name in arguments.models
        if world in MODELS[name][1]
    ]
    flair = Flair(data, work, arguments.references)
    network = Network(flair, brains.prior_folder("good", data=data, work=work))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    for _ in compute(studies, network, arguments):
        found = text(studies, network, command=shlex.join(rest), note=arguments.note)
        arguments.output.write_text(found)
        box_plot(studies, arguments.output.with_suffix(".png"))


def compute(studies: Sequence[Study], network: Network, arguments: argparse.Namespace) -> Iterator[None]:
    """Place, train and score what is missing; yield whenever there is more to tell."""
    flair = network.flair
    done = partial(brains.all_done, workers=arguments.workers)
    on_contrast = list({study.name: study for study in studies if study.name in arguments.flair}.values())
    flair.table()
    first, rest = preparations(studies)
    done(first | (flair.references_made() if on_contrast else {}))
    of_flair = preparations([*map(on_flair, on_contrast)])[0] if on_contrast else {}
    done(rest | of_flair)
    for part in PARTS:
        done({f"{study.run(part).name} trained": partial(study.train, part) for study in studies})
    looks = [(study, part) for study in studies for part in study.parts]
    fillings = {f"{study.run(part).name} scored": partial(study.fill, part) for study, part in looks}
    if arguments.bound:
        fillings |= {
            f"lower bound by {objective}": partial(learn_bound, studies[-1], objective, steps=arguments.bound)
            for objective in unguided.OBJECTIVES
        }
    done(fillings)
    yield
    ways = [(study, way) for study in on_contrast for way in WAYS]
    timed = {f"{study.run(PARTS[-1]).name} timed": study.time for study in studies}
    done(timed | {f"{flair.run(study, way).name} scored": partial(flair.fill, study, way) for study, way in ways})
    yield
    if on_contrast:
        network.fill()
        yield


if __name__ == "__main__":
    main()
