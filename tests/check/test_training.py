from __future__ import annotations

from pathlib import Path

import pytest

from check.messages import Inspection, refusal
from limner import check

RUN, MODEL, CHECKPOINT = Path("run"), Path("run/model"), Path("fine.00000040.safetensors")

REFUSED = [
    (
        lambda: check.not_finite("kl", float("nan"), stage="fine", step=37, cases=["sub-07", "sub-09"]),
        (
            "'kl' is nan at step 37 of stage 'fine' on 'sub-07', 'sub-09'; expected a finite number: look at the scan, "
            "or train in a new folder with a lower learning_rate, or with clip; the last checkpoint is kept"
        ),
    ),
    (
        lambda: check.adapts_nothing("supervised", ["anatomy", "sae"]),
        (
            "method 'supervised' learns from labels alone, and cannot be adapted to scans without them; expected a "
            "model of anatomy or sae: give such a model, or go on with `limner train --from`"
        ),
    ),
    (
        lambda: check.checkpoint_damaged(CHECKPOINT, "file is\ntoo short"),
        (
            "checkpoint 'fine.00000040.safetensors' is damaged (file is too short); expected the file as "
            "`limner train` wrote it: delete it, and --resume goes on from the one before"
        ),
    ),
    (
        lambda: check.checkpoint_version(CHECKPOINT, "limner checkpoint 9", expected="limner checkpoint 1"),
        (
            "checkpoint 'fine.00000040.safetensors' is of format 'limner checkpoint 9' but this limner reads "
            "'limner checkpoint 1': train again, or resume with the version that wrote it"
        ),
    ),
    (
        lambda: check.checkpoint_of_another_method(CHECKPOINT, "size mismatch for head.weight"),
        (
            "checkpoint 'fine.00000040.safetensors' does not fit the method (size mismatch for head.weight); expected "
            "tensors of the same names and shapes: keep the method's options as they were, or train in a new folder"
        ),
    ),
    (
        check.without_tensorboard,
        (
            "tensorboard = true but tensorboard is not installed; expected it: run "
            "`pip install 'limner[tensorboard]'`, or set tensorboard to false (metrics.jsonl has the same numbers)"
        ),
    ),
    (
        lambda: check.run_exists(RUN),
        "run 'run' exists already; expected a new folder: go on with it by --resume, or choose another -o",
    ),
    (
        lambda: check.run_occupied(RUN),
        "'run' exists and is no run; expected a new folder, or one to --resume: choose another -o",
    ),
    (
        lambda: check.another_recipe(RUN, "stages[1].steps", found=400, given=500),
        (
            "run 'run' has the recipe's stages[1].steps = 400 but 500 was given; expected the recipe that it was begun "
            "with: resume it with 'run/recipe.toml', or choose another -o"
        ),
    ),
    (
        lambda: check.no_device(2, 1),
        "2 CUDA devices wanted but 1 found; expected as many: lower devices, or set device to cpu",
    ),
    (
        lambda: check.too_little_memory(7.5 * 2**30, 2**30, stage="fine", crop=(96, 96, 80)),
        (
            "a step of stage 'fine' takes about 7.5 GiB but 1 GiB are available; expected less: set "
            "stages.fine.crop to [96, 96, 80], or lower its batch, or work at a coarser spacing"
        ),
    ),
    (
        lambda: check.labels_needed("supervised"),
        (
            "method 'supervised' learns from labels but no scan for training has any; expected at least one: add a "
            "column labels to the table, or set data.labels to their folder"
        ),
    ),
    (
        lambda: check.other_method(MODEL, "sae", expected="supervised"),
        (
            "model 'run/model' is of method 'sae' but the recipe trains 'supervised'; expected the same: give another "
            "--from, or another recipe"
        ),
    ),
    (
        lambda: check.other_task(MODEL, found="1 channel", expected="2 channels"),
        (
            "model 'run/model' has 1 channel but the recipe's scans and prior have 2 channels; expected the same: "
            "train without --from, or with the scans' kind and prior that the model has"
        ),
    ),
    (
        lambda: check.model_missing(Path("nowhere/model")),
        ("model 'nowhere/model' does not exist; expected a folder made by `limner train`, such as RUN/model: check it"),
    ),
    (
        lambda: check.model_occupied(MODEL),
        "'run/model' exists and is no model; expected a new path or a model to replace: choose another",
    ),
    (
        lambda: check.model_damaged(MODEL, KeyError("task")),
        (
            "model 'run/model' is damaged ('task'); expected the files as `limner train` wrote them: copy it again, or "
            "train again"
        ),
    ),
    (
        lambda: check.model_version(MODEL, None, expected="limner model 1"),
        (
            "model 'run/model' is of format 'None' but this limner reads 'limner model 1': train it again, or use the "
            "version that wrote it"
        ),
    ),
    (
        lambda: check.tables_agree(["background", "rind"], ["background", "pulp"]),
        (
            "data.table has the structures background, rind but the prior has background, pulp; expected the same: "
            "leave data.table out for the prior's own table, or build the prior with it"
        ),
    ),
]


@pytest.mark.parametrize(("inspect", "message"), REFUSED)
def test_messages_say_what_is_wrong_and_what_to_do(inspect: Inspection, message: str) -> None:
    assert refusal(inspect) == message


@pytest.mark.parametrize(
    "inspect",
    [
        lambda: check.checkpoint_version(CHECKPOINT, "limner checkpoint 1", expected="limner checkpoint 1"),
        lambda: check.model_version(MODEL, "limner model 1", expected="limner model 1"),
        lambda: check.tables_agree(["background", "rind"], ("background", "rind")),
    ],
)
def test_what_is_right_passes(inspect: Inspection) -> None:
    assert inspect() is None
