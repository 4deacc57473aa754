"""A head of three ellipsoids, so small that a command on it takes little more than its start; and the command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limner.files import save_volume
from limner.priors.averaging import build_atlas
from limner.priors.storage import save_prior
from limner.space import Array, Grid, LabelTable, Volume

#: Id, centre and half axes in mm, painted one over the other. Not symmetric, so that all 48 orientations differ.
HEAD = [(1, (0, 0, 0), (15, 20, 17)), (2, (0, 0, 0), (11, 16, 13)), (3, (3, 4, 2), (4, 6, 5))]
MEANS = (0, 60, 110, 30)
TABLE = "id\tname\n1\trind\n2\tpulp\n3\tstone\n"
GRID = Grid((20, 24, 22), np.array([[2, 0, 0, -19], [0, 2, 0, -23], [0, 0, 2, -21], [0, 0, 0, 1.0]]))
#: Beside the interpreter that runs the tests, as an installation puts it.
LIMNER = Path(sys.executable).with_name("limner")


def labels() -> Volume:
    """The head's labels."""
    points = GRID.world(np.moveaxis(np.indices(GRID.shape), 0, -1))
    data = np.zeros(GRID.shape, np.int32)
    for label, centre, axes in HEAD:
        data[(((points - np.array(centre)) / np.array(axes)) ** 2).sum(-1) <= 1] = label
    return Volume(data, GRID, "labels")


def image(seed: int = 0) -> Volume:
    """A stripped scan of the head, with noise of sd 4."""
    data = labels().data
    noise = np.random.default_rng(seed).normal(0, 4, data.shape) * (data > 0)
    return Volume(np.float32(np.array(MEANS)[data] + noise), GRID, "image")


def table(folder: Path) -> LabelTable:
    """The head's label table, read from the file that it is written to."""
    (folder / "table.tsv").write_text(TABLE)
    return LabelTable.read(folder / "table.tsv")


def furnish(folder: Path) -> Path:
    """Put into a folder the head's `scan.nii.gz`, its labels `map.nii.gz`, `table.tsv` and a `prior`."""
    save_volume(image(), folder / "scan.nii.gz")
    save_volume(labels(), folder / "map.nii.gz")
    save_prior(build_atlas({"map": labels}, table(folder), spacing=2, blur=1), folder / "prior")
    return folder


def limner(*arguments: object, at: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run limner in the folder `at`, and wait for it."""
    return subprocess.run(
        [LIMNER, *map(str, arguments)],
        cwd=at,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        **options,
    )


def environment() -> dict[str, str]:
    """What a command finds around it: one thread, since waiting for others costs more on volumes like these."""
    return dict(os.environ) | {"OMP_NUM_THREADS": "1", "COLUMNS": "120"}


def refused(done: subprocess.CompletedProcess[str], code: int = 2) -> str:
    """Return the line on stderr that begins `limner: `, having seen to it that there is one, and the code is right."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("limner: ")]
    return line


def whole(folder: Path) -> list[str]:
    """Return the names of what is in a folder and below, having seen to it that nothing is hidden or half-written.

    The ledger, which is not for users, is left out.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.parent.name != "ledger")
    assert not [path for path in paths if path.name.startswith(".")]
    return [str(path.relative_to(folder)) for path in paths]


def dice(found: Array, expected: NDArray[Any]) -> float:
    """Return the mean overlap of the head's three labels in two arrays."""
    return float(
        np.mean(
            [
                2 * ((found == k) & (expected == k)).sum() / ((found == k).sum() + (expected == k).sum())
                for k in (1, 2, 3)
            ]
        )
    )
