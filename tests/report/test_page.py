from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from limner.check import InputError
from limner.evaluation import evaluate
from limner.report import CaseReport, write_report
from limner.space import Grid, Volume
from report.phantoms import LEFT, TABLE, head, with_reference

FACTS = {"Method": "mixture", "Please cite": ["One (1999)", "Two & sons (2020)"]}
VOID = {"meta", "input", "img", "image", "use"}


class Page(HTMLParser):
    """What a browser makes of a page: every element with its attributes, and the text; refuses wrong nesting."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.text += data

    def count(self, tag: str, name: str | None = None) -> int:
        """How many elements there are, of one class if it is named."""
        found = [attributes.get("class", "").split() for element, attributes in self.elements if element == tag]
        return sum(name is None or name in classes for classes in found)


def written(path: Path, *cases: CaseReport) -> Page:
    write_report(path, iter(cases), table=TABLE, title="Two <heads>", facts=FACTS)
    return Page(path.read_text(encoding="utf-8"))


def scored() -> CaseReport:
    case = with_reference(head())
    return replace(case, scores=tuple(evaluate(case.labels, case.reference, table=TABLE, case="head")))


def test_a_scan_is_shown_in_three_planes(tmp_path: Path) -> None:
    page = written(tmp_path / "report.html", replace(head(), uncertainty=None))
    assert page.count("div", "strip") == 3
    assert page.count("svg") == page.count("image") == page.count("label", "slice") == 15
    assert all(name in page.text for name in ("axial", "coronal", "sagittal", "left is on the right"))


def test_uncertainty_and_reference_get_rows_and_switches_of_their_own(tmp_path: Path) -> None:
    page = written(tmp_path / "report.html", scored())
    assert [page.count("div", layer) for layer in ("labels", "reference", "uncertainty", "errors")] == [3, 3, 3, 3]
    switches = {attributes["id"] for tag, attributes in page.elements if tag == "input" and "id" in attributes}
    assert switches == {"areas", "outlines", "reference", "uncertainty", "errors"}
    assert "1 nat and more" in page.text
    plain = written(tmp_path / "report.html", replace(head(), uncertainty=None))
    assert "nat and more" not in plain.text
    assert not {"reference", "uncertainty", "errors"} & {attributes.get("id") for _, attributes in plain.elements}


def test_the_switches_are_known_to_the_style(tmp_path: Path) -> None:
    page = written(tmp_path / "report.html", scored())
    style = page.text.partition("body {")[2]
    for tag, attributes in page.elements:
        if tag == "input" and "id" in attributes:
            assert f"#{attributes['id']}:not(:checked)" in style


def test_volumes_are_listed_left_and_right(tmp_path: Path) -> None:
    html = (tmp_path / "report.html").read_text() if written(tmp_path / "report.html", head()) else ""
    assert re.search(r"Ear</td><td>1,536</td><td>1,152</td>", html)
    assert re.search(r'Crown</td><td colspan="2">2,304</td>', html)


def test_scores_are_summed_up_and_listed_by_scan(tmp_path: Path) -> None:
    other = replace(scored(), name="other", scores=tuple({**row, "case": "other"} for row in scored().scores))
    page = written(tmp_path / "report.html", scored(), other)
    assert "Against the references" in page.text
    assert "2 scans, mean ± standard error" in page.text
    assert page.count("figure", "plot") == 1
    dice = next(row["value"] for row in scored().scores if (row["structure"], row["metric"]) == ("mean", "dice"))
    assert page.text.count(f"{dice:.3f}") >= 4  # in the overview and by scan, for both


def test_nothing_is_fetched_and_nothing_runs(tmp_path: Path) -> None:
    page = written(tmp_path / "report.html", scored(), CaseReport("bad", error="damaged"))
    addresses = [attributes[name] for _, attributes in page.elements for name in ("href", "src") if name in attributes]
    assert addresses
    assert all(address.startswith(("data:image/", "#")) for address in addresses)
    assert page.count("script") == page.count("link") == 0
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert "url(" not in page.text
    assert "@import" not in page.text


def test_identifiers_are_unique_and_links_lead_somewhere(tmp_path: Path) -> None:
    page = written(tmp_path / "report.html", scored(), replace(scored(), name="other"))
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(names) == len(set(names))
    links = {attributes["href"][1:] for _, attributes in page.elements if attributes.get("href", "").startswith("#")}
    assert links
    assert links <= set(names)


def test_what_users_wrote_is_text(tmp_path: Path) -> None:
    case = replace(head(), name="<script>alert(1)</script>", notes=("a < b & c",))
    page = written(tmp_path / "report.html", case, CaseReport("<i>", error="5 > 4 <b>"))
    assert page.count("script") == page.count("b") == 0
    for text in ("<script>alert(1)</script>", "a < b & c", "5 > 4 <b>", "Two <heads>", "Two & sons (2020)"):
        assert text in page.text


def test_facts_have_one_line_or_several(tmp_path: Path) -> None:
    page = written(tmp_path / "report.html", head())
    assert (page.count("dt"), page.count("dd")) == (2, 3)


def test_failed_scans_say_why_and_the_others_are_shown(tmp_path: Path) -> None:
    page = written(tmp_path / "report.html", CaseReport("bad", error="'bad.mgz' is empty", notes=("n",)), head())
    assert page.count("section", "failed") == 1
    assert page.text.count("'bad.mgz' is empty") == 2
    assert page.count("svg") == 30


def test_what_is_not_to_be_believed_is_shown_as_failed_and_doubt_as_doubt(tmp_path: Path) -> None:
    scans = [
        replace(head(), name="lost", verdict="fail", reason="half is missing"),
        replace(head(), name="odd", verdict="look", reason="the prior was stretched"),
        replace(head(), name="good", verdict="pass"),
    ]
    page = written(tmp_path / "report.html", *scans)
    assert page.count("section", "failed") == 1
    assert page.text.count("not to be believed: half is missing") == 2
    assert page.text.count("look: the prior was stretched") == 2
    assert page.count("p", "doubt") == 1
    assert page.count("svg") == 90


def test_a_scan_that_cannot_be_drawn_has_failed(tmp_path: Path) -> None:
    grid = Grid((3, 3, 3), np.eye(4))
    page = written(tmp_path / "report.html", replace(head(), image=Volume(np.ones(grid.shape), grid, "image")), head())
    assert page.count("section", "failed") == 1
    assert "image of 'head' has shape" in page.text


def test_a_scan_without_labels_is_remarked_on(tmp_path: Path) -> None:
    case = head()
    empty = replace(case, labels=replace(case.labels, data=np.zeros_like(case.labels.data)))
    page = written(tmp_path / "report.html", empty)
    assert "no voxel is labelled" in page.text
    assert page.count("svg") == 30


def test_the_overview_counts_notes_and_times(tmp_path: Path) -> None:
    page = written(
        tmp_path / "report.html", replace(head(), notes=("a", "b"), seconds=12.3), CaseReport("bad", error="e")
    )
    assert page.count("table", "overview") == 1
    assert "12 sdone, 2 notes" in page.text
    assert written(tmp_path / "report.html", head()).count("table", "overview") == 0


def test_the_key_names_what_is_shown_alone(tmp_path: Path) -> None:
    case = head()
    data = np.where(case.labels.data == LEFT, LEFT, 0).astype(np.int32)
    page = written(tmp_path / "report.html", replace(case, uncertainty=None, labels=replace(case.labels, data=data)))
    assert page.count("li") == 1
    assert ".c11 { color: rgb(60 60 200); }" in page.text
    assert ".c50 {" not in page.text


def test_a_page_without_scans_is_a_page(tmp_path: Path) -> None:
    page = written(tmp_path / "report.html")
    assert page.count("section") == 0
    assert "Two <heads>" in page.text


def test_one_scan_is_in_memory_at_a_time(tmp_path: Path) -> None:
    images: list[weakref.ref[np.ndarray]] = []

    def cases() -> Iterator[CaseReport]:
        for number in range(3):
            gc.collect()
            assert not [image for image in images if image() is not None]
            case = replace(head(), name=str(number))
            images.append(weakref.ref(case.image.data))
            yield case
            del case

    write_report(tmp_path / "report.html", cases(), table=TABLE, title="t", facts={})
    assert len(images) == 3


def test_the_same_scans_make_the_same_page(tmp_path: Path) -> None:
    written(tmp_path / "one.html", scored())
    written(tmp_path / "two.html", scored())
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_an_interrupted_report_leaves_what_was_there(tmp_path: Path) -> None:
    def cases() -> Iterator[CaseReport]:
        yield head()
        raise KeyboardInterrupt

    (tmp_path / "report.html").write_text("before")
    with pytest.raises(KeyboardInterrupt):
        write_report(tmp_path / "report.html", cases(), table=TABLE, title="t", facts={})
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "before"


def test_a_report_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"report.html' cannot be written .*create its folder first"):
        write_report(tmp_path / "none" / "report.html", [], table=TABLE, title="t", facts={})
