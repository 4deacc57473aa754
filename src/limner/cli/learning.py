"""Commands that learn: atlas, from label maps; train and adapt, from scans and volumes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from limner import check
from limner.cli.arguments import Labels, Scans, expanded, model_folder, table_of
from limner.cli.objects import tells_objects
from limner.cli.terminal import progress, told

if TYPE_CHECKING:
    from limner.space import Volume


def atlas(
    maps: Annotated[list[Path], typer.Argument(metavar="MAPS", help="Label maps, or folders of them.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="PRIOR", help="Folder for the prior.")],
    labels: Labels = None,
    spacing: Annotated[float, typer.Option(min=0.2, help="Voxel size of the prior, mm.")] = 1.0,
    blur: Annotated[float | None, typer.Option(min=0, help="Gaussian sd, mm; one map has 1.5 unless given.")] = None,
    neighbours: Annotated[int, typer.Option(help="Window of the neighbour table, voxels: 3, 5, ... 21.")] = 3,
    fold_unknown: Annotated[bool, typer.Option("--fold-unknown", help="Count unknown ids as background.")] = False,
    heads: Annotated[
        bool, typer.Option("--heads/--brains", help="Keep what surrounds the brain in the maps, to find it in heads.")
    ] = True,
    bends: Annotated[bool, typer.Option("--bends/--affine", help="Whether maps, and the prior, may bend.")] = True,
) -> None:
    """Build a prior from label maps: an average of many, or one alone, blurred."""
    paths, table = expanded(maps), table_of(labels)
    from limner.files import open_volume
    from limner.files.names import case_names
    from limner.priors.averaging import build_atlas
    from limner.priors.storage import claim, save_prior

    def opened(path: Path) -> Volume:
        volume = open_volume(path, kind="labels")
        return replace(volume, data=table.folded(volume.data)) if fold_unknown else volume

    claim(out)
    names = case_names(paths)
    volumes: dict[str, Callable[[], Volume]] = {
        name: partial(opened, path) for name, path in zip(names, paths, strict=True)
    }
    with progress(1, "building the prior") as (tell, advance), told():
        prior = build_atlas(
            volumes,
            table,
            spacing=spacing,
            blur=blur,
            window=neighbours,
            keep_outside=heads,
            bends=bends,
            progress=tell,
        )
        tell("writing")
        save_prior(prior, out)
        advance()
    count = len(paths)
    for label, absent in prior.provenance["missing_from"].items():
        print(f"{prior.table[int(label)].name} (id {label}) is missing from {len(absent)} of {count} maps: averaged")
    print(f"prior of {count} maps, {len(prior.table) - 1} labels, {prior.grid.shape} voxels of {spacing:g} mm: {out}")


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="TOML file: scans, method, stages.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="RUN", help="Folder for the run.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe; repeat for more.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    seeds: Annotated[int | None, typer.Option(min=2, help="Train as many times, and tell mean and spread.")] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="MODEL",
            parser=model_folder,
            help="Begin with the weights of a trained model, or anatomy.",
        ),
    ] = None,
) -> None:
    """Train a method as a recipe says; the run's folder then holds the model, its metrics and the full recipe."""
    from limner.training.recipe import load_recipe

    chosen = load_recipe(recipe, overrides=settings or ())
    from limner.report import report_folder
    from limner.training.run import SUMMARY, train_seeds
    from limner.training.run import train as trained

    with told():
        if seeds is None:
            made: Sequence[Path] = [trained(chosen, out, resume=resume, start=start)]
        else:
            made = train_seeds(chosen, out, seeds=seeds, resume=resume, start=start)
    if seeds is not None:
        _show_spread(out / SUMMARY)
    for model in made:
        print(f"model: {model}")
    print(f"report: {report_folder(out)}")


def adapt(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL",
            parser=model_folder,
            help="From `limner train`, or the shape model that ships: anatomy. It stays as it is.",
        ),
    ],
    scans: Scans,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="MODEL", help="Folder for the adapted model.")],
    steps: Annotated[
        int | None,
        typer.Option(min=0, help="One scan each [default: 50], or pieces of a volume [default: 100]."),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(min=0, help="Which falls to 0 [default: 2e-4; of a volume 5e-4].")
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(
            metavar="VOLUME", help="Of the kind that MODEL learned from, where it does not know what that was."
        ),
    ] = None,
) -> None:
    """Go on with what a model learned, without labels, on scans of another kind: one is enough.

    A model that tells objects apart is adapted to one volume: intensities are matched to those it learned from, and it
    learns to say of spoiled pieces what the average of its own weights is sure of. --steps 0 only matches them.
    """
    paths = expanded(scans)
    asked = {"steps": steps, "learning_rate": learning_rate}
    given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    with told():
        if tells_objects(model):
            check.one_volume(len(paths))
            lines = list(_to_volume(model, paths[0], out=out, like=like, **given))
        else:
            check.only_volumes([name for name, value in (("--like", like), ("--steps 0", steps == 0)) if value])
            lines = list(_to_scans(model, paths, out=out, **given))
    print("\n".join([*lines, f"model: {out}"]))


def _to_scans(model: Path, scans: Sequence[Path], *, out: Path, **given: Any) -> Iterator[str]:
    """Adapt a model of structures, and yield what is to be said of it."""
    from limner.training.adaptation import adapt as adapted

    found = adapted(model, scans, out=out, **given)
    yield f"objective: {found.before:.4f} to {found.after:.4f} nats per voxel after {found.steps} steps"
    yield f"drift: {found.drift:.2%} of the weights' norm"


def _to_volume(model: Path, volume: Path, *, out: Path, **given: Any) -> Iterator[str]:
    """Adapt a model that tells objects apart, and yield what is to be said of it."""
    from limner.training.transfer import CONFIDENCE, adapt_volume

    found = adapt_volume(model, volume, out=out, **given)
    yield f"intensities: {'matched' if found.matched else 'alike already'}; {found.steps} steps"
    yield f"edges it is sure of (beyond {CONFIDENCE:g} of the way from even): " + _from_to(found.confident)
    yield "of those, decided alike where the volume is spoiled: " + _from_to(found.agreement)
    yield f"decided as by the source, of what that was sure of: {found.kept:.1%}"
    yield f"drift: {found.drift:.2%} of the weights' norm"


def _from_to(shares: tuple[float, float]) -> str:
    return "{:.1%} to {:.1%}".format(*shares)


def _show_spread(path: Path) -> None:
    """Print mean and standard deviation over seeds of what the runs ended with."""
    import json

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    shown = Table("at the end", "mean", "sd", "of each seed")
    for name, found in json.loads(path.read_text(encoding="utf-8")).items():
        values = " ".join(f"{value:.4g}" for value in found["values"])
        shown.add_row(escape(name), f"{found['mean']:.4g}", f"{found['sd']:.2g}", values)
    Console().print(shown)
