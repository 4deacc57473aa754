"""Adapt a model that learned from clean sections, without labels, to degraded copies of them and to another tissue.

    python benchmarks/adapting.py MODEL                  copies of the medulla; half an hour of one core for 100 steps
    python benchmarks/adapting.py MODEL --flat MODEL2    and the sections of another species, by a flat model

MODEL learned from sections 0 to 125 of the medulla (`recipes/affinity.toml`), and its decoder was chosen on 125 to 145.
MODEL2 learned from the same sections as images of two dimensions:

    limner train recipes/affinity-membranes.toml -o flat    and, with N = 0 and 1, sections [0,125] and [125,145],
      --set data.volumes.N.image=medulla.hdf --set data.volumes.N.labels=medulla.hdf
      --set data.volumes.N.ids=instances --set data.volumes.N.zero=unknown --set data.volumes.N.sections=[0,125]

Whole copies are adapted to, as a user would, and sections 145 to 165 of them are scored. LIMNER_DATA names the folder
of data. What is done is kept under --work, so that a run that was stopped goes on; `--try` shows that it works.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from brains import machine
from numpy.typing import NDArray
from scipy import ndimage

from limner.evaluation import evaluate_instances
from limner.files import open_volume, save_volume
from limner.files.nanometres import placed
from limner.inference.neurons import segments, volume_affinities
from limner.inference.objects import affinity_method, decoder_of
from limner.instances import affinities_of, valid
from limner.methods.storage import load_model
from limner.space import Affinities, Box, Grid, Volume
from limner.training.transfer import adapt_volume

RESULTS = Path(__file__).parent / "results/adapting.md"
MEDULLA, MEMBRANES, INSIDE = "em_neurons/medulla.hdf", "em_membranes/raw.tif", "em_membranes/inside.tif"
TEST = (145, 165)
#: Edges of voxels, nm: of the medulla, of its coarser copy, and of the sections of another species.
FINE, COARSE, THICK = 10.0, 12.5, (50.0, 4.0, 4.0)
#: Voxels around a piece of a coarser copy that are looked at too.
AROUND = 24
COLUMNS = ("vi_split", "vi_merge", "vi", "adapted_rand_error", "auc")
DECODERS = "Decoders stay as they were chosen on the clean volume; `auc` is of affinities between direct neighbours."
Image = NDArray[np.float32]


def contrast(image: Image) -> Image:
    """Return an image in which the dark is spread and the bright pressed together, of a third of the contrast."""
    low, high = np.percentile(image, (0.1, 99.9))
    return 60 + 80 * np.clip((image - low) / (high - low), 0, 1) ** 0.4


def blurred(image: Image) -> Image:
    """Return an image out of focus, each section by a Gaussian of an sd of 1.5 voxels."""
    return ndimage.gaussian_filter(image, (0, 1.5, 1.5))


def noisy(image: Image) -> Image:
    """Return an image with normal noise of its own sd."""
    return image + np.random.default_rng(0).normal(0, image.std(), image.shape).astype(np.float32)


def everything(image: Image) -> Image:
    """Return an image with all of these, each a little weaker."""
    soft = ndimage.gaussian_filter(contrast(image), (0, 1, 1))
    return soft + np.random.default_rng(0).normal(0, 0.6 * soft.std(), image.shape).astype(np.float32)


COPIES: dict[str, Callable[[Image], Image]] = {
    "as it is": lambda image: image,
    "contrast": contrast,
    "blur": blurred,
    "noise": noisy,
    "contrast, blur and noise": everything,
}


def copies(data: Path, work: Path, *, small: bool) -> Iterator[tuple[str, Path, Volume]]:
    """Yield degraded copies of the medulla by name: the file, and the truth of the piece that is scored."""
    ids, raw = open_volume(data / MEDULLA, kind="instances"), open_volume(data / MEDULLA)
    part = Box((125 if small else 0, 0, 0), (TEST[1], *([64, 64] if small else raw.grid.shape[1:])))
    image, grid = raw.data[part.slices].astype(np.float32), raw.grid.cropped(part)
    piece = Box((TEST[0], *part.start[1:]), (TEST[1], *part.stop[1:]))
    truth = Volume(ids.data[piece.slices], raw.grid.cropped(piece), "instances")
    for name, way in COPIES.items():
        yield name, saved(work / f"{name}.zarr", way(image), grid), truth
    scale = FINE / COARSE
    coarse = ndimage.zoom(image, scale, order=1)
    spread = Grid(coarse.shape, placed([COARSE] * 3, grid.affine[:3, 3][::-1] * 1e6))
    first = round((TEST[0] - part.start[0]) * scale)
    labels = ndimage.zoom(ids.data[part.slices].astype(np.int64), scale, order=0).astype(np.uint64)
    cut = spread.cropped(Box((first, 0, 0), spread.shape))
    name = f"voxels of {COARSE:g} nm"
    yield name, saved(work / f"{name}.zarr", coarse, spread), Volume(labels[first:], cut, "instances")


def saved(path: Path, image: Image, grid: Grid) -> Path:
    """Write an image unless it is there, and return where."""
    if not path.exists():
        save_volume(Volume(np.asarray(image, np.float32), grid, "image"), path)
    return path


def scored(model: Path, *, volume: Path, truth: Volume, mirrored: bool) -> dict[str, float]:
    """Return the scores of the last sections of a volume, as many as the truth has."""
    method = affinity_method(load_model(model), mirrored=mirrored)
    count = open_volume(volume).data.shape[0]
    found = volume_affinities(method, volume, sections=(count - len(truth.data), count))
    labels = segments(found, decoder_of(method))
    rows = evaluate_instances(Volume(labels.data, truth.grid, "instances"), truth, case="piece").rows
    found_scores = {row["metric"]: row["value"] for row in rows if row["metric"] in COLUMNS}
    return {**found_scores, "auc": auc(found, truth.data)}


def auc(found: Affinities, ids: NDArray[Any]) -> float:
    """Return how often an edge inside of an object has a higher near affinity than one between two, decoders aside."""
    near = [channel for channel, offset in enumerate(found.offsets) if sum(map(abs, offset)) == 1]
    offsets = [found.offsets[channel] for channel in near]
    known, together = valid(ids > 0, offsets), affinities_of(ids, offsets)
    inside, between = (np.bincount(found.data[near][known & which], minlength=256) for which in (together, ~together))
    return float((inside * (np.cumsum(between) - between / 2)).sum() / (inside.sum() * between.sum()))


def membranes(data: Path, work: Path, *, small: bool) -> tuple[Path, NDArray[np.bool_]]:
    """Return sections of another species brought to the medulla's voxels, and where their membranes are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the files do not say their voxel size
        raw, inside = (open_volume(data / name).data for name in (MEMBRANES, INSIDE))
    raw, inside = (one[: 2 if small else None] for one in (raw, inside))
    scale = (1, *[THICK[1] / FINE] * 2)
    image = ndimage.zoom(ndimage.gaussian_filter(raw.astype(np.float32), (0, 1, 1)), scale, order=1)
    share = ndimage.zoom(ndimage.gaussian_filter((inside == 0).astype(np.float32), (0, 1, 1)), scale, order=1)
    path = saved(work / "membranes.zarr", image, Grid(image.shape, placed([THICK[0], FINE, FINE])))
    return path, share > 0.5


def membrane_dice(model: Path, *, volume: Path, truth: NDArray[np.bool_]) -> dict[str, float]:
    """Return the Dice of membranes where the lowest affinity of direct neighbours is below a half, and at its best."""
    found = volume_affinities(affinity_method(load_model(model)), volume)
    near = [channel for channel, offset in enumerate(found.offsets) if sum(map(abs, offset)) == 1]
    lowest = found.data[near].min(0) / 255
    lowest[:, 0], lowest[:, :, 0] = 1, 1  # without a partner
    dice = {limit: _dice(lowest < limit, truth) for limit in np.arange(0.05, 1, 0.05).round(2).tolist()}
    return {"dice": dice[0.5], "best_dice": max(dice.values())}


def _dice(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))


def kept(path: Path, found: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what was computed, now or before."""
    if not path.exists():
        began = time.perf_counter()
        row = found()
        path.write_text(json.dumps({**row, "seconds": time.perf_counter() - began}))
    content: dict[str, Any] = json.loads(path.read_text())
    print(path.stem, content, flush=True)
    return content


def compared(
    asked: argparse.Namespace, name: str, score: Callable[[Path], dict[str, float]], *, volume: Path, model: Path
) -> list[dict[str, Any]]:
    """Return the scores of a volume before, with its intensities matched, and after learning from it too."""
    like = None if "look" in load_model(model).provenance else Path(os.environ["LIMNER_DATA"]) / MEDULLA
    rows = [kept(asked.work / f"{name}, before.json", lambda: score(model))]
    for what, steps in (("matched", 0), ("adapted", asked.steps)):
        out = asked.work / f"{name}, {what}"
        given: dict[str, Any] = {"like": like, "steps": steps, "learning_rate": asked.rate, "progress": False}

        def changed(out: Path = out, given: dict[str, Any] = given) -> dict[str, Any]:
            told = adapt_volume(model, volume, out=out, **given)
            numbers = {
                "confident": told.confident,
                "agreement": told.agreement,
                "drift": told.drift,
                "alike": told.kept,
            }
            return {**score(out), **numbers}

        rows.append(kept(asked.work / f"{name}, {what}.json", changed))
    return [
        {"name": name, "what": what, **row} for what, row in zip(("before", "matched", "adapted"), rows, strict=True)
    ]


def table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> Iterator[str]:
    """Yield the lines of a table."""
    more = "sure of, before and after | alike if spoiled, before and after | drift | s"
    yield f"| volume | | {' | '.join(columns)} | {more} |"
    yield "|---|---|" + "---|" * (len(columns) + 4)
    for row in rows:
        numbers = " | ".join(f"{row[column]:.3f}" for column in columns)
        pairs = [" ".join(f"{value:.3f}" for value in row.get(key, ())) for key in ("confident", "agreement")]
        drift = f"{row['drift']:.1%}" if "drift" in row else ""
        yield f"| {row['name']} | {row['what']} | {numbers} | {' | '.join(pairs)} | {drift} | {row['seconds']:.0f} |"


def main() -> None:
    """Adapt, score, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="trained on clean sections of the medulla, and tuned")
    parser.add_argument("--flat", type=Path, help="the same, of two dimensions: for the sections of another species")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--work", type=Path, default=Path("limner-adapting"), help="where copies and results lie")
    parser.add_argument("--mirrored", action="store_true", help="score averages of eight views: eight times as long")
    parser.add_argument("--only", help="the one volume to adapt to, by its name in the table")
    parser.add_argument("--try", dest="small", action="store_true", help="small pieces")
    parser.add_argument("-o", "--out", type=Path, default=RESULTS, help="report to write")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    data, lines = Path(os.environ["LIMNER_DATA"]), []
    rows: list[dict[str, Any]] = []
    for name, volume, truth in copies(data, asked.work, small=asked.small):
        if asked.only in (None, name):
            score = partial(scored, volume=volume, truth=truth, mirrored=asked.mirrored)
            rows += compared(asked, name, score, volume=volume, model=asked.model)
    lines += [f"## The medulla, sections {TEST[0]} to {TEST[1]}; bits", "", *table(rows, COLUMNS), ""]
    if asked.flat:
        volume, there = membranes(data, asked.work, small=asked.small)
        rows = compared(
            asked, "membranes", partial(membrane_dice, volume=volume, truth=there), volume=volume, model=asked.flat
        )
        lines += ["## Membranes of another species, Dice", "", *table(rows, ("dice", "best_dice")), ""]
    told = f"Written by `benchmarks/adapting.py` on {dt.date.today()}: {machine()}. "
    told += f"{asked.steps} steps, rate {asked.rate:g}."
    head = ["# Adapting without labels", "", told, "", DECODERS, ""]
    asked.out.write_text("\n".join([*head, *lines]).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
