"""What a run tells: lines that can be read, curves, and a bar."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from limner.check import InputError
from limner.training.log import Log, shown
from limner.training.progress import Progress

HALFWAY = Progress(step=4, seconds=2.5, sums={"likelihood": 3.0, "kl": 1.0}, counted=2)


def written(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_for_losses_and_one_for_scores(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = Log(path)
    log.terms("fine", HALFWAY)
    log.dice("fine", HALFWAY, dice={"rind": 0.5, "pulp": 0.75})
    assert written(path) == [
        {"stage": "fine", "step": 4, "seconds": 2.5, "terms": {"likelihood": 1.5, "kl": 0.5}},
        {"stage": "fine", "step": 4, "seconds": 2.5, "dice": {"mean": 0.625, "rind": 0.5, "pulp": 0.75}},
    ]


def test_lines_that_will_be_written_again_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [{"stage": stage, "step": step} for stage in ("coarse", "fine") for step in (2, 4, 6)]
    # The last line was being written when the run was killed.
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"stage": "fi')
    Log(path).cut("fine", 4)
    assert written(path) == lines[:-1]
    Log(path).cut("fine", 0)
    assert written(path) == lines[:3]
    Log(tmp_path / "none.jsonl").cut("fine", 0)
    assert not (tmp_path / "none.jsonl").exists()


def test_silence_is_a_log_too(tmp_path: Path) -> None:
    log = Log()
    with log.shown("fine", step=0, steps=10):
        log.stepped(HALFWAY)
        log.terms("fine", HALFWAY)
    log.cut("fine", 0)
    log.close()
    assert list(tmp_path.iterdir()) == []


def test_the_bar_shows_stage_steps_and_terms(capsys: pytest.CaptureFixture[str]) -> None:
    log = Log(bar=True)
    for stage in ("coarse", "fine"):
        with log.shown(stage, step=2, steps=10):
            log.terms(stage, HALFWAY)
            log.stepped(HALFWAY)
    told = capsys.readouterr()
    assert told.out == ""
    for words in ("coarse", "fine", "4/10", "likelihood 1.5", "kl 0.5"):
        assert words in told.err


def test_events_hold_the_same_numbers(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = Log(tmp_path / "metrics.jsonl", events=tmp_path / "events")
    log.terms("fine", HALFWAY)
    log.close()
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("fine/terms/likelihood")] == [(4, 1.5)]


def test_events_need_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match="tensorboard is not installed"):
        Log(tmp_path / "metrics.jsonl", events=tmp_path / "events")


def test_items_pass_a_bar_unchanged(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(shown(["a", "b"], "preparing", bar=False)) == ["a", "b"]
    assert capsys.readouterr().err == ""
    assert list(shown(["a", "b"], "preparing", bar=True)) == ["a", "b"]
    assert "preparing" in capsys.readouterr().err
