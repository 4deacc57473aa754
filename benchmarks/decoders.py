"""Time the decoders and scores beside what can be installed, in one run on one machine, and compare the partitions.

Every way is run by a fresh process that loads its input, runs once to warm up on a corner of it, and then once for the
figures: seconds on the clock, seconds of all cores together, and peak memory beyond imports and input. Rivals take
turns over several rounds. Each partition is compared with that of the rival. They are installed by the extra `rivals`.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from cells import LONG, NEAREST, cells

from limner.evaluation import adapted_rand_error, shared, variation_of_information
from limner.instances import agglomerated, components, fragments, mutex_watershed, watershed
from limner.instances.affinities import edges
from limner.instances.climbing import distances
from limner.instances.flooding import interior, quantised

#: Thresholds: components, agglomeration by means, agglomeration by medians.
JOIN, MEAN, MEDIAN = 0.9, 0.7, 0.7
STRIDES = (1, 4, 4)
Inputs = dict[str, Any]


# --- the ways: each takes the inputs and returns labels, or scores


def cc3d_components(given: Inputs) -> Any:
    """Let cc3d connect voxels along the edges of a bit field, which has to be made first."""
    import cc3d

    values, shape = given["values"], given["values"].shape[1:]
    graph = np.zeros(shape, np.uint8)
    for axis, bit in enumerate((1, 4, 16)):
        joined = values[axis] > JOIN
        graph |= joined * np.uint8(2 * bit)
        ahead = np.zeros(shape, np.bool_)
        target, source = [slice(None)] * 3, [slice(None)] * 3
        target[axis], source[axis] = slice(None, -1), slice(1, None)
        ahead[tuple(target)] = joined[tuple(source)]
        graph |= ahead * np.uint8(bit)
    return cc3d.color_connectivity_graph(graph, connectivity=6)


def skimage_watershed(given: Inputs) -> Any:
    """Flood the same levels from the same seeds, in their order, which scikit-image keeps only if told by heights."""
    from skimage.segmentation import watershed as flood

    height, seeds = given["levels"].astype(np.float64), given["seeds"]
    places = np.flatnonzero(seeds)
    height.flat[places] = np.arange(len(places)) / len(places)
    return flood(height, seeds, mask=given["mask"])


def waterz_merged(given: Inputs, scoring: str, threshold: float) -> Any:
    """Merge given fragments with waterz, whose scores are 1 minus affinities."""
    import waterz

    pieces = given["fragments"].astype(np.uint64)
    return next(iter(waterz.agglomerate(given["values"], [1 - threshold], fragments=pieces, scoring_function=scoring)))


def waterz_mean(given: Inputs) -> Any:
    """Merge by mean affinity."""
    return waterz_merged(given, "OneMinus<MeanAffinity<RegionGraphType, ScoreValue>>", MEAN)


def waterz_median(given: Inputs) -> Any:
    """Merge by the median of 256 steps, of all affinities rather than of the highest of each pair to begin with."""
    kind = "OneMinus<HistogramQuantileAffinity<RegionGraphType, 50, ScoreValue, 256, false>>"
    return waterz_merged(given, kind, MEDIAN)


def mwatershed_mutex(given: Inputs, strides: tuple[int, int, int] = (1, 1, 1)) -> Any:
    """Give mwatershed positive affinities of neighbours and negative ones of the others, in float64 as it wants."""
    import mwatershed

    signed = given["values"].astype(np.float64)
    signed[3:] -= 1
    steps = [[1, 1, 1]] * 3 + [list(strides)] * len(LONG)
    return mwatershed.agglom(signed, [list(offset) for offset in NEAREST + LONG], strides=steps)


def skimage_scores(given: Inputs) -> Any:
    """Score with scikit-image."""
    from skimage.metrics import adapted_rand_error as rand
    from skimage.metrics import variation_of_information as information

    truth, segments = given["truth"], given["segments"]
    return np.array([*information(truth, segments), rand(truth, segments)[0]])


def our_scores(given: Inputs) -> Any:
    """Score with one table."""
    table = shared(given["segments"], given["truth"])
    return np.array([*variation_of_information(table), adapted_rand_error(table)])


def nearest(call: Callable[..., Any], **options: Any) -> Callable[[Inputs], Any]:
    """Return a way that decodes the affinities of direct neighbours on a number of cores."""
    return lambda given: call(given["values"], NEAREST, **options)


def merged(**options: Any) -> Callable[[Inputs], Any]:
    """Return a way that merges given fragments."""
    return lambda given: agglomerated(given["values"], NEAREST, fragments=given["fragments"], **options)


def mutex(**options: Any) -> Callable[[Inputs], Any]:
    """Return a way that decodes all affinities."""
    return lambda given: mutex_watershed(given["values"], NEAREST + LONG, **options)


#: Step: its input; for each way whether its affinities are bytes, and the way. The first is compared with the others.
STEPS: dict[str, tuple[str, dict[str, tuple[bool, Callable[[Inputs], Any]]]]] = {
    "components": (
        "near",
        {
            "limner, 1 thread": (False, nearest(components, threshold=JOIN, threads=1)),
            "limner, 2 threads": (False, nearest(components, threshold=JOIN, threads=2)),
            "limner, bytes, 1 thread": (True, nearest(components, threshold=JOIN, threads=1)),
            "cc3d": (False, cc3d_components),
        },
    ),
    "flooding from given seeds": (
        "near",
        {
            "limner": (False, lambda given: watershed(given["levels"], given["seeds"], mask=given["mask"])),
            "scikit-image": (False, skimage_watershed),
        },
    ),
    "affinities to fragments": (
        "near",
        {
            "limner, 1 thread": (False, nearest(fragments, threads=1)),
            "limner, 2 threads": (False, nearest(fragments, threads=2)),
            "limner, bytes, 1 thread": (True, nearest(fragments, threads=1)),
            "limner, by sections, 2 threads": (False, nearest(fragments, sections=True, threads=2)),
        },
    ),
    "agglomeration by means": (
        "near",
        {
            "limner, 1 thread": (False, merged(threshold=MEAN, threads=1)),
            "limner, 2 threads": (False, merged(threshold=MEAN, threads=2)),
            "limner, bytes, 1 thread": (True, merged(threshold=MEAN, threads=1)),
            "waterz": (False, waterz_mean),
        },
    ),
    "agglomeration by medians": (
        "near",
        {
            "limner, 1 thread": (False, merged(threshold=MEDIAN, quantile=0.5, threads=1)),
            "waterz": (False, waterz_median),
        },
    ),
    "mutex watershed, all edges": (
        "long",
        {
            "limner, 1 thread": (False, mutex(threads=1)),
            "limner, 2 threads": (False, mutex(threads=2)),
            "limner, bytes": (True, mutex()),
            "mwatershed": (False, mwatershed_mutex),
        },
    ),
    "mutex watershed, strides (1, 4, 4)": (
        "long",
        {
            "limner, 1 thread": (False, mutex(strides=STRIDES, threads=1)),
            "limner, bytes": (True, mutex(strides=STRIDES)),
            "mwatershed": (False, lambda given: mwatershed_mutex(given, STRIDES)),
        },
    ),
    "VI and Rand, many segments": (
        "scores",
        {"limner": (False, our_scores), "scikit-image": (False, skimage_scores)},
    ),
}


# --- one way, in a process of its own


def measured(folder: Path, step: str, way: str) -> dict[str, Any]:
    """Return seconds, seconds of all cores, and bytes beyond the input; the result is left in the folder."""
    source, ways = STEPS[step]
    as_bytes, call = ways[way]
    with np.load(folder / f"{source}.npz") as stored:
        given = {name: stored[name] for name in stored.files}
    if as_bytes:
        given["values"] = np.rint(given["values"] * 255).astype(np.uint8)
    corner = {name: np.ascontiguousarray(array[..., :32, :32, :32]) for name, array in given.items()}
    call(corner)
    # The kernel's record of the highest so far is set back to what is there now.
    Path("/proc/self/clear_refs").write_text("5")
    before = highest_bytes()
    clock, cores = time.perf_counter(), time.process_time()
    result = call(given)
    found = {"seconds": time.perf_counter() - clock, "core_seconds": time.process_time() - cores}
    found["bytes"] = highest_bytes() - before
    np.save(folder / f"{_file(step, way)}.npy", result)
    return found


def highest_bytes() -> int:
    """Return the most memory this process has had since the record was set back."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def _file(step: str, way: str) -> str:
    """Return a name for a result."""
    return "".join(sign if sign.isalnum() else "-" for sign in f"{step}-{way}")


# --- all of them


def prepare(folder: Path, size: int, long_size: int) -> dict[str, int]:
    """Write the inputs; return the voxels of each."""
    made = cells(size)
    graph = edges(made.values, NEAREST)
    mask = interior(graph) > 128
    levels = 255 - quantised(np.sqrt(distances(mask, [1, 1, 1])))
    pieces = fragments(made.values, NEAREST)
    # One seed at each fragment's deepest voxel.
    order = np.lexsort((levels.reshape(-1), pieces.reshape(-1)))
    firsts = order[np.flatnonzero(np.diff(pieces.reshape(-1)[order], prepend=0))]
    seeds = np.zeros(pieces.size, np.int32)
    seeds[firsts] = np.arange(1, len(firsts) + 1)
    np.savez(
        folder / "near.npz",
        values=made.values,
        # Level 0 is that of the seeds alone: they go first, in the order in which they are stored.
        levels=np.where(seeds.reshape(pieces.shape) > 0, 0, np.clip(levels, 1, 254)).astype(np.uint8),
        mask=mask,
        seeds=seeds.reshape(pieces.shape),
        fragments=pieces,
    )
    many = components(made.values, NEAREST, threshold=0.95)
    np.savez(folder / "scores.npz", truth=made.labels.astype(np.uint64), segments=many.astype(np.uint64))
    np.savez(folder / "long.npz", values=cells(long_size, offsets=NEAREST + LONG).values)
    typer.echo(f"{pieces.max()} fragments, {many.max()} segments to score", err=True)
    return {"near": size**3, "scores": size**3, "long": long_size**3}


def table(folder: Path, step: str, runs: dict[str, list[dict[str, Any]]], *, voxels: int) -> list[str]:
    """Return the lines of a step's table."""
    first = np.load(folder / f"{_file(step, next(iter(runs)))}.npy")
    lines = ["", f"### {step}, {round(voxels ** (1 / 3))}^3", ""]
    lines += [
        "| way | s | core s | Mvoxel/s per core | bytes/voxel beyond input | against the first |",
        "|---|---|---|---|---|---|",
    ]
    for way, found in runs.items():
        clock, cores = (statistics.median(run[key] for run in found) for key in ("seconds", "core_seconds"))
        memory = statistics.median(run["bytes"] for run in found) / voxels
        told = agreement(first, np.load(folder / f"{_file(step, way)}.npy"))
        lines.append(f"| {way} | {clock:.2f} | {cores:.2f} | {voxels / cores / 1e6:.2f} | {memory:.1f} | {told} |")
    return lines


def agreement(first: Any, other: Any) -> str:
    """Return how far two results differ, in words."""
    if first.ndim == 1:
        return ", ".join(f"{value:.5f}" for value in other)
    split, merge = variation_of_information(shared(other.astype(np.uint64) + 1, first.astype(np.uint64) + 1))
    return f"VI {split:.4g} + {merge:.4g}, {len(np.unique(other))} segments"


def main(
    out: Annotated[Path, typer.Option(help="Report to write.")] = Path("benchmarks/results/decoders.md"),
    size: Annotated[int, typer.Option(help="Voxels along an axis.")] = 256,
    long_size: Annotated[int, typer.Option(help="Likewise for mutex watersheds.")] = 128,
    rounds: Annotated[int, typer.Option(help="Runs of each way.")] = 3,
    only: Annotated[str, typer.Option(help="Measure this one way in FOLDER, for the process itself.")] = "",
) -> None:
    """Write a report of decoders beside their rivals."""
    if only:
        folder, step, way, target = json.loads(only)
        Path(target).write_text(json.dumps(measured(Path(folder), step, way)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        voxels = prepare(folder, size, long_size)
        runs: dict[str, dict[str, list[dict[str, Any]]]] = {step: {way: [] for way in STEPS[step][1]} for step in STEPS}
        for _ in range(rounds):
            for step, ways in runs.items():
                for way, found in ways.items():
                    found.append(_elsewhere(folder, step, way))
        lines = heading(size, rounds)
        for step, ways in runs.items():
            lines += table(folder, step, ways, voxels=voxels[STEPS[step][0]])
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    typer.echo(out.read_text(encoding="utf-8"))


def _elsewhere(folder: Path, step: str, way: str) -> dict[str, Any]:
    """Return what a process of its own measured; what libraries print is not looked at."""
    target = folder / "run.json"
    program = [sys.executable, __file__, "--only", json.dumps([str(folder), step, way, str(target)])]
    subprocess.run(program, check=True, stdout=subprocess.DEVNULL)
    typer.echo(f"{step}: {way} {target.read_text()}", err=True)
    found: dict[str, Any] = json.loads(target.read_text())
    return found


def heading(size: int, rounds: int) -> list[str]:
    """Return what was measured, where and when."""
    from importlib.metadata import version

    names = ("numba", "connected-components-3d", "scikit-image", "waterz", "mwatershed")
    model = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    return [
        "# Decoders and scores beside what can be installed",
        "",
        f"`python benchmarks/decoders.py --size {size} --rounds {rounds}` on {dt.date.today()}: {os.cpu_count()} cores "
        f"({model.partition(': ')[2]}), Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in names)
        + f". Load when it ended: {os.getloadavg()[0]:.1f}.",
    ]


if __name__ == "__main__":
    typer.run(main)
