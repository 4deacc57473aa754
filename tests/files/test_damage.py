"""Damaged files of every format end with a message and the right exit code; the benchmark does it to three hundred."""

from __future__ import annotations

from pathlib import Path

import pytest

import damaged
import tiny


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Sound files, by kind."""
    return damaged.furnish(tmp_path_factory.mktemp("sound") / "files", tiny.image())


KINDS = (
    "nii",
    "nii.gz",
    "mgh",
    "mgz",
    "npy",
    "npz",
    "nrrd",
    "nhdr",
    "mha",
    "mhd",
    "tif",
    "h5",
    "zarr",
    "ome.zarr",
    "n5",
    "png",
    "jpg",
    "dicom",
)


def test_sound_files_pass(sound: dict[str, Path], tmp_path: Path) -> None:
    assert set(sound) == set(KINDS)
    for kind, path in sound.items():
        (tmp_path / kind).mkdir()
        verdict = damaged.judged("convert", path, folder=tmp_path / kind)
        assert (verdict.code, verdict.faults) == (0, ()), (kind, verdict.words)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_do_no_harm(sound: dict[str, Path], tmp_path: Path, kind: str) -> None:
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        folder.mkdir()
        path, harm = damaged.damage(kind, sound[kind], seed=seed, folder=folder)
        for command in ("convert", "check")[seed:]:
            verdict = damaged.judged(command, path, folder=folder)
            assert verdict.faults == (), (seed, harm, command, verdict.words)
            (folder / damaged.WRITTEN[0]).unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("import os; os.abort()", "exit code -6"),
        ("raise KeyError('x')", "traceback"),
        ("import time; time.sleep(60)", "took over 1 s"),
        ("import pathlib; pathlib.Path('HERE/.half').touch(); raise SystemExit(2)", "left ['.half']"),
        ("raise SystemExit(0)", "left ['out.nii.gz']"),
    ],
)
def test_the_judge_sees_faults(
    sound: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: str, fault: str
) -> None:
    program = statement.replace("HERE", str(tmp_path))
    monkeypatch.setattr("limner.cli.main", lambda: exec(program))
    monkeypatch.setattr(damaged, "PATIENCE", 1)
    assert fault in damaged.judged("convert", sound["nii"], folder=tmp_path, method="fork").faults
