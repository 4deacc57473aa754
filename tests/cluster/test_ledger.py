"""What is done is known to be done, by what it was made from; and nothing else is."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.toys import items, job, tried
from limner.check import InputError, disk_full
from limner.cluster import Item, Job, Outcome, Progress, Serial, worked_through
from limner.cluster.inputs import contents


class Told(Progress):
    """Keeps what it is told."""

    known = 0
    changed: tuple[str, ...] = ()
    steps: tuple[tuple[str, str], ...] = ()

    def begun(self, total: int, *, known: int, changed: object) -> None:
        assert total >= known
        self.known, self.changed = known, tuple(changed)

    def step(self, name: str, words: str) -> None:
        self.steps += ((name, words),)


def worked(of: list[Item], by: Job, told: Progress | None = None) -> dict[str, Outcome]:
    found = list(worked_through(of, by, executor=Serial(), progress=told or Progress()))
    assert [outcome.name for outcome in found] == list(dict.fromkeys(outcome.name for outcome in found))
    return {outcome.name: outcome for outcome in found}


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    few, all_ = (items(tmp_path / "in", *"abcde"[:count]) for count in (2, 5))
    first = worked(few, job(tmp_path / "out"))
    told = Told()
    second = worked(all_, job(tmp_path / "out"), told)
    assert tried(tmp_path / "out") == [*"abcde"]
    assert (told.known, told.changed) == (2, ())
    assert told.steps == tuple((name, "copying") for name in "cde")
    assert {name: replace(second[name], known=False) for name in "ab"} == first
    assert second["a"].record == second["c"].record == {"length": 1, "third": 1 / 3, "pair": [1, 2]}


def test_what_failed_is_tried_again(tmp_path: Path) -> None:
    some = items(tmp_path / "in", "refused", "a", "mistaken", "odd")
    for attempts in (1, 2):
        found = worked(some, job(tmp_path / "out"))
        assert found["refused"].error == "this one cannot be copied"
        assert found["mistaken"].error == "ZeroDivisionError: oh"
        assert (found["odd"].error, found["odd"].notes) == (None, ("it is odd",))
        assert tried(tmp_path / "out").count("refused") == attempts
    assert tried(tmp_path / "out").count("a") == 1


def rewritten(of: Path) -> None:
    (of / "in/b.in").write_text("B!")


def damaged_marker(of: Path) -> None:
    (of / "out/ledger/b.done").write_text('{"key": "')


def lost_marker(of: Path) -> None:
    (of / "out/ledger/b.done").unlink()


def lost_data(of: Path) -> None:
    (of / "out/b.txt").unlink()


def cut_data(of: Path) -> None:
    (of / "out/b.txt").write_text("")


@pytest.mark.parametrize(
    ("change", "said"),
    [(rewritten, True), (lost_data, True), (cut_data, True), (damaged_marker, False), (lost_marker, False)],
)
def test_what_is_not_as_it_was_is_done_again(tmp_path: Path, change: Callable[[Path], None], said: bool) -> None:
    worked(items(tmp_path / "in", *"abc"), job(tmp_path / "out"))
    change(tmp_path)
    told = Told()
    worked(items(tmp_path / "in", *"abc"), job(tmp_path / "out"), told)
    assert tried(tmp_path / "out") == [*"abcb"]
    assert told.changed == (("b",) if said else ())
    assert (tmp_path / "out/b.txt").read_text() == (tmp_path / "in/b.in").read_text()


def test_own_facts_belong_to_an_item(tmp_path: Path) -> None:
    (one,) = items(tmp_path / "in", "a")
    for facts in ({}, {"mask": 1}, {"mask": 1}):
        worked([replace(one, facts=facts)], job(tmp_path / "out"))
    assert tried(tmp_path / "out") == ["a", "a"]


def test_touched_or_moved_inputs_are_the_same(tmp_path: Path) -> None:
    worked(items(tmp_path / "in", *"ab"), job(tmp_path / "out"))
    os.utime(tmp_path / "in/a.in", (1, 1))
    shutil.move(tmp_path / "in", tmp_path / "moved")
    told = Told()
    worked(items(tmp_path / "moved", *"ab"), job(tmp_path / "out"), told)
    assert (told.known, told.changed) == (2, ())


def test_a_namesake_is_refused(tmp_path: Path) -> None:
    worked(items(tmp_path / "in", *"ab"), job(tmp_path / "out"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other/a.in").write_text("another a")
    other = items(tmp_path / "other", *"ca")
    with pytest.raises(InputError, match=r"'a' in '.*out' is of '.*in/a.in' but '.*other/a.in' would have the same"):
        worked(other, job(tmp_path / "out"))
    assert tried(tmp_path / "out") == [*"ab"]
    worked(other, job(tmp_path / "out", redo=True))
    assert (tmp_path / "out/a.txt").read_text() == "another a"


def test_other_facts_are_refused(tmp_path: Path) -> None:
    worked(items(tmp_path / "in", *"ab"), job(tmp_path / "out"))
    with pytest.raises(InputError, match=r"holds results of another run \(setting plain, now fancy\); expected the sa"):
        job(tmp_path / "out", "fancy")
    worked(items(tmp_path / "in", *"ab"), job(tmp_path / "out", "fancy", redo=True))
    assert tried(tmp_path / "out") == [*"abab"]
    with pytest.raises(InputError, match="setting fancy, now plain"):
        job(tmp_path / "out", "plain")
    # What was done again is done.
    worked(items(tmp_path / "in", *"ab"), job(tmp_path / "out", "fancy"))
    assert tried(tmp_path / "out") == [*"abab"]


def test_a_full_disk_stops_what_was_not_begun(tmp_path: Path) -> None:
    some = items(tmp_path / "in", "a", "full", "b", "c")
    found = worked(some, job(tmp_path / "out"))
    assert tried(tmp_path / "out") == ["a", "full"]
    assert (found["a"].error, found["full"].error) == (None, "it cannot be written")
    for name in "bc":
        assert found[name].error == disk_full()
        assert "was not begun, because the disk is full: free some space and run the same command" in found[name].error


def test_a_process_that_works_otherwise_is_refused(tmp_path: Path) -> None:
    mine = job(tmp_path / "out")
    with pytest.raises(InputError, match="a worker has setting plain but fancy was asked for; expected the same on"):
        worked(items(tmp_path / "in", "a"), Job(mine.begin, replace(mine.ledger, facts={"setting": "fancy"})))


def test_folders_are_inputs_too(tmp_path: Path) -> None:
    series = tmp_path / "in/series"
    (series / "deep").mkdir(parents=True)
    for name in ("1.in", "deep/2.in"):
        (series / name).write_text(name)
    before = contents([series])
    (series / "deep/2.in").rename(series / "deep/3.in")
    assert contents([series]) != before
    (series / "deep/3.in").rename(series / "deep/2.in")
    assert contents([series]) == before != contents([series / "1.in"])


def test_half_written_files_are_swept_when_they_are_old(tmp_path: Path) -> None:
    job(tmp_path / "out")
    old, new, foreign = (tmp_path / "out" / name for name in (".0123abcd-a.txt", ".0123abce-b.txt", ".hidden"))
    for path in (old, new, foreign):
        path.touch()
    for path in (old, foreign):
        os.utime(path, (time.time() - 3600,) * 2)
    job(tmp_path / "out")
    assert [path.exists() for path in (old, new, foreign)] == [False, True, True]


def test_a_ledger_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/ledger").touch()
    with pytest.raises(InputError, match="ledger' cannot be written"):
        job(tmp_path / "out")
