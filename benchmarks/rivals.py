"""What users would pick instead: ANTs' affine atlas, its SyN of a labelled brain, and Atropos on top, person by person.

    pip install -c constraints.txt '.[rivals]'
    LIMNER_DATA=FOLDER python benchmarks/rivals.py

Rivals see the scans, the label maps and the evaluation of benchmarks/brains.py, whose cells are read from --work (and
made there if they are missing). Registrations and scores are stored as soon as they are done, so that a run that was
stopped goes on. No person's own scan or labels enter what labels that person.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ants
import brains
import numpy as np
from ants_rows import BLUR, LABELLED, NEIGHBOURS, NONE, ROWS, SECOND, TABLE, Target, named, study_of, target_of
from brains import kept, machine, scans

from limner.evaluation import evaluate
from limner.files import open_volume
from limner.inference import segment_volume
from limner.priors.storage import SHIPPED, load_prior
from limner.space import Array, Volume

OURS = "limner: mixture, average of 16 maps, deformable"


def scored(labels: Volume, truth: Volume, *, case: str) -> list[dict[str, Any]]:
    """Return a rival's scores, as benchmarks/brains.py scores the mixture."""
    return [dict(row) for row in evaluate(labels, truth, table=TABLE, case=case)]


def rival_cell(make: Callable[[], tuple[Array, float]], target: Target, truth: Volume) -> dict[str, Any]:
    """Return a rival's scores and processor seconds."""
    classes, seconds = make()
    return {"rows": scored(target.labels(classes), truth, case=target.name), "seconds": seconds}


def mean_of(stored: dict[str, Any], metric: str = "dice") -> float:
    """Return the mean over the structures of a cell of one method."""
    return next(row["value"] for row in stored["rows"] if (row["structure"], row["metric"]) == ("mean", metric))


def contrast_cell(folder: Path, contrast: str, reference: Volume) -> dict[str, Any]:
    """Return how the mixture with the prior that ships, and that prior alone, agree with labels of another contrast."""
    atlas, image = load_prior(SHIPPED), open_volume(folder / f"{contrast}.nii.gz")
    found = segment_volume(image, prior=atlas)
    labels = {"mixture": found.labels, "argmax": brains.argmax(image, found, atlas=atlas)}
    case = f"{folder.name} {contrast}"
    rows = {method: scored(volume, reference, case=case) for method, volume in labels.items()}
    return {"rows": [{**row, "method": method} for method, found in rows.items() for row in found]}


def table_text(cells: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Return a Markdown table of mean Dice, person by person, of the mixture and of every rival."""
    persons = list(next(iter(cells.values())))
    lines = [f"| | mean | HD95 (mm) | {' | '.join(persons)} | CPU s |", "|---" * (len(persons) + 4) + "|"]
    for title, found in cells.items():
        dice, distance = ([mean_of(one, metric) for one in found.values()] for metric in ("dice", "hd95"))
        shown = " | ".join(f"{mean_of(found[person]):.3f}" if person in found else "" for person in persons)
        seconds = np.median([one["seconds"] for one in found.values()])
        lines.append(f"| {title} | {np.mean(dice):.3f} | {np.mean(distance):.2f} | {shown} | {seconds:.0f} |")
    return "\n".join(lines)


def gains(ours: dict[str, dict[str, Any]], others: dict[str, dict[str, Any]]) -> list[float]:
    """Return how far the mean Dice of one row is above that of another, for each brain that both have."""
    return [mean_of(ours[person]) - mean_of(found) for person, found in others.items()]


def verdict_text(cells: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Return in words how far the first row is above the others, on average and on any brain."""
    (first, ours), *others = cells.items()
    closest = min(others, key=lambda row: np.mean(gains(ours, row[1])))
    gaps = {
        person: mean_of(ours[person]) - max(mean_of(found[person]) for _, found in others if person in found)
        for person in ours
    }
    worst = min(gaps, key=lambda person: gaps[person])
    return (
        f'{first}: the rival that comes closest is "{closest[0]}", {np.mean(gains(ours, closest[1])):.3f} below on '
        f"average. Against the best rival of each brain it gains {gaps[worst]:+.3f} ({worst}) to "
        f"{max(gaps.values()):+.3f}."
    )


def contrast_text(cells: dict[str, dict[str, Any]], *, best: str) -> str:
    """Return a Markdown section on other contrasts against the T1's labels by ANTs' best row, if there are any."""
    names = ("lateral ventricle", "cerebral white matter")
    lines = [
        "",
        "## Other contrasts of the same person",
        "",
        "Dice of FLAIR and T2 of two patients (stripped, registered to MNI space), each segmented alone with the prior",
        f'that ships, against labels of the same patient\'s T1 by the best row of ANTs ("{best}").',
        "The T1 itself, labelled by limner, says how much two methods differ on one image.",
        "",
        "| | structure | prior alone | mixture | gain |",
        "|---|---|---|---|---|",
    ]
    for case, stored in cells.items():
        for name in names:
            argmax, mixture = (
                next(
                    row["value"]
                    for row in stored["rows"]
                    if (row["structure"], row["metric"], row["method"]) == (name, "dice", method)
                )
                for method in ("argmax", "mixture")
            )
            lines.append(f"| {case} | {name} | {argmax:.3f} | {mixture:.3f} | {mixture - argmax:+.3f} |")
    return "\n".join([*lines, ""] if cells else [])


def main() -> None:
    """Fill the cells that are missing, then write the tables of what is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(".bench"), help="folder of priors and finished cells")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/rivals.md"))
    parser.add_argument("--persons", nargs="*", metavar="NAME", help="make what is missing of these, no contrasts")
    parser.add_argument("--rows", nargs="*", type=int, metavar="NUMBER", help="make these of ANTs' rows, from 0 on")
    parser.add_argument("--note", default="", help="what else is to be said above the table")
    arguments = parser.parse_args()
    data, work = Path(os.environ["LIMNER_DATA"]), arguments.work
    wanted = ROWS if arguments.rows is None else [ROWS[number] for number in arguments.rows]
    study, cells = study_of(data, work), {title: {} for title in (OURS, *ROWS)}
    for person, (scan, reference, letters) in scans(data).items():
        target, truth = target_of(scan, person, letters), open_volume(reference, kind="labels")
        make = partial(brains.cell, study.prior, scan, reference=reference, orientation=letters, case=person)
        ours = kept(work / f"cell-good-{person}.json", make)
        cells[OURS][person] = ours | {"rows": [row for row in ours["rows"] if row["method"] == "mixture"]}
        for title in ROWS:
            stored = study.work / f"cell-{named(title)}-{person}.json"
            asked = title in wanted and person in (arguments.persons or cells[OURS])
            if asked or stored.exists():
                row = partial(rival_cell, study.rows(target)[title], target, truth)
                cells[title][person] = kept(stored, row)
                print(f"{person} | {title} | {mean_of(cells[title][person]):.3f}", flush=True)
    cells = {title: found for title, found in cells.items() if found}
    complete = [title for title in cells if title != OURS and len(cells[title]) == len(cells[OURS])]
    best = max(complete, key=lambda title: np.mean([mean_of(one) for one in cells[title].values()]), default="")
    contrasts = {}
    for folder in sorted((data / "flair_ms").glob("patient-*")) if best and arguments.persons is None else []:
        reference = study.reference(target_of(folder / "t1.nii.gz", folder.name), best)
        for contrast in ("t1", "t2", "flair"):
            stored = study.work / f"contrast-{folder.name}-{contrast}-{named(best)}.json"
            case = f"{folder.name}, {contrast.upper()}"
            contrasts[case] = kept(stored, partial(contrast_cell, folder, contrast, reference))
            print(case, flush=True)
    text = f"""# What users would pick instead

`LIMNER_DATA=FOLDER python benchmarks/rivals.py`, {dt.date.today()}, {machine()}, ANTs {ants.__version__}.
Stripped T1 brains, references and scores of [brains.md](brains.md); mean Dice over the twelve structures.
Processor seconds of one brain, registration included (median). "SyN" and "affine" are ANTs' own settings
(`ants.registration(type_of_transform=...)`), Atropos's are five rounds, a Markov random field `m="{NEIGHBOURS}"` (for
"without neighbours" `m="{NONE}"`), and what the row says: the posterior, and the weight of the priors. "Plain EM" has
limner's Gaussians, but no gain, bending or neighbours.

- **A labelled brain**: T1 and FreeSurfer labels of {LABELLED}; for {LABELLED} itself, those of {SECOND}.
- **The template**: a T1 average of 40 people with FreeSurfer labels; blurred by {BLUR:g} mm, these are Atropos's
  priors. They are drawn by the custom of the references, which the 16 maps' are not.
- **The average of 16 maps**: the prior that our row has too (`limner atlas`), with an image in which each tissue is as
  bright as in the template.

{arguments.note}

{table_text(cells)}

{verdict_text(cells)}
{contrast_text(contrasts, best=best)}"""
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
