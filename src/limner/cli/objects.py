"""Commands about objects without names: tune, and what segment does with a model that tells them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from limner import check
from limner.cli.arguments import expanded
from limner.cli.cohorts import cohort_progress
from limner.cli.terminal import progress, told

if TYPE_CHECKING:
    from limner.cluster import Executor
    from limner.inference.tuning import Trial


class DecoderKind(StrEnum):
    """Kinds of decoders."""

    MEAN = "mean"
    QUANTILE = "quantile"
    MUTEX = "mutex"
    COMPONENTS = "components"


def tune(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model from `limner train` that tells objects apart.")],
    volume: Annotated[Path, typer.Argument(metavar="VOLUME", help="Labelled piece that it was not trained on.")],
    labels: Annotated[Path | None, typer.Option(help="Its instances, if VOLUME does not hold them.")] = None,
    sections: Annotated[
        tuple[int, int] | None, typer.Option(metavar="FIRST END", help="First section, and one past the last.")
    ] = None,
    insides: Annotated[
        bool,
        typer.Option("--insides", help="The labels are a mask: what it connects in a section is a cell."),
    ] = False,
    decoder: Annotated[
        DecoderKind | None,
        typer.Option(help="The only kind to try."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="MODEL", help="Another folder for the tuned model.")
    ] = None,
) -> None:
    """Choose decoder and thresholds by the variation of information on a labelled piece, and keep them in the model.

    The curve of splits against mergers is drawn beside the model, in MODEL-tuning.svg.
    """
    from limner.inference.tuning import KINDS, best_of_each, tune
    from limner.methods.storage import claim_model

    claim_model(out or model)
    with progress(1, "tuning") as (tell, advance), told():
        kinds = KINDS if decoder is None else (decoder.value,)
        asked: dict[str, Any] = {"labels": labels, "sections": sections, "insides": insides, "kinds": kinds}
        trials = tune(model, volume, **asked, out=out, tell=tell)
        advance()
    _show(best_of_each(trials))
    target = out or model
    print(f"model: {target}")
    print(f"curve: {_drawn(trials, target.with_name(f'{target.name}-tuning.svg'))}")


def tells_objects(model: Path) -> bool:
    """Tell whether a model is of a method that tells objects apart."""
    from limner.methods import method_class
    from limner.methods.storage import method_name

    return bool(getattr(method_class(method_name(model)), "instances", False))


def segment_instances(
    paths: Sequence[Path],
    out: Path,
    *,
    model: Path,
    mirrored: bool | None,
    executor: Executor | None,
    memory: float | None,
    redo: bool,
    given: Mapping[str, object],
) -> None:
    """Segment volumes into instances, and tell where they are.

    Args:
        paths: files, or folders of them.
        out: folder, or a file for one volume.
        model: folder of a model that tells objects apart.
        mirrored: whether to average over flips; as the model was made if None.
        executor: does blocks, if somebody was asked for.
        memory: of a process, GB.
        redo: whether to begin anew.
        given: options that only models of structures follow.
    """
    from limner.inference.neurons import segment_volumes
    from limner.methods.storage import method_name
    from limner.report import report_folder
    from limner.report.stacks import are_volumes

    for option, value in given.items():
        if value:
            raise check.only_classes(option, method_name(model))
    limit = None if memory is None else memory * 1e9
    asked: dict[str, Any] = {"mirrored": mirrored, "executor": executor, "memory": limit, "redo": redo}
    with cohort_progress("segmenting") as progress, told():
        for path in segment_volumes(expanded(paths), out, model=model, **asked, progress=progress):
            print(f"instances: {path}")
    if are_volumes(out):
        print(f"report: {report_folder(out)}")


def _show(trials: Sequence[Trial]) -> None:
    """Print the best trial of each decoder."""
    from rich.console import Console
    from rich.table import Table

    shown = Table("decoder", "VI split", "VI merge", "VI bits", "settings")
    for trial in trials:
        settings = trial.decoder.model_dump(exclude_defaults=True, exclude={"kind"})
        words = ", ".join(f"{name} {value}" for name, value in settings.items())
        numbers = (f"{value:.3f}" for value in (trial.split, trial.merge, trial.cost))
        shown.add_row(trial.decoder.kind, *numbers, words)
    Console().print(shown)


def _drawn(trials: Sequence[Trial], path: Path) -> Path:
    """Draw splits against mergers, and return the file."""
    from limner.files import replacing
    from limner.report.trials import trade_plot

    points = [(trial.decoder.kind, trial.split, trial.merge) for trial in trials]
    with replacing(path) as temporary:
        temporary.write_text(trade_plot(points), encoding="utf-8")
    return path
