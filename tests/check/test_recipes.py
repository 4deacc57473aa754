from __future__ import annotations

from pathlib import Path

import pytest

from check.messages import Inspection, refusal
from limner import check

RECIPE = Path("recipes/sae.toml")

REFUSED = [
    (
        lambda: check.unknown_name("method", "sea", known=["mixture", "sae"]),
        "method 'sea' is not known; expected one of mixture, sae: did you mean 'sae'?",
    ),
    (
        lambda: check.unknown_name("method", "zzz", known=["mixture", "sae"]),
        "method 'zzz' is not known; expected one of mixture, sae: correct the name",
    ),
    (
        lambda: check.unknown_setting(RECIPE, "stages[1].stesp", known=["name", "steps"]),
        (
            "'recipes/sae.toml' has the unknown setting stages[1].stesp; expected one of name, steps: "
            "did you mean 'steps'?"
        ),
    ),
    (
        lambda: check.unknown_setting(RECIPE, "options.a", known=[]),
        "'recipes/sae.toml' has the unknown setting options.a; expected none there: correct the name",
    ),
    (
        lambda: check.stage_data("shape", "maps", given=None),
        (
            "stage 'shape' learns from maps but data.maps is not given; expected their folder: add it to the file, or "
            "--set data.maps=FOLDER"
        ),
    ),
    (
        lambda: check.missing_setting(RECIPE, "data.scans"),
        (
            "'recipes/sae.toml' lacks the setting data.scans; expected a value: "
            "add it to the file, or --set data.scans=VALUE"
        ),
    ),
    (
        lambda: check.wrong_setting(RECIPE, "seed", value="ten", expected="a whole number"),
        "'recipes/sae.toml' sets seed to 'ten'; expected a whole number: correct the value",
    ),
    (
        lambda: check.wrong_setting(RECIPE, "seed", value=True, expected="a whole number"),
        "'recipes/sae.toml' sets seed to true; expected a whole number: correct the value",
    ),
    (
        lambda: check.wrong_setting(RECIPE, "seed", value="x" * 100, expected="a whole number"),
        f"'recipes/sae.toml' sets seed to '{'x' * 76}...; expected a whole number: correct the value",
    ),
    (
        lambda: check.not_toml(RECIPE, "Invalid statement (at line 1, column 1)"),
        (
            "'recipes/sae.toml' cannot be read as TOML (Invalid statement (at line 1, column 1)); expected lines such "
            "as `steps = 100` under headings in brackets: correct that place"
        ),
    ),
    (
        lambda: check.override("steps"),
        "override 'steps' has no key or no '='; expected KEY=VALUE, such as stages.0.steps=100",
    ),
    (
        lambda: check.override_place("stages.5.steps=3", "5", found=["warm-up", "sae"]),
        "override 'stages.5.steps=3' leads nowhere at '5'; expected one of warm-up, sae: correct the key",
    ),
    (
        lambda: check.override_place("seed.a=3", "a", found=[]),
        (
            "override 'seed.a=3' leads nowhere at 'a'; expected no more parts, as a single value has none: "
            "correct the key"
        ),
    ),
    (
        lambda: check.stage_names([]),
        "there are no stages; expected at least one: add a [[stages]] section",
    ),
    (
        lambda: check.stage_names(["sae", "last", "sae"]),
        "two stages are called 'sae' (sae, last, sae); expected a name for each: rename one of them",
    ),
    (
        lambda: check.stage_start("sae", "last", earlier=["first", "second"]),
        "stage 'sae' starts from 'last'; expected an earlier stage, one of first, second: correct start",
    ),
    (
        lambda: check.stage_start("sae", "last", earlier=[]),
        "stage 'sae' starts from 'last'; expected nothing, as it is the first stage: correct start",
    ),
    (
        lambda: check.trains_nothing("mixture", ["sae", "supervised"]),
        (
            "method 'mixture' has nothing to train; expected one of sae, supervised: choose one, or run "
            "`limner segment` without training"
        ),
    ),
    (
        lambda: check.suits("affinity", ["volumes", "scans"], instances=True),
        (
            "method 'affinity' cannot learn from scans; expected volumes: set the stages' data to it, or choose "
            "another method"
        ),
    ),
    (
        lambda: check.suits("sae", ["volumes"], instances=False),
        (
            "method 'sae' cannot learn from volumes; expected scans or maps: set the stages' data to it, or choose "
            "another method"
        ),
    ),
    (
        check.outliers_of_a_model,
        "--outliers belongs to the mixture but --model was given; expected one of the two: leave one of them out",
    ),
]


@pytest.mark.parametrize(("inspect", "message"), REFUSED)
def test_what_is_refused(inspect: Inspection, message: str) -> None:
    assert refusal(inspect) == message


def test_sound_recipes_pass() -> None:
    check.stage_names(["first", "second"])
    check.suits("affinity", ["volumes"], instances=True)
    check.suits("sae", ["maps", "scans"], instances=False)
    check.stage_start("second", "first", earlier=["first"])
