"""What is trained, on what, and how long: a recipe and its stages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from limner import check
from limner.config import Settings, UserPath, absolute, checked, load
from limner.data.scan import Intensity
from limner.data.variation import Variation
from limner.data.volumes import Piece
from limner.methods import METHODS, method_class

#: The name of the prior that ships.
BRAIN = "brain"


PriorName = Annotated[str, AfterValidator(lambda prior: prior if prior == BRAIN else str(absolute(Path(prior))))]
#: `precision = 32` is as good as "32".
Precision = Annotated[Literal["auto", "32", "bf16"], BeforeValidator(lambda bits: "32" if bits == 32 else bits)]
Name = Annotated[str, Field(pattern=r"^[\w-]+$")]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]


class DataSettings(Settings):
    """Which scans to learn from.

    Args:
        scans: a folder of volumes, or a table of them (CSV or TSV); none where all stages learn from maps.
        maps: a folder of label maps of anybody, for stages that learn from maps.
        volumes: labelled pieces of volumes, for stages that learn from them; at least one to train on.
        labels: folder of label maps, where they do not lie beside the scans.
        table: of the label maps' ids (CSV or TSV) [default: FreeSurfer's, or the prior's].
        orientation: where the axes of scans without an affine lead, such as LIA.
        validation: share of the people kept out of training, where the scans' table has no split.
        margin: voxels kept around the brain.
        cache: folder for the prepared scans [default: inside the run].
        region: what counts where there is no mask: what differs from the background ("found"), or the "whole" image.
        intensity: of mean 0 and sd 1 ("standardised"), a fifth of that within -1 and 1 ("bounded"), or as "kept".
        labelled: share of the labels in training that are used, of whole people; all without it.
        labelled_people: how many people's labels are used, instead of a share.
        draw: seed of whose labels are used.
        variation: how scans in training are varied at random; not at all without it.
    """

    scans: UserPath | None = None
    maps: UserPath | None = None
    volumes: Annotated[tuple[Piece, ...], Field(min_length=1)] | None = None
    labels: UserPath | None = None
    table: UserPath | None = None
    orientation: str | None = None
    validation: Share = 0.0
    margin: Annotated[int, Field(ge=0)] = 3
    cache: UserPath | None = None
    region: Literal["found", "whole"] = "found"
    intensity: Intensity = "standardised"
    labelled: Annotated[float, Field(gt=0, le=1)] | None = None
    labelled_people: Count | None = None
    draw: Annotated[int, Field(ge=0)] = 0
    variation: Variation | None = None


class MethodSettings(Settings):
    """Which method is trained.

    Args:
        name: a key of METHODS.
        options: of the method, the same in all stages unless a stage says otherwise.
    """

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


class Stage(Settings):
    """One part of a run: its own data, budget and optimiser.

    Args:
        name: of its checkpoints.
        data: what it learns from: "scans", label "maps" alone, or pieces of "volumes".
        steps: of the optimiser.
        minutes: after which it ends if its steps are not done; the learning rate then follows whichever ends first. A
            run with minutes is not the same, bit for bit, if it is stopped and resumed.
        batch: scans or crops a step, on each device.
        apart: "present" if half of each batch shows no target and the other half does.
        labelled: how many of each batch have labels, at least; the others are drawn from all.
        accumulate: batches averaged into one step.
        crop: voxels along each axis, a random piece of the scan; the whole scan without it.
        spacing: voxel size, mm, to work at; the scans' own without it.
        optimiser: "adam", "amsgrad" (betas 0.5 and 0.999, as adversaries are trained) or "adadelta".
        learning_rate: of the optimiser; Adadelta's own is 1.
        weight_decay: decoupled from the gradient (AdamW); in it for amsgrad, as published.
        clip: largest norm of a player's gradient.
        schedule: how the learning rate goes on: constant, or down to 0 along half a cosine.
        options: of the method, in this stage.
        start: earlier stage whose weights it begins with [default: the one before].
        evaluate_every: steps between scores on the scans with labels; 0 for never.
        checkpoint_every: steps between checkpoints.
        log_every: steps between lines of metrics.
        patience: evaluations, or log lines for unsupervised methods, without improvement before the stage ends early.
    """

    name: Name
    data: Literal["scans", "maps", "volumes"] = "scans"
    steps: Count
    minutes: Annotated[float, Field(gt=0)] | None = None
    batch: Count = 1
    apart: Literal["nothing", "present"] = "nothing"
    labelled: Annotated[int, Field(ge=0)] = 0
    accumulate: Count = 1
    crop: Annotated[tuple[Count, ...], Field(min_length=2, max_length=3)] | None = None
    spacing: Annotated[float, Field(gt=0)] | None = None
    optimiser: Literal["adam", "amsgrad", "adadelta"] = "adam"
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip: Annotated[float, Field(gt=0)] | None = None
    schedule: Literal["constant", "cosine"] = "constant"
    options: dict[str, Any] = Field(default_factory=dict)
    start: str | None = None
    evaluate_every: Annotated[int, Field(ge=0)] = 0
    checkpoint_every: Count = 100
    log_every: Count = 10
    patience: Count | None = None


class Recipe(Settings):
    """Everything that decides what a run learns.

    Args:
        seed: of weights, sampling and noise.
        precision: of the networks; losses are always in 32 bits. "auto" is bf16 where the device has
            units for it, else 32.
        device: "auto" is a GPU where there is one.
        devices: GPUs, or processes on the CPU.
        deterministic: refuse operations that may give another result next time.
        tensorboard: write event files too.
        prior: "brain" (the one that ships), or a folder made by `limner atlas`; none if left out.
        data: which scans.
        method: which method.
        stages: in their order.
    """

    seed: Annotated[int, Field(ge=0)] = 0
    precision: Precision = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: Count = 1
    deterministic: bool = False
    tensorboard: bool = False
    prior: PriorName | None = None
    data: DataSettings
    method: MethodSettings
    stages: tuple[Stage, ...]

    @model_validator(mode="after")
    def _stages_follow(self) -> Recipe:
        """Refuse stages without order."""
        names = [stage.name for stage in self.stages]
        check.stage_names(names)
        if self.prior is not None and self.data.variation is not None:
            raise check.variation_alone(self.prior)
        for stage in self.stages:
            check.stage_data(stage.name, stage.data, given=getattr(self.data, stage.data))
            check.labelled_fit(stage.name, stage.labelled, batch=stage.batch)
        for index, stage in enumerate(self.stages):
            if stage.start is not None:
                check.stage_start(stage.name, stage.start, earlier=names[:index])
        return self

    def options(self, stage: Stage | None = None, *, source: object = "recipe") -> Settings:
        """Return the method's options, as a stage has them.

        Args:
            stage: one of the recipe's; the method's own options without it.
            source: the recipe's file, for messages.

        Raises:
            InputError: for a method that is unknown or trains nothing, and for options that the method does not take.
        """
        from limner.methods.method import Trainable

        method = method_class(self.method.name)
        if not (isinstance(method, type) and issubclass(method, Trainable)):
            raise check.trains_nothing(self.method.name, [name for name in METHODS if name != self.method.name])
        under = f"stages[{self.stages.index(stage)}].options" if stage else "method.options"
        values = {**self.method.options, **(stage.options if stage else {})}
        options: Settings = checked(values, method.Options, source=source, under=under)
        return options


def load_recipe(path: Path, *, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe of a TOML file, complete with the method's default options.

    Args:
        path: of the file.
        overrides: `key=value` each, as `limner.config.load` takes them.

    Raises:
        InputError: for whatever is wrong in the file, by the key it stands under.
    """
    recipe = load(path, Recipe, overrides=overrides)
    options = recipe.options(source=path)
    for stage in recipe.stages:
        recipe.options(stage, source=path)
    method = recipe.method.model_copy(update={"options": options.model_dump(mode="json", exclude_none=True)})
    return recipe.model_copy(update={"method": method})
