"""Find bad sections before segmenting: defects are made in sound sections of real volumes, and looked for.

    python benchmarks/sections.py    a minute; LIMNER_DATA names the folder of data

Every ninth section gets one kind of defect, of drawn strength, drawn five times. What is flagged of the volumes as they
are is told too, though some of those flags may be right.
"""

from __future__ import annotations

import argparse
import itertools
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limner.data.defects import blurred, darkened, missing, noisy, unfocused
from limner.files import open_volume
from limner.preparation.faults import faults, measured
from limner.preparation.sections import shifted

RESULTS = Path(__file__).parent / "results/sections.md"
VOLUMES = {
    "medulla, FIB-SEM": "em_neurons/medulla.hdf",
    "the same tissue, another place": "em_neurons/unlabelled.hdf",
    "membranes, ssTEM": "em_membranes/raw.tif",
}
FIRST, EVERY, DRAWS, FARTHEST = 4, 9, 5, 6
#: Faults that a defect may be told as.
TOLD = {
    "blurred": {"blurred"},
    "unfocused": {"blurred"},
    "darkened": {"dark"},
    "noisy": {"noisy"},
    "missing": {"missing"},
    "misaligned": {"misaligned"},
}
WAYS = {"blurred": blurred, "unfocused": unfocused, "darkened": darkened, "noisy": noisy, "missing": missing}


def opened(path: Path) -> NDArray[np.float32]:
    """Return a volume (Z, Y, X) of mean 0 and sd 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the voxel size of one is not told
        data = open_volume(path).data.astype(np.float32)
    return (data - data.mean()) / data.std()


def harmed(volume: NDArray[np.float32], kind: str, *, seed: int) -> tuple[NDArray[np.float32], set[int]]:
    """Return a volume some of whose sections have a defect, and which."""
    chosen = list(range(FIRST, len(volume) - 1, EVERY))
    found = torch.from_numpy(volume.copy())
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if kind == "misaligned":
            for section in chosen:
                found[section] = _moved(found[section])
        else:
            found[chosen] = WAYS[kind](found[chosen][:, None])[:, 0]
    return found.numpy(), set(chosen)


def _moved(section: Tensor) -> Tensor:
    """Return a section moved by 2 to 6 voxels along an axis at least."""
    while True:
        shift = torch.randint(-FARTHEST, FARTHEST + 1, (2,)).numpy()
        if np.abs(shift).max() >= 2:
            return torch.from_numpy(shifted(section.numpy(), shift))


def rows(data: Path) -> Iterator[str]:
    """Yield the lines of the table."""
    yield "| volume | defect | sections with it | found | and named | other sections flagged |"
    yield "|---|---|---|---|---|---|"
    for (name, path), kind in itertools.product(VOLUMES.items(), TOLD):
        volume, total = opened(data / path), Counter[str]()
        known = {one.section for one in faults(measured(volume))}
        for seed in range(DRAWS):
            bad, chosen = harmed(volume, kind, seed=seed)
            told = faults(measured(bad))
            total["bad"] += len(chosen)
            total["found"] += len({one.section for one in told} & chosen)
            total["named"] += len({one.section for one in told if one.kind in TOLD[kind]} & chosen)
            total["others"] += len({one.section for one in told} - chosen - known)
            total["sound"] += len(set(range(len(volume))) - chosen - known)
        found, named = (f"{total[key] / total['bad']:.0%}" for key in ("found", "named"))
        yield f"| {name} | {kind} | {total['bad']} | {found} | {named} | {total['others']} of {total['sound']} |"


def clean(data: Path) -> Iterator[str]:
    """Yield what is flagged of each volume as it is."""
    yield "| volume | sections | flagged as it is |"
    yield "|---|---|---|"
    for name, path in VOLUMES.items():
        volume = opened(data / path)
        told = "; ".join(f"{one.section} {one}" for one in faults(measured(volume))) or "none"
        yield f"| {name} | {len(volume)} | {told} |"


def main() -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, default=RESULTS, help="report to write")
    out, data = parser.parse_args().out, Path(os.environ["LIMNER_DATA"])
    words = f"Every {EVERY}th section of real volumes was given one kind of defect, as training does, drawn {DRAWS} "
    words += "times. The last column leaves out what is flagged of the volume as it is, which the second table has."
    lines = ["# Bad sections, found before segmenting", "", "Written by `benchmarks/sections.py`. " + words]
    out.write_text("\n".join([*lines, "", *rows(data), "", *clean(data)]) + "\n")


if __name__ == "__main__":
    main()
