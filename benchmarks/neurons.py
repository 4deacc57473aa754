"""Segment held-out electron microscopy with what `affinities.py` predicted, and with what needs no network.

All settings are chosen on one piece by the sum of both variations of information, and scored on others. Rows that stand
in the table of cells are not computed again.
"""

from __future__ import annotations

import itertools
import json
import os
import tarfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import scipy.ndimage
import typer
from affinities import CHOICE, EVERY, PLAIN, TEST, unpacked
from numpy.typing import NDArray

from limner.evaluation import INSTANCE_METRICS, evaluate_instances, shared, variation_of_information
from limner.files import open_volume
from limner.inference.tuning import best_of_each, tried
from limner.instances import ends, nearest
from limner.instances.decoding import Decoder, decoded
from limner.space import Affinities, Array, Box, Volume

COLUMNS = ("vi_split", "vi_merge", "vi", "adapted_rand_error", "cremi_score", "largest_segment")
TOLERANCE = 25
NEAR = 3
Row = dict[str, Any]


def truths(data: Path) -> dict[str, Volume]:
    """Return the instances of each piece."""
    medulla = open_volume(data / "medulla.hdf", kind="instances")
    found = {"crop": open_volume(data / "crop.hdf", kind="instances")}
    for name, sections in (("choice", CHOICE), ("test", TEST), ("damaged", TEST)):
        box = Box((sections[0], 0, 0), (sections[1], *medulla.grid.shape[1:]))
        found[name] = Volume(medulla.data[box.slices], medulla.grid.cropped(box), "instances")
    return found


def intensity(data: Path) -> Iterator[tuple[str, Affinities]]:
    """Yield for each piece of the medulla the ranks of smoothed intensities as affinities: membranes are dark."""
    image = open_volume(data / "medulla.hdf")
    for name, sections in (("choice", CHOICE), ("test", TEST)):
        box = Box((sections[0], 0, 0), (sections[1], *image.grid.shape[1:]))
        smooth = scipy.ndimage.gaussian_filter(image.data[box.slices], 1.0)
        ranks = np.searchsorted(np.sort(smooth, axis=None), smooth) / smooth.size
        values = np.zeros((3, *smooth.shape), np.float32)
        for channel, offset in zip(values, nearest(3), strict=True):
            here, there = ends(offset, smooth.shape)
            channel[here] = np.minimum(ranks[here], ranks[there])
        yield name, Affinities(values, nearest(3), image.grid.cropped(box))


def packed(folder: Path, truth: dict[str, Volume]) -> Iterator[tuple[str, Affinities]]:
    """Yield the affinities of each piece that a folder of the packages holds; far ones where they fitted into it."""
    offsets = json.loads((folder / "offsets.json").read_text())
    for name, volume in truth.items():
        if not (folder / f"{name}.near.xz").exists():
            continue
        values, steps = unpacked((folder / f"{name}.near.xz").read_bytes()), offsets[:NEAR]
        far = folder / f"{name}.far.xz"
        if far.exists():
            values, steps = np.concatenate([values, unpacked(far.read_bytes())]), [*steps, *offsets[6:9]]
        yield name, Affinities(values, tuple(map(tuple, steps)), volume.grid)


def scored(labels: Array, truth: Volume) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield the scores of labels (*S), in which what is 0 counts as one segment, for each tolerance in nm."""
    prediction = Volume(labels.astype(np.uint64), truth.grid, "instances")
    for tolerance in (0, TOLERANCE):
        rows = evaluate_instances(prediction, truth, case="piece", tolerance=tolerance).rows
        yield tolerance, {row["metric"]: row["value"] for row in rows}


def public_fragments(values: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Return the fragments that scipy and scikit-image make of affinities (3, Z, Y, X), as is usual."""
    from skimage.feature import peak_local_max
    from skimage.segmentation import watershed

    inside = values.mean(0)
    distance = scipy.ndimage.distance_transform_edt(inside > 0.5)
    places = peak_local_max(scipy.ndimage.gaussian_filter(distance, 1), min_distance=4, exclude_border=False)
    seeds = np.zeros(inside.shape, np.int32)
    seeds[tuple(places.T)] = np.arange(1, len(places) + 1)
    return watershed(-distance, seeds).astype(np.uint64)


def waterz_mean(affinities: Affinities, thresholds: list[float]) -> Iterator[Array]:
    """Yield what waterz makes of affinities with mean affinity at each threshold; nothing without it."""
    try:
        import waterz
    except ImportError:
        return
    values = np.ascontiguousarray(affinities.data[:NEAR], np.float32) / np.float32(255)
    pieces = public_fragments(values)
    scoring = "OneMinus<MeanAffinity<RegionGraphType, ScoreValue>>"
    costs = [1 - threshold for threshold in sorted(thresholds, reverse=True)]
    for labels in waterz.agglomerate(values, costs, fragments=pieces, scoring_function=scoring):
        yield np.array(labels)


def plain_rows(pieces: dict[str, Affinities], truth: dict[str, Volume]) -> Iterator[Row]:
    """Yield the rows of the plain pipeline: its threshold is chosen, and nothing else."""
    thresholds = np.arange(0.1, 1, 0.1).round(2).tolist()[::-1]
    costs = [
        (sum(variation_of_information(shared(labels, truth["choice"].data))), threshold)
        for labels, threshold in zip(waterz_mean(pieces["choice"], thresholds), thresholds, strict=False)
    ]
    for name in pieces.keys() - {"choice"} if costs else ():
        (labels,) = waterz_mean(pieces[name], [min(costs)[1]])
        told = f"scikit-image's watershed, threshold {min(costs)[1]}"
        yield from _rows(labels, truth[name], piece=name, decoder="waterz, mean", told=told)


def tuned_rows(pieces: dict[str, Affinities], truth: dict[str, Volume]) -> Iterator[Row]:
    """Yield for every piece but that of the choice the rows of each decoder with the settings chosen there."""
    trials = list(
        tried(pieces["choice"], truth["choice"], case="choice", tell=lambda words: typer.echo(words, err=True))
    )
    half = Decoder(kind="components", threshold=0.5, smallest=50)
    chosen = [*((trial.decoder, False) for trial in best_of_each(trials)), (half, True)]
    for (decoder, fixed), name in itertools.product(chosen, sorted(pieces.keys() - {"choice"})):
        values = pieces[name]
        if decoder.kind == "mutex" and len(values.offsets) == NEAR:
            continue
        told = decoder.model_dump(exclude_defaults=True, exclude={"kind"})
        words = ", ".join(f"{key} {value}" for key, value in told.items())
        kind = f"{decoder.kind}, T 0.5" if fixed else decoder.kind
        labels = decoded(values.data, values.offsets, by=decoder)
        yield from _rows(labels, truth[name], piece=name, decoder=kind, told=words)


def network_rows(network: str, folder: Path, data: Path) -> list[Row]:
    """Return all rows of a network in the folder of the packages, or of intensity alone."""
    truth = truths(data)
    pieces = dict(intensity(data) if network == "intensity" else packed(folder / network, truth))
    ways = (plain_rows, tuned_rows) if network == PLAIN else (tuned_rows,)
    return [{"network": network, **row} for made in ways for row in made(pieces, truth)]


def _rows(labels: Array, truth: Volume, *, piece: str, decoder: str, told: str) -> Iterator[Row]:
    for tolerance, scores in scored(labels, truth):
        numbers = {column: round(scores[column], 4) for column in COLUMNS}
        yield {"piece": piece, "decoder": decoder, "nm": tolerance, **numbers, "settings": told}


def table(rows: list[Row]) -> Iterator[str]:
    """Yield the lines of a table of rows."""
    names = [f"{name} {INSTANCE_METRICS[name]}".strip() for name in COLUMNS]
    yield f"| network | decoder | nm | {' | '.join(names)} | settings |"
    yield "|---|---|---|" + "---|" * (len(COLUMNS) + 1)
    for row in rows:
        numbers = " | ".join(f"{row[column]:.3f}" for column in COLUMNS)
        yield f"| {row['network']} | {row['decoder']} | {row['nm']} | {numbers} | {row['settings']} |"


def largest(truth: Volume) -> float:
    """Return the share that the largest object has of the voxels that count."""
    counted = truth.data[truth.data > 0]
    return float(np.unique(counted, return_counts=True)[1].max() / counted.size)


TITLES = {
    "test": f"Sections {TEST[0]} to {TEST[1]} of the medulla",
    "crop": "`crop.hdf`, of which nothing was learned and nothing chosen",
    "damaged": f"The same test piece, one section in {EVERY} blurred or darkened",
}


def write(out: Path, rows: list[Row], *, truth: dict[str, Volume], told: str) -> None:
    """Write the report."""
    lines = ["# Neurons", "", told, ""]
    for piece, title in TITLES.items():
        lines += [f"## {title}", "", *table([row for row in rows if row["piece"] == piece]), ""]
        lines += [f"The largest true object has {largest(truth[piece]):.3f} of what counts.", ""]
    out.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def main(
    packages: Annotated[
        list[Path] | None, typer.Argument(help="What `affinities.py` packed; none for intensity alone.")
    ] = None,
    cells: Annotated[Path, typer.Option(help="Rows that are computed already.")] = Path("neurons-cells.json"),
    out: Annotated[Path, typer.Option(help="Report to write.")] = Path("benchmarks/results/neurons.md"),
    workers: Annotated[int, typer.Option(help="Networks that are looked at side by side.")] = 1,
    told: Annotated[str, typer.Option(help="What the report is to say of how networks were trained.")] = "",
) -> None:
    """Write the tables; LIMNER_DATA names the folder of data."""
    data = Path(os.environ["LIMNER_DATA"]) / "em_neurons"
    truth = truths(data)
    rows: list[Row] = json.loads(cells.read_text()) if cells.exists() else []
    folder = cells.with_suffix("")
    for package in packages or []:
        with tarfile.open(package) as content:
            content.extractall(folder, filter="data")
    networks = sorted(path.name for path in folder.iterdir()) if packages else []
    left = [name for name in [*networks, "intensity"] if not any(row["network"] == name for row in rows)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for found in pool.map(network_rows, left, itertools.repeat(folder), itertools.repeat(data)):
            rows += found
            cells.write_text(json.dumps(rows, indent=1))
    write(out, rows, truth=truth, told=told)


if __name__ == "__main__":
    typer.run(main)
