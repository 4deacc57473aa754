"""From file to file, on a made-up head; real ones are in test_real_brains.py."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

import tiny
from limner.check import InputError
from limner.cluster import Outcome, Progress
from limner.files import open_volume, save_volume
from limner.inference import Options, segment_scans
from limner.methods.mixture import Mixture
from limner.space import Volume, reoriented


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a scan, its labels, a table and a prior."""
    return tiny.furnish(tmp_path_factory.mktemp("home"))


class Told(Progress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str]] = []

    def step(self, name: str, words: str) -> None:
        self.all.append((name, words))

    def finished(self, outcome: Outcome) -> None:
        self.all.append((outcome.name, "failed" if outcome.error else "finished"))


@pytest.mark.filterwarnings("ignore::limner.check.InputWarning")
def test_the_manifest_tells_what_was_done(home: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "bare.npz", vol_data=tiny.image().data.repeat(2, 0).repeat(2, 1).repeat(2, 2))
    (tmp_path / "empty.nii").touch()
    told = Told()
    cases = segment_scans(
        [tmp_path / "bare.npz", tmp_path / "empty.nii", home / "scan.nii.gz"],
        tmp_path / "out",
        prior=home / "prior",
        options=Options(method=Mixture(sweeps=1), orientation="RAS"),
        progress=told,
    )
    assert [case.error is None for case in cases] == [True, False, True]
    assert [case.orientation for case in cases] == ["RAS", None, None]
    assert any("has no affine" in note for note in cases[0].notes)
    assert cases[2].notes[-1].startswith("aligned to the prior at ")
    steps = ("reading", "aligning", "predicting", "labelling", "finished")
    failed = [("empty", "reading"), ("empty", "failed")]
    assert told.all == [*(("bare", step) for step in steps), *failed, *(("scan", step) for step in steps)]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [case["name"] for case in manifest["cases"]] == ["bare", "empty", "scan"]
    assert manifest["options"]["method"]["sweeps"] == 1


def test_a_mistake_of_ours_stops_no_other_scan(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("limner.inference.case.segment_volume", broken)
    (case,) = segment_scans([home / "scan.nii.gz"], tmp_path / "out", prior=home / "prior")
    assert case.error == "ZeroDivisionError: oh"


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mgz", ".npz"])
def test_geometry_comes_back_to_the_bit(home: Path, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"scan{ending}"
    turn = np.array([[0.8, -0.6, 0, 5], [0.6, 0.8, 0, -4], [0, 0, 1, 3], [0, 0, 0, 1]])
    scan = reoriented(tiny.image(), "LIA")
    save_volume(Volume(scan.data, scan.grid.moved(turn), "image"), path)
    if ending.startswith(".nii"):
        header = nibabel.load(path).header.copy()
        header["descrip"] = b"as it was"
        header.set_sform(header.get_sform() + np.eye(4, k=3) * 1e-3, 4)
        nibabel.save(nibabel.Nifti1Image(scan.data, None, header), path)
    (case,) = segment_scans([path], tmp_path / "out", prior=home / "prior")
    for name in (case.labels, case.uncertainty):
        before, after = open_volume(path), open_volume(tmp_path / "out" / name)
        np.testing.assert_array_equal(after.grid.affine, before.grid.affine)
        assert after.grid.shape == before.grid.shape
        if before.header is not None:
            fields = set(before.header) - {"datatype", "bitpix", "type"}
            assert {key for key in fields if before.header[key].tobytes() != after.header[key].tobytes()} == set()


def listed(folder: Path) -> set[str]:
    """Names of the labels in a folder's table of volumes."""
    with (folder / "volumes.csv").open() as file:
        return {row["name"] for row in csv.DictReader(file)}


def test_outliers_are_listed_only_where_they_are_expected(home: Path, tmp_path: Path) -> None:
    segment_scans([home / "scan.nii.gz"], tmp_path / "none", prior=home / "prior")
    assert listed(tmp_path / "none") == {"rind", "pulp", "stone"}
    options = Options(method=Mixture(outliers=0.01))
    segment_scans([home / "scan.nii.gz"], tmp_path / "some", prior=home / "prior", options=options)
    assert listed(tmp_path / "some") == {"rind", "pulp", "stone", "outliers"}
    tables = [json.loads((tmp_path / name / "manifest.json").read_text())["table"] for name in ("none", "some")]
    assert [len(table["labels"]) for table in tables] == [4, 5]


def test_n4_goes_first_for_the_scan_and_its_channels(home: Path, tmp_path: Path) -> None:
    told = Told()
    options = Options(n4=True, channels=(home / "scan.nii.gz",))
    (case,) = segment_scans(
        [home / "scan.nii.gz"],
        tmp_path / "out",
        prior=home / "prior",
        options=options,
        progress=told,
    )
    assert (case.error, [words for _, words in told.all[:2]]) == (None, ["reading", "evening by N4"])
    found = open_volume(tmp_path / "out" / case.labels, kind="labels")
    assert tiny.dice(found.data, tiny.labels().data) > 0.95
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["options"]["n4"] is True


@pytest.mark.parametrize("obstacle", ["scan_labels.nii.gz", "scan_posteriors/pulp.nii.gz"])
def test_a_scan_that_is_half_written_leaves_nothing(home: Path, tmp_path: Path, obstacle: str) -> None:
    (tmp_path / "out" / obstacle).mkdir(parents=True)
    options = Options(posteriors=True)
    (case,) = segment_scans([home / "scan.nii.gz"], tmp_path / "out", prior=home / "prior", options=options)
    assert "cannot be written" in case.error
    assert (case.labels, case.uncertainty) == ("", "")
    assert tiny.whole(tmp_path / "out") == ["manifest.json", "qc.csv", "volumes.csv"]
    assert listed(tmp_path / "out") == set()


def test_one_file_takes_the_labels_alone(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.nii.gz"
    with pytest.raises(InputError, match="is one file but --posteriors writes several; expected a folder"):
        segment_scans([home / "scan.nii.gz"], out, prior=home / "prior", options=Options(posteriors=True))
    assert not out.exists()
    segment_scans([home / "scan.nii.gz"], out, prior=home / "prior")
    assert tiny.dice(open_volume(out, kind="labels").data, tiny.labels().data) > 0.9
