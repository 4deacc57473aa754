"""Real scans are drawn as they lie, quickly enough to be tested, and small."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from limner.files import open_volume, save_volume
from limner.report import CaseReport, report_folder, write_report
from limner.report.field import Field, field_of
from limner.report.slices import PLANES, Slice
from limner.space import Grid, LabelTable, Volume, resampled

pytestmark = pytest.mark.real
TABLE = LabelTable.freesurfer()
KILOBYTES = 400


def opened(folder: Path) -> CaseReport:
    """A person's scan and labels, and made-up uncertainty."""
    image, labels = open_volume(folder / "brainmask.mgz"), open_volume(folder / "aseg.mgz", kind="labels")
    edges = np.abs(np.diff(labels.data, axis=0, prepend=0)) % 7 / 5
    return CaseReport(folder.name, image, labels, Volume(edges.astype(np.float32), labels.grid, "image"))


def middles(field: Field, *structures: str) -> list[np.ndarray]:
    """The middle of each label by name: to the left, the back and the feet."""
    rows = {label.name: row for row, label in enumerate(TABLE.labels)}
    return [np.argwhere(field.labels == rows[name]).mean(axis=0) for name in structures]


@pytest.mark.parametrize("person", ["person-1", "person-4"])
def test_sides_front_and_top_are_where_anatomy_has_them(real_data: Path, person: str) -> None:
    case = opened(real_data / "brains" / person)
    assert case.labels.grid.orientation == "LIA"
    field = field_of(case, TABLE)
    left, right, stem, caudate, cerebellum = middles(
        field, "Left-Hippocampus", "Right-Hippocampus", "Brain-Stem", "Left-Caudate", "Left-Cerebellum-Cortex"
    )
    assert left[0] > stem[0] > right[0]
    assert caudate[1] < cerebellum[1]
    assert caudate[2] < cerebellum[2]
    assert field.image[tuple(caudate.astype(int))] > 0


def test_a_report_of_a_scan_is_small(real_data: Path, tmp_path: Path) -> None:
    case = opened(real_data / "brains" / "person-1")
    write_report(tmp_path / "report.html", [case], table=TABLE, title="t", facts={})
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert len(html) < 1000 * KILOBYTES
    assert html.count("<svg") == 30
    assert re.search(r"Hippocampus</td><td>4,\d{3}</td><td>4,\d{3}</td>", html)


def test_thick_oblique_slices_keep_their_proportions(real_data: Path) -> None:
    case = opened(real_data / "brains" / "person-2")
    turn = np.deg2rad(12)
    axes = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]) * [-0.9, 0.9, 5]
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = case.labels.grid.centre - axes @ [110, 110, 20]
    grid = Grid((220, 220, 40), affine)
    thick = field_of(CaseReport("thick", resampled(case.image, grid), resampled(case.labels, grid)), TABLE)
    cut = Slice(thick, PLANES[1], 50)
    rows, columns = cut.pixels(thick.labels).shape
    assert cut.size == pytest.approx((0.9 * columns, 5 * rows))
    fine = field_of(case, TABLE)
    np.testing.assert_allclose(thick.volumes(TABLE).sum(), fine.volumes(TABLE).sum(), rtol=0.01)


def test_a_scan_without_an_affine_is_turned_as_was_found(real_data: Path, tmp_path: Path) -> None:
    with pytest.warns(match="has no affine"):
        save_volume(open_volume(real_data / "brains/person-7/seg.npz", kind="labels"), tmp_path / "labels.npz")
    case = {"name": "person-7", "image": str(real_data / "brains/person-7/vol.npz"), "labels": "labels.npz"}
    case |= {"uncertainty": "", "notes": [], "error": None, "seconds": 1, "orientation": "LIA"}
    content = {"limner": "1", "created": "2026", "method": "m", "prior": None, "options": {}, "citation": []}
    content |= {"table": TABLE.as_dict(), "cases": [case]}
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    html = report_folder(tmp_path).read_text(encoding="utf-8")
    assert "not shown" not in html
    axial = html.partition('<div class="strip labels">')[2].partition("</div>")[0]
    starts = {name: int(x) for x, name in re.findall(r'd="M(\d+)[^>]*><title>([^<]*)', axial)}
    assert starts["Left-Putamen"] > starts["Right-Putamen"]
    assert "<span>axial</span>" in axial
