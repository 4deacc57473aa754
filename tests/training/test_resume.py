"""Runs that are killed go on as if they had not been."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

TESTS = Path(__file__).parents[1]
STEPS = 200
PROGRAM = """
import sys
from pathlib import Path
from training.toys import launched
launched(1, Path(sys.argv[1]), name=sys.argv[2], steps=int(sys.argv[3]), checkpoint_every=7, accumulate=2, batch=2)
"""


def start(folder: Path, name: str) -> subprocess.Popen[bytes]:
    """Train in a process of its own, slowly enough to be killed."""
    environment = dict(os.environ) | {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(folder), name, str(STEPS)], env=environment)


def kill_at(folder: Path, name: str, step: int) -> None:
    """Start or resume a run, and kill it as soon as it has written the line of a step."""
    process = start(folder, name)
    while process.poll() is None and steps_done(folder) < step:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL


def steps_done(folder: Path) -> int:
    path = folder / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def lines(folder: Path) -> list[dict[str, object]]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in found]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Noisy", "TwoPlayers"])
def test_killed_five_times_at_any_step(tmp_path: Path, name: str) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert start(whole, name).wait() == 0
    for step in sorted(np.random.default_rng(len(name)).integers(1, STEPS - 50, 5).tolist()):
        kill_at(parts, name, step)
    assert start(parts, name).wait() == 0
    expected, found = (load_file(folder / "only.safetensors") for folder in (whole, parts))
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        assert value.tobytes() == found[key].tobytes(), key
    assert lines(parts) == lines(whole)
    assert not list(parts.glob("only.0*"))
