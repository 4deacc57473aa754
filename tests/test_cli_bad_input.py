"""Each mistake a user can make ends with a line that says what to do, the right exit code, and nothing half-written."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from limner.files import open_volume, save_volume
from limner.space import Array, Grid, Volume
from tiny import GRID, TABLE, furnish, image, labels, limner, refused, whole


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a scan, its labels, a table and a prior."""
    return furnish(tmp_path_factory.mktemp("home"))


def saved(path: Path, data: Array, affine: Array = GRID.affine) -> None:
    """Write what another program might."""
    nibabel.save(nibabel.Nifti1Image(data, affine, dtype=data.dtype), path)


def altered(value: float) -> Array:
    """The scan with one voxel of another value."""
    data = image().data.copy()
    data[10, 12, 11] = value
    return data


# --- scans that cannot be segmented: all in one run, with a good one among them


def truncated(path: Path) -> None:
    save_volume(image(), path)
    path.write_bytes(path.read_bytes()[:5000])


def singular(path: Path) -> None:
    stored = nibabel.Nifti1Image(image().data, GRID.affine)
    stored.header["srow_z"] = 0
    nibabel.save(nibabel.Nifti1Image(image().data, None, stored.header), path)


BAD_SCANS: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (truncated, "the file is probably damaged or cut short: copy or export it again"),
    "empty": (Path.touch, "is empty (0 bytes); expected a file with contents"),
    "page": (lambda path: path.write_text("<html>404</html>"), "is named as a gzip file but is not one"),
    "nan": (lambda path: saved(path, altered(np.nan)), "has NaN or infinite values in 1 of 10560 voxels"),
    "infinite": (lambda path: saved(path, altered(np.inf)), "has NaN or infinite values in 1 of 10560 voxels"),
    "constant": (lambda path: saved(path, np.full(GRID.shape, 7.0)), "is constant, 7 in every voxel"),
    "series": (lambda path: saved(path, np.stack([image().data] * 2, -1)), "has 4 dimensions, shape (20, 24, 22, 2)"),
    "slice": (
        lambda path: saved(path, image().data[:, :, 10:11]),
        "the image has shape (20, 24, 1); expected three axes",
    ),
    "singular": (singular, "is singular, "),
    "unstripped": (
        lambda path: saved(path, image().data + 1 + np.arange(22)),
        "of the image has the value of its border",
    ),
    "giant": (
        lambda path: saved(path, image().data, np.diag([10.0, 10, 10, 1])),
        "the prior fits the scan only at 4",
    ),
    "missing": (lambda _: None, "does not exist; expected a file: check the path"),
}


@pytest.fixture(scope="module")
def batch(home: Path) -> tuple[Path, dict[str, str]]:
    """The output folder of a run over bad scans and a good one, and by scan what stderr says."""
    folder = home / "batch"
    folder.mkdir()
    paths = {name: folder / f"{name}.nii.gz" for name in BAD_SCANS}
    for name, (write, _) in BAD_SCANS.items():
        write(paths[name])
    done = limner("segment", *paths.values(), "scan.nii.gz", "--prior", "prior", "-o", "batch/out", at=home)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("limner: ")]
    return folder / "out", {line.split()[1]: line for line in lines}


@pytest.mark.parametrize("name", BAD_SCANS)
def test_bad_scan_among_good_ones(batch: tuple[Path, dict[str, str]], name: str) -> None:
    out, said = batch
    assert said[name].startswith(f"limner: {name} failed: ")
    assert BAD_SCANS[name][1] in said[name]
    manifest = json.loads((out / "manifest.json").read_text())
    (case,) = [case for case in manifest["cases"] if case["name"] == name]
    assert case["error"] in said[name]
    assert name in (out / "report.html").read_text(encoding="utf-8")


def test_the_good_scan_is_finished(batch: tuple[Path, dict[str, str]]) -> None:
    out, said = batch
    assert set(said) == set(BAD_SCANS)
    assert whole(out) == [
        "manifest.json", "qc.csv", "report.html", "scan_labels.nii.gz", "scan_uncertainty.nii.gz", "volumes.csv",
    ]  # fmt: skip


def test_a_bad_scan_alone(home: Path, tmp_path: Path) -> None:
    (tmp_path / "scan.nii.gz").touch()
    done = limner("segment", "scan.nii.gz", "--prior", home / "prior", "-o", "out", at=tmp_path)
    assert "is empty (0 bytes)" in refused(done)
    assert whole(tmp_path / "out") == ["manifest.json", "qc.csv", "report.html", "volumes.csv"]
    done = limner("segment", "scan.nii.gz", "--prior", home / "prior", "-o", "labels.nii.gz", at=tmp_path)
    assert refused(done).startswith("limner: 'scan.nii.gz' is empty (0 bytes)")
    assert not (tmp_path / "labels.nii.gz").exists()


def test_check_of_bad_files(home: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.nii.gz").touch()
    done = limner("check", tmp_path / "empty.nii.gz", at=tmp_path)
    assert (done.returncode, "error        '" in done.stdout) == (2, True)
    done = limner("check", tmp_path / "empty.nii.gz", home / "scan.nii.gz", at=tmp_path)
    assert (done.returncode, "is empty" in done.stdout, "geometry" in done.stdout) == (1, True, True)


# --- what is asked for cannot be done: nothing is begun


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vacant", "-o", "out"], "folder 'vacant' holds no scans; expected files ending in .nii.gz, .nii, .mgz"),
        (["scan.nii.gz", "table.tsv", "-o", "out"], "table 'table.tsv' has the columns id, name; expected one called"),
        (["scan.nii.gz", "./scan.nii.gz", "-o", "out"], "'scan.nii.gz', 'scan.nii.gz' would have the same name"),
        (["scan.nii.gz", "map.nii.gz", "-o", "out.nii.gz"], "output 'out.nii.gz' is one file but 2 scans were given"),
        (["scan.nii.gz", "-o", "scan.nii.gz"], "output 'scan.nii.gz' is the scan itself; expected a new file"),
        (["scan.nii.gz", "map.nii.gz", "-o", "out", "--mask", "map.nii.gz"], "--mask belongs to one scan but 2 were"),
        (
            ["scan.nii.gz", "-o", "out.nii.gz", "--posteriors"],
            "output 'out.nii.gz' is one file but --posteriors writes",
        ),
        (["scan.nii.gz", "-o", "out", "--model", "vacant"], "model 'vacant' has no model.json; expected a folder made"),
        (["scan.nii.gz", "-o", "table.tsv/out"], "'table.tsv/out' cannot be written (Not a directory)"),
        (["scan.nii.gz", "-o", "table.tsv/out.mgz"], "'table.tsv' cannot be written (File exists)"),
        (
            ["scan.nii.gz", "-o", "out", "--prior", "vacant"],
            "prior 'vacant' has no prior.json; expected a folder made by",
        ),
    ],
)
def test_segment_begins_nothing(home: Path, arguments: list[str], message: str) -> None:
    (home / "vacant").mkdir(exist_ok=True)
    scan = (home / "scan.nii.gz").read_bytes()
    chosen = [] if "--prior" in arguments else ["--prior", "prior"]
    assert refused(limner("segment", *arguments, *chosen, at=home)).startswith(f"limner: {message}")
    assert (home / "scan.nii.gz").read_bytes() == scan
    assert not (home / "out").exists()
    assert not (home / "out.nii.gz").exists()


def test_a_mask_on_another_grid(home: Path, tmp_path: Path) -> None:
    saved(tmp_path / "mask.nii.gz", np.ones((20, 24, 21), np.uint8))
    arguments = ["scan.nii.gz", "--prior", "prior", "--mask", tmp_path / "mask.nii.gz", "-o", tmp_path / "out"]
    line = refused(limner("segment", *arguments, at=home))
    assert "mask of 'the scan' has shape (20, 24, 21) but its image has (20, 24, 22); resample one onto" in line


def other_version(folder: Path) -> None:
    content = json.loads((folder / "prior.json").read_text())
    (folder / "prior.json").write_text(json.dumps(content | {"format": "limner prior 99"}))


def damaged_tensor(folder: Path) -> None:
    (tensors,) = folder.glob("tensors*")
    content = bytearray(tensors.read_bytes())
    content[len(content) // 2] ^= 0xFF
    tensors.write_bytes(content)


def other_structures(folder: Path) -> None:
    content = json.loads((folder / "prior.json").read_text())
    content["table"]["labels"] = content["table"]["labels"][:2]
    (folder / "prior.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (other_version, "is of format 'limner prior 99' but this limner reads 'limner prior 1': build it again"),
        (damaged_tensor, "is damaged (the hash of tensors.safetensors.xz is not the one recorded)"),
        (other_structures, "is damaged (tensors.safetensors.xz is of another grid or table than prior.json)"),
    ],
)
def test_a_prior_that_is_not_right(home: Path, tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    shutil.copytree(home / "prior", tmp_path / "prior")
    damage(tmp_path / "prior")
    line = refused(limner("segment", "scan.nii.gz", "--prior", tmp_path / "prior", "-o", tmp_path / "out", at=home))
    assert message in line
    assert not (tmp_path / "out").exists()


# --- label maps


def without(label: int) -> Volume:
    """The head's labels, one of them turned into its surroundings."""
    data = labels().data
    return Volume(np.where(data == label, 2, data), GRID, "labels")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["map.nii.gz", "--labels", "short.tsv"], r"'map' has labels that the label table does not know: 3 ("),
        (["map.nii.gz", "--labels", "long.tsv"], "no voxel of pebble in any of 1 label maps; expected every structure"),
        (["scan.nii.gz"], "labels 'scan.nii.gz' hold "),
        (["float.nii.gz", "--labels", "table.tsv"], "labels 'float.nii.gz' hold 2.7 at voxel (10, 12, 11), one of 1"),
        (["none.nii.gz"], "'none.nii.gz' does not exist; expected a file: check the path"),
        (["map.nii.gz", "--labels", "none.tsv"], "'none.tsv' does not exist; expected a file"),
        (
            ["map.nii.gz", "--labels", "map.nii.gz"],
            "label table 'map.nii.gz' is not a text file; expected columns id,name",
        ),
        (["map.nii.gz", "--labels", "table.tsv", "--neighbours", "4"], "neighbour window has size 4; expected an odd"),
        (
            ["map.nii.gz", "--labels", "table.tsv", "-o", "vacant"],
            "'vacant' exists and is no prior; expected a new path",
        ),
        (
            ["map.nii.gz", "--labels", "table.tsv", "-o", "table.tsv/x"],
            "'table.tsv/x' cannot be written (File exists), and nothing was changed there: a file stands in the way",
        ),
    ],
)
def test_atlas_builds_nothing(home: Path, arguments: list[str], message: str) -> None:
    (home / "vacant").mkdir(exist_ok=True)
    (home / "short.tsv").write_text(TABLE.removesuffix("3\tstone\n"))
    (home / "long.tsv").write_text(f"{TABLE}4\tpebble\n")
    data = labels().data.astype(np.float64)
    data[10, 12, 11] = 2.7
    saved(home / "float.nii.gz", data)
    target = [] if "-o" in arguments else ["-o", "built"]
    assert refused(limner("atlas", *arguments, "--spacing", "2", *target, at=home)).startswith(f"limner: {message}")
    assert not (home / "built").exists()
    assert list((home / "vacant").iterdir()) == []


def test_unknown_labels_say_what_helps_and_it_does(home: Path, tmp_path: Path) -> None:
    (tmp_path / "short.tsv").write_text(TABLE.removesuffix("3\tstone\n"))
    arguments = ["atlas", "map.nii.gz", "--spacing", "2", "-o", tmp_path / "prior"]
    line = refused(limner(*arguments, "--labels", tmp_path / "short.tsv", at=home))
    assert "give a table that names them with --labels TABLE, or count them as background with --fold-unknown" in line
    done = limner(*arguments, "--labels", tmp_path / "short.tsv", "--fold-unknown", at=home)
    assert (done.returncode, "prior of 1 maps, 2 labels" in done.stdout) == (0, True), done.stderr
    done = limner(*arguments, "--labels", "table.tsv", at=home)
    assert (done.returncode, "prior of 1 maps, 3 labels" in done.stdout) == (0, True), done.stderr


def test_a_structure_missing_from_some_maps_is_reported(home: Path, tmp_path: Path) -> None:
    save_volume(labels(), tmp_path / "one.nii.gz")
    save_volume(without(3), tmp_path / "two.nii.gz")
    arguments = ["one.nii.gz", "two.nii.gz", "--labels", home / "table.tsv", "--spacing", "2", "-o", "prior"]
    done = limner("atlas", *arguments, at=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "stone (id 3) is missing from 1 of 2 maps: averaged" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["small.nii.gz", "map.nii.gz"],
            "prediction of 'small' has shape (19, 24, 22) but its reference has (20, 24, 22)",
        ),
        (["shifted.nii.gz", "map.nii.gz"], "prediction of 'shifted' has another affine than its reference, 1 mm apart"),
        (["float.nii.gz", "map.nii.gz"], "labels 'float.nii.gz' hold 2.7 at voxel (10, 12, 11)"),
        (
            ["unknown.nii.gz", "map.nii.gz"],
            "prediction of 'unknown' has labels that the label table does not know: 9 (1",
        ),
        (
            ["map.nii.gz", "map.nii.gz", "-o", "scores.xlsx"],
            "table 'scores.xlsx' ends in '.xlsx'; expected .csv or .json",
        ),
        (
            ["map.nii.gz", "map.nii.gz", "-o", "map.nii.gz/scores.csv"],
            "'map.nii.gz/scores.csv' cannot be written (File exists), and nothing was changed there: a file stands in",
        ),
        (
            ["map.nii.gz", "small.nii.gz", "shifted.nii.gz"],
            "predictions and references cannot be paired: 'map.nii.gz' suits",
        ),
        (["map.nii.gz", "none.nii.gz"], "'none.nii.gz' does not exist; expected a file"),
    ],
)
def test_evaluate_scores_nothing(home: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    data = labels().data
    saved(tmp_path / "map.nii.gz", data)
    saved(tmp_path / "small.nii.gz", data[1:])
    saved(tmp_path / "shifted.nii.gz", data, Grid(GRID.shape, GRID.affine).affine + np.eye(4, k=3))
    broken = data.astype(np.float64)
    broken[10, 12, 11] = 2.7
    saved(tmp_path / "float.nii.gz", broken)
    broken[10, 12, 11] = 9
    saved(tmp_path / "unknown.nii.gz", broken)
    done = limner("evaluate", *arguments, "--labels", home / "table.tsv", at=tmp_path)
    assert refused(done).startswith(f"limner: {message}")
    assert not [name for name in whole(tmp_path) if name.startswith("scores")]


def test_report_of_a_folder_that_is_none(tmp_path: Path) -> None:
    line = refused(limner("report", tmp_path, at=tmp_path))
    assert "manifest.json' does not exist; expected the manifest that `limner segment` writes" in line
    assert whole(tmp_path) == []


# --- the disk refuses


def tightened() -> None:
    """Allow no file above 6 KiB: the closest to a full disk that needs no disk."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (6_144, 6_144))


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files")
def test_disk_full_while_segmenting(home: Path, batch: object, tmp_path: Path) -> None:
    assert batch  # a run without the limit has filled the caches of compiled loops and fonts
    arguments = ["segment", "scan.nii.gz", "--prior", "prior", "-o", tmp_path / "out"]
    done = limner(*arguments, at=home, preexec_fn=tightened)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    failed, stopped = (line for line in done.stderr.splitlines() if line.startswith("limner: "))
    assert "scan_uncertainty.nii.gz' cannot be written (File too large), and nothing was changed there" in failed
    assert "report.html' cannot be written (File too large)" in stopped
    assert stopped.endswith("write to another disk, or raise the limit")
    for name in whole(tmp_path / "out"):
        if name.endswith(".gz"):
            open_volume(tmp_path / "out" / name)


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files")
def test_disk_full_while_building(home: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(1, 4, GRID.shape, np.int32)
    save_volume(Volume(noise, GRID, "labels"), tmp_path / "noise.nii.gz")
    arguments = [
        "atlas",
        tmp_path / "noise.nii.gz",
        "--labels",
        "table.tsv",
        "--spacing",
        "1",
        "-o",
        tmp_path / "prior",
    ]
    line = refused(limner(*arguments, at=home, preexec_fn=tightened))
    assert "prior' cannot be written (File too large), and nothing was changed there" in line
    assert whole(tmp_path) == ["noise.nii.gz"]
    assert [path.name for path in tmp_path.iterdir()] == ["noise.nii.gz"]


def test_a_blurred_scan_is_segmented_but_not_to_be_believed(home: Path, tmp_path: Path) -> None:
    from scipy.ndimage import gaussian_filter

    blurred = np.where(labels().data > 0, np.maximum(gaussian_filter(image().data, 3), 1), 0)
    saved(tmp_path / "blurred.nii.gz", blurred.astype(np.float32))
    options = ("--prior", home / "prior", "-o")
    done = limner("segment", tmp_path / "blurred.nii.gz", *options, tmp_path / "out", at=home)
    assert re.search(r"blurred is not to be believed: .*\(\w+ [\d.]+, usually (above|below)", refused(done, code=1))
    rows = (tmp_path / "out/qc.csv").read_text().splitlines()
    assert rows[1].startswith("blurred,fail,")
    html = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert 'class="case failed"' in html
    alone = limner("segment", tmp_path / "blurred.nii.gz", *options, tmp_path / "one.nii.gz", at=home)
    assert "one.nii.gz is not to be believed" in refused(alone, code=1)
    assert (tmp_path / "one.nii.gz").exists()
