"""Sections are looked over before a volume is segmented, from any file, and what was found is kept and told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

import tiny
from inference.cells import taught
from limner.check import InputError
from limner.files import save_volume
from limner.files.nanometres import placed
from limner.preparation import overview
from limner.preparation.overview import judged, keep, looked_over
from limner.report.stacks import read_table, report_volumes
from limner.space import Grid, Volume
from preparation.test_faults import stack


def harmed() -> Volume:
    data = stack(24, 64)
    data[9], data[15] = 0, data[15] - 2
    return Volume(data, Grid(data.shape, placed([10.0] * 3)), "image")


@pytest.mark.parametrize("name", ["a.zarr", "a.hdf", "a.tif"])
def test_any_format_tells_the_same(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "BYTES", 5 * 4 * 64 * 64)  # five sections at a time
    save_volume(harmed(), tmp_path / name)
    found, expected = looked_over(tmp_path / name), judged(harmed().data)
    assert found
    assert expected
    assert found[1] == expected[1]
    assert [(one.section, one.kind) for one in found[1]] == [(9, "missing"), (15, "dark")]


def test_a_single_image_has_no_sections(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.eye(64, dtype=np.uint8))
    assert looked_over(tmp_path / "a.tif") is None


def test_the_table_is_read_back_and_drawn(tmp_path: Path) -> None:
    found = judged(harmed().data)
    assert found
    keep(*found, path=tmp_path / "a_sections.csv")
    table = read_table(tmp_path / "a_sections.csv")
    assert list(table.faults) == [9, 15]
    np.testing.assert_allclose(table.values["level"], found[0].level.mean((1, 2)), rtol=1e-4)
    page = report_volumes(tmp_path).read_text()
    assert "2 of 24 sections are unlike their neighbours" in page
    assert "dark: darker by" in page
    assert "<svg" not in page  # embedded as an image, and no script
    assert "data:image/svg+xml" in page


def test_a_damaged_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a_sections.csv").write_text("section,level\n0,dark\n")
    with pytest.raises(InputError, match="expected the table of sections that `limner segment` wrote"):
        report_volumes(tmp_path)


def test_the_commands_tell_before_and_after(tmp_path: Path) -> None:
    taught(tmp_path, steps=2)
    save_volume(harmed(), tmp_path / "bad.zarr")
    done = tiny.limner("check", "bad.zarr", "-o", "found.csv", at=tmp_path)
    assert "to segment" not in done.stdout  # what it would take is told of scans alone
    assert done.returncode == 0, done.stderr
    assert "section 9 is missing: no contrast" in done.stdout
    assert "section 9 is missing: no contrast" in (tmp_path / "found.csv").read_text()
    done = tiny.limner("segment", "bad.zarr", "--model", "run/model", "-o", "out", at=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "9 (missing: no contrast); 15 (dark: darker by" in done.stderr
    assert done.stdout.splitlines()[-1] == "report: out/report.html"
    assert (tmp_path / "out/report.html").exists()
