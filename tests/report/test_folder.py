from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limner.check import InputError
from limner.files import save_volume
from limner.report import report_folder
from limner.report.manifest import read_manifest
from limner.space import Grid, Label, LabelTable, Volume
from report.phantoms import LEFT, RIGHT, TABLE, head, with_reference


def case(name: str = "head", **others: Any) -> dict[str, Any]:
    """What a manifest says of a scan."""
    files = {"image": f"{name}.nii.gz", "labels": f"{name}_labels.nii.gz", "uncertainty": f"{name}_uncertainty.nii.gz"}
    return {"name": name, **files, "notes": ["aligned"], "error": None, "seconds": 3.0, **others}


def segmented(folder: Path, *cases: dict[str, Any], **others: Any) -> Path:
    """A folder with a manifest of these cases, and the phantom's volumes for each."""
    for described in cases:
        for layer in ("image", "labels", "uncertainty"):
            if described[layer]:
                save_volume(getattr(head("LIA"), layer), folder / described[layer])
    content = {
        "limner": "1.2.3",
        "created": "2026-03-01T10:20:30+00:00",
        "method": "mixture",
        "prior": {"name": "brain", "hash": "0123456789abcdef"},
        "options": {"method": {"sweeps": 3}, "mask": None, "posteriors": False, "channels": []},
        "citation": ["One (1999)", "Two (2020)"],
        "table": TABLE.as_dict(),
        "cases": list(cases),
        **others,
    }
    (folder / "manifest.json").write_text(json.dumps(content))
    return folder


def text(folder: Path, references: Sequence[Path] = ()) -> str:
    return report_folder(folder, references=references).read_text(encoding="utf-8")


def test_a_folder_is_reported(tmp_path: Path) -> None:
    path = report_folder(segmented(tmp_path, case()))
    assert path == tmp_path / "report.html"
    html = path.read_text(encoding="utf-8")
    for words in (
        "<h1>Segmentation of head</h1>",
        "limner 1.2.3, 2026-03-01 10:20",
        "brain (sha256 0123456789ab)",
        "<dd>sweeps 3</dd>",
        "<dd>Two (2020)</dd>",
        "<li>aligned</li>",
        "axial · uncertainty",
    ):
        assert words in html
    assert "not shown" not in html


def test_several_scans_are_counted_with_those_that_failed(tmp_path: Path) -> None:
    bad = case("bad", image="", labels="", uncertainty="", error="'bad.nii' is empty")
    html = text(segmented(tmp_path, case(), bad, prior=None))
    assert "<h1>Segmentation of 2 scans, 1 failed</h1>" in html
    assert '<p class="error">&#x27;bad.nii&#x27; is empty</p>' in html
    assert "<dt>Prior</dt>" not in html


def test_a_moved_scan_leaves_its_labels_alone(tmp_path: Path) -> None:
    folder = segmented(tmp_path, case())
    (folder / "head.nii.gz").unlink()
    html = text(folder)
    assert re.search(r"<li>image not shown: .*head.nii.gz.* does not exist", html)
    assert 'class="slices bare"' in html
    assert "<title>Left-Ear</title>" in html


def test_a_scan_that_was_replaced_is_not_shown(tmp_path: Path) -> None:
    folder = segmented(tmp_path, case())
    grid = Grid((3, 4, 5), np.eye(4))
    save_volume(Volume(np.arange(60.0).reshape(grid.shape), grid, "image"), folder / "head.nii.gz")
    assert re.search(r"<li>image not shown: image of .* has shape \(3, 4, 5\) but its labels has", text(folder))


def test_damaged_labels_are_a_failure_of_their_scan(tmp_path: Path) -> None:
    folder = segmented(tmp_path, case(), case("other"))
    (folder / "head_labels.nii.gz").write_bytes(b"")
    html = text(folder)
    assert re.search(r'<p class="error">.*head_labels.nii.gz.* is empty', html)
    assert html.count('class="case failed"') == 1
    assert html.count("<svg") == 30


def test_references_are_compared(tmp_path: Path) -> None:
    folder = segmented(tmp_path, case("one"), case("two"))
    for name in ("one", "two"):
        (tmp_path / "manual" / name).mkdir(parents=True)
        save_volume(with_reference(head("LIA")).reference, tmp_path / "manual" / name / "seg.nii.gz")
    html = text(folder, sorted((tmp_path / "manual").rglob("*.nii.gz")))
    assert "axial · reference" in html
    assert "Against the references" in html
    assert "2 scans, mean ± standard error" in html


def test_a_reference_that_does_not_fit_is_left_out(tmp_path: Path) -> None:
    folder = segmented(tmp_path, case())
    grid = Grid((3, 4, 5), np.eye(4))
    save_volume(Volume(np.ones(grid.shape, np.int32), grid, "labels"), tmp_path / "small.nii.gz")
    html = text(folder, [tmp_path / "small.nii.gz"])
    assert re.search(r"<li>reference not shown: reference of .* has shape \(3, 4, 5\)", html)
    assert "axial · reference" not in html


def test_a_reference_with_unknown_labels_is_left_out(tmp_path: Path) -> None:
    labels = head("LIA").labels
    save_volume(replace(labels, data=np.where(labels.data == LEFT, 99, labels.data)), tmp_path / "odd.nii.gz")
    html = text(segmented(tmp_path, case()), [tmp_path / "odd.nii.gz"])
    assert re.search(
        r"<li>reference not shown: .* has labels that the label table does not know: 99 \(64 voxels\)", html
    )
    assert "Against the references" not in html


def test_references_that_cannot_be_paired_are_refused(tmp_path: Path) -> None:
    folder = segmented(tmp_path, case("one"), case("two"))
    with pytest.raises(InputError, match="predictions and references cannot be paired"):
        report_folder(folder, references=[tmp_path / "strange.nii.gz"])
    assert not (folder / "report.html").exists()


def test_the_orientation_that_was_found_is_believed(tmp_path: Path) -> None:
    folder = segmented(tmp_path, case(image="head.npz", labels="head_labels.npz", uncertainty="", orientation="LIA"))
    stored = head("LIA")
    np.savez(folder / "head.npz", vol_data=stored.image.data)
    np.savez(folder / "head_labels.npz", vol_data=stored.labels.data)
    html = text(folder)
    assert "not shown" not in html
    left, right = (int(re.search(rf'<path class="c{ear}" d="M(\d+)', html)[1]) for ear in (LEFT, RIGHT))
    assert left > right
    (folder / "manifest.json").write_text((folder / "manifest.json").read_text().replace("LIA", "RIA"))
    html = text(folder)
    left, right = (int(re.search(rf'<path class="c{ear}" d="M(\d+)', html)[1]) for ear in (LEFT, RIGHT))
    assert left < right


def test_a_wrong_orientation_is_a_failure_of_its_scan(tmp_path: Path) -> None:
    html = text(segmented(tmp_path, case(orientation="LLA")))
    assert re.search(r'<p class="error">orientation .*LLA.* is not one', html)


def test_progress_is_told_of_each_scan(tmp_path: Path) -> None:
    seen = []
    report_folder(segmented(tmp_path, case("one"), case("two")), progress=lambda entries: map(noted(seen), entries))
    assert seen == ["one", "two"]


def noted(seen: list[str]):
    """A function that gives back an entry and keeps its name."""

    def keep(entry):
        seen.append(entry.case.name)
        return entry

    return keep


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"manifest.json' does not exist; expected the manifest that `limner segment` writes to its output "
        "folder: name that folder, or segment the scans again",
    ):
        report_folder(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "cannot be read"),
        ("\udcff", "cannot be read"),
        ("[]", "has a missing or wrong field"),
        ("{}", r"has a missing or wrong field \(KeyError\('cases'\)\)"),
        ('{"cases": 3}', "has a missing or wrong field"),
        ('{"cases": [{"name": "a"}]}', "has a missing or wrong field"),
        ('{"cases": [], "table": {}}', "label table 'stored'"),
    ],
)
def test_a_damaged_manifest_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "manifest.json").write_bytes(content.encode("utf-8", errors="surrogateescape"))
    with pytest.raises(InputError, match=reason):
        report_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize("field", ["limner", "created", "method", "prior", "options", "citation", "table", "cases"])
def test_no_field_of_a_manifest_may_be_missing(tmp_path: Path, field: str) -> None:
    content = json.loads((segmented(tmp_path, case()) / "manifest.json").read_text())
    del content[field]
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"has a missing or wrong field .*{field}.*: name that folder"):
        report_folder(tmp_path)


@pytest.mark.parametrize("wrong", [{"labels": None}, {"notes": None}, {"image": 3}, {"seconds": "long"}])
def test_fields_of_a_scan_have_their_types(tmp_path: Path, wrong: dict[str, Any]) -> None:
    segmented(tmp_path, case())
    content = json.loads((tmp_path / "manifest.json").read_text())
    content["cases"][0] |= wrong
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="has a missing or wrong field"):
        report_folder(tmp_path)


def test_freesurfers_table_is_completed_for_references(tmp_path: Path) -> None:
    part = LabelTable.freesurfer().subset([2, 41, 17, 53])
    outliers = Label(99, "outliers", (255, 165, 0), "outliers", "outliers")
    table = LabelTable((*part.labels, outliers), part.structures)
    read = read_manifest(segmented(tmp_path, table=table.as_dict())).table
    assert {99, 251, 2, 77} <= set(read.ids.tolist())
    assert set(part.structures) | {"outliers"} <= set(read.structures)


def test_other_tables_are_kept_as_they_are(tmp_path: Path) -> None:
    assert read_manifest(segmented(tmp_path)).table == TABLE
