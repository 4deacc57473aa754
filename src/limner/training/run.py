"""A whole run: a recipe's stages one after another, in a folder that holds all that is known of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

import torch
from lightning_fabric import Fabric

from limner import check
from limner.config import load, save
from limner.methods.method import Trainable
from limner.methods.storage import Model, load_model, save_model
from limner.training.checkpoints import SUFFIX, forget_checkpoints, load_weights, save_weights
from limner.training.log import Log, shown
from limner.training.loop import fit
from limner.training.materials import Materials
from limner.training.memory import check_memory
from limner.training.processes import seed_noise
from limner.training.recipe import Recipe, Stage
from limner.training.scores import cut_dice, mean_dice
from limner.training.speed import hurried

RECIPE, METRICS, CHECKPOINTS, MODEL = "recipe.toml", "metrics.jsonl", "checkpoints", "model"
CACHE, EVENTS, SUMMARY = "cache", "events", "summary.json"
#: Weights that the first stage begins with, if they come from a model; no stage's name has a dot.
GIVEN = f"given.model{SUFFIX}"


@hurried()
def train(
    recipe: Recipe, out: str | Path, *, resume: bool = False, start: Path | None = None, progress: bool = True
) -> Path:
    """Train a method as a recipe says, and return the folder of the model.

    The folder `out` then holds recipe.toml, metrics.jsonl, checkpoints/, cache/ and model/.

    Args:
        recipe: scans, method, stages.
        out: new folder for the run, or that of the run to go on with.
        resume: whether to go on with a run that was stopped; one that was not begun is begun.
        start: folder of a trained model, whose weights the first stage begins with.
        progress: whether to show progress on stderr.

    Raises:
        InputError: for a folder of something else or of another recipe; a recipe whose files, device or memory are
            lacking; a loss that is not finite.
    """
    out = Path(out)
    _check_folder(recipe, out, resume=resume)
    fabric = fabric_of(recipe.device, devices=recipe.devices, precision=recipe.precision)
    if (out / MODEL).exists():
        return out / MODEL
    model = load_model(start) if start else None
    materials = Materials.of(recipe, cache=out / CACHE)
    _prepare(materials, progress=progress)
    check_memory(materials, fabric.strategy.root_device, processes=recipe.devices)
    given = _given(materials, model, path=start) if model and start else None
    (out / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    if given and not (out / RECIPE).exists():
        save_weights(given, out / CHECKPOINTS / GIVEN)
    save(recipe, out / RECIPE)
    if recipe.devices == 1:
        fabric.launch()
        _train_stages(fabric, materials, out=out, progress=progress)
    elif failed := fabric.launch(partial(_in_process, recipe=recipe, out=out, progress=progress)):
        raise check.InputError(failed)
    return out / MODEL


def train_seeds(
    recipe: Recipe,
    out: str | Path,
    *,
    seeds: int,
    resume: bool = False,
    start: Path | None = None,
    progress: bool = True,
) -> tuple[Path, ...]:
    """Train as a recipe says with several seeds, and return the folders of the models.

    They are trained in `out`/seed-0 and so on, with the recipe's seed and those that follow it, and prepare their
    scans once. `out`/summary.json has mean and standard deviation of each number in their last lines of metrics.

    Args:
        recipe: scans, method, stages.
        out: folder for the runs.
        seeds: how many.
        resume: whether to go on with runs that were stopped.
        start: folder of a trained model to begin with.
        progress: whether to show progress on stderr.

    Raises:
        InputError: as `train` does.
    """
    out = Path(out)
    data = recipe.data.model_copy(update={"cache": recipe.data.cache or (out / CACHE).absolute()})
    folders = [out / f"seed-{number}" for number in range(seeds)]
    for number, folder in enumerate(folders):
        one = recipe.model_copy(update={"seed": recipe.seed + number, "data": data})
        train(one, folder, resume=resume, start=start, progress=progress)
    content = json.dumps(summarised([folder / METRICS for folder in folders]), indent=1)
    (out / SUMMARY).write_text(content + "\n", encoding="utf-8")
    return tuple(folder / MODEL for folder in folders)


def summarised(metrics: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Return mean, sd and values over runs of each loss term and Dice in the last lines of their metrics."""
    last: list[dict[str, float]] = []
    for path in metrics:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        final = [line for line in lines if line["stage"] == lines[-1]["stage"]]
        numbers = {kind: line[kind] for line in final for kind in ("terms", "dice") if kind in line}
        last.append({f"{kind}/{name}": value for kind, values in numbers.items() for name, value in values.items()})
    shared = [name for name in last[0] if all(name in one for one in last)]
    values = {name: [one[name] for one in last] for name in shared}
    return {
        name: {"mean": fmean(found), "sd": stdev(found) if len(found) > 1 else 0.0, "values": found}
        for name, found in values.items()
    }


def _check_folder(recipe: Recipe, out: Path, *, resume: bool) -> None:
    """Refuse a folder that is not this recipe's.

    Raises:
        InputError: for a folder of something else, of a run that was not to be resumed, or of another recipe.
    """
    if not (out / RECIPE).exists():
        if out.exists() and (not out.is_dir() or {path.name for path in out.iterdir()} - {CACHE, CHECKPOINTS}):
            raise check.run_occupied(out)
        return
    found = load(out / RECIPE, Recipe).model_dump(mode="json")
    given = recipe.model_dump(mode="json")
    for key, ours, theirs in _differing(given, found):
        raise check.another_recipe(out, key, found=theirs, given=ours)
    if not resume:
        raise check.run_exists(out)


def _differing(ours: Any, theirs: Any, *, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the keys at which two recipes differ, with their values."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        # What is null is left out of a file.
        for name in dict.fromkeys([*ours, *theirs]):
            yield from _differing(ours.get(name), theirs.get(name), key=f"{key}.{name}".lstrip("."))
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, pair in enumerate(zip(ours, theirs, strict=True)):
            yield from _differing(*pair, key=f"{key}[{index}]")
    elif ours != theirs:
        yield key, ours, theirs


def fabric_of(device: str = "auto", *, devices: int = 1, precision: str = "auto") -> Fabric:
    """Return devices and precision, as a recipe asks for them.

    Raises:
        InputError: for GPUs that are not there.
    """
    found = torch.cuda.device_count()
    device = ("cuda" if found else "cpu") if device == "auto" else device
    if device == "cuda" and found < devices:
        raise check.no_device(devices, found)
    half = precision == "bf16" or (precision == "auto" and _fast_in_half(device))
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it tells everybody which precision it uses
    # Processes that begin anew: what began with sys.argv would do its preparation again, and forks lose their threads.
    strategy = "ddp_spawn" if devices > 1 else "auto"
    bits: Literal["bf16-mixed", "32-true"] = "bf16-mixed" if half else "32-true"
    return Fabric(accelerator=device, devices=devices, strategy=strategy, precision=bits)


def _fast_in_half(device: str) -> bool:
    """Tell whether convolutions in bf16 are the faster ones; on a CPU, whether it has units for them."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    known = torch.cpu.get_capabilities()
    return bool(known.get("amx_bf16") or known.get("avx512_bf16"))


def _prepare(materials: Materials, *, progress: bool) -> None:
    """Prepare all scans, so that steps only read."""
    for store, case in shown(list(materials.unprepared()), "preparing scans", bar=progress):
        store.prepared(case)


def _given(materials: Materials, model: Model, *, path: Path) -> Trainable:
    """Return the method of a model to begin with.

    Raises:
        InputError: for a model of another method, or of other images or structures.
    """
    name = materials.recipe.method.name
    if model.name != name:
        raise check.other_method(path, model.name, expected=name)
    if model.task != materials.task:
        raise check.other_task(path, found=model.task, expected=materials.task)
    if model.table.structures != materials.table.structures:
        found, expected = (", ".join(table.structures) for table in (model.table, materials.table))
        raise check.other_task(path, found=f"the structures {found}", expected=expected)
    return model.method


@hurried()
def _in_process(fabric: Fabric, *, recipe: Recipe, out: Path, progress: bool) -> str | None:
    """Train in one of several processes; return what is wrong with the input, which all of them find alike."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    try:
        _train_stages(fabric, Materials.of(recipe, cache=out / CACHE), out=out, progress=progress)
    except check.InputError as error:
        return str(error)
    return None


def _train_stages(fabric: Fabric, materials: Materials, *, out: Path, progress: bool) -> None:
    """Train the stages that are not done yet, and save the model."""
    recipe, first = materials.recipe, fabric.is_global_zero
    events = out / EVENTS if recipe.tensorboard and first else None
    log = Log(out / METRICS if first else None, events=events, bar=progress and first)
    with _deterministic(wanted=recipe.deterministic):
        for stage in recipe.stages:
            _train_stage(fabric, materials, stage=stage, folder=out / CHECKPOINTS, log=log)
    log.close()
    if first:
        _save(materials, out)


def _train_stage(fabric: Fabric, materials: Materials, *, stage: Stage, folder: Path, log: Log) -> None:
    """Train one stage, unless that is done."""
    recipe = materials.recipe
    number = recipe.stages.index(stage)
    if (folder / f"{stage.name}{SUFFIX}").exists():
        return forget_checkpoints(folder, stage.name)
    seed_noise(fabric, recipe.seed, number)
    method = materials.method(stage)
    before = stage.start or (recipe.stages[number - 1].name if number else None)
    begin = folder / (f"{before}{SUFFIX}" if before else GIVEN)
    if begin.exists():
        load_weights(method, begin)
    method.to(fabric.device)
    loader = materials.loader(stage, stride=method.stride, process=(fabric.global_rank, fabric.world_size))
    method.look_over(len(loader.cases))
    given: dict[str, Any] = {"loader": loader, "cases": materials.examined, "fabric": fabric}
    structures = materials.table.structures
    examine = partial(cut_dice, **given) if materials.volumes else partial(mean_dice, structures=structures, **given)
    wanted = examine if materials.examined and stage.evaluate_every and stage.data != "maps" else None
    seed = loader.seed
    return fit(method, loader, stage=stage, fabric=fabric, folder=folder, log=log, seed=seed, examine=wanted)


def _save(materials: Materials, out: Path) -> None:
    """Save what the last stage learned as a model."""
    recipe, stage = materials.recipe, materials.recipe.stages[-1]
    method = materials.method(stage)
    load_weights(method, out / CHECKPOINTS / f"{stage.name}{SUFFIX}")
    cases = materials.training
    provenance: dict[str, Any] = {
        "scans": len(cases),
        "people": len({case.person for case in cases}),
        "labelled": sum(case.labels is not None for case in cases),
        "maps": len(materials.maps),
        "seed": recipe.seed,
        "stages": [stage.model_dump(mode="json", exclude_none=True) for stage in recipe.stages],
    }
    if materials.volumes:
        provenance["look"] = materials.volumes.look().model_dump(mode="json")
    # Maps are learned from at any size of voxels; what they taught labels scans in their own.
    preparation = materials.preparation(stage if stage.data == "scans" else stage.model_copy(update={"spacing": None}))
    save_model(
        Model(method, recipe.method.name, materials.table, preparation, materials.prior, provenance), out / MODEL
    )


@contextmanager
def _deterministic(*, wanted: bool) -> Iterator[None]:
    """Refuse operations that may give another result next time, if wanted, while the context lasts."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(wanted or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
