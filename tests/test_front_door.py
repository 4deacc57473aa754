"""What the README and the guide tell their readers to type does what they say."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import phantoms
from house.modules import ROOT
from house.readme import SHELLS, blocks, readme_blocks
from limner.files import open_volume, save_volume
from limner.space import LabelTable, Volume, resampled
from tiny import LIMNER, environment, limner, whole

GUIDE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [command for block in readme_blocks("shell") for command in block.commands]
PROGRAMS = [block.text for block in readme_blocks("python")]


def test_every_block_is_tried_below() -> None:
    assert {block.language for block in blocks(README)} <= SHELLS | {"python"}
    assert {shlex.split(command, comments=True)[0] for command in COMMANDS} == {"make", "limner", ".", "(echo"}
    assert len(PROGRAMS) == 1


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("make ")])
def test_make_knows_the_target(command: str) -> None:
    words = shlex.split(command, comments=True)
    done = subprocess.run([*words, "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {"demo": "limner demo", "test": "-m pytest"}[words[1]] in done.stdout


@pytest.fixture(scope="module")
def data(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder laid out like the real one: two people and two label maps, at 3 mm."""
    folder = tmp_path_factory.mktemp("data")
    names = {f"brains/person-{number}/brainmask.mgz": "image" for number in (1, 2)}
    names |= {f"brains/person-{number}/aseg.mgz": "labels" for number in (1, 2)} | {"brains/person-1/T1.mgz": "image"}
    names |= {f"label_maps/map-0{number}.nii.gz": "labels" for number in (1, 2)}
    for name, kind in names.items():
        volume = open_volume(real_data / name, kind=kind)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        save_volume(resampled(volume, volume.grid.spaced(3)), folder / name)
    return folder


def shorten(recipes: Path, out: Path) -> None:
    """Copy recipes whose stages take one step each, on large voxels."""
    out.mkdir()
    for path in recipes.glob("*.toml"):
        text = re.sub(r"(?m)^steps = [\d_]+", "steps = 1", path.read_text(encoding="utf-8"))
        text = re.sub(r"(?m)^spacing = (\d+)", lambda found: f"spacing = {4 * int(found[1])}", text)
        (out / path.name).write_text(text, encoding="utf-8")


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.timeout(900)  # eight commands on real scans: about five minutes
def test_the_commands_of_the_readme(data: Path, tmp_path: Path) -> None:
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").write_text(f"PATH={shlex.quote(str(LIMNER.parent))}:$PATH\n")
    shorten(ROOT / "recipes", tmp_path / "recipes")
    script = "\n".join(["set -eu", *(command for command in COMMANDS if not command.startswith("make "))])
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=environment() | {"LIMNER_DATA": str(data)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name in (".venv", "recipes", "run/cache", "run/checkpoints"):
        shutil.rmtree(tmp_path / name)
    kinds = ("labels", "uncertainty")
    first = {f"first/T1_{kind}.mgz" for kind in (*kinds, "mask")}
    every = {f"out/person-{number}_brainmask_{kind}.mgz" for number in (1, 2) for kind in kinds}
    learned = {f"learned/brainmask_{kind}.mgz" for kind in kinds}
    run = {f"run/{name}" for name in ("recipe.toml", "metrics.jsonl", "report.html")}
    run |= {f"run/model/{name}" for name in ("model.json", "weights.safetensors")}
    run |= {f"run/model/prior/{name}" for name in ("prior.json", "tensors.safetensors.xz")}
    tables = {
        f"{out}/{name}"
        for out in ("first", "out", "learned")
        for name in ("volumes.csv", "qc.csv", "manifest.json", "report.html")
    }
    prior = {"prior/prior.json", "prior/tensors.safetensors.xz"}
    files = first | every | learned | run | tables | prior
    assert set(whole(tmp_path)) == files | {"scores.csv", "scans.csv"}
    for name in re.findall(r"`(first/\S+?)`", README):
        assert (tmp_path / name).exists(), name
    for person in (1, 2):
        labels = open_volume(tmp_path / f"out/person-{person}_brainmask_labels.mgz", kind="labels")
        assert labels.grid.matches(open_volume(data / f"brains/person-{person}/brainmask.mgz").grid)
    assert "Against the references" in (tmp_path / "out/report.html").read_text(encoding="utf-8")
    mean = next(line for line in done.stdout.splitlines() if "mean" in line)
    assert float(re.findall(r"\d\.\d+", mean)[0]) > 0.6  # two maps at 3 mm make no good prior


def test_the_python_of_the_readme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = phantoms.labels(phantoms.grid(4))
    stripped = np.where(truth.data > 0, phantoms.image(truth), 0).astype(np.float32)
    save_volume(Volume(stripped, truth.grid, "image"), tmp_path / "scan.nii.gz")
    monkeypatch.chdir(tmp_path)
    exec(compile(PROGRAMS[0], "README.md", "exec"), {})
    assert (tmp_path / "scan_labels.nii.gz").exists()
    volumes = dict(line.rsplit(" ", 1) for line in capsys.readouterr().out.splitlines())
    assert float(volumes["Left-Cerebral-White-Matter"]) > 1000


def test_the_table_of_the_guide(tmp_path: Path) -> None:
    (block,) = [block for block in blocks(GUIDE) if not block.language]
    (tmp_path / "table.tsv").write_text(block.text)
    table = LabelTable.read(tmp_path / "table.tsv")
    assert table.structures == ("background", "core", "shell")
    assert table.tissues == ("background", "grey", "white")


def test_every_option_that_is_written_about_exists() -> None:
    commands = sorted(set(re.findall(r"`limner (\w+)", README + GUIDE)) | {"segment", "atlas", "evaluate"})
    helps = "".join(limner(command, "--help", at=ROOT).stdout for command in commands)
    written = set(re.findall(r"(?<![\w-])--[a-z]+(?:-[a-z]+)*", README + GUIDE))
    assert written
    assert written <= set(re.findall(r"--[a-z]+(?:-[a-z]+)*", helps))
