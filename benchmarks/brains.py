"""Accuracy on real brains, structure by structure: prior argmax, mixture and what learns, with weak and good priors.

    LIMNER_DATA=FOLDER python benchmarks/brains.py

Every cell (prior, person) is stored as soon as it is computed, under --work, so that a run that was stopped goes on.
Priors are built from `label_maps/` alone: no person's own labels enter the prior that segments them.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import multiprocessing
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import learned
import numpy as np
import torch

from limner.evaluation import compared, evaluate, summarised
from limner.files import open_volume
from limner.inference import Segmentation, segment_volume
from limner.priors.atlas import Atlas
from limner.priors.averaging import build_atlas
from limner.priors.storage import SHIPPED, load_prior, save_prior
from limner.space import LabelTable, Volume

#: The maps that stand for "one label map of somebody", named before any of them was tried but the second.
WEAK = ("map-01", "map-06", "map-11")
METHODS = ("argmax", "mixture")
#: What is compared with what, case by case.
PAIRS = (
    ("SAE", "mixture"),
    ("SAE, three times as long", "mixture"),
    ("SAE, other half of the people", "mixture"),
    ("SAE", "SAE without neighbours"),
    ("SAE", "SAE, decoder as likelihood"),
    ("SAE", "SAE, published network"),
    ("supervised, other half of the people", "mixture"),
)
STRUCTURES = LabelTable.freesurfer().structures[1:-1]


def scans(data: Path) -> dict[str, tuple[Path, Path, str | None]]:
    """Return each person's scan, reference, and the orientation that person 7's file does not store."""
    brains = data / "brains"
    found = {f"person-{number}": ("brainmask.mgz", "aseg.mgz", None) for number in range(1, 6)}
    found |= {"person-6": ("brain.mgz", "aseg.mgz", None), "person-7": ("vol.npz", "seg.npz", "LIA")}
    return {
        name: (brains / name / scan, brains / name / labels, letters) for name, (scan, labels, letters) in found.items()
    }


def prior_folder(name: str, *, data: Path, work: Path) -> Path:
    """Return a prior's folder, building it if need be; one whose name ends in " affine" does not bend."""
    if name == "shipped":
        return SHIPPED
    folder, (which, *affine) = work / f"prior-{name}", name.split(" ")
    if not folder.exists():
        maps = sorted((data / "label_maps").glob("*.nii.gz" if which == "good" else f"{which}.nii.gz"))
        volumes = {path.name: lambda path=path: open_volume(path, kind="labels") for path in maps}
        save_prior(build_atlas(volumes, LabelTable.freesurfer(), bends=not affine), folder)
    return folder


def cell(prior: Path, scan: Path, *, reference: Path, orientation: str | None, case: str) -> dict[str, object]:
    """Return the scores of the prior's argmax and of the mixture for one scan, its volumes, and processor seconds."""
    atlas, image = load_prior(prior), open_volume(scan)
    began = time.process_time()
    found = segment_volume(image, prior=atlas, orientation=orientation)
    seconds = time.process_time() - began
    labels = {"mixture": found.labels, "argmax": argmax(image, found, atlas=atlas)}
    truth, table = open_volume(reference, kind="labels"), LabelTable.freesurfer()
    rows = [
        {**row, "method": method}
        for method, volume in labels.items()
        for row in evaluate(volume, truth, table=table, case=case)
    ]
    return {"rows": rows, "seconds": seconds, "score": found.placement.score, "volumes": volumes(found, truth)}


def volumes(found: Segmentation, truth: Volume) -> list[dict[str, object]]:
    """Return each label's volume with its interval, and the reference's, mm3, for labels of the structures scored."""
    ids, counts = np.unique(truth.data, return_counts=True)
    reference = dict(zip(ids.tolist(), (counts * truth.grid.voxel_volume).tolist(), strict=True))
    return [
        {**row, "reference": reference[row["id"]]}
        for row in found.volumes()
        if row["structure"] in STRUCTURES and row["id"] in reference
    ]


def interval_text(cells: dict[tuple[str, str], dict], name: str) -> str:
    """Return in words how many of the reference's volumes lie in the intervals, and how wide these are."""
    rows = [row for (prior, _), stored in cells.items() if prior == name for row in stored.get("volumes", ())]
    if not rows:
        return ""
    held = np.mean([row["low_mm3"] <= row["reference"] <= row["high_mm3"] for row in rows])
    width = np.median([(row["high_mm3"] - row["low_mm3"]) / max(row["volume_mm3"], 1) for row in rows])
    return (
        f"## Volumes\n\nOf {len(rows)} volumes of the reference, left and right apart, {held:.0%} lie in the 95 % "
        f"intervals of the mixture with the prior that ships; their median width is {width:.0%} of the volume.\n\n"
    )


def head_cell(scan: Path, *, reference: Path, brain: Path, case: str) -> dict[str, object]:
    """Return the scores of the mixture, with the prior that ships, for a head with its skull, and those of its mask."""
    image = open_volume(scan)
    found = segment_volume(image)
    truth = open_volume(reference, kind="labels")
    rows = evaluate(found.labels, truth, table=LabelTable.freesurfer(), case=case)
    mask, expected = found.mask.data > 0, open_volume(brain).data > 0
    overlap = 2 * np.count_nonzero(mask & expected) / (np.count_nonzero(mask) + np.count_nonzero(expected))
    lost = np.count_nonzero(truth.data[~mask]) / np.count_nonzero(truth.data)
    return {"rows": rows, "mask": overlap, "lost": lost}


def head_text(cells: dict[str, dict]) -> str:
    """Return a Markdown table of heads with their skull, person by person; nothing if there are none."""
    lines = [
        "| | Dice | HD95 (mm) | Dice of the mask | labelled voxels lost by it |",
        "|---|---|---|---|---|",
    ]
    columns = []
    for person, stored in cells.items():
        means = {row["metric"]: row["value"] for row in stored["rows"] if row["structure"] == "mean"}
        columns.append([means["dice"], means["hd95"], stored["mask"], stored["lost"]])
        lines.append(head_line(person, columns[-1]))
    return "\n".join([*lines, head_line("mean", np.mean(columns, 0))]) if columns else ""


def head_line(name: str, values: Sequence[float]) -> str:
    """Return one row of that table."""
    dice, distance, mask, lost = values
    return f"| {name} | {dice:.3f} | {distance:.2f} | {mask:.3f} | {lost:.2%} |"


def argmax(image: Volume, found: Segmentation, *, atlas: Atlas) -> Volume:
    """Return the likeliest label of the prior alone, where the mixture's alignment put it, inside the brain."""
    placed = replace(atlas, warp=found.placement.warp).place(found.grid.moved(found.placement.transform))
    classes = placed.log_probability().argmax(0).numpy()
    return Volume(np.where(image.data != 0, placed.identified(classes), 0).astype(np.int32), image.grid, "labels")


def table_text(cells: dict[tuple[str, str], dict], priors: dict[str, Sequence[str]], *, metric: str) -> str:
    """Return a Markdown table of the mean over persons (and, for the weak prior, over its maps) of one metric."""
    head = ["prior", "method", "mean ± s.e.", *STRUCTURES]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    digits = 3 if metric == "dice" else 2
    for label, names in priors.items():
        for method in (*METHODS, *learned.ROWS):
            rows = rows_of(cells, names, method=method)
            if not rows:
                continue
            summary = summarised(rows, rng=np.random.default_rng(0))
            mean = summary["mean", metric]
            values = [f"{summary[structure, metric].mean:.{digits}f}" for structure in STRUCTURES]
            first = f"{mean.mean:.{digits}f} ± {mean.standard_error:.{digits}f}"
            lines.append("| " + " | ".join([label, method, first, *values]) + " |")
    return "\n".join(lines)


def rows_of(cells: dict[tuple[str, str], dict], names: Sequence[str], *, method: str) -> list[dict]:
    """Return a method's scores with some priors; a case is a person with a prior."""
    return [
        {**row, "case": f"{name} {row['case']}"}
        for (name, _), stored in cells.items()
        if name in names
        for row in stored["rows"]
        if row["method"] == method
    ]


def pair_text(cells: dict[tuple[str, str], dict], priors: dict[str, Sequence[str]]) -> str:
    """Return a Markdown table of paired differences in mean Dice; nothing if there are none."""
    head = ["| prior | first | second | difference (95 % interval) | Wilcoxon p |", "|---|---|---|---|---|"]
    lines = []
    for label, names in priors.items():
        for pair in PAIRS:
            both = [rows_of(cells, names, method=method) for method in pair]
            if all(both):
                found = compared(*both, rng=np.random.default_rng(0))["mean", "dice"]
                gap = found.difference
                shown = f"{gap.mean:+.4f} ({gap.low:+.4f} to {gap.high:+.4f})"
                lines.append(f"| {label} | {pair[0]} | {pair[1]} | {shown} | {found.wilcoxon:.3f} |")
    return "\n".join([*head, *lines] if lines else [])


def person_text(cells: dict[tuple[str, str], dict], persons: Sequence[str]) -> str:
    """Return a Markdown table of every person's mean Dice, for each prior by itself."""
    lines = ["| prior | method | " + " | ".join(persons) + " |", "|---|---|" + "---|" * len(persons)]
    for prior in dict.fromkeys(name for name, _ in cells):
        for method in (*METHODS, *learned.ROWS):
            means = [
                row["value"]
                for person in persons
                for row in cells[prior, person]["rows"]
                if (row["method"], row["structure"], row["metric"]) == (method, "mean", "dice")
            ]
            if not means:
                continue
            lines.append(f"| {prior} | {method} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
    return "\n".join(lines)


def read(path: Path) -> dict[str, Any]:
    """Return what was stored."""
    return json.loads(path.read_text())


def machine() -> str:
    """Return the processor, threads and versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    threads = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return f"{processor}, {threads}, Python {platform.python_version()}, torch {torch.__version__}"


def keep(path: Path, found: Callable[[], dict[str, object]]) -> None:
    """Compute a cell and store it, unless it is."""
    if not path.exists():
        content = json.dumps(found())
        path.write_text(content)


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """Return what a file holds, made first if it is missing."""
    if not path.exists():
        path.write_text(json.dumps(make()))
    return read(path)


def all_done(jobs: dict[str, Callable[[], object]], *, workers: int) -> None:
    """Do jobs in several processes, and tell of each that ends; one that fails ends all."""
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        names = {pool.submit(job): name for name, job in jobs.items()}
        for done in as_completed(names):
            done.result()
            print(names[done], flush=True)


def fill(priors: Sequence[str], *, data: Path, work: Path, workers: int) -> None:
    """Compute the cells that are missing, of stripped brains with each prior and of heads with the one that ships."""
    jobs: dict[str, Callable[[], object]] = {}
    for name in priors:
        folder = prior_folder(name, data=data, work=work)
        for person, (scan, reference, letters) in scans(data).items():
            job = partial(cell, folder, scan, reference=reference, orientation=letters, case=person)
            jobs[f"{name}, {person}"] = partial(keep, work / f"cell-{name}-{person}.json", job)
    for person in [*scans(data)][:5] if "shipped" in priors else []:
        brain = data / "brains" / person
        names = {"reference": brain / "aseg.mgz", "brain": brain / "brainmask.mgz"}
        job = partial(head_cell, brain / "T1.mgz", **names, case=person)
        jobs[f"head of {person}"] = partial(keep, work / f"cell-head-{person}.json", job)
    all_done(jobs, workers=workers)


def learn(titles: Sequence[str], priors: Sequence[str], *, data: Path, work: Path, workers: int) -> list[learned.Run]:
    """Finish the runs of the rows that learn, and return them."""
    people, runs = scans(data), []
    for name in priors:
        folder = prior_folder(name, data=data, work=work)
        wanted = [title for title in titles if learned.ROWS[title].wanted(name, weak=WEAK)]
        runs += [run for title in wanted for run in learned.runs(title, people, prior=folder, work=work)]
    left = [run for run in runs if not run.stored.exists()]
    prepare = partial(learned.prepare, people=people, work=work)
    pairs = [(prior, person) for prior in dict.fromkeys(run.prior for run in left) for person in people]
    all_done(
        {f"{prior.name}, {person} prepared": partial(prepare, prior, person) for prior, person in pairs},
        workers=workers,
    )
    all_done({run.folder.name: run.finish for run in left}, workers=workers)
    return runs


def main() -> None:
    """Fill the cells that are missing, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(".bench"), help="folder of priors and finished cells")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/brains.md"))
    parser.add_argument(
        "--learn", nargs="*", default=[], choices=[*learned.ROWS], help="rows to train, or to read if they are"
    )
    parser.add_argument("--priors", nargs="*", metavar="NAME", help="only these, such as good, shipped or map-01")
    parser.add_argument("--note", default="", help="what else is to be said of where cells were computed")
    parser.add_argument("--workers", type=int, default=1, help="processes; OMP_NUM_THREADS says how many threads each")
    arguments = parser.parse_args()
    rest = [part for part in sys.argv[1:] if part not in ("--note", arguments.note)]
    data, work = Path(os.environ["LIMNER_DATA"]), arguments.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    priors = {
        "one map, blurred 1.5 mm (mean of 3)": WEAK,
        "16 maps, affine, 1 mm": ["good affine"],
        "16 maps, 1 mm": ["good"],
        "shipped, 1.5 mm": ["shipped"],
    }
    if arguments.priors is not None:
        priors = {label: [name for name in names if name in arguments.priors] for label, names in priors.items()}
    names = [name for names in priors.values() for name in names]
    fill(names, data=data, work=work, workers=arguments.workers)
    persons = scans(data)
    cells = {(name, one): read(work / f"cell-{name}-{one}.json") for name in names for one in persons}
    for run in learn(arguments.learn, names, data=data, work=work, workers=arguments.workers):
        name = run.prior.name.removeprefix("prior-")
        for person, stored in read(run.stored).items():
            cells[name, person]["rows"] += [{**row, "method": run.title} for row in stored["rows"]]
    heads = {one: read(work / f"cell-head-{one}.json") for one in [*persons][:5]} if "shipped" in names else {}
    pairs = pair_text(cells, priors)
    differences = f"## Differences, case by case\n\n{pairs}\n\n" if pairs else ""
    raw = f"## Heads with their skull, the prior that ships\n\n{head_text(heads)}\n\n" if heads else ""
    text = f"""# Brains without labels: Dice and HD95

`LIMNER_DATA=FOLDER python benchmarks/brains.py {shlex.join(rest)}`, {dt.date.today()}, {machine()}.
{arguments.note}

Seven stripped T1 brains, FreeSurfer labels as reference (silver standard), left and right merged; priors from the 16
label maps of other people. Means over the persons with the standard error over persons (over persons and maps for the
weak prior). `argmax` is the prior alone where the mixture's alignment put it. "Affine" maps were not bent, and their
average does not bend. The weak prior's maps: {", ".join(WEAK)}. Person 7's file has no affine: its orientation was
given. SAE learns from the scans that it is scored on, as no label enters; "other half": half of the people teach, and
the others are scored.

## Dice

{table_text(cells, priors, metric="dice")}

## HD95 (mm)

{table_text(cells, priors, metric="hd95")}

{differences}{raw}{interval_text(cells, "shipped")}## Mean Dice by person

{person_text(cells, list(persons))}
"""
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
