"""Time what limner promises to be fast, beside the way it was published, in one run on one machine.

Every section of the report is a function in SECTIONS. Rivals take turns (A B A B), so that whatever else the machine
does meets both; their results must agree, or there is no report. Peak memory is that of a fresh process each, above
what its imports take.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numba
import numpy as np
import scipy.ndimage
import steps
import torch
import typer
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from limner.priors.neighbours import NeighbourTable, neighbour_counts, neighbour_energy
from limner.space import LabelTable

SHAPE = (160, 192, 224)
CLASSES = 14
THREADS = 2
SIZES = (3, 9, 21)

Labels = NDArray[np.int64]
Way = Callable[[], Any]


# --- what is labelled


def synthetic_map() -> Labels:
    """Return (160, 192, 224) classes: where each of 14 smooth random fields is the highest."""
    rng = np.random.default_rng(0)
    highest = np.full(SHAPE, -np.inf)
    labels = np.zeros(SHAPE, np.int64)
    for index in range(CLASSES):
        field = scipy.ndimage.zoom(rng.normal(size=[length // 16 for length in SHAPE]), 16, order=1)
        labels[field > highest] = index
        np.maximum(highest, field, out=highest)
    return labels


def real_map() -> Labels:
    """Return (160, 192, 224) classes of a person's FreeSurfer labels, left and right tied."""
    table = LabelTable.freesurfer()
    ids = np.load(Path(os.environ["LIMNER_DATA"], "brains/person-7/seg.npz"))["vol_data"]
    return table.structure_of[table.rows(ids)]


MAPS = {"synthetic": synthetic_map} | ({"person-7": real_map} if os.environ.get("LIMNER_DATA") else {})


def probabilities(labels: Labels) -> Tensor:
    """Return (1, K, *S) that give each voxel's class 0.9 and share the rest out, without temporary volumes."""
    q = torch.full((1, CLASSES, *labels.shape), 0.1 / (CLASSES - 1))
    for index, channel in enumerate(q[0]):
        channel[torch.from_numpy(labels == index)] = 0.9
    return q


# --- the published ways


def published_counts(labels: Labels, size: int) -> NDArray[np.int64]:
    """Count neighbours as SAE's public code does: copy every window, then select and scan them for each two classes.

    Its border repeats the outermost voxels; here the border is a class of its own, so that the counts can be compared.
    """
    padded = np.pad(labels.astype(np.int32), size // 2, constant_values=CLASSES)
    windows = sliding_window_view(padded, (size,) * 3).reshape(-1, size**3)
    centres = labels.ravel()
    counts = np.zeros((CLASSES, CLASSES), np.int64)
    for centre in range(CLASSES):
        chosen = centres == centre
        for neighbour in range(CLASSES):
            counts[centre, neighbour] = np.sum(windows[chosen] == neighbour)
        counts[centre, centre] -= np.sum(chosen)
    return counts


def dense_energy(q: Tensor, table: NeighbourTable) -> tuple[Tensor, Tensor]:
    """Return energy and gradient as SAE's public code does: depthwise convolution, product of matrices, autograd."""
    q = q.detach().requires_grad_()
    kernel = torch.ones(CLASSES, 1, *[table.size] * 3)
    kernel[..., table.size // 2, table.size // 2, table.size // 2] = 0
    neighbours = torch.nn.functional.conv3d(q, kernel, padding=table.size // 2, groups=CLASSES)
    costs = torch.as_tensor(-table.potential, dtype=q.dtype) @ neighbours.flatten(2)
    energy = (q.flatten(2) * costs).sum(dim=(1, 2))
    (gradient,) = torch.autograd.grad(energy.sum(), q)
    return energy.detach(), gradient


# --- ours


def fused_energy(q: Tensor, table: NeighbourTable) -> tuple[Tensor, Tensor]:
    """Return energy and gradient as limner does."""
    q = q.detach().requires_grad_()
    energy = neighbour_energy(q, table)
    (gradient,) = torch.autograd.grad(energy.sum(), q)
    return energy.detach(), gradient


# --- rivals: the first is what the others are compared with


def counting(labels: Labels) -> Mapping[str, Way]:
    """Name the ways to count neighbours."""
    ours = {f"limner, k = {size}": functools.partial(neighbour_counts, labels, CLASSES, size=size) for size in SIZES}
    return {"windows copied, k = 3": functools.partial(published_counts, labels, 3)} | ours


def pricing(labels: Labels) -> Mapping[str, Way]:
    """Name the ways to find the energy and its gradient."""
    q = probabilities(labels)
    tables = {size: NeighbourTable(neighbour_counts(labels, CLASSES, size=size).astype(float), size) for size in SIZES}
    ours = {f"limner, k = {size}": functools.partial(fused_energy, q, table) for size, table in tables.items()}
    return {"depthwise convolution, k = 3": functools.partial(dense_energy, q, tables[3])} | ours


RIVALS: dict[str, Callable[[Labels], Mapping[str, Way]]] = {"counts": counting, "energy": pricing}


# --- measuring


def timed(ways: Mapping[str, Way], repeats: int, *, title: str) -> dict[str, list[float]]:
    """Return the seconds of each way's runs, taken in turns after one run of each that does not count."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in track(range(repeats + 1), title):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if turn:
                times[name].append(time.perf_counter() - start)
    return times


def agreed(ways: Mapping[str, Way]) -> None:
    """Stop where the first two ways, which claim to compute the same, do not."""
    for expected, found in zip(*(_arrays(way()) for way in list(ways.values())[:2]), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def _arrays(result: Any) -> list[NDArray[Any]]:
    return [np.asarray(part) for part in (result if isinstance(result, tuple) else (result,))]


def peak_memory(rivals: str, way: str, labels: Path) -> float:
    """Return how many MB a process that does nothing else needs at its peak, input included, above its imports."""
    command = [sys.executable, __file__, "--peak-of", json.dumps([rivals, way, str(labels)])]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_peak(rivals: str, way: str, labels: str) -> None:
    """Run one way in this process, and print how many MB its peak rose above the imports."""
    imports = _peak()
    RIVALS[rivals](np.load(labels))[way]()
    sys.stdout.write(f"{_peak() - imports:.0f}\n")


def _peak() -> float:
    # On Linux `ru_maxrss` begins at the peak of the parent, so the process's own high-water mark is read there.
    own = [int(line.split()[1]) * 1024 for line in _lines(Path("/proc/self/status")) if line.startswith("VmHWM")]
    return (own or [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss])[0] / 1e6


# --- the report


def compared(rivals: str, repeats: int) -> list[str]:
    """Return a table's lines: each way's seconds, how much faster than the first way, and memory."""
    lines = ["| map | way | median s | fastest to slowest s | times as fast | peak MB |", "|---|---|---|---|---|---|"]
    for where, drawn in MAPS.items():
        labels = drawn()
        ways = RIVALS[rivals](labels)
        agreed(ways)
        times = timed(ways, repeats, title=f"{rivals}, {where}")
        memory = peaks(rivals, ways, labels)
        first = statistics.median(next(iter(times.values())))
        for way, seconds in times.items():
            ratio = first / statistics.median(seconds)
            lines.append(f"| {where} | {way} | {_seconds(seconds)} | {ratio:.1f} | {memory[way]:.0f} |")
    return lines


def peaks(rivals: str, ways: Iterable[str], labels: Labels) -> dict[str, float]:
    """Return each way's peak memory in MB; its process gets the labels from a file, not from what draws them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "labels.npy")
        np.save(path, labels)
        return {way: peak_memory(rivals, way, path) for way in track(ways, f"{rivals}, memory")}


def commands(repeats: int) -> list[str]:
    """Return a table's lines: the wall time of each command in a process of its own."""
    ways = {
        name: functools.partial(subprocess.run, command, check=True, capture_output=True)
        for name, command in COMMANDS.items()
    }
    times = timed(ways, repeats, title="commands")
    return ["| command | median s | fastest to slowest s |", "|---|---|---|"] + [
        f"| `{name}` | {_seconds(seconds)} |" for name, seconds in times.items()
    ]


def scan(repeats: int) -> list[str]:
    """Return a table's lines: one stripped 1 mm scan through `limner segment`, alignment and report included."""
    if "LIMNER_DATA" not in os.environ:
        return ["LIMNER_DATA was not set."]
    image = Path(os.environ["LIMNER_DATA"], "brains", "person-1", "brainmask.mgz")
    seconds, peaks = [], []
    for _ in track(range(repeats), "limner segment"):
        with tempfile.TemporaryDirectory() as folder:
            command = [str(Path(sys.executable).parent / "limner"), "segment", str(image), "-o", folder]
            # From a process of its own: what it starts begins with the peak of the process that started it.
            answer = subprocess.run(
                [sys.executable, "-c", WATCHED, *command], check=True, capture_output=True, text=True
            )
            took, peak = map(float, answer.stdout.splitlines()[-1].split())
            seconds.append(took)
            peaks.append(peak)
    row = f"| `limner segment person-1/brainmask.mgz` | {_seconds(seconds)} | {statistics.median(peaks):.2f} |"
    return ["| command | median s | fastest to slowest s | peak GB |", "|---|---|---|---|", row]


def _seconds(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.3f} | {min(seconds):.3f} to {max(seconds):.3f}"


WATCHED = """
import resource, subprocess, sys, time
began = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6)
"""
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "python -c 'import limner'": [sys.executable, "-c", "import limner"],
    "limner --help": [str(Path(sys.executable).parent / "limner"), "--help"],
}
SECTIONS: dict[str, Callable[[int], list[str]]] = {
    "Neighbour table: the counts of one map": functools.partial(compared, "counts"),
    "Neighbour energy and its gradient": functools.partial(compared, "energy"),
    "One training step of SAE, 160 x 192 x 224 voxels": steps.table,
    "Commands": commands,
    "One scan": scan,
}


def machine() -> str:
    """Name the processor, its cores, and the versions that matter."""
    cpuinfo = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in _lines(cpuinfo) if line.startswith("model name")]
    graphics = [torch.cuda.get_device_name()] if torch.cuda.is_available() else []
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}"
    where = ", ".join([(names or [platform.processor()])[0], f"{os.cpu_count()} cores", *graphics])
    return f"{where}; {versions}, numba {numba.__version__}"


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def report(repeats: int, only: Sequence[str]) -> str:
    """Run the sections and return the report."""
    before = os.getloadavg()[0]
    chosen = {title: section for title, section in SECTIONS.items() if not only or title.startswith(tuple(only))}
    tables = ["\n".join([f"## {title}", "", *section(repeats)]) for title, section in chosen.items()]
    after = os.getloadavg()[0]
    head = f"""# Speed

Written by `benchmarks/speed.py` on {dt.date.today()}: {machine()}; {THREADS} threads.
The machine's load was {before:.1f} before and {after:.1f} after; where others use it too, compare the ratios.

Times are of {repeats} runs each, in turns, after one that does not count. "Times as fast" compares with the first way
of each map, whose results agree with limner's. Peak memory is that of one run in a fresh process, with its input,
without its imports. Maps have {CLASSES} classes and {" x ".join(map(str, SHAPE))} voxels."""
    return "\n\n".join([head, *tables]) + "\n"


def main(
    repeats: Annotated[int, typer.Option(help="Runs of each way.")] = 5,
    only: Annotated[list[str] | None, typer.Option(help="Sections, by the beginning of their titles.")] = None,
    output: Annotated[Path, typer.Option(help="The report.")] = Path(__file__).parent / "results/speed.md",
    peak_of: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Time limner beside the published ways, and write the report."""
    torch.set_num_threads(THREADS)
    if peak_of:
        print_peak(*json.loads(peak_of))
        return
    text = report(repeats, only or [])
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    typer.run(main)
