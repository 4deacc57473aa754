"""The commands do their work through their own process; what is wrong with the input is in test_cli_bad_input.py."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from limner import __version__
from limner.cli.arguments import model_folder
from limner.files import open_volume, save_volume
from limner.methods.storage import MODELS
from limner.space import Volume
from tiny import LIMNER, dice, environment, furnish, image, labels, limner, refused, whole


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a scan, its labels, a table and a prior."""
    return furnish(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def out(home: Path) -> Path:
    """What `limner segment` makes of two scans."""
    for name in ("ann", "bob"):
        (home / name).mkdir()
        shutil.copy(home / "scan.nii.gz", home / name / "t1.nii.gz")
    done = limner("segment", "ann/t1.nii.gz", "bob/t1.nii.gz", "--prior", "prior", "-o", "new/out", at=home)
    assert done.returncode == 0, done.stderr
    assert "report: new/out/report.html" in done.stdout
    assert "labels: new/out" in done.stdout
    assert "2/2" in done.stderr
    return home / "new/out"


# --- what is asked of the command line itself


def test_version(tmp_path: Path) -> None:
    done = limner("--version", at=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{__version__}\n")


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []])
def test_help_lists_the_commands(tmp_path: Path, arguments: list[str]) -> None:
    done = limner(*arguments, at=tmp_path)
    assert done.returncode == (0 if arguments else 2)
    for command in ("demo", "atlas", "train", "segment", "evaluate", "report", "check"):
        assert f" {command} " in done.stdout


@pytest.mark.parametrize("command", ["demo", "atlas", "train", "segment", "evaluate", "report", "check"])
def test_help_of_a_command(tmp_path: Path, command: str) -> None:
    done = limner(command, "--help", at=tmp_path)
    assert done.returncode == 0
    assert f"Usage: limner {command}" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["segmnt"], "No such command 'segmnt'"),
        (["segment", "--pior", "x"], "No such option: --pior"),
        (["segment", "scan.nii.gz"], "Missing option '-o'"),
        (["atlas", "map.nii.gz", "-o", "x", "--spacing", "wide"], "Invalid value for '--spacing'"),
        (["segment", "scan.nii.gz", "-o", "x", "--outliers", "2"], "Invalid value for '--outliers'"),
        (["train", "recipe.toml"], "Missing option '-o'"),
        (["train", "recipe.toml", "-o", "x", "--seeds", "1"], "Invalid value for '--seeds'"),
    ],
)
def test_misused(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    done = limner(*arguments, at=tmp_path)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    assert whole(tmp_path) == []


# --- segment


def test_segment_writes_what_the_guide_says(out: Path) -> None:
    names = [f"{case}_t1_{kind}.nii.gz" for case in ("ann", "bob") for kind in ("labels", "uncertainty")]
    assert whole(out) == sorted([*names, "manifest.json", "qc.csv", "report.html", "volumes.csv"])
    manifest = json.loads((out / "manifest.json").read_text())
    assert [case["error"] for case in manifest["cases"]] == [None, None]
    assert manifest["prior"]["name"] == "prior"
    assert manifest["limner"] == __version__


def test_segment_finds_the_labels(out: Path) -> None:
    found = open_volume(out / "ann_t1_labels.nii.gz", kind="labels")
    assert dice(found.data, labels().data) > 0.9
    with (out / "volumes.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["case"] == "ann_t1"]
    counted = {row["name"]: float(row["volume_mm3"]) for row in rows}
    assert counted["pulp"] == np.count_nonzero(found.data == 2) * 8


def test_segment_to_one_file(home: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "labels.mgz"
    done = limner("segment", "scan.nii.gz", "--prior", "prior", "-o", target, at=home)
    assert done.returncode == 0, done.stderr
    assert whole(tmp_path) == ["new/labels.mgz"]
    assert open_volume(target, kind="labels").grid.matches(labels().grid)


def test_segment_with_all_options(home: Path, tmp_path: Path) -> None:
    save_volume(image(seed=1), tmp_path / "second.nii.gz")
    save_volume(Volume((labels().data > 0).astype(np.int32), labels().grid, "labels"), tmp_path / "mask.nii.gz")
    options = ["--channel", tmp_path / "second.nii.gz", "--mask", tmp_path / "mask.nii.gz", "--outliers", "0.01"]
    done = limner("segment", "scan.nii.gz", "--prior", "prior", "-o", tmp_path, "--posteriors", *options, at=home)
    assert done.returncode == 0, done.stderr
    structures = ("background", "outliers", "pulp", "rind", "stone")
    assert [name for name in whole(tmp_path) if "/" in name] == [
        f"scan_posteriors/{name}.nii.gz" for name in structures
    ]


def test_segment_says_what_it_tolerated(home: Path, tmp_path: Path) -> None:
    fine = image().data.repeat(2, 0).repeat(2, 1).repeat(2, 2)  # without an affine, voxels are of 1 mm
    np.savez(tmp_path / "bare.npz", vol_data=np.flip(fine.transpose(2, 0, 1), 1))
    done = limner("segment", tmp_path / "bare.npz", "--prior", "prior", "-o", tmp_path / "out", at=home)
    assert done.returncode == 0, done.stderr
    assert "bare.npz' has no affine" in done.stdout
    (case,) = json.loads((tmp_path / "out" / "manifest.json").read_text())["cases"]
    assert f"they were found to lead {case['orientation']} by trying all ways" in done.stdout


# --- evaluate, report, check, atlas


def test_evaluate_pairs_and_prints(home: Path, out: Path, tmp_path: Path) -> None:
    for name in ("ann", "bob"):
        (tmp_path / name).mkdir()
        shutil.copy(home / "map.nii.gz", tmp_path / name / "manual.nii.gz")
    references = [tmp_path / name / "manual.nii.gz" for name in ("ann", "bob")]
    arguments = ["evaluate", out, *references, "--labels", home / "table.tsv"]
    done = limner(*arguments, "-o", tmp_path / "scores.csv", at=home)
    assert done.returncode == 0, done.stderr
    assert "mean" in done.stdout
    assert " ± " in done.stdout
    with (tmp_path / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["case"] for row in rows} == {"ann_t1", "bob_t1"}
    assert {row["metric"] for row in rows} >= {"dice", "hd95", "asd", "volume"}


def test_evaluate_one_writes_json(home: Path, out: Path, tmp_path: Path) -> None:
    table = ["--labels", "table.tsv", "-o", tmp_path / "scores.json"]
    done = limner("evaluate", out / "ann_t1_labels.nii.gz", "map.nii.gz", *table, "--each", at=home)
    assert done.returncode == 0, done.stderr
    assert "±" not in done.stdout
    rows = json.loads((tmp_path / "scores.json").read_text())
    (score,) = [row["value"] for row in rows if (row["structure"], row["metric"]) == ("pulp", "dice")]
    assert score > 0.9


def test_report_shows_scores(home: Path, out: Path) -> None:
    done = limner("report", out, "ann/t1.nii.gz", at=home)
    assert "limner: " in refused(done)
    shutil.copy(home / "map.nii.gz", home / "ann" / "map.nii.gz")
    shutil.copy(home / "map.nii.gz", home / "bob" / "map.nii.gz")
    done = limner("report", out, "ann/map.nii.gz", "bob/map.nii.gz", at=home)
    assert done.returncode == 0, done.stderr
    assert "Against the references" in (out / "report.html").read_text(encoding="utf-8")


def test_check_tells_images_from_labels(home: Path) -> None:
    done = limner("check", "scan.nii.gz", "map.nii.gz", "--labels", "table.tsv", at=home)
    assert done.returncode == 0
    assert "20 x 24 x 22 voxels of 2 x 2 x 2 mm, axes lead RAS" in done.stdout
    assert "3 labels (voxels): rind" in done.stdout


def test_a_prior_from_a_folder_of_maps(home: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        shutil.copy(home / "map.nii.gz", tmp_path / f"map-{number}.nii.gz")
    (tmp_path / ".0a1b-map-3.nii.gz").write_bytes(b"half")
    arguments = ["--labels", "table.tsv", "--spacing", "2", "-o", tmp_path / "a/prior"]
    for bends in (True, False):
        done = limner("atlas", tmp_path, *arguments, *([] if bends else ["--affine"]), at=home)
        assert done.returncode == 0, done.stderr
        assert "prior of 2 maps, 3 labels" in done.stdout
        assert "1/1" in done.stderr
        assert {path.name for path in (tmp_path / "a/prior").iterdir()} == {"prior.json", "tensors.safetensors.xz"}
        assert (json.loads((tmp_path / "a/prior/prior.json").read_text())["warps"] is not None) is bends


# --- stopped on the way


def begun(home: Path, out: Path, *, scans: int) -> subprocess.Popen[str]:
    """Start segmenting many scans, and return when the first is finished."""
    names = [f"scan-{number}.nii.gz" for number in range(scans)]
    for name in names:
        shutil.copy(home / "scan.nii.gz", out.parent / name)
    process = subprocess.Popen(
        [LIMNER, "segment", *names, "--prior", home / "prior", "-o", out],
        cwd=out.parent,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background hands down an ignored SIGINT, which would make the child deaf to it too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 no threads here
    )
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until and not finished(out):
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()
    return process


def finished(out: Path) -> list[str]:
    """The scans that an output folder's manifest knows."""
    manifest = out / "manifest.json"
    return [case["name"] for case in json.loads(manifest.read_text())["cases"]] if manifest.exists() else []


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
def test_interrupted_keeps_what_is_finished(home: Path, tmp_path: Path) -> None:
    process = begun(home, tmp_path / "out", scans=40)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told.splitlines()[-1] == "limner: interrupted; what was finished is kept"
    assert "Traceback" not in told
    done = finished(tmp_path / "out")
    assert 0 < len(done) < 40
    written = whole(tmp_path / "out")
    assert {f"{name}_{kind}.nii.gz" for name in done for kind in ("labels", "uncertainty")} <= set(written)
    for name in written:
        if name.endswith(".gz"):
            open_volume(tmp_path / "out" / name)


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
def test_killed_and_run_again(home: Path, tmp_path: Path) -> None:
    process = begun(home, tmp_path / "out", scans=4)
    process.kill()
    process.communicate(timeout=60)
    (tmp_path / "out" / ".0a1b-scan-3_labels.nii.gz").write_bytes(b"half")
    names = [f"scan-{number}.nii.gz" for number in range(4)]
    done = limner("segment", *names, "--prior", home / "prior", "-o", "out", at=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(finished(tmp_path / "out")) == 4
    done = limner("check", "out", "--labels", home / "table.tsv", at=tmp_path)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("geometry") == 8


@pytest.mark.slow
def test_demo(tmp_path: Path) -> None:
    done = subprocess.run(
        [LIMNER, "demo", "-o", "shown"], cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "an average of 152 people" in done.stdout
    assert "report: shown/report.html" in done.stdout
    volumes = {line.split()[1]: float(line.split()[-2]) for line in done.stdout.splitlines() if line.startswith("│")}
    assert 4 < volumes["hippocampus"] < 14


def test_a_folder_goes_before_a_model_that_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert model_folder("anatomy") == MODELS / "anatomy"
    assert model_folder("run/model") == Path("run/model")
    (tmp_path / "anatomy").mkdir()
    assert model_folder("anatomy") == Path("anatomy")
