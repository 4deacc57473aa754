"""Cohorts: how much two workers save, what the machinery costs, and whether anything is lost when it is killed.

    python benchmarks/cohorts.py kills                      thirty kills of a cohort of made-up heads; minutes
    python benchmarks/cohorts.py overhead                   seconds per scan beside segmenting it; a minute
    LIMNER_DATA=FOLDER python benchmarks/cohorts.py speed   eight real scans, by one worker and by two; minutes at 3 mm
    LIMNER_DATA=FOLDER python benchmarks/cohorts.py memory  peak of a worker for 1 mm scans under limits; half an hour

Each writes its part of results/cohorts.md and leaves the others. Kills that are done are kept under --work, so that a
run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from brains import kept, machine

from limner.cluster import Outcome, Processes, Progress, Serial
from limner.files import open_volume, save_volume
from limner.inference import segment_scans
from limner.inference.tables import VERDICTS, VOLUMES
from limner.space import resampled

HOME = Path(__file__).parent
RESULTS = HOME / "results/cohorts.md"
TESTS = HOME.parent / "tests"
WORKERS, KILLS = 2, 30
NOBODY = "nobody, as no worker was there"
#: Heads in the cohort that is killed.
HEADS = 6
PEOPLE = ("person-1", "person-2", "person-3", "person-4", "person-5")
#: A run in a process of its own.
RUN = """
import sys
from pathlib import Path
from limner.cluster import Processes
from limner.inference import segment_scans
if __name__ == "__main__":
    scans, out, prior, workers = sys.argv[1:]
    paths = sorted(Path(scans).glob("*.nii.gz"))
    found = segment_scans(paths, Path(out), prior=Path(prior), executor=Processes(int(workers)))
    sys.exit(any(case.error for case in found))
"""


def started(scans: Path, out: Path, *, prior: Path) -> subprocess.Popen[bytes]:
    """Start a run in a process of its own, and a group of its own."""
    script = out.parent / "run.py"
    script.write_text(RUN)
    arguments = [str(one) for one in (scans, out, prior, WORKERS)]
    return subprocess.Popen([sys.executable, str(script), *arguments], start_new_session=True)


# --- kills


def kills(work: Path) -> list[str]:
    """Return what came of thirty kills."""
    home = work / "heads"
    if not (home / "done").exists():
        furnished(home)
    scans, prior = home / "scans", home / "prior"
    whole = work / "whole"
    if not (work / "seconds").exists():
        shutil.rmtree(whole, ignore_errors=True)
        began = time.perf_counter()
        started(scans, whole, prior=prior).wait()
        (work / "seconds").write_text(str(time.perf_counter() - began))
    seconds = float((work / "seconds").read_text())
    rows, expected = [], fingerprint(whole)
    for seed in itertools.count():
        make = partial(killed, seed, home, work=work, expected=expected, within=seconds)
        rows.append(kept(work / f"kill-{seed}.json", make))
        print(rows[-1], flush=True)
        if sum(row["killed"] != NOBODY for row in rows) == KILLS:
            break
    return table(rows, seconds=seconds)


def furnished(home: Path) -> None:
    """Make heads and their prior in a folder."""
    sys.path.append(str(TESTS))
    import tiny

    (home / "scans").mkdir(parents=True)
    tiny.furnish(home)
    for number in range(HEADS):
        save_volume(tiny.image(seed=number), home / f"scans/head-{number}.nii.gz")
    (home / "done").touch()


def killed(seed: int, home: Path, *, work: Path, expected: dict[str, str], within: float) -> dict[str, Any]:
    """Kill a part of a run, or all, at a random moment, run again until it is done, and tell what was lost."""
    rng = np.random.default_rng(seed)
    kind = ("a worker", "the process in charge", "a worker", "everything")[seed % 4]
    with tempfile.TemporaryDirectory(dir=work) as folder:
        out = Path(folder, "out")
        process = started(home / "scans", out, prior=home / "prior")
        moment = float(rng.uniform(0, within))
        time.sleep(moment)
        finished = markers(out)
        victims = children(process.pid) if kind == "a worker" else [process.pid]
        if kind == "everything":
            os.killpg(process.pid, signal.SIGKILL)
        elif victims:
            hit(int(rng.choice(victims)))
        code, runs = process.wait(), 1
        while code:
            code, runs = started(home / "scans", out, prior=home / "prior").wait(), runs + 1
        after = markers(out)
        return {
            "seed": seed,
            "killed": kind if victims else NOBODY,
            "second": round(moment, 1),
            "finished": len(finished),
            "again": sum(after[name] != one for name, one in finished.items()),
            "runs": runs,
            "same": fingerprint(out) == expected,
        }


def hit(pid: int) -> None:
    """Kill a process, if it is still there."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    """Return the workers that a process has started."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split() if Path(f"/proc/{pid}").exists() else []
    commands = {int(one): Path(f"/proc/{one}/cmdline").read_bytes() for one in found if Path(f"/proc/{one}").exists()}
    return [one for one, command in commands.items() if b"spawn_main" in command]


def markers(out: Path) -> dict[str, tuple[int, int]]:
    """Return when the marker of each finished scan, and its labels, were written."""
    found = {}
    for path in (out / "ledger").glob("*.done"):
        labels = out / f"{path.stem}_labels.nii.gz"
        found[path.stem] = (path.stat().st_mtime_ns, labels.stat().st_mtime_ns)
    return found


def fingerprint(out: Path) -> dict[str, str]:
    """Return the hash of each table, and of each label map, of a run."""
    named = {name: (out / name).read_bytes() for name in (VOLUMES, VERDICTS)}
    named |= {path.name: open_volume(path, kind="labels").data.tobytes() for path in out.glob("*_labels.nii.gz")}
    return {name: hashlib.sha256(content).hexdigest() for name, content in named.items()}


def table(rows: Sequence[dict[str, Any]], *, seconds: float) -> list[str]:
    """Return the lines of the table of kills."""
    kinds = sorted({row["killed"] for row in rows})
    words = (
        f"{HEADS} made-up heads, {WORKERS} workers, {seconds:.0f} s undisturbed. Killed with SIGKILL; moments, anywhere"
    )
    words += " between the start and that time, and victims by fixed seeds. What did not end well was run again."
    titles = (
        "killed",
        "times",
        "scans finished by then",
        "of them computed again",
        "runs at most",
        "results identical",
    )
    lines = [words, "", f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    for kind in kinds:
        some = [row for row in rows if row["killed"] == kind]
        total, again = (sum(row[name] for row in some) for name in ("finished", "again"))
        same = sum(row["same"] for row in some)
        runs = max(row["runs"] for row in some)
        lines.append(f"| {kind} | {len(some)} | {total} | {again} | {runs} | {same} of {len(some)} |")
    return lines


# --- what the machinery costs


class Counted(Progress):
    """Adds up the seconds that scans took by themselves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def finished(self, outcome: Outcome) -> None:
        self.seconds += outcome.seconds


def overhead(work: Path) -> list[str]:
    """Return what a scan takes beside segmenting it and writing its files."""
    home = work / "heads"
    if not (home / "done").exists():
        furnished(home)
    scans = sorted((home / "scans").glob("*.nii.gz"))
    lines = [
        "| scans | executor | run s | of it segmenting and writing s | other s per scan |",
        "|---|---|---|---|---|",
    ]
    segment_scans(scans[:1], work / "warm", prior=home / "prior", redo=True)
    many = [path for path in scans for _ in range(4)]
    for number, path in enumerate(many):
        target = work / f"many/{number}/head.nii.gz"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    paths = sorted((work / "many").glob("*/head.nii.gz"))
    for name, executor in (("this process", Serial(1)), ("one worker", Processes(1))):
        counted = Counted()
        began = time.perf_counter()
        segment_scans(paths, work / "costs", prior=home / "prior", redo=True, executor=executor, progress=counted)
        took = time.perf_counter() - began
        each = (took - counted.seconds) / len(paths)
        lines.append(f"| {len(paths)} | {name} | {took:.1f} | {counted.seconds:.1f} | {each:.2f} |")
    began = time.perf_counter()
    segment_scans(paths, work / "costs", prior=home / "prior")
    return [*lines, "", f"Finding that all {len(paths)} are finished took {time.perf_counter() - began:.2f} s."]


# --- real scans


def speed(work: Path, *, spacing: float, count: int) -> list[str]:
    """Return how long scans take by one worker and by two, one thread each, in turns."""
    scans = work / f"scans-{spacing:g}"
    scans.mkdir(exist_ok=True)
    for number in range(count):
        path = scans / f"scan-{number}.nii.gz"
        if not path.exists():
            coarse(PEOPLE[number % len(PEOPLE)], path, spacing=spacing)
    chosen = sorted(scans.glob("*.nii.gz"))[:count]
    lines = ["| workers | seconds | relative | labels |", "|---|---|---|---|"]
    first, expected = 0.0, {}
    for workers in (1, 2):
        out = work / f"speed-{workers}"
        began = time.perf_counter()
        segment_scans(chosen, out, executor=Processes(workers), redo=True)
        took = time.perf_counter() - began
        first, expected = first or took, expected or fingerprint(out)
        same = "identical" if fingerprint(out) == expected else "DIFFERENT"
        lines.append(f"| {workers} | {took:.1f} | {took / first:.2f} | {same} |")
        print(lines[-1], flush=True)
    head = f"{count} stripped brains at {spacing:g} mm, one thread a worker, the start of workers included."
    return [f"{head} Load of the machine after: {os.getloadavg()[0]:.1f}.", "", *lines]


def coarse(person: str, path: Path, *, spacing: float) -> None:
    """Write a person's stripped brain at a spacing, mm."""
    volume = open_volume(Path(os.environ["LIMNER_DATA"], "brains", person, "brainmask.mgz"))
    save_volume(volume if spacing == 1 else resampled(volume, volume.grid.spaced(spacing)), path)


def memory(work: Path) -> list[str]:
    """Return the peak of a worker under limits, for a stripped brain and raw heads at 1 mm."""
    lines = ["| scan | limit GB | peak GB | outcome |", "|---|---|---|---|"]
    for name in ("person-1/brainmask.mgz", "person-1/T1.mgz", "person-4/T1.mgz"):
        for limit in (2.0, 3.0, 4.0, 6.0):
            path, watched = Path(os.environ["LIMNER_DATA"], "brains", name), Peak()
            executor = Processes(1, 1, limit * 1e9)
            (case,) = segment_scans([path], work / "memory", executor=executor, redo=True, progress=watched)
            said = case.error or f"segmented, {case.verdict}"
            lines.append(f"| {name} | {limit:g} | {watched.highest:.2f} | {said} |")
            print(lines[-1], flush=True)
    return lines


class Peak(Progress):
    """Looks how much memory the workers have taken at most, whenever something is told; GB."""

    highest = 0.0

    def step(self, *_: str) -> None:
        self.highest = max(self.highest, *map(taken, children(os.getpid())), 0)

    def finished(self, _: Outcome) -> None:
        self.step()


def taken(pid: int) -> float:
    """Return the most memory that a process has taken, GB."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next((int(line.split()[1]) * 1024 / 1e9 for line in lines if line.startswith("VmHWM")), 0.0)
    return 0.0


# --- the report

TITLES = {
    "kills": "Thirty kills",
    "overhead": "What the machinery costs",
    "speed": "Two workers against one",
    "memory": "Peak memory of a worker, 1 mm",
}


def written(part: str, lines: Sequence[str]) -> None:
    """Write a part of the results, and leave the others."""
    sections: dict[str, str] = {}
    if RESULTS.exists():
        for section in RESULTS.read_text().split("\n## ")[1:]:
            title, _, text = section.partition("\n")
            sections[title] = text.strip()
    stamp = f"On {dt.date.today()}: {machine()}."
    sections[TITLES[part]] = "\n".join([stamp, "", *lines])
    body = "\n\n".join(f"## {title}\n\n{sections[title]}" for title in TITLES.values() if title in sections)
    RESULTS.write_text(f"# Cohorts\n\nWritten by `benchmarks/cohorts.py`, part by part.\n\n{body}\n")


def main() -> None:
    """Measure one part, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=TITLES)
    parser.add_argument("--work", type=Path, default=Path("limner-cohorts"), help="where scans and results lie")
    parser.add_argument("--spacing", type=float, default=3.0, help="of the scans for `speed`, mm")
    parser.add_argument("--count", type=int, default=8, help="of the scans for `speed`")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    parts: dict[str, Callable[[], list[str]]] = {
        "kills": lambda: kills(asked.work),
        "overhead": lambda: overhead(asked.work),
        "speed": lambda: speed(asked.work, spacing=asked.spacing, count=asked.count),
        "memory": lambda: memory(asked.work),
    }
    written(asked.part, parts[asked.part]())


if __name__ == "__main__":
    main()
