"""Watershed and agglomeration by blocks beside the whole at once: labels, seconds, memory, and the graph of the whole.

    python benchmarks/agglomeration.py AFFINITIES.zarr           a store that `limner segment -o FOLDER` kept; minutes
    python benchmarks/agglomeration.py AFFINITIES.zarr --try     print it instead of writing results/agglomeration.md

Every run is in a process of its own; blocks are also done by two workers. Seconds are those of cores, loading included,
so that they may be read on a crowded machine. The graph is measured on one that is made up, as large as `--edges`,
since that of a small volume takes no memory that could be seen. With `--truth FILE`, of true neurons, the mutex
watershed of blocks is compared with that of the whole, and both with the truth.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from brains import machine

from blocks import Peak, fingerprint
from limner.blocks import segment_blocks
from limner.cluster import Executor, Processes, Serial
from limner.evaluation import partition
from limner.files import open_volume, save_volume
from limner.files.affinities import open_affinities
from limner.instances import RegionGraph, assembled, merges, region_graph
from limner.instances.decoding import Decoder, decoded, oversegmented
from limner.space import Volume

RESULTS = Path(__file__).parent / "results/agglomeration.md"
BLOCKS, WORKERS = (64, 128, 256), 2
KINDS = {
    "mean": Decoder(kind="mean", membrane=0.7, threshold=0.5),
    "quantile": Decoder(kind="quantile", membrane=0.7, threshold=0.6),
}
MUTEX, OVERLAPPED = Decoder(kind="mutex", strides=(4, 4, 4)), (64, 96, 128)


def at_once(source: Path, out: Path, by: Decoder) -> dict[str, Any]:
    """Decode the whole at once, from store to store."""
    affinities = open_affinities(source)
    labels = decoded(affinities.data, affinities.offsets, by=by, threads=1)
    save_volume(Volume(labels.astype(np.uint64), affinities.grid, "instances"), out)
    took = spent()
    return {"seconds": took, "hash": hashlib.sha256(labels.astype(np.uint64).tobytes()).hexdigest(), "peak": peak()}


def by_blocks(source: Path, out: Path, by: Decoder, *, block: int, executor: Executor) -> dict[str, Any]:
    """Decode by blocks."""
    looked = Peak()
    count = segment_blocks(source, out, by=by, block=block, executor=executor, progress=looked)
    took = spent()
    return {"seconds": took, "segments": count, "hash": fingerprint(out), "peak": looked.highest or peak()}


def spent() -> float:
    """Return the seconds of cores that this process and its workers have taken, loading included."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def peak() -> float:
    """Return the most memory that this process has taken, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def counted(source: Path, by: Decoder) -> dict[str, Any]:
    """Return how many fragments and edges a volume has for a megavoxel."""
    affinities = open_affinities(source)
    pieces = oversegmented(affinities.data, affinities.offsets, by=by, threads=1)
    graph = region_graph(affinities.data, affinities.offsets, fragments=pieces, threads=1)
    return {"voxels": pieces.size, "fragments": int(pieces.max()), "edges": len(graph.ends)}


def made_up(edges: int, kind: str) -> dict[str, Any]:
    """Assemble and merge a graph of so many edges in eight parts, a seventh as many fragments, and return its cost."""
    rng, nodes = np.random.default_rng(0), edges // 7
    merges(RegionGraph(np.array([[1, 2]], np.int32), np.array([[1.0, 0.5]]), 3))  # compiled before it is measured
    first = rng.integers(1, nodes, edges)
    ends = np.sort(np.stack([first, np.minimum(first + rng.integers(1, 200, edges), nodes)], axis=1), axis=1)
    ends = ends[ends[:, 0] < ends[:, 1]].astype(np.int32)
    statistics: Any = np.zeros((len(ends), 256), np.uint32)
    if kind == "mean":
        statistics = np.stack([np.full(len(ends), 20.0), rng.random(len(ends)) * 20], axis=1)
    else:
        statistics[np.arange(len(ends)), rng.integers(0, 256, len(ends))] = 20
    parts = [
        RegionGraph(*some, nodes) for some in zip(np.array_split(ends, 8), np.array_split(statistics, 8), strict=True)
    ]
    del statistics
    before, began = peak(), time.process_time()
    graph = assembled(parts, nodes=nodes + 1)
    found = merges(graph, threshold=0.5)
    found.until(0.5)
    took, given = time.process_time() - began, sum(part.ends.nbytes + part.statistics.nbytes for part in parts) / 1e9
    return {"edges": len(ends), "fragments": nodes, "seconds": took, "peak": peak() - before + given}


def nearly(source: Path, truth: Path) -> list[list[float]]:
    """Return VI of the mutex watershed of blocks against that of the whole, and of both against the truth, in bits."""
    affinities, found = open_affinities(source), open_volume(truth, kind="instances").data
    whole = decoded(affinities.data, affinities.offsets, by=MUTEX, threads=1)
    rows = [[0, 0, 0, *partition.variation_of_information(partition.shared(whole, found))]]
    for block in OVERLAPPED:
        with tempfile.TemporaryDirectory() as folder:
            segment_blocks(source, Path(folder) / "labels.zarr", by=MUTEX, block=block, executor=Serial(1))
            labels = open_volume(Path(folder) / "labels.zarr", kind="instances").data
        pairs = [partition.variation_of_information(partition.shared(labels, other)) for other in (whole, found)]
        rows.append([block, *pairs[0], *pairs[1]])
    return rows


def measured(what: str, *given: Any) -> Any:
    """Return what a process of its own measures."""
    arguments = [sys.executable, __file__, "--measure", json.dumps([what, *map(str, given)])]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    row = json.loads(done.stdout.splitlines()[-1])
    print(what, *given, row, flush=True)
    return row


def measure(what: str, kind: str, *given: str) -> Any:
    """Measure in this process."""
    if what == "nearly":
        return nearly(Path(kind), Path(given[0]))
    by = KINDS[kind]
    if what == "graph":
        return made_up(int(given[0]), kind)
    if what == "counted":
        return counted(Path(given[0]), by)
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(given[0]), Path(folder) / "labels.zarr"
        if what == "at once":
            return at_once(source, out, by)
        block, workers = int(given[1]), int(given[2])
        return by_blocks(source, out, by, block=block, executor=Processes(workers) if workers else Serial(1))


def rows(asked: argparse.Namespace) -> list[str]:
    """Return the tables."""
    lines = [
        "| decoder | way | core s | against the first | peak GB | labels |",
        "|---|---|---|---|---|---|",
    ]
    for kind in KINDS:
        once = measured("at once", kind, asked.affinities)
        lines.append(f"| {kind} | at once | {once['seconds']:.1f} | 1 | {once['peak']:.2f} | |")
        for block, workers in [*((block, 0) for block in BLOCKS), (BLOCKS[-2], WORKERS)]:
            row = measured("blocks", kind, asked.affinities, block, workers)
            way = f"blocks of {block}" + (f", {workers} workers" if workers else "")
            same = "equal" if row["hash"] == once["hash"] else "DIFFERENT"
            ratio = row["seconds"] / once["seconds"]
            lines.append(f"| {kind} | {way} | {row['seconds']:.1f} | {ratio:.2f} | {row['peak']:.2f} | {same} |")
    found = measured("counted", "mean", asked.affinities)
    each = {name: found[name] / found["voxels"] * 1e6 for name in ("fragments", "edges")}
    lines += ["", f"{each['fragments']:.0f} fragments and {each['edges']:.0f} edges for a megavoxel.", ""]
    lines += ["| graph of | edges | fragments | core s | bytes for an edge |", "|---|---|---|---|---|"]
    for kind, edges in (("mean", asked.edges), ("quantile", asked.edges // 20)):
        row = measured("graph", kind, edges)
        lines.append(
            f"| {kind} | {row['edges']} | {row['fragments']} | {row['seconds']:.1f} | "
            f"{row['peak'] * 1e9 / row['edges']:.0f} |"
        )
    if asked.truth:
        lines += ["", "Mutex watershed, strides of 4; bits of VI, split + merge.", ""]
        lines += ["| blocks of | against the whole at once | against the truth |", "|---|---|---|"]
        for block, *bits in measured("nearly", asked.affinities, asked.truth):
            near = f"{bits[0]:.3f} + {bits[1]:.3f}" if block else ""
            lines.append(f"| {block or 'the whole'} | {near} | {bits[2]:.3f} + {bits[3]:.3f} |")
    return lines


def main() -> None:
    """Measure, and write or print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("affinities", type=Path, nargs="?", help="a .zarr")
    parser.add_argument("--truth", type=Path, help="a file of true neurons")
    parser.add_argument("--edges", type=int, default=4_000_000, help="of the graph that is made up")
    parser.add_argument("--try", dest="only", action="store_true", help="print it")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(measure(*json.loads(asked.measure))))
        return
    if asked.affinities is None:
        parser.error("expected AFFINITIES")
    write(rows(asked), shape=open_affinities(asked.affinities).grid.shape, only=asked.only)


def write(lines: Sequence[str], *, shape: tuple[int, ...], only: bool) -> None:
    """Write the results, or print them."""
    stamp = f"On {dt.date.today()}: {machine()}. Load of the machine after: {os.getloadavg()[0]:.1f}."
    head = ["# Watershed and agglomeration by blocks", "", "Written by `benchmarks/agglomeration.py`.", "", stamp]
    text = "\n".join([*head, "", f"Affinities of {' x '.join(map(str, shape))} voxels.", "", *lines, ""])
    print(text)
    if not only:
        RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
