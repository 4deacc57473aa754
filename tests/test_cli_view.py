"""`limner view`, through its own process: what it says, what it serves, how it ends, and what it refuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest

from limner.files import save_volume
from limner.files.nanometres import placed
from limner.space import Grid, Volume

#: Beside the interpreter that runs the tests, as an installation puts it.
LIMNER = Path(sys.executable).with_name("limner")


def saved(path: Path, kind: str, size: int = 5, start: int = 0) -> None:
    grid = Grid((size, size, size), placed([40, 4, 4], [40 * start, 0, 0]))
    data = np.arange(size**3).reshape(grid.shape) % 7
    save_volume(Volume(data.astype(np.float32 if kind == "image" else np.uint64), grid, kind), path)


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
def test_it_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    saved(tmp_path / "raw.zarr", "image")
    saved(tmp_path / "found.zarr", "instances")
    process = subprocess.Popen(
        [LIMNER, "view", "raw.zarr", "--labels", "found.zarr", "--no-open"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background hands down an ignored SIGINT, which would make the child deaf to it too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 no threads here
    )
    line = process.stdout.readline()
    assert line.startswith("viewer: http://127.0.0.1:"), process.communicate()
    with urlopen(line.split()[1]) as page:
        assert b"<title>neuroglancer</title>" in page.read()
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert "Traceback" not in told
    assert "interrupted" not in told


def test_volumes_that_do_not_lie_together(tmp_path: Path) -> None:
    saved(tmp_path / "raw.zarr", "image")
    saved(tmp_path / "found.zarr", "instances", start=9)
    done = subprocess.run(
        [LIMNER, "view", "raw.zarr", "--labels", "found.zarr", "--no-open"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "limner: labels 'found' and image of 'raw' share no voxel; expected overlapping extents" in done.stderr
