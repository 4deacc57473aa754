"""The loop on toys: what a step is, how steps add up over batches, processes and stops."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.optim import AdamW

from limner.check import InputError
from limner.training.loop import _rate
from limner.training.progress import Progress
from training.toys import METHODS, Scans, TwoPlayers, launched, stage, started


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], *, exactly: bool = False) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, **({"rtol": 0, "atol": 0} if exactly else {}))


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", ["OnePlayer", "TwoPlayers"])
def test_a_step_by_hand(tmp_path: Path, name: str) -> None:
    found = launched(1, tmp_path, name=name, batch=2)
    method = started(name)
    optimisers = {
        player: AdamW(module.parameters(), 1e-2, weight_decay=0) for player, module in method.players().items()
    }
    for step in range(6):
        for player, terms in method.losses(*Scans(batch=2).batch(step)):
            # Gradients of the player alone, whatever others its loss reaches.
            parameters = list(method.players()[player].parameters())
            gradients = torch.autograd.grad(sum(terms.values()), parameters)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            optimisers[player].step()
    assert_same(found, method.state_dict())


def test_after_step_is_once_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method = TwoPlayers()
    monkeypatch.setitem(METHODS, "TwoPlayers", lambda: method)
    launched(1, tmp_path, name="TwoPlayers", accumulate=2)
    assert method.steps == 6


@pytest.mark.parametrize("name", ["OnePlayer", "TwoPlayers"])
def test_batches_add_up_to_a_larger_one(tmp_path: Path, name: str) -> None:
    parts = launched(1, tmp_path / "parts", name=name, batch=2, accumulate=3)
    whole = launched(1, tmp_path / "whole", name=name, batch=6)
    for weights in (parts, whole):
        weights.pop("usual", None)  # every batch counts for itself there
    assert_same(parts, whole)


@pytest.mark.parametrize("name", ["OnePlayer", "TwoPlayers"])
def test_two_processes_do_what_one_does_with_twice_the_batch(tmp_path: Path, name: str) -> None:
    one = launched(1, tmp_path / "one", name=name, batch=4)
    two = launched(2, tmp_path / "two", name=name, batch=2, apart=True)
    assert_same(two, one)
    for mine, theirs in zip(lines(tmp_path / "one"), lines(tmp_path / "two"), strict=True):
        assert mine["terms"] == pytest.approx(theirs["terms"], rel=1e-4)


def test_two_processes_leave_alone_what_no_loss_reaches(tmp_path: Path) -> None:
    weights = launched(2, tmp_path / "run", name="Half", weight_decay=0.1)
    before = started("Half").state_dict()
    assert torch.equal(weights["waiting.weight"], before["waiting.weight"])
    assert not torch.equal(weights["network.0.weight"], before["network.0.weight"])


def test_noise_differs_between_steps_and_seeds_alone(tmp_path: Path) -> None:
    first, again = (launched(1, tmp_path / run, name="Noisy") for run in "ab")
    assert_same(again, first, exactly=True)
    terms = [line["terms"]["likelihood"] for line in lines(tmp_path / "a")]
    assert len(set(terms)) == 6


def test_gradients_are_clipped(tmp_path: Path) -> None:
    still = launched(1, tmp_path / "still", name="OnePlayer", clip=1e-12, steps=1)
    # Adam's step has the size of its rate however small the gradient, unless that drowns in its epsilon, 1e-8.
    assert_same(
        {name: value for name, value in still.items() if name != "usual"}, dict(started("OnePlayer").named_parameters())
    )


def test_a_cosine_ends_at_nothing() -> None:
    cosine = stage(schedule="cosine", steps=10)
    assert [_rate(cosine, Progress(step)) for step in (0, 5)] == pytest.approx([1e-2, 5e-3])
    assert 0 < _rate(cosine, Progress(9)) < 1e-3


def test_a_rate_follows_the_clock_if_that_is_sooner() -> None:
    timed = stage(schedule="cosine", steps=10, minutes=1)
    found = [_rate(timed, Progress(step, seconds)) for step, seconds in ((0, 0), (1, 30), (5, 6), (2, 60), (3, 99))]
    assert found == pytest.approx([1e-2, 5e-3, 5e-3, 0, 0])


@pytest.mark.parametrize("devices", [1, 2])
def test_minutes_end_a_stage_and_its_last_step_is_logged(tmp_path: Path, devices: int) -> None:
    launched(devices, tmp_path, name="OnePlayer", steps=100_000, minutes=0.01, log_every=100_000)
    (line,) = lines(tmp_path)
    assert 0 < line["step"] < 100_000
    assert line["seconds"] >= 0.6


def test_metrics_have_a_line_each_time(tmp_path: Path) -> None:
    launched(1, tmp_path, name="TwoPlayers", log_every=4, steps=10)
    found = lines(tmp_path)
    assert [(line["stage"], line["step"]) for line in found] == [("only", 4), ("only", 8), ("only", 10)]
    assert all(set(line["terms"]) == {"real", "made", "fooled"} for line in found)
    each = lines(tmp_path) and launched(1, tmp_path / "each", name="TwoPlayers", steps=4) and lines(tmp_path / "each")
    mean = sum(line["terms"]["real"] for line in each) / 4
    assert found[0]["terms"]["real"] == pytest.approx(mean)


def test_only_finished_weights_are_left(tmp_path: Path) -> None:
    launched(1, tmp_path, name="OnePlayer")
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".safetensors"] == ["only.safetensors"]


@pytest.mark.parametrize("devices", [1, 2])
def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path, devices: int) -> None:
    places = [case for step in range(6) for case in Scans(batch=devices).batch(step)[0].case]
    step = places.index("scan 3") // devices + 1
    words = f"'poison' is nan at step {step} of stage 'only' on 'scan 3'; expected a finite number"
    with pytest.raises(Exception, match=words):
        launched(devices, tmp_path, name="Poisoned", checkpoint_every=1)
    assert step > 1
    kept = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert kept[-1] == f"only.{step - 1:08d}.safetensors"
    assert math.isfinite(lines(tmp_path)[-1]["terms"]["likelihood"])


def test_a_gradient_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    (case,) = Scans().batch(0)[0].case
    with pytest.raises(InputError, match=f"'gradient' is (nan|inf) at step 1 of stage 'only' on '{case}'"):
        launched(1, tmp_path, name="Steep")


def test_a_player_that_learns_nothing_for_long_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limner.training.loop.STILL", 5)
    words = r"the gradient of 'critic' has been 0 for 5 steps at step 9 of stage 'only' \('real' is 0, 'made' is 0\)"
    with pytest.raises(InputError, match=words):
        launched(1, tmp_path, name="Won", steps=20, checkpoint_every=3)
    # Stopped and resumed, it still knows for how long.
    with pytest.raises(InputError, match=words):
        launched(1, tmp_path, name="Won", steps=20, checkpoint_every=3)
    assert sorted(path.name for path in tmp_path.glob("*.safetensors"))[-1] == "only.00000006.safetensors"


def test_patience_with_the_loss(tmp_path: Path) -> None:
    launched(1, tmp_path, name="OnePlayer", steps=200, learning_rate=1e-12, patience=3)
    assert len(lines(tmp_path)) < 40


@pytest.mark.parametrize(("name", "kept", "looks"), [("Taught", 1, 6), ("OnePlayer", 6, 7)])
def test_scores_choose_only_where_labels_teach(tmp_path: Path, name: str, kept: int, looks: int) -> None:
    # The second score is the best; the fourth in a row without a better one is the sixth.
    scores = [0.1, 0.9, 0.5, 0.5, 0.5, 0.5, 0.99]
    weights: list[dict[str, Tensor]] = []

    def examine(method: torch.nn.Module) -> dict[str, float]:
        weights.append({key: value.clone() for key, value in method.state_dict().items()})
        return {"pulp": scores[len(weights) - 1], "stone": 0.0}

    often = {"evaluate_every": 2, "steps": 14, "log_every": 14, "patience": 4}
    found = launched(1, tmp_path, name=name, examine=examine, **often)
    dice = [line["dice"] for line in lines(tmp_path) if "dice" in line]
    assert [line["pulp"] for line in dice] == scores[:looks]
    assert dice[1]["mean"] == pytest.approx(0.45)
    assert_same(found, weights[kept], exactly=True)
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["only.safetensors"]
