"""Simulate the one stage of work on blocks that a single process does: joining fragments across all faces.

    python benchmarks/stitching.py 1e7 1e8 1e9    pairs; the last takes minutes

Pairs are made face after face while they are asked for, as those of real blocks are read, and go through the same
function. Each size is done in a process of its own, whose highest memory is told; what is measured is kept under
--work, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from brains import machine
from numpy.typing import NDArray

from limner.instances import Fragments, stitched

RESULTS = Path(__file__).parent / "results/stitching.md"
#: Fragments of a block, and pairs of a face, of 128^3 voxels of real affinities at a threshold of 0.9, about.
BLOCK, FACE = 30_000, 300
#: Fragments that one process is to keep at most, unless told otherwise.
MOST = 100_000_000
SMALLEST, VOXELS = 50, 128**3


def pairs(side: int, fragments: int, *, count: int, seed: int = 0) -> Iterator[NDArray[np.int64]]:
    """Yield `count` pairs or a few more, (P, 2), those of each block of a lattice with its neighbours before it.

    Args:
        side: blocks along each axis.
        fragments: of a block.
        count: of all pairs.
        seed: of which fragments touch.
    """
    rng, faces = np.random.default_rng(seed), 3 * side**2 * (side - 1)
    each = -(-count // faces)
    for block in range(side**3):
        place = np.unravel_index(block, (side,) * 3)
        for axis, step in enumerate((side**2, side, 1)):
            if place[axis]:
                drawn = rng.integers(0, fragments, (each, 2), dtype=np.int64)
                yield drawn + np.array([block - step, block]) * fragments


def told(side: int, fragments: int, *, seed: int = 0) -> Fragments:
    """Return sizes of which most are dust, and first voxels, of the fragments of all blocks."""
    rng, total = np.random.default_rng(seed), side**3 * fragments
    firsts = np.arange(total, dtype=np.int64) * (VOXELS // fragments + 1)
    return Fragments(rng.integers(1, SMALLEST + 5, total, dtype=np.int64), firsts)


def lattice(count: int, most: int) -> tuple[int, int]:
    """Return the blocks along each axis that have as many pairs, and the fragments of each that memory allows."""
    side = max(2, round((count / (3 * FACE)) ** (1 / 3)))
    return side, max(FACE, min(BLOCK, most // side**3))


def measured(count: int, most: int) -> dict[str, Any]:
    """Return seconds and the highest memory of stitching so many pairs; what making the pairs takes is told apart."""
    side, fragments = lattice(count, most)
    stitched(told(2, 4), pairs(2, 4, count=8), smallest=SMALLEST)  # what is compiled the first time
    began = time.process_time()
    made = sum(len(some) for some in pairs(side, fragments, count=count))
    making = time.process_time() - began
    known = told(side, fragments)
    began = time.process_time()
    _, segments = stitched(known, pairs(side, fragments, count=count), smallest=SMALLEST)
    took = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "pairs": made,
        "blocks": side**3,
        "fragments": len(known.sizes),
        "making": making,
        "seconds": took - making,
        "peak": peak,
        "segments": segments,
    }


def apart(count: float, most: float, *, kept: Path) -> dict[str, Any]:
    """Return what a process of its own measures, now or before."""
    if not kept.exists():
        command = [sys.executable, __file__, f"{count:.0f}", "--most", f"{most:.0f}", "--here"]
        kept.write_text(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    found: dict[str, Any] = json.loads(kept.read_text())
    return found


def row(one: dict[str, Any]) -> str:
    """Return a line of the table."""
    counts = " | ".join(f"{one[name]:,}" for name in ("pairs", "blocks", "fragments"))
    memory = f"{one['peak'] / 1e9:.2f} | {one['peak'] / one['fragments']:.0f}"
    return f"| {counts} | {one['seconds']:.0f} | {memory} | {one['making']:.0f} | {one['segments']:,} |"


def write(rows: list[dict[str, Any]], out: Path) -> None:
    """Write the report."""
    lines = [
        "# Stitching",
        "",
        f"Written by `benchmarks/stitching.py` on {dt.date.today()}: {machine()}. Seconds of one core.",
        "Pairs are made while they are asked for, between fragments drawn at random, the worst order for caches. What",
        "reading them takes from disk is not in it, nor the labels themselves.",
        "",
        "| pairs | blocks | fragments | s | peak GB | bytes a fragment | s to make the pairs | segments |",
        "|---|---|---|---|---|---|---|---|",
        *map(row, rows),
    ]
    out.write_text("\n".join(lines) + "\n")


def main() -> None:
    """Measure each size in a process of its own, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="+", type=float, help="how many, such as 1e8")
    parser.add_argument("--most", type=float, default=MOST, help="fragments that memory is to hold")
    parser.add_argument("--work", type=Path, default=Path("limner-stitching"), help="what is measured already")
    parser.add_argument("-o", "--out", type=Path, default=RESULTS, help="report to write")
    parser.add_argument("--here", action="store_true", help="in this process, as a line of JSON")
    asked = parser.parse_args()
    if asked.here:
        print(json.dumps(measured(int(asked.pairs[0]), int(asked.most))))
        return
    asked.work.mkdir(parents=True, exist_ok=True)
    rows = []
    for count in sorted(asked.pairs):
        rows.append(apart(count, asked.most, kept=asked.work / f"{count:.0e}-{asked.most:.0e}.json"))
        print(row(rows[-1]), flush=True)
        write(rows, asked.out)


if __name__ == "__main__":
    main()
