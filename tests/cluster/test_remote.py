"""Workers of a Dask cluster: a real one on this machine, and one that a stand-in for `sbatch` starts."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from cluster.toys import items, job, tried
from limner import __version__
from limner.check import InputError
from limner.cluster import Cluster, Item, Job, Outcome, Profile, Progress, Slurm, worked_through


def worked(of: list[Item], by: Job, where: Cluster | Slurm) -> dict[str, Outcome]:
    return {outcome.name: outcome for outcome in worked_through(of, by, executor=where, progress=Progress())}


@contextmanager
def running() -> Iterator[str]:
    """Yield the address of a scheduler with two workers, in processes of their own that are replaced when they die."""
    from dask import config
    from distributed import LocalCluster

    # Two workers that die are enough to give up, instead of four: it takes time to start them.
    with (
        config.set({"distributed.scheduler.allowed-failures": 1}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
    ):
        yield cluster.scheduler_address


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of two workers."""
    with running() as address:
        yield address


def test_a_cluster_does_the_work(tmp_path: Path, address: str) -> None:
    some = items(tmp_path / "in", *"abcdefgh", "refused", "mistaken")
    found = worked(some, job(tmp_path / "out"), Cluster(address))
    assert {name for name, outcome in found.items() if outcome.error is None} == {*"abcdefgh"}
    assert found["mistaken"].error == "ZeroDivisionError: oh"
    assert len((tmp_path / "out/begun").read_text().split()) <= 2
    # Where nothing is left to do, nobody is asked.
    assert all(outcome.known for outcome in worked(some[:8], job(tmp_path / "out"), Cluster("nowhere")).values())
    assert sorted(tried(tmp_path / "out")) == sorted([*"abcdefgh", "refused", "mistaken"])


def test_a_worker_of_a_cluster_that_dies_is_replaced(tmp_path: Path) -> None:
    with running() as address:
        found = worked(items(tmp_path / "in", "weak", "dying", *"abc"), job(tmp_path / "out"), Cluster(address))
    assert {name for name, outcome in found.items() if outcome.error is None} == {"weak", *"abc"}
    assert found["dying"].error.startswith("the workers that it was sent to ended one after another, the last at tcp:")
    assert tried(tmp_path / "out").count("a") == 1


def test_a_full_disk_stops_the_cluster(tmp_path: Path, address: str) -> None:
    found = worked(items(tmp_path / "in", "full", *"abcdefghij"), job(tmp_path / "out"), Cluster(address))
    assert "because the disk is full" in found["j"].error
    # What was on its way already is done.
    assert len(tried(tmp_path / "out")) < 11


def test_a_dead_scheduler_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limner.cluster.remote.PATIENCE", 1)
    for address in ("tcp://127.0.0.1:9", "nonsense://x"):
        with pytest.raises(InputError, match=f"no Dask scheduler answers at '{address}' .*expected one that runs"):
            worked(items(tmp_path / "in", "a"), job(tmp_path / "out"), Cluster(address))


def test_without_dask_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.setitem(sys.modules, "dask_jobqueue.slurm", None)
    with pytest.raises(InputError, match=r"--cluster needs dask.*run `pip install 'limner\[cluster\]'`"):
        worked(items(tmp_path / "in", "a"), job(tmp_path / "out"), Cluster("tcp://127.0.0.1:9"))
    with pytest.raises(InputError, match=r"--slurm needs dask.*run `pip install 'limner\[cluster\]'`"):
        Slurm(Profile()).script()


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the commands of dask, `tmp_path` first on their path; what is left of them is killed in the end."""
    processes = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "dask", *arguments, "--host", "127.0.0.1"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
        log = (tmp_path / f"{len(processes)}.log").open("w")
        process = subprocess.Popen(
            command, env=environment, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True, text=True
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.skipif(os.name != "posix", reason="kills processes")
def test_a_scheduler_that_goes_away_is_told(tmp_path: Path, started: Callable[..., subprocess.Popen[str]]) -> None:
    port = str(free_port())
    scheduler = started("scheduler", "--port", port, "--no-dashboard")
    started("worker", f"tcp://127.0.0.1:{port}", "--nthreads", "1", "--no-dashboard")
    of, where = items(tmp_path / "in", "a", "slow"), Cluster(f"tcp://127.0.0.1:{port}")
    found = worked_through(of, job(tmp_path / "out"), executor=where, progress=Progress())
    assert next(found).error is None
    scheduler.kill()
    with pytest.raises(InputError, match="the Dask scheduler at 'tcp:.*' was lost; what was finished is kept"):
        list(found)


@pytest.mark.skipif(os.name != "posix", reason="kills processes")
def test_workers_that_do_several_items_at_once_are_refused(
    tmp_path: Path, started: Callable[..., subprocess.Popen[str]]
) -> None:
    port = str(free_port())
    started("scheduler", "--port", port, "--no-dashboard")
    started("worker", f"tcp://127.0.0.1:{port}", "--nthreads", "3", "--no-dashboard")
    where = Cluster(f"tcp://127.0.0.1:{port}")
    with pytest.raises(InputError, match="takes 3 items at once; expected one each.*--nthreads 1"):
        worked(items(tmp_path / "in", "a"), job(tmp_path / "out"), where)
    assert tried(tmp_path / "out") == []


@pytest.mark.skipif(os.name != "posix", reason="kills processes")
def test_workers_of_another_version_are_refused(tmp_path: Path, started: Callable[..., subprocess.Popen[str]]) -> None:
    (tmp_path / "limner-9.9.dist-info").mkdir()
    (tmp_path / "limner-9.9.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: limner\nVersion: 9.9\n")
    port = str(free_port())
    started("scheduler", "--port", port, "--no-dashboard")
    started("worker", f"tcp://127.0.0.1:{port}", "--nthreads", "1", "--no-dashboard")
    where = Cluster(f"tcp://127.0.0.1:{port}")
    with pytest.raises(InputError, match=f"worker 'tcp:.*' runs limner 9.9 but limner {__version__} sends it work"):
        worked(items(tmp_path / "in", "a"), job(tmp_path / "out"), where)
    assert tried(tmp_path / "out") == []


# --- SLURM


def test_the_script_says_what_the_profile_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where the folder of the jobs' output is made
    profile = Profile(
        jobs=3, workers=4, threads=2, memory=3.5, walltime="1-12:00:00", queue="long", account="lab",
        directives=("--qos=night",), setup=("module load python",), logs="logs", scratch="/scratch",
        interface="lo", python="/opt/python",
    )  # fmt: skip
    lines = Slurm(profile).script().splitlines()
    assert lines[0].startswith("#!")
    assert {line for line in lines if line.startswith("#SBATCH")} == {
        "#SBATCH -J limner", "#SBATCH -e logs/limner-%J.err", "#SBATCH -o logs/limner-%J.out", "#SBATCH -p long",
        "#SBATCH -A lab", "#SBATCH -n 1", "#SBATCH --cpus-per-task=8", "#SBATCH --mem=14G", "#SBATCH -t 1-12:00:00",
        "#SBATCH --qos=night",
    }  # fmt: skip
    command = lines[-1]
    assert "module load python" in lines
    assert command.startswith("/opt/python -m distributed.cli.dask_worker tcp://127.0.0.1:")
    for option in ("--nthreads 1", "--nworkers 4", "--local-directory /scratch", "--interface lo"):
        assert option in command


def test_a_profile_is_read_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "night.toml"
    path.write_text('jobs = 20\nmemory = 6\nwalltime = "04:00:00"\n')
    assert Slurm.of(path).profile == Profile(jobs=20, memory=6.0)
    path.write_text("job = 20\n")
    with pytest.raises(InputError, match="night.toml' has the unknown setting job; .* did you mean 'jobs'"):
        Slurm.of(path)


def test_without_sbatch_nothing_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="--slurm submits jobs but this machine has no `sbatch`; expected a node"):
        worked(items(tmp_path / "in", "a"), job(tmp_path / "out"), Slurm(Profile()))
    assert tried(tmp_path / "out") == []


#: Runs the script that it is given at once, and says so as SLURM does.
SBATCH = """#!/bin/sh
cp "$1" "{home}/submitted"
printf x >> "{home}/submissions"
# The script may be deleted as soon as this returns: it is the copy that runs.
PYTHONPATH="{path}" sh "{home}/submitted" > "{home}/worker.log" 2>&1 &
echo $! > "{home}/pid"
echo "Submitted batch job $!"
"""


@pytest.mark.skipif(os.name != "posix", reason="runs shell scripts")
def test_slurm_does_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    path = os.pathsep.join(filter(None, sys.path))
    scripts = {"sbatch": SBATCH.format(home=tmp_path, path=path), "scancel": '#!/bin/sh\nkill "$1"\n'}
    for name, text in scripts.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    profile = Profile(jobs=9, workers=2, interface="lo", scratch=str(tmp_path / "scratch"))
    found = worked(items(tmp_path / "in", "a", "refused"), job(tmp_path / "out"), Slurm(profile))
    assert {name: outcome.error for name, outcome in found.items()} == {
        "a": None, "refused": "this one cannot be copied",
    }  # fmt: skip
    assert "--nworkers 2" in (tmp_path / "submitted").read_text()
    # One job has room for both.
    assert (tmp_path / "submissions").read_text().count("x") == 1
