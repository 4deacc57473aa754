"""How often the verdict catches scans that were spoiled on purpose, and how often good ones.

    LIMNER_DATA=FOLDER python benchmarks/verdict.py

Every scan's measures are stored as soon as they are known, under --work, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from brains import kept, machine, scans
from scipy import ndimage

from limner.check import InputError
from limner.data.scan import prepared
from limner.files import open_volume
from limner.inference.quality import RANGES, Quality, quality
from limner.methods.placement import place_scan
from limner.priors.storage import SHIPPED, load_prior
from limner.space import Volume, reoriented

#: Whose scans are spoiled.
SPOILED = ("person-1", "person-4", "person-6")


def half(axis: int, *, upper: bool) -> Callable[[Volume], Volume]:
    """Return what leaves one half of the brain along an axis of the world."""

    def spoil(image: Volume) -> Volume:
        inside = np.flatnonzero((image.data != 0).any(tuple({0, 1, 2} - {axis})))
        middle, gone = int(inside.mean()), [slice(None)] * 3
        gone[axis] = slice(0, middle) if upper else slice(middle, None)
        data = image.data.copy()
        data[tuple(gone)] = 0
        return replace(image, data=data)

    return spoil


def blurred(image: Volume) -> Volume:
    """Return the image with a Gaussian blur of 4 mm sd."""
    smooth = ndimage.gaussian_filter(image.data, 4 / image.grid.voxel_sizes)
    return replace(image, data=np.where(image.data != 0, np.maximum(smooth, 1e-3), 0))


def noisy(image: Volume) -> Volume:
    """Return the image with Rician noise of as much sd as the brain has."""
    inside, rng = image.data != 0, np.random.default_rng(0)
    sd = image.data[inside].std()
    real, imaginary = rng.normal(0, sd, (2, *image.data.shape))
    return replace(image, data=np.where(inside, np.hypot(image.data + real, imaginary), 0).astype(np.float32))


def nothing(image: Volume) -> Volume:
    """Return noise in the brain's place."""
    noise = np.random.default_rng(0).normal(100, 20, image.data.shape).astype(np.float32)
    return replace(image, data=np.where(image.data != 0, np.abs(noise) + 1, 0))


def cut_off(image: Volume) -> Volume:
    """Return the image with a quarter of the brain as bright as it can be."""
    return replace(image, data=np.minimum(image.data, np.quantile(image.data[image.data != 0], 0.75)))


def flipped(axis: int) -> Callable[[Volume], Volume]:
    """Return what a header makes of a scan whose axis it has the wrong way round."""
    return lambda image: replace(image, data=np.ascontiguousarray(np.flip(image.data, axis)))


SPOILS = {
    "lower half gone": half(2, upper=True),
    "upper half gone": half(2, upper=False),
    "left half gone": half(0, upper=True),
    "front half gone": half(1, upper=False),
    "blurred by 4 mm": blurred,
    "noise of the brain's own sd": noisy,
    "all noise": nothing,
    "brightest quarter cut off": cut_off,
    "upside down": flipped(2),
    "left and right swapped": flipped(0),
}


def good(data: Path) -> dict[str, Volume]:
    """Return the scans that are as they should be, along RAS."""
    found = {}
    for person, (scan, _, letters) in scans(data).items():
        volume = open_volume(scan)
        if letters:
            volume = replace(volume, grid=prepared(volume, orientation=letters).believed)
        found[person] = volume
    for patient in ("patient-1", "patient-2"):
        for contrast in ("t1", "t2", "flair"):
            found[f"{patient}, {contrast}"] = open_volume(data / "flair_ms" / patient / f"{contrast}.nii.gz")
    return {
        name: reoriented(replace(volume, data=volume.data.astype(np.float32), header=None), "RAS")
        for name, volume in found.items()
    }


def organs(data: Path) -> dict[str, Volume]:
    """Return scans of something else: hippocampi alone, cut to where they are bright."""
    found = {}
    for path in sorted((data / "hippocampus" / "images").glob("*.nii*"))[:4]:
        volume = reoriented(open_volume(path), "RAS")
        bright = volume.data > np.median(volume.data)
        empty = np.pad(np.where(bright, volume.data, 0).astype(np.float32), 4)
        found[path.name.split(".")[0]] = Volume(empty, replace(volume.grid, shape=empty.shape), "image")
    return found


def measured(image: Volume) -> dict[str, Any]:
    """Return a scan's measures, or why it was refused."""
    atlas = load_prior(SHIPPED)
    try:
        scan = prepared(image)
        placement = place_scan(
            scan.image, scan.mask, grid=scan.grid, atlas=atlas, rng=np.random.default_rng(0), oriented=True
        )
        return asdict(quality(scan, placement, atlas=atlas))
    except InputError as error:
        return {"refused": str(error)}


def line(name: str, found: dict[str, Any]) -> str:
    """Return a scan's row."""
    if "refused" in found:
        return f"| {name} | refused |" + " |" * len(RANGES)
    values = " | ".join(f"{found[measure]:.3f}" for measure in RANGES)
    return f"| {name} | {Quality(**found).verdict} | {values} |"


def rate(cells: dict[str, dict[str, Any]], verdicts: set[str]) -> str:
    """Return how many of the scans have one of the verdicts; what was refused has failed."""
    given = [Quality(**found).verdict if "refused" not in found else "fail" for found in cells.values()]
    return f"{sum(one in verdicts for one in given)} of {len(given)}"


def main() -> None:
    """Measure what is missing, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(".bench"))
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/verdict.md"))
    arguments = parser.parse_args()
    data, work = Path(os.environ["LIMNER_DATA"]), arguments.work
    work.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    groups: dict[str, dict[str, Volume]] = {"good": good(data)}
    for title, spoil in SPOILS.items():
        groups[title] = {person: spoil(groups["good"][person]) for person in SPOILED}
    groups["another organ"] = organs(data)
    cells: dict[str, dict[str, dict[str, Any]]] = {title: {} for title in groups}
    for title, images in groups.items():
        for name, image in images.items():
            cells[title][name] = kept(work / f"verdict-{title}-{name}.json", partial(measured, image))
            print(line(f"{title}, {name}", cells[title][name]), flush=True)
    rates = "\n".join(
        f"| {title} | {rate(found, {'fail'})} | {rate(found, {'fail', 'look'})} |" for title, found in cells.items()
    )
    head = (
        "| scan | verdict | "
        + " | ".join(name.replace("_", " ") for name in RANGES)
        + " |\n|"
        + "---|" * (2 + len(RANGES))
    )
    rows = "\n".join(line(f"{title}, {name}", one) for title, found in cells.items() for name, one in found.items())
    text = f"""# The verdict: good scans, and scans spoiled on purpose

`LIMNER_DATA=FOLDER python benchmarks/verdict.py`, {dt.date.today()}, {machine()}.
Seven stripped T1 brains, two patients with T1, T2 and FLAIR; three of the T1 scans spoiled; the prior that ships. The
limits were set on some of these scans (docs/design/0008).

| | fail or refused | fail, refused or look |
|---|---|---|
{rates}

{head}
{rows}
"""
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(text)


if __name__ == "__main__":
    main()
