"""Many scans by many workers: the same tables whatever happens on the way, and nothing done twice."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from limner.check import InputError
from limner.cli.cohorts import Pace
from limner.files import open_volume, save_volume
from limner.inference import segment_scans
from limner.priors.averaging import build_atlas
from limner.priors.storage import save_prior
from tiny import LIMNER, environment, furnish, image, labels, limner, refused, table, whole

SCANS = [f"scan-{number}.nii.gz" for number in range(4)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four scans that differ, a prior, and what an undisturbed run in one process makes of them."""
    folder = furnish(tmp_path_factory.mktemp("home"))
    for number, name in enumerate(SCANS):
        save_volume(image(seed=number), folder / name)
    # A process of its own, as theirs: what ran before in this one may move the last digits.
    done = limner("segment", *SCANS, "--prior", "prior", "-o", "expected", at=folder)
    assert done.returncode == 0, done.stderr
    return folder


def same(out: Path, expected: Path) -> bool:
    """Tell whether labels and volumes are equal to the last digit, verdicts nearly, and the manifests but for times."""
    assert (out / "volumes.csv").read_text() == (expected / "volumes.csv").read_text()
    pd.testing.assert_frame_equal(*(pd.read_csv(folder / "qc.csv") for folder in (out, expected)), rtol=1e-3)
    for name in (path.name for path in expected.glob("*.nii.gz")):
        np.testing.assert_array_equal(open_volume(out / name).data, open_volume(expected / name).data)
    found, wanted = (json.loads((folder / "manifest.json").read_text()) for folder in (out, expected))
    for manifest in (found, wanted):
        del manifest["created"]
        for case in manifest["cases"]:
            del case["seconds"]
    assert found == wanted
    return True


def markers(out: Path) -> dict[str, int]:
    """When each scan's marker was written."""
    return {path.stem: path.stat().st_mtime_ns for path in (out / "ledger").glob("*.done")}


def begun(home: Path, out: Path, *options: str, finished: int = 1) -> subprocess.Popen[str]:
    """Start segmenting with two workers, and return when some scans are finished."""
    process = subprocess.Popen(
        [LIMNER, "segment", *SCANS, "--prior", "prior", "-o", out, "--workers", "2", *options],
        cwd=home,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A test run in the background hands down an ignored SIGINT, which would make the child deaf to it too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 no threads here
    )
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until and len(markers(out)) < finished:
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()
    return process


def workers(process: subprocess.Popen[str]) -> list[int]:
    """The workers of a run, the oldest first."""
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(one) for one in found if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]


on_linux = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes to kill")


@on_linux
def test_a_worker_that_is_killed_changes_nothing(home: Path, tmp_path: Path) -> None:
    process = begun(home, tmp_path / "out")
    time.sleep(float(np.random.default_rng(0).uniform(0, 0.5)))
    done = markers(tmp_path / "out")
    os.kill(workers(process)[0], signal.SIGKILL)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert f"{len(SCANS)}/{len(SCANS)}" in told
    assert done.items() <= markers(tmp_path / "out").items()
    assert same(tmp_path / "out", home / "expected")


@on_linux
@pytest.mark.parametrize("group", [False, True], ids=["the process in charge", "everything"])
def test_a_run_that_is_killed_goes_on(home: Path, tmp_path: Path, *, group: bool) -> None:
    process = begun(home, tmp_path / "out")
    time.sleep(float(np.random.default_rng(group).uniform(0, 0.5)))
    (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    done = markers(tmp_path / "out")
    again = limner("segment", *SCANS, "--prior", "prior", "-o", tmp_path / "out", "--workers", "1", at=home)
    assert again.returncode == 0, again.stderr
    assert f"{len(done)} of 4 were finished before" in again.stderr
    assert done.items() <= markers(tmp_path / "out").items()
    assert same(tmp_path / "out", home / "expected")


@on_linux
def test_interrupted_workers_end_quietly(home: Path, tmp_path: Path) -> None:
    process = begun(home, tmp_path / "out")
    crew = workers(process)
    while not (tmp_path / "out/manifest.json").exists():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told.splitlines()[-1] == "limner: interrupted; what was finished is kept"
    assert "Traceback" not in told
    assert not [one for one in crew if Path(f"/proc/{one}").exists()]
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert [case["name"] for case in manifest["cases"]] == sorted(markers(tmp_path / "out"))


def test_what_changed_is_said_and_done_again(home: Path, tmp_path: Path) -> None:
    two = [tmp_path / name for name in SCANS[:2]]
    for path in two:
        shutil.copy(home / path.name, path)
    shutil.copytree(home / "expected", tmp_path / "out")
    before = markers(tmp_path / "out")
    segment_scans(two, tmp_path / "out", prior=home / "prior")  # the same scans, only elsewhere
    assert markers(tmp_path / "out") == before
    save_volume(image(seed=9), two[1])
    with pytest.raises(InputError, match=r"'scan-1' in '.*out' is of '.*home.*' but '.*' would have the same name"):
        segment_scans(two, tmp_path / "out", prior=home / "prior")
    segment_scans(two, tmp_path / "out", prior=home / "prior", redo=True)
    assert markers(tmp_path / "out").keys() == {"scan-0", "scan-1"}
    assert markers(tmp_path / "out")["scan-0"] != before["scan-0"]
    shutil.copy(home / two[1].name, two[1])
    done = limner("segment", *two, "--prior", home / "prior", "-o", "out", at=tmp_path)
    assert "1 of 2 were finished before" in done.stderr
    assert "changed since they were finished, and done again: scan-1" in done.stderr
    np.testing.assert_array_equal(
        open_volume(tmp_path / "out/scan-1_labels.nii.gz").data,
        open_volume(home / "expected/scan-1_labels.nii.gz").data,
    )


def test_results_of_something_else_are_refused(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "expected", tmp_path / "out")
    save_prior(build_atlas({"map": labels}, table(tmp_path), spacing=2, blur=2), tmp_path / "prior")
    for arguments, differing in (
        (["--prior", tmp_path / "prior"], r"prior "),
        (["--prior", "prior", "--outliers", "0.02"], "options.method.outliers 0.0, now 0.02"),
    ):
        line = refused(limner("segment", *SCANS, "-o", tmp_path / "out", *arguments, at=home))
        assert line.startswith(f"limner: '{tmp_path / 'out'}' holds results of another run ({differing}")
        assert line.endswith("choose another -o, or do all of it again with --redo")
        assert same(tmp_path / "out", home / "expected")


def test_pace_leaves_out_what_was_finished_before() -> None:
    pace = Pace(500, known=100)
    assert str(pace) == ""
    pace.completed, pace.began = 130, pace.began - 1800
    assert re.fullmatch(r"60 an hour, 6:10:0\d left", str(pace))
    slow = Pace(4, known=0)
    slow.completed, slow.began = 1, slow.began - 3600
    assert re.fullmatch(r"1.0 an hour, 3:00:0\d left", str(slow))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-memory", "0.5"], "segmenting it takes about 0.5"),
        (["--workers", "9999"], "9999 workers of 2.2 GB each take 2.2e+04 GB but the machine has "),
        (["--workers", "2", "--cluster", "tcp://10.0.0.1:8786"], "--workers and --cluster were given; expected one of"),
        (["--slurm", "none.toml"], "'none.toml' does not exist; expected a file"),
        (["--slurm", "none.toml", "--threads", "2"], "--threads with --slurm; expected settings of its profile"),
        (["--cluster", "nonsense://x"], "no Dask scheduler answers at 'nonsense://x'"),
    ],
)
def test_workers_that_cannot_be(home: Path, tmp_path: Path, options: list[str], message: str) -> None:
    done = limner("segment", SCANS[0], "--prior", "prior", "-o", tmp_path / "out", *options, at=home)
    assert message in refused(done)
    assert not [name for name in whole(tmp_path) if name.endswith(".gz")]


# --- a disk that is full in the middle of it

#: Two runs in a folder that first has room for one scan or two, and then for all.
FULL = """
set -u
mkdir -p "$1"
mount -t tmpfs -o size=64k none "$1" || exit 99
"$2" segment {scans} --prior prior -o "$1" --workers 1
echo "first $? $(ls "$1/ledger" | grep -c done)"
mount -o remount,size=20m "$1"
"$2" segment {scans} --prior prior -o "$1" --workers 1
echo "second $? $(ls "$1/ledger" | grep -c done)"
cp -r "$1" "$3"
"""


def test_disk_full_in_mid_cohort(home: Path, tmp_path: Path) -> None:
    script = FULL.format(scans=" ".join(SCANS))
    command = ["unshare", "-Urm", "sh", "-c", script, "sh", tmp_path / "out", LIMNER, tmp_path / "copy"]
    if shutil.which("unshare") is None:
        pytest.skip("needs `unshare` to mount a small disk")
    done = subprocess.run(
        command, cwd=home, env=environment(), capture_output=True, text=True, timeout=240, check=False
    )
    if done.returncode == 99 or "unshare failed" in done.stderr:
        pytest.skip("needs the right to mount a small disk")
    assert "Traceback" not in done.stderr
    first, second = (line.split() for line in done.stdout.splitlines() if line.split()[0] in ("first", "second"))
    assert "No space left on device" in done.stderr
    assert first[1] in ("1", "2")
    assert 0 < int(first[2]) < len(SCANS)
    assert f"{first[2]} of {len(SCANS)} were finished before" in done.stderr
    assert second[1:] == ["0", str(len(SCANS))]
    assert same(tmp_path / "copy", home / "expected")
