"""What shakes the mixture: large ventricles, the same person scanned again, thick slices, and the size of voxels.

    LIMNER_DATA=FOLDER python benchmarks/robustness.py

Every cell is stored as soon as it is computed, under --work, so that a run that was stopped goes on. The scans as they
are come from the cells of benchmarks/brains.py there, if it has been run.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from brains import STRUCTURES, kept, machine, scans
from scipy import ndimage

from limner.evaluation import evaluate
from limner.files import open_volume, save_volume
from limner.inference import segment_volume
from limner.priors.deformation import Warp, flow
from limner.space import Array, Grid, LabelTable, Volume, led, reoriented

TABLE = LabelTable.freesurfer()
VENTRICLES = (4, 43)
#: By how many mm the field moves the walls of the ventricles at most, and the sd in mm of what spreads it.
PUSH, SPREAD = 4.0, 6.0
#: The head of the second scan is turned about three axes (degrees) and moved (mm), and has noise of so much of the
#: brain's mean as sd.
TURNED, MOVED, NOISE = (8.0, -6.0, 10.0), (3.3, -4.6, 2.7), 0.03
#: Edges of voxels in mm at which time and memory are measured.
SPACINGS = (2.0, 1.5, 1.0, 0.8)
#: Runs a command from a small process: what a large one starts has its peak of memory from the beginning.
MEASURED = """
import json, resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=False)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"seconds": used.ru_utime + used.ru_stime, "memory": used.ru_maxrss * 1024 / 1e9}))
"""
#: Thickness of slices in mm.
THICK = 5.0


@dataclass(frozen=True, eq=False)
class Person:
    """A stripped scan and its reference, along RAS."""

    image: Volume
    labels: Volume

    @classmethod
    def read(cls, scan: Path, labels: Path, orientation: str | None) -> Person:
        """Open a person's files."""
        image, truth = open_volume(scan), open_volume(labels, kind="labels")
        grid = led(image.grid, orientation) if orientation else image.grid
        turned = [reoriented(replace(one, grid=grid, header=None), "RAS") for one in (image, truth)]
        return cls(replace(turned[0], data=turned[0].data.astype(np.float32)), turned[1])

    def sampled(self, places: Array, grid: Grid, *, order: int) -> Person:
        """Return the person on a grid, each voxel showing what lies at a place (3, *S), in voxels of the old one."""
        image = ndimage.map_coordinates(self.image.data, places, order=order)
        brain = ndimage.map_coordinates((self.image.data != 0).astype(np.uint8), places, order=0) > 0
        labels = ndimage.map_coordinates(self.labels.data, places, order=0)
        # What interpolation overshoots stays part of the brain.
        image = np.where(brain, np.maximum(image, 1e-3), 0).astype(np.float32)
        return Person(Volume(image, grid, "image"), Volume(labels, grid, "labels"))


def carried(matrix: Array, shape: tuple[int, ...]) -> Array:
    """Return where an affine map (4, 4) takes all voxels of a shape, (3, *S)."""
    return np.tensordot(matrix[:3, :3], np.indices(shape), 1) + matrix[:3, 3, None, None, None]


def enlarged(person: Person) -> Person:
    """Return a person whose lateral ventricles have grown by a smooth diffeomorphism."""
    grid = person.image.grid
    inside = np.isin(person.labels.data, VENTRICLES).astype(np.float32)
    spread = ndimage.gaussian_filter(inside, SPREAD / grid.voxel_sizes)
    away = -np.stack(np.gradient(spread))
    # The scan shows at each place what lay nearer to the ventricles before: the flow leads back.
    velocity = -PUSH / grid.voxel_sizes.mean() / np.linalg.norm(away, axis=0).max() * away
    warp = Warp(grid, flow(torch.from_numpy(velocity.astype(np.float32))))
    places = np.indices(grid.shape) + warp.displacement.numpy()
    return person.sampled(places, grid, order=1)


def scanned_again(person: Person) -> Person:
    """Return a person whose head was turned and moved, resliced, with new noise."""
    from scipy.spatial.transform import Rotation

    grid = person.image.grid
    centre = grid.world(np.argwhere(person.image.data != 0).mean(0))
    move = np.eye(4)
    move[:3, :3] = Rotation.from_euler("xyz", TURNED, degrees=True).as_matrix()
    move[:3, 3] = centre + np.array(MOVED) - move[:3, :3] @ centre
    back = np.linalg.inv(grid.affine) @ np.linalg.inv(move) @ grid.affine
    again = person.sampled(carried(back, grid.shape), grid, order=3)
    brain, rng = again.image.data > 0, np.random.default_rng(0)
    noise = rng.normal(0, NOISE * again.image.data[brain].mean(), again.image.data.shape)
    noisy = np.where(brain, np.maximum(again.image.data + noise, 1e-3), 0).astype(np.float32)
    return replace(again, image=replace(again.image, data=noisy))


def spaced(person: Person, spacing: float) -> Volume:
    """Return a person's scan with cubic voxels of another size."""
    grid = person.image.grid.spaced(spacing)
    matrix = np.linalg.inv(person.image.grid.affine) @ grid.affine
    return person.sampled(carried(matrix, grid.shape), grid, order=1).image


def thick(person: Person) -> Person:
    """Return a person in axial slices of 5 mm: intensities are the mean of what a slice covers, labels most of it."""
    count = round(THICK / person.image.grid.voxel_sizes[2])
    depth = person.image.data.shape[2] // count * count
    affine = person.image.grid.affine @ np.diag([1, 1, count, 1])
    affine[:3, 3] = person.image.grid.world([0, 0, (count - 1) / 2])
    cut = person.image.data[:, :, :depth], person.labels.data[:, :, :depth]
    image, labels = (data.reshape(*data.shape[:2], -1, count) for data in cut)
    brain = (image != 0).mean(-1) >= 0.5
    mean = image.sum(-1) / np.maximum((image != 0).sum(-1), 1)
    ids = np.unique(labels)
    most = ids[np.argmax([(labels == one).sum(-1) for one in ids], 0)]
    grid = Grid(mean.shape, affine)
    return Person(Volume(np.where(brain, np.maximum(mean, 1e-3), 0), grid, "image"), Volume(most, grid, "labels"))


def as_cubes(person: Person) -> Volume:
    """Return the labels of a thick scan that was made into cubes first, as one would who knows nothing better."""
    spacing = float(person.image.grid.voxel_sizes.min())
    cubes = segment_volume(spaced(person, spacing)).labels
    matrix = np.linalg.inv(cubes.grid.affine) @ person.image.grid.affine
    ids = ndimage.map_coordinates(cubes.data, carried(matrix, person.image.grid.shape), order=0)
    return Volume(ids, person.image.grid, "labels")


def cell(
    read: Callable[[], Person], shake: Callable[[Person], Person], *, case: str, cubes: bool = False
) -> dict[str, Any]:
    """Return a shaken person's scores and verdict with the prior that ships."""
    person = shake(read())
    if cubes:
        return {"rows": evaluate(as_cubes(person), person.labels, table=TABLE, case=case)}
    found = segment_volume(person.image)
    rows = evaluate(found.labels, person.labels, table=TABLE, case=case)
    return {"rows": rows, "verdict": found.quality.verdict, "reason": found.quality.reason}


def mixture_of(stored: Path) -> dict[str, Any]:
    """Return the scores of the mixture in a cell of benchmarks/brains.py."""
    return {"rows": [row for row in json.loads(stored.read_text())["rows"] if row["method"] == "mixture"]}


def cost(image: Volume, work: Path) -> dict[str, float]:
    """Return voxels in the mask, processor seconds and peak memory (GB) of `limner segment` for a scan."""
    scan = work / "robustness.nii.gz"
    save_volume(image, scan)
    command = [str(Path(sys.executable).parent / "limner"), "segment", str(scan), "-o", str(work / "robustness")]
    found = subprocess.run([sys.executable, "-c", MEASURED, *command], capture_output=True, check=True)
    return {"voxels": int(np.count_nonzero(image.data)), **json.loads(found.stdout)}


AS_IT_IS = "as it is"
#: What is done to a scan, and whether its labels are found by way of cubes.
SHAKEN: dict[str, tuple[Callable[[Person], Person], bool]] = {
    AS_IT_IS: (lambda person: person, False),
    "ventricles enlarged": (enlarged, False),
    "scanned again": (scanned_again, False),
    "slices of 5 mm": (thick, False),
    "slices of 5 mm, made into cubes": (thick, True),
}


def value(stored: dict[str, Any], structure: str, metric: str = "dice") -> float:
    """Return one score of a cell."""
    return next(row["value"] for row in stored["rows"] if (row["structure"], row["metric"]) == (structure, metric))


def shaken_text(cells: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Return a Markdown table of mean Dice, person by person, of scans as they are and shaken, with the verdicts."""
    persons = list(next(iter(cells.values())))
    lines = [f"| | mean | HD95 (mm) | {' | '.join(persons)} | pass, look, fail |", "|---" * (len(persons) + 4) + "|"]
    for title, found in cells.items():
        dice, distance = ([value(one, "mean", metric) for one in found.values()] for metric in ("dice", "hd95"))
        verdicts = [one.get("verdict") for one in found.values()]
        told = ", ".join(str(verdicts.count(kind)) for kind in ("pass", "look", "fail")) if all(verdicts) else ""
        shown = " | ".join(f"{value(found[person], 'mean'):.3f}" if person in found else "" for person in persons)
        lines.append(f"| {title} | {np.mean(dice):.3f} | {np.mean(distance):.2f} | {shown} | {told} |")
    return "\n".join(lines)


def changes(first: dict[str, Any], second: dict[str, Any]) -> list[float]:
    """Return by what share each structure's volume changed from one scan to the next."""
    return [value(second, name, "volume") / value(first, name, "volume") - 1 for name in STRUCTURES]


def volume_text(before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]) -> str:
    """Return a Markdown table of the volumes' changes, structure by structure."""
    found = np.array([changes(before[person], after[person]) for person in after])
    lines = ["| structure | mean change | mean size of it | largest |", "|---|---|---|---|"]
    for name, column in zip(STRUCTURES, found.T, strict=True):
        largest = column[np.abs(column).argmax()]
        lines.append(f"| {name} | {column.mean():+.1%} | {np.abs(column).mean():.1%} | {largest:+.1%} |")
    within = np.mean(np.abs(found) <= 0.03)
    return "\n".join(lines) + f"\n\nOf {found.size} volumes {within:.0%} change by at most 3 %."


def cost_text(cells: dict[float, dict[str, float]]) -> str:
    """Return a Markdown table of what voxels of some sizes cost."""
    lines = ["| mm | voxels of the brain | processor seconds | peak memory (GB) |", "|---|---|---|---|"]
    for spacing, found in cells.items():
        voxels, seconds, memory = found["voxels"] / 1e6, found["seconds"], found["memory"]
        lines.append(f"| {spacing:g} | {voxels:.2f} million | {seconds:.0f} | {memory:.2f} |")
    voxels = [found["voxels"] / 1e6 for found in cells.values()]
    for what, unit in (("seconds", "seconds"), ("memory", "GB")):
        slope, start = np.polyfit(voxels, [found[what] for found in cells.values()], 1)
        off = max(abs(start + slope * found["voxels"] / 1e6 - found[what]) / found[what] for found in cells.values())
        lines.append(f"\n{start:.3g} {unit} and {slope:.3g} more per million voxels describe them to {off:.0%}.")
    return "\n".join(lines)


def listed(values: tuple[float, ...]) -> str:
    """Return numbers in words."""
    return ", ".join(f"{value:g}" for value in values)


def main() -> None:
    """Fill the cells that are missing, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(".bench"), help="folder of finished cells")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/robustness.md"))
    parser.add_argument("--persons", nargs="*", metavar="NAME", help="make what is missing of these alone")
    arguments = parser.parse_args()
    data, work = Path(os.environ["LIMNER_DATA"]), arguments.work
    work.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    people = {name: partial(Person.read, *files) for name, files in scans(data).items()}
    wanted = people.keys() & (arguments.persons or people)
    cells: dict[str, dict[str, dict[str, Any]]] = {title: {} for title in SHAKEN}
    for title, (shake, cubes) in SHAKEN.items():
        for name, read in people.items():
            make = partial(cell, read, shake, case=name, cubes=cubes)
            shipped = work / f"cell-shipped-{name}.json"
            if title == AS_IT_IS and shipped.exists():
                make = partial(mixture_of, shipped)
            stored = work / f"robustness-{title}-{name}.json"
            if name not in wanted and not stored.exists():
                continue
            cells[title][name] = kept(stored, make)
            print(title, name, f"{value(cells[title][name], 'mean'):.3f}", flush=True)
    sizes = {}
    for spacing in SPACINGS:
        stored = work / f"robustness-{spacing:g}-mm.json"
        sizes[spacing] = kept(stored, lambda spacing=spacing: cost(spaced(people["person-1"](), spacing), work))
        print(sizes[spacing], flush=True)
    grown = [
        np.isin(enlarged(one).labels.data, VENTRICLES).sum() / np.isin(one.labels.data, VENTRICLES).sum()
        for one in (read() for read in people.values())
    ]
    text = f"""# What shakes the mixture

`LIMNER_DATA=FOLDER python benchmarks/robustness.py`, {dt.date.today()}, {machine()}.
The seven stripped T1 brains of [brains.md](brains.md), the prior that ships; mean Dice of the twelve structures.

- **Ventricles enlarged**: scan and reference warped by a smooth diffeomorphism that pushes the walls of the lateral
  ventricles outwards by up to {PUSH:g} mm; they become {min(grown):.1f} to {max(grown):.1f} times as large.
- **Scanned again**: the head turned by {listed(TURNED)} degrees and moved by {listed(MOVED)} mm,
  resliced (cubic splines), noise of {NOISE:.0%} of the brain's mean added; the reference resliced likewise.
- **Slices of 5 mm**: axial, means of what they cover; references are what fills most of a voxel. "Made into cubes": the
  same slices interpolated to the size of their pixels before they are segmented, and the labels brought back.

{shaken_text(cells)}

## Volumes, scanned again

{volume_text(cells[AS_IT_IS], cells["scanned again"])}

## Time and memory

`limner segment` on person 1, resampled; reading, writing and the report included.

{cost_text(sizes)}
"""
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
