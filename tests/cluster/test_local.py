"""Processes of one machine: they share the work, and may die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.toys import items, job, tried
from limner.check import InputError
from limner.cluster import Item, Job, Outcome, Processes, Progress, worked_through


def worked(of: list[Item], by: Job, count: int = 2) -> dict[str, Outcome]:
    found = worked_through(of, by, executor=Processes(count), progress=Progress())
    return {outcome.name: outcome for outcome in found}


def test_processes_share_the_work_and_begin_once(tmp_path: Path) -> None:
    found = worked(items(tmp_path / "in", *"abcdefgh"), job(tmp_path / "out"))
    assert {name: outcome.error for name, outcome in found.items()} == dict.fromkeys("abcdefgh")
    assert sorted(tried(tmp_path / "out")) == [*"abcdefgh"]
    begun = (tmp_path / "out/begun").read_text().split()
    assert len(begun) == len(set(begun)) <= 2
    assert str(os.getpid()) not in begun


def test_libraries_of_workers_are_told_of_threads_before_they_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    worked(items(tmp_path / "in", "curious"), job(tmp_path / "out"), count=1)
    assert (tmp_path / "out/curious.threads").read_text() == "1"
    assert "OPENBLAS_NUM_THREADS" not in os.environ


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    some = items(tmp_path / "in", "dying", "weak", "refused", *"abc")
    found = worked(some, job(tmp_path / "out"))
    assert {name for name, outcome in found.items() if outcome.error is None} == {"weak", *"abc"}
    assert found["dying"].error == (
        "its worker ended by signal 9 in each of 2 attempts, perhaps for lack of memory: try it alone, with fewer "
        "--workers"
    )
    assert {name: tried(tmp_path / "out").count(name) for name in ("dying", "weak", "a")} == {
        "dying": 2, "weak": 2, "a": 1,
    }  # fmt: skip


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="looks at memory")
def test_a_worker_that_takes_too_much_memory_is_ended(tmp_path: Path) -> None:
    greedy = Processes(1, memory=1e6)
    found = list(
        worked_through(items(tmp_path / "in", "slow"), job(tmp_path / "out"), executor=greedy, progress=Progress())
    )
    assert found[0].error == "its worker took more than 0.001 GB and was ended: raise --max-memory"


def test_a_full_disk_stops_all(tmp_path: Path) -> None:
    found = worked(items(tmp_path / "in", "full", *"abcdef"), job(tmp_path / "out"), count=1)
    assert tried(tmp_path / "out") == ["full"]
    assert "because the disk is full" in found["f"].error


def test_workers_that_work_otherwise_are_refused(tmp_path: Path) -> None:
    mine = job(tmp_path / "out")
    with pytest.raises(InputError, match="a worker has setting plain but fancy was asked for"):
        worked(
            items(tmp_path / "in", *"ab"), Job(mine.begin, type(mine.ledger)(mine.ledger.folder, {"setting": "fancy"}))
        )


SLOW = """
from pathlib import Path
from cluster.toys import items, job
from limner.cluster import Processes, Progress, worked_through
if __name__ == "__main__":
    home = Path({home!r})
    list(worked_through(items(home / "in", "a", "slow"), job(home / "out"), executor=Processes(2), progress=Progress()))
"""


def alive(pid: str) -> bool:
    """Tell whether a process computes: a dead one that nobody waits for does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_worker_outlives_the_whole(tmp_path: Path, how: signal.Signals) -> None:
    script = tmp_path / "slow.py"
    script.write_text(SLOW.format(home=str(tmp_path)))
    process = subprocess.Popen(
        [sys.executable, script],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 no threads here
    )
    until = time.monotonic() + 60
    while len(tried(tmp_path / "out")) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    workers = (tmp_path / "out/begun").read_text().split()
    process.send_signal(how)
    process.communicate(timeout=30)
    while any(map(alive, workers)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(alive, workers))
    assert worked(items(tmp_path / "in", "a"), job(tmp_path / "out"))["a"].known
