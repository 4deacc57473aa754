"""Three hundred damaged files over all readers: what `limner convert` and `limner check` do with them.

`LIMNER_DATA=FOLDER python benchmarks/damage.py` takes a crop of a real scan, writes it in every format that is read,
damages each by fixed seeds, and writes benchmarks/results/damage.md. What is asked: no traceback, no hang over 20 s,
nothing half-written, and the right exit code.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import sys
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import damaged

SCAN = "brains/person-1/brainmask.mgz"
COUNT = 300
#: Every how manieth of them `limner check` looks at too.
CHECKED = 4


def main() -> None:
    """Damage, run, judge and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=COUNT, help="how many files are damaged")
    parser.add_argument("--first", type=int, default=0, help="seed of the first of them")
    default = Path(__file__).parent / "results/damage.md"
    parser.add_argument("-o", "--output", type=Path, default=default)
    arguments = parser.parse_args()
    found: dict[str, list[tuple[int, str, str, damaged.Verdict]]] = defaultdict(list)
    with TemporaryDirectory() as work:
        sound = damaged.furnish(Path(work) / "sound", damaged.cropped(Path(os.environ["LIMNER_DATA"]) / SCAN))
        kinds = list(sound)
        for seed in range(arguments.first, arguments.first + arguments.count):
            kind = kinds[seed % len(kinds)]
            folder = Path(work) / str(seed)
            folder.mkdir()
            path, harm = damaged.damage(kind, sound[kind], seed=seed, folder=folder)
            for command in ("convert", "check") if seed % CHECKED == 0 else ("convert",):
                verdict = damaged.judged(command, path, folder=folder)
                found[kind].append((seed, harm, command, verdict))
                (folder / damaged.WRITTEN[0]).unlink(missing_ok=True)
                if verdict.faults:
                    print(seed, kind, harm, command, verdict.faults, verdict.words, flush=True)
    arguments.output.write_text(report(found, arguments.count), encoding="utf-8")


def report(found: dict[str, list[tuple[int, str, str, damaged.Verdict]]], count: int) -> str:
    """Return the table as Markdown."""
    rows = []
    for kind, cases in found.items():
        codes = [verdict.code for _, _, command, verdict in cases if command == "convert"]
        verdicts = [verdict for *_, verdict in cases]
        slowest, largest = max(one.seconds for one in verdicts), max(one.megabytes for one in verdicts)
        faults = sum(bool(one.faults) for one in verdicts)
        cells = (kind, len(codes), codes.count(2), codes.count(0), faults, f"{slowest:.1f}", f"{largest:.0f}")
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    faulty = [
        f"- {kind}, seed {seed}, {harm}, {command}: {', '.join(verdict.faults)}"
        for kind, cases in found.items()
        for seed, harm, command, verdict in cases
        if verdict.faults
    ]
    table = "\n".join(rows)
    listed = "\n".join(faulty) or "None did what it should not."
    harms = "\n".join(f"- {harm.__name__}: {(harm.__doc__ or '').rstrip('.').lower()}" for harm in damaged.DAMAGES)
    return f"""# Damaged files: {count} over all readers

`LIMNER_DATA=FOLDER python benchmarks/damage.py`, {dt.date.today()}, {platform.processor() or platform.machine()},
Python {platform.python_version()}, nibabel {version("nibabel")}, SimpleITK {version("SimpleITK")}.

A crop of a real scan in every format that is read, damaged by fixed seeds:

{harms}

`limner convert` runs on each, `limner check` on every {CHECKED}th, in a process of its own. A fault is a traceback, a
crash, more than {damaged.PATIENCE} s, an exit code other than 0 (read) and 2 (refused), a file left behind by a
refusal, a missing or broken one, or a refusal without a word. What is still read may have other voxels, where a format
has no checksum.

| format | damaged | refused | still read | faults | slowest, CPU s | most memory, MB |
|---|---|---|---|---|---|---|
{table}

{listed}
"""


if __name__ == "__main__":
    main()
