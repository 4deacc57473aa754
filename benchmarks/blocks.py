"""Volumes by blocks: whether memory is flat and cost linear, what blocks cost beside the whole, and what kills lose.

    python benchmarks/blocks.py sizes                    components of 256^3, 512^3, 1024^3 by one worker; minutes
    python benchmarks/blocks.py overhead                 components of 256^3 by blocks beside the whole at once; minutes
    python benchmarks/blocks.py workers                  one worker and two on the largest volume; minutes
    python benchmarks/blocks.py kills                    thirty kills of a small volume; minutes
    python benchmarks/blocks.py network --model MODEL    the same overhead with a network, on made-up cells; minutes

Each writes its part of results/blocks.md and leaves the others. What is measured is kept under --work, so that a run
that was stopped goes on; delete that folder to measure again. `--try --largest 128` shows that it works.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from brains import machine
from cells import NEAREST, cells
from cohorts import children, hit, taken

from limner.blocks import Crew, segment_blocks
from limner.blocks.working import allocate, write
from limner.cluster import Executor, Outcome, Processes, Progress, Serial
from limner.data.volumes import whole
from limner.files import save_volume
from limner.files.affinities import open_affinities, save_affinities, told_of
from limner.files.nanometres import placed
from limner.inference.blockwise import Prediction, predict_blocks
from limner.inference.lattice import Lattice, looked, mirrored
from limner.inference.lattice import predicted as predicted_box
from limner.inference.neurons import volume_affinities
from limner.instances import components
from limner.instances.decoding import Decoder
from limner.space import Box, Grid, Volume, blocks

RESULTS = Path(__file__).parent / "results/blocks.md"
SIZES = (256, 512, 1024)
#: Edge of the cells that are made and repeated, and how far they are moved so that no seam lies at a block's face.
TILE, MOVED = 128, 40
#: Edge of a block, and of those of the volume that is killed.
BLOCK, SMALL, KILLED = 256, 24, 96
THRESHOLD, SMALLEST, WORKERS = 0.9, 50, 2
#: A run in a process of its own.
RUN = """
import sys
from pathlib import Path
from limner.blocks import segment_blocks
from limner.cluster import Processes
from limner.instances.decoding import Decoder
if __name__ == "__main__":
    source, out, block, workers = sys.argv[1:]
    executor = Processes(int(workers))
    by = Decoder(kind="components", threshold=0.9, smallest=50)
    segment_blocks(Path(source), Path(out), by=by, block=int(block), executor=executor)
"""


def made(work: Path, size: int, *, block: int = BLOCK) -> Path:
    """Return affinities of a volume of `size` voxels along each axis, made block by block, unless they are there."""
    path = work / f"affinities-{size}.zarr"
    if (work / f"affinities-{size}.done").exists():
        return path
    shutil.rmtree(path, ignore_errors=True)
    values = np.roll((cells(TILE).values * 255).astype(np.uint8), (MOVED,) * 3, axis=(1, 2, 3))
    shape, edge = (size,) * 3, min(block, size)
    told = told_of(Grid(shape, placed([8.0] * 3)), NEAREST)
    allocate(path, (len(values), *shape), dtype=np.uint8, told=told, shards=(len(values), *[edge] * 3))
    for one in blocks(shape, [edge] * 3):
        ends = zip(one.write.start, one.write.stop, strict=True)
        places = np.ix_(*(np.arange(first, last) % TILE for first, last in ends))
        write(path, np.stack([channel[places] for channel in values]), box=one.write)
    (work / f"affinities-{size}.done").touch()
    return path


class Peak(Progress):
    """Looks how much memory workers have taken at most, whenever something is told; GB."""

    def __init__(self) -> None:
        self.highest = 0.0

    def step(self, *_: str) -> None:
        self.highest = max([self.highest, *map(taken, children(os.getpid()))])

    def finished(self, _: Outcome) -> None:
        self.step()


def timed(source: Path, out: Path, *, executor: Executor, block: int = BLOCK) -> dict[str, Any]:
    """Segment by blocks, and return seconds, peak memory of a worker, segments, and the hash of the labels."""
    peak, began = Peak(), time.perf_counter()
    by = Decoder(kind="components", threshold=THRESHOLD, smallest=SMALLEST)
    count = segment_blocks(source, out, by=by, block=block, executor=executor, redo=True, progress=peak)
    took = time.perf_counter() - began
    return {"seconds": took, "peak": peak.highest, "segments": count, "hash": fingerprint(out)}


def fingerprint(path: Path) -> str:
    """Return the hash of labels, read in slabs."""
    total, array = hashlib.sha256(), zarr.open_array(path, mode="r")
    for first in range(0, array.shape[0], 64):
        total.update(np.ascontiguousarray(array[first : first + 64]))
    return total.hexdigest()


def kept(path: Path, measure: Callable[..., dict[str, Any]], *given: Any, **asked: Any) -> dict[str, Any]:
    """Return what was measured, now or before."""
    if not path.exists():
        found = measure(*given, **asked)
        path.write_text(json.dumps(found))
    row: dict[str, Any] = json.loads(path.read_text())
    print(path.stem, row, flush=True)
    return row


# --- the parts


def sizes(asked: argparse.Namespace) -> list[str]:
    """Return memory and cost of larger and larger volumes."""
    lines = [
        "| voxels | s | s per megavoxel | against the first | peak of the worker GB | segments |",
        "|---|---|---|---|---|---|",
    ]
    first = 0.0
    for size in [one for one in SIZES if one <= asked.largest] or [asked.largest]:
        source, out = made(asked.work, size), asked.work / f"labels-{size}.zarr"
        row = kept(asked.work / f"size-{size}.json", timed, source, out, executor=Processes(1))
        each = row["seconds"] / (size**3 / 1e6)
        first = first or each
        cost = f"{row['seconds']:.1f} | {each:.3f} | {each / first:.2f}"
        lines.append(f"| {size}^3 | {cost} | {row['peak']:.2f} | {row['segments']} |")
        shutil.rmtree(out, ignore_errors=True)
    return [f"Components by one worker of one thread, blocks of {BLOCK}; the start of workers included.", "", *lines]


def overhead(asked: argparse.Namespace) -> list[str]:
    """Return what blocks cost beside the whole volume at once, which reads and writes the same stores."""
    size = min(256, asked.largest)
    source, small = made(asked.work, size, block=size // 2), made(asked.work, SMALL)
    # What is loaded, and compiled, the first time is no part of either.
    at_once(small, asked.work / "warm.zarr")
    timed(small, asked.work / "warm.zarr", executor=Serial(1))
    once = kept(asked.work / f"whole-{size}.json", at_once, source, asked.work / "whole.zarr")
    lines = [
        "| way | s | against the first | labels |",
        "|---|---|---|---|",
        f"| at once | {once['seconds']:.1f} | 1 | |",
    ]
    for block in (size // 4, size // 2, size):
        out = asked.work / "parts.zarr"
        row = kept(asked.work / f"parts-{size}-{block}.json", timed, source, out, executor=Serial(1), block=block)
        same = "equal" if row["hash"] == once["hash"] else "DIFFERENT"
        ratio = row["seconds"] / once["seconds"]
        lines.append(f"| blocks of {block} | {row['seconds']:.1f} | {ratio:.2f} | {same} |")
    return [f"Components of {size}^3 in this process, one thread, reading and writing included.", "", *lines]


def at_once(source: Path, out: Path) -> dict[str, Any]:
    """Segment the whole at once, from store to store, and return seconds and the hash of the labels."""
    began = time.perf_counter()
    affinities = open_affinities(source)
    labels = components(affinities.data, affinities.offsets, threshold=THRESHOLD, smallest=SMALLEST, threads=1)
    save_volume(Volume(labels.astype(np.uint64), affinities.grid, "instances"), out)
    took = time.perf_counter() - began
    return {"seconds": took, "hash": hashlib.sha256(labels.astype(np.uint64).tobytes()).hexdigest()}


def workers(asked: argparse.Namespace) -> list[str]:
    """Return how much two workers save."""
    size = asked.largest
    source, block = made(asked.work, size), min(BLOCK, size // 2)
    lines, first, expected = ["| workers | s | against one | labels |", "|---|---|---|---|"], 0.0, ""
    for count in (1, WORKERS):
        out, executor = asked.work / "many.zarr", Processes(count)
        row = kept(asked.work / f"workers-{size}-{count}.json", timed, source, out, executor=executor, block=block)
        first, expected = first or row["seconds"], expected or row["hash"]
        same = "equal" if row["hash"] == expected else "DIFFERENT"
        lines.append(f"| {count} | {row['seconds']:.1f} | {row['seconds'] / first:.2f} | {same} |")
    return [f"Components of {size}^3, blocks of {block}, one thread a worker, their start included.", "", *lines]


def network(asked: argparse.Namespace) -> list[str]:
    """Return what blocks, and tiles, cost beside the network's bare passes."""
    torch.set_num_threads(1)
    size = min(256, asked.largest)
    volume = asked.work / f"raw-{size}.zarr"
    if not volume.exists():
        bright = np.tile(cells(TILE).values.mean(0), [-(-size // TILE)] * 3)[:size, :size, :size]
        save_volume(Volume((bright * 200).round(), Grid((size,) * 3, placed([8.0] * 3)), "image"), volume)
    what = Prediction.of(volume, asked.model, mirrored=False)

    def by_blocks() -> dict[str, Any]:
        began = time.perf_counter()
        predict_blocks(what, asked.work / "predicted.zarr", crew=Crew(Serial(1), Progress()), redo=True)
        return {"seconds": time.perf_counter() - began}

    def whole_volume() -> dict[str, Any]:
        began = time.perf_counter()
        save_affinities(volume_affinities(what.method(), volume), asked.work / "at-once.zarr")
        return {"seconds": time.perf_counter() - began}

    ways = {
        "bare passes": lambda: bare(what),
        "tiles, in memory": lambda: tiles(what),
        "at once, file to file": whole_volume,
    }
    rows = {
        name: kept(asked.work / f"network-{size}-{number}.json", way)
        for number, (name, way) in enumerate({**ways, "by blocks, file to file": by_blocks}.items())
    }
    lines = ["| way | s | against bare passes |", "|---|---|---|"]
    bare_seconds = rows["bare passes"]["seconds"]
    lines += [f"| {name} | {row['seconds']:.1f} | {row['seconds'] / bare_seconds:.2f} |" for name, row in rows.items()]
    return [f"Affinities of {size}^3, one thread.", "", *lines]


def bare(what: Prediction) -> dict[str, Any]:
    """Return the seconds that the network takes for the pieces of a volume, and nothing else."""
    _, image = whole(what.volume)
    method = what.method()
    lattice, seconds = Lattice.of(method, image.shape[1:]), 0.0
    for tile in lattice.tiles(Box.whole(lattice.shape)):
        piece = torch.from_numpy(
            mirrored(lambda box: image[:, *box.slices], lattice.looked_at(tile), shape=lattice.shape)
        )
        began = time.perf_counter()
        looked(method, piece)
        seconds += time.perf_counter() - began
    return {"seconds": seconds}


def tiles(what: Prediction) -> dict[str, Any]:
    """Return the seconds that tiles take in memory."""
    _, image = whole(what.volume)
    method = what.method()
    lattice, began = Lattice.of(method, image.shape[1:]), time.perf_counter()
    predicted_box(method, lambda box: image[:, *box.slices], box=Box.whole(lattice.shape), lattice=lattice)
    return {"seconds": time.perf_counter() - began}


# --- kills


def kills(asked: argparse.Namespace) -> list[str]:
    """Return what came of thirty kills."""
    work = asked.work
    source = made(work, KILLED, block=SMALL)
    whole_run = kept(work / "undisturbed.json", undisturbed, source, work)
    rows = [
        kept(work / f"kill-{seed}.json", killed, seed, source, work=work, expected=whole_run)
        for seed in range(asked.kills)
    ]
    lines = [
        "| killed | times | blocks marked by then | of them done again | runs at most | labels identical |",
        "|---|---|---|---|---|---|",
    ]
    for kind in sorted({row["killed"] for row in rows}):
        some = [row for row in rows if row["killed"] == kind]
        marked, again = (sum(row[name] for row in some) for name in ("marked", "again"))
        same, runs = sum(row["same"] for row in some), max(row["runs"] for row in some)
        lines.append(f"| {kind} | {len(some)} | {marked} | {again} | {runs} | {same} of {len(some)} |")
    words = (
        f"{KILLED}^3 in blocks of {SMALL}, {WORKERS} workers, {whole_run['seconds']:.0f} s undisturbed. Killed with "
    )
    words += "SIGKILL; moments, anywhere between the start and that time, and victims by fixed seeds. What did not end "
    words += "well was run again."
    return [words, "", *lines]


def started(source: Path, out: Path) -> subprocess.Popen[bytes]:
    """Start a run in a process of its own, and a group of its own."""
    script = out.parent / "run.py"
    script.write_text(RUN)
    arguments = [str(one) for one in (source, out, SMALL, WORKERS)]
    return subprocess.Popen([sys.executable, str(script), *arguments], start_new_session=True)


def undisturbed(source: Path, work: Path) -> dict[str, Any]:
    """Return the seconds and labels of a run that nobody kills."""
    began = time.perf_counter()
    shutil.rmtree(work / "undisturbed.zarr", ignore_errors=True)
    if started(source, work / "undisturbed.zarr").wait():
        raise RuntimeError("the run that nobody kills failed")
    return {"seconds": time.perf_counter() - began, "hash": fingerprint(work / "undisturbed.zarr")}


def killed(seed: int, source: Path, *, work: Path, expected: dict[str, Any]) -> dict[str, Any]:
    """Kill a part of a run, or all, at a random moment, run again until it is done, and tell what was lost."""
    rng = np.random.default_rng(seed)
    kind = ("a worker", "everything")[seed % 2]
    with tempfile.TemporaryDirectory(dir=work) as folder:
        out, watched = Path(folder, "labels.zarr"), Markers()
        process = started(source, out)
        until = time.monotonic() + float(rng.uniform(0, expected["seconds"]))
        while time.monotonic() < until and process.poll() is None:
            watched.look(out)
            time.sleep(0.02)
        marked, victims = len(watched.first), children(process.pid)
        if kind == "everything":
            os.killpg(process.pid, signal.SIGKILL)
        elif victims:
            hit(int(rng.choice(victims)))
        runs = 1
        while watched.wait(process, out):
            process, runs = started(source, out), runs + 1
        told = kind if kind == "everything" or victims else "nobody, as no worker was there"
        same = fingerprint(out) == expected["hash"]
        return {"seed": seed, "killed": told, "marked": marked, "again": watched.again, "runs": runs, "same": same}


class Markers:
    """Looks when markers are written, and counts those that are written a second time."""

    def __init__(self) -> None:
        self.first: dict[str, int] = {}
        self.again = 0

    def look(self, out: Path) -> None:
        """Take note of the markers that are there."""
        for path in out.with_name(f"{out.name}.work").glob("*/ledger/*.done"):
            try:
                written = path.stat().st_mtime_ns
            except FileNotFoundError:
                continue
            name = f"{path.parents[1].name}/{path.name}"
            self.again += self.first.setdefault(name, written) != written
            self.first[name] = written

    def wait(self, process: subprocess.Popen[bytes], out: Path) -> int:
        """Look until a process ends, and return how."""
        while process.poll() is None:
            self.look(out)
            time.sleep(0.02)
        return process.returncode


# --- the report

PARTS: dict[str, tuple[str, Callable[[argparse.Namespace], list[str]]]] = {
    "sizes": ("Memory and cost by size", sizes),
    "overhead": ("Blocks against the whole at once", overhead),
    "workers": ("Two workers against one", workers),
    "network": ("With a network", network),
    "kills": ("Thirty kills", kills),
}


def written(part: str, lines: Sequence[str]) -> None:
    """Write a part of the results, and leave the others."""
    sections: dict[str, str] = {}
    if RESULTS.exists():
        for section in RESULTS.read_text().split("\n## ")[1:]:
            title, _, text = section.partition("\n")
            sections[title] = text.strip()
    stamp = f"On {dt.date.today()}: {machine()}. Load of the machine after: {os.getloadavg()[0]:.1f}."
    sections[PARTS[part][0]] = "\n".join([stamp, "", *lines])
    titles = [title for title, _ in PARTS.values() if title in sections]
    body = "\n\n".join(f"## {title}\n\n{sections[title]}" for title in titles)
    RESULTS.write_text(f"# Volumes by blocks\n\nWritten by `benchmarks/blocks.py`, part by part.\n\n{body}\n")


def main() -> None:
    """Measure one part, and write it, or only print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--work", type=Path, default=Path("limner-blocks"), help="where volumes and results lie")
    parser.add_argument("--largest", type=int, default=max(SIZES), help="edge of the largest volume, voxels")
    parser.add_argument("--kills", type=int, default=30, help="how many")
    parser.add_argument("--model", type=Path, help="folder of a model of affinities, for `network`")
    parser.add_argument("--try", dest="only", action="store_true", help="print the part instead of writing it")
    asked = parser.parse_args()
    if asked.part == "network" and asked.model is None:
        parser.error("`network` needs --model")
    asked.work.mkdir(parents=True, exist_ok=True)
    lines = PARTS[asked.part][1](asked)
    print("\n".join(lines))
    if not asked.only:
        written(asked.part, lines)


if __name__ == "__main__":
    main()
