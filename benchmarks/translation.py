"""Translation and its rivals: studies within a time, a step's seconds beside one as published, and its memory.

    python benchmarks/translation.py study recipes/translation/digits-hard.toml --out DIR [--workers 12] [--seconds 200]
    python benchmarks/translation.py tables DIR
    python benchmarks/translation.py steps
    python benchmarks/translation.py memory
    python benchmarks/translation.py modes DIR

A study within a time first measures how fast translation's steps are while as many run as there will be, and sets the
steps of all cells by that, so that all have equally many and the slowest ends in time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import torch

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from limner.cluster import Outcome, Processes, Progress
from limner.config import load
from limner.methods import method_class
from limner.methods.method import Task
from limner.methods.storage import load_model
from limner.networks.layers import LAYOUT
from limner.study import load_study, run_study
from limner.study.cells import StudyRecipe, cells
from limner.study.work import CELLS, RUN, TEST, cases_to_test
from limner.training.materials import Materials
from limner.training.recipe import Recipe
from limner.training.speed import keep_memory


class Told(Progress):
    """Prints a line for each cell."""

    def finished(self, outcome: Outcome) -> None:
        print(f"{time.strftime('%X')} {outcome.name}: {outcome.error or f'{outcome.seconds} s'}", flush=True)


def step_seconds(study: StudyRecipe, name: str, out: str, *, seed: int, timed: int) -> float:
    """Return how long a step of a row's training takes here, over so many after half as many."""
    recipe = study.run(name, study.amounts[0], seed=seed)
    materials, stage = Materials.of(recipe, cache=Path(out) / "cache"), recipe.stages[0]
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() and recipe.device != "cpu" else "cpu")
    method = materials.method(stage).to(device)
    loader = materials.loader(stage, stride=method.stride)
    learning = {key: torch.optim.Adam(player.parameters()) for key, player in method.players().items()}
    began = 0.0
    for step in range(timed + timed // 2):
        if step == timed // 2:
            began = time.perf_counter()
        batch = loader.batch(step)[0].to(device)
        for player, terms in method.losses(batch, None):
            total = torch.stack(list(terms.values())).sum()
            total.backward()
            total.item()
            learning[player].step()
            method.zero_grad()
        method.after_step()
    return (time.perf_counter() - began) / timed


def _timed(arguments: tuple[dict[str, Any], str, str, int, int]) -> float:
    values, name, out, seed, timed = arguments
    return step_seconds(StudyRecipe.model_validate(values), name, out, seed=seed, timed=timed)


def steps_within(study: StudyRecipe, out: Path, *, seconds: float, workers: int, timed: int) -> int:
    """Return how many steps every cell can have so that all end in time, measured with all workers at work.

    The cells' times add up: whoever has a short one makes room for another.
    """
    values = study.model_dump(mode="json")
    names = [name for _ in range(study.seeds) for name in study.methods]
    jobs = [(values, name, str(out), number, timed) for number, name in enumerate(names)][
        : max(workers, len(study.methods))
    ]
    with get_context("spawn").Pool(workers) as pool:
        each = pool.map(_timed, jobs, chunksize=1)
    found: dict[str, list[float]] = {}
    for (_, name, *_), one in zip(jobs, each, strict=True):
        found.setdefault(name, []).append(one)
    rates = {name: max(times) for name, times in found.items()}
    slowest = max(rates.values())
    total = sum(rates.get(cell.row, slowest) for cell in cells(study))
    longest = max(slowest, total / workers)
    print(
        f"seconds a step with {workers} at work: {json.dumps(rates)}; at most {longest:.3f} a step of all", flush=True
    )
    return max(1, int(seconds / longest))


def study(options: argparse.Namespace) -> None:
    """Run a study, within a time if one is given."""
    recipe, out = load_study(Path(options.recipe), overrides=options.set), Path(options.out)
    if options.seconds and not (out / "study.toml").exists():
        count = steps_within(recipe, out, seconds=0.8 * options.seconds, workers=options.workers, timed=options.timed)
        count = min(count, options.most)
        every = max(1, count // 10)
        settings = [f"recipe.stages.0.steps={count}", f"recipe.stages.0.evaluate_every={every}"]
        # What was measured may not hold: nothing goes on for longer than this, whatever its steps.
        settings += [f"recipe.stages.0.minutes={options.seconds / 60}", "recipe.stages.0.checkpoint_every=1000000"]
        recipe = load_study(Path(options.recipe), overrides=[*options.set, *settings])
        print(f"{count} steps each", flush=True)
    executor = Processes(options.workers) if options.workers > 1 else None
    run_study(recipe, out, executor=executor, progress=Told())
    print((out / "table.md").read_text())


def tables(options: argparse.Namespace) -> None:
    """Write the tables of a study that was stopped."""
    from limner.study.tables import write_tables

    out = Path(options.out)
    write_tables(load(out / "study.toml", StudyRecipe), out)
    print((out / "table.md").read_text() if (out / "table.md").exists() else "no cell is done")


def steps(options: argparse.Namespace) -> None:
    """Time a whole step at 48x48 beside the same step written as published, each in a process of its own.

    As in a training, the first keeps its memory; the other has none of that, and its maps lie one after another. Rounds
    of both take turns, so that what else the machine does falls on both.
    """
    print("| bottleneck | batch | step, s | as published, s | ratio |\n|---|---|---|---|---|")
    for width in options.widths:
        times: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(options.rounds):
            for published, each in times.items():
                with get_context("spawn").Pool(1) as pool:
                    each += pool.apply(_seconds, (published, width, options.batch, options.repeats))
        fast, slow = (median(each) for each in times.values())
        half = options.batch // 2
        print(
            f"| {width} | {half} + {options.batch - half} | {fast:.3f} | {slow:.3f} | {slow / fast:.2f} |", flush=True
        )


def _seconds(published: bool, width: int, batch: int, repeats: int) -> list[float]:
    """Return the processor's seconds of steps, of which two before are not counted."""
    from methods.published_step import optimisers, slow_step, with_norm_at_each_call

    torch.set_num_threads(1)
    kind = method_class("translation")
    features = tuple(width // 2**level for level in (4, 3, 2, 1, 0))
    judges = {"features": (width // 4, width // 2, width)}
    method = kind(Task(1, 2, 2), kind.Options(codec={"features": features}, discriminators=judges))
    image = torch.rand(batch, 1, 48, 48)
    half = batch // 2
    labels = (image[:half, 0] > 0.9).long()
    if published:
        LAYOUT[2] = torch.contiguous_format
        with_norm_at_each_call(method)
        networks = optimisers(method)
    else:
        keep_memory()
        players = {key: torch.optim.Adam(one.parameters(), 1e-3, amsgrad=True) for key, one in method.players().items()}
    times = []
    for _ in range(2 + repeats):
        began = time.process_time()
        if published:
            slow_step(method, networks, (image[:half], image[half:]), labels)
        else:
            _step(method, players, image, labels)
        times.append(time.process_time() - began)
    return times[2:]


def modes(options: argparse.Namespace) -> None:
    """Compare what the residual decoder makes in its two modes, for each translation of a study that is done.

    Of each test image: how what it adds, without its sign, and the probabilities of the same decoder go together over
    voxels (Pearson's correlation; 1 if the modes are the same), and what share of each lies inside the mask.
    """
    study = load(Path(options.out) / "study.toml", StudyRecipe)
    print("| cell | correlation | inside the mask, of what is added | of probabilities |\n|---|---|---|---|")
    for cell in cells(study):
        folder, recipe = Path(options.out) / CELLS / cell.name, study.run(cell.row, cell.amount, seed=cell.seed)
        if (folder / TEST).exists() and recipe.method.name == "translation":
            found = zip(*_both_modes(recipe, folder), strict=True)
            print(f"| {cell.name} | {' | '.join(f'{median(one):.2f}' for one in found)} |", flush=True)


def _both_modes(recipe: Recipe, folder: Path) -> Iterator[tuple[float, float, float]]:
    """Yield for each image the correlation of both maps, and the share of each that lies inside the mask."""
    method = load_model(folder / RUN / "model").method
    loader = Materials.of(recipe, cache=folder / "cache").loader(recipe.stages[-1], stride=method.stride)
    for case in cases_to_test(recipe)[0]:
        batch, _ = loader.whole(case)
        with torch.no_grad():
            added = method.removed(batch.image)[1][0, 0].abs().mean(0)
            share = method.predict(batch.image, None)[0, 1]
        inside = batch.labels[0] == 1
        if inside.any():
            both = torch.corrcoef(torch.stack([added.flatten(), share.flatten()]))[0, 1]
            yield float(both), *(float(one[inside].sum() / one.sum()) for one in (added, share))


def memory(options: argparse.Namespace) -> None:
    """Measure what a step takes at 240x120 with four channels and the default networks, in a process of its own."""
    print("| batch | memory of the process before, GiB | most, GiB | seconds |\n|---|---|---|---|")
    for batch in options.batches:
        with get_context("spawn").Pool(1) as pool:
            before, most, seconds = pool.apply(_memory, (batch,))
        print(f"| {batch // 2} + {batch - batch // 2} | {before:.2f} | {most:.2f} | {seconds:.0f} |", flush=True)


def _memory(batch: int) -> tuple[float, float, float]:
    """Return the memory before two steps and at most, GiB, and the seconds of the second."""
    torch.set_num_threads(1)
    kind = method_class("translation")
    method = kind(Task(4, 2, 2), kind.Options())
    learning = {key: torch.optim.Adam(one.parameters(), 1e-3, amsgrad=True) for key, one in method.players().items()}
    image = torch.rand(batch, 4, 240, 120)
    labels = (image[: batch // 2, 0] > 0.9).long()
    before = _resident("VmRSS")
    _step(method, learning, image, labels)  # the second has the optimisers' moments, too
    began = time.perf_counter()
    _step(method, learning, image, labels)
    return before, _resident("VmHWM"), time.perf_counter() - began


def _resident(field: str) -> float:
    """Return a field of this process's state, in GiB."""
    (line,) = [one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith(field)]
    return int(line.split()[1]) / 2**20


def _step(method: Any, learning: dict[str, Any], image: torch.Tensor, labels: torch.Tensor) -> None:
    from limner.data.batch import IGNORE, Batch

    count, half = len(image), len(labels)
    whole = torch.full((count, *image.shape[2:]), IGNORE)
    whole[:half] = labels
    present = (torch.arange(count) < half).long()[:, None]
    mask = torch.ones_like(whole, dtype=torch.bool)
    batch = Batch(image, whole, present, mask, torch.eye(3).repeat(count, 1, 1), tuple(map(str, range(count))))
    for player, terms in method.losses(batch, None):
        torch.stack(list(terms.values())).sum().backward()
        learning[player].step()
        method.zero_grad()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("study")
    one.add_argument("recipe")
    one.add_argument("--out", required=True)
    one.add_argument("--workers", type=int, default=1)
    one.add_argument("--seconds", type=float)
    one.add_argument("--most", type=int, default=20_000, help="steps")
    one.add_argument("--timed", type=int, default=24, help="steps that are timed first")
    one.add_argument("--set", action="append", default=[])
    one.set_defaults(do=study)
    three = commands.add_parser("tables")
    three.add_argument("out")
    three.set_defaults(do=tables)
    two = commands.add_parser("steps")
    two.add_argument("--widths", type=int, nargs="+", default=[64, 128])
    two.add_argument("--batch", type=int, default=20)
    two.add_argument("--repeats", type=int, default=5)
    two.add_argument("--rounds", type=int, default=3)
    two.set_defaults(do=steps)
    four = commands.add_parser("memory")
    four.add_argument("--batches", type=int, nargs="+", default=[4, 20])
    four.set_defaults(do=memory)
    five = commands.add_parser("modes")
    five.add_argument("out")
    five.set_defaults(do=modes)
    options = parser.parse_args()
    options.do(options)


if __name__ == "__main__":
    main()
