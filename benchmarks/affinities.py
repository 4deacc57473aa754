"""Train what `neurons.py` compares, predict its pieces, and pack both: on a GPU in minutes, or slowly on any machine.

The recipe by two seeds and without defects among its augmentations; wider networks by two seeds, and a plain one of
public parts, for as long as is said. All learn from the same sections. It ends when the time is over, whatever was
reached, and imports no decoder.
"""

from __future__ import annotations

import argparse
import io
import json
import lzma
import os
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.multiprocessing import get_context

from limner.data.defects import blurred, darkened
from limner.data.volumes import Piece, Volumes, whole
from limner.inference.neurons import MARGIN, affinity_method, predicted
from limner.methods.affinity import edges_of
from limner.methods.mirroring import averaged, views
from limner.methods.storage import load_model, save_model
from limner.training.recipe import Recipe, load_recipe
from limner.training.run import train

RECIPE = Path(__file__).parents[1] / "recipes/affinity.toml"
#: Sections of medulla.hdf.
TRAINING, CHOICE, TEST = (0, 125), (125, 145), (145, 165)
#: One section in so many of the damaged test piece has a defect.
EVERY = 10
PLAIN = "plain"
#: Steps between the values that affinities are packed in, and how large a package may become.
STEP, BYTES = 8, 10_000_000


@dataclass(frozen=True)
class Run:
    """What is special about a run of `limner train`.

    Args:
        seed: of everything that is drawn.
        wide: whether features, pieces and rate are those of the command line and its minutes all its limit, and not
            the recipe's.
        defects: whether defects of sections are among the augmentations.
    """

    seed: int
    wide: bool = False
    defects: bool = True


RUNS = {
    "recipe-seed-0": Run(0),
    "recipe-seed-1": Run(1),
    "recipe-without-defects": Run(0, defects=False),
    "wide-seed-0": Run(0, wide=True),
    "wide-seed-1": Run(1, wide=True),
}


@dataclass(frozen=True)
class Budget:
    """What networks are given.

    Args:
        data: folder of `medulla.hdf` and `crop.hdf`.
        out: folder of the results.
        minutes: to learn for, at most.
        features: channels at each level of a wide network.
        crop: edge of the pieces that it and the plain one learn from, voxels.
        batch: pieces in a step of these.
        rate: of learning of the wide network.
        threads: of torch.
    """

    data: Path
    out: Path
    minutes: float
    features: tuple[int, ...]
    crop: int
    batch: int
    rate: float
    threads: int


def pieces(data: Path) -> Iterator[tuple[str, NDArray[np.float32], slice]]:
    """Yield each piece that is predicted: its name, an image (1, Z, Y, X), and which sections are its own."""
    _, image = whole(data / "medulla.hdf")
    for name, (start, stop) in (("choice", CHOICE), ("test", TEST)):
        first, last = max(0, start - MARGIN), min(image.shape[1], stop + MARGIN)
        yield name, image[:, first:last], slice(start - first, stop - first)
    first = TEST[0] - MARGIN
    hurt = image[:, first:].copy()
    hurt[:, MARGIN:] = damaged_sections(hurt[:, MARGIN:])
    yield "damaged", hurt, slice(MARGIN, None)
    _, small = whole(data / "crop.hdf")
    yield "crop", small, slice(None)


def damaged_sections(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return an image (1, Z, Y, X) one in `EVERY` of whose sections is blurred or darkened, in turn."""
    sections = torch.from_numpy(image.copy()).movedim(1, 0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for number, section in enumerate(range(EVERY // 2, len(sections), EVERY)):
            way = (blurred, darkened)[number % 2]
            sections[section : section + 1] = way(sections[section : section + 1])
    return sections.movedim(0, 1).numpy()


def recipe_of(run: Run, budget: Budget) -> Recipe:
    """Return the recipe of a run."""
    volume = budget.data / "medulla.hdf"
    settings = {
        "seed": run.seed,
        "data.volumes.0.image": f"'{volume}'",
        "data.volumes.1.image": f"'{volume}'",
        "stages.0.minutes": budget.minutes,
        "stages.0.checkpoint_every": 100_000,
    }
    if run.wide:
        settings |= {
            "method.options.network.features": list(budget.features),
            "stages.0.steps": 1_000_000,
            "stages.0.crop": [budget.crop] * 3,
            "stages.0.batch": budget.batch,
            "stages.0.learning_rate": budget.rate,
        }
    if not run.defects:
        settings["method.options.microscopy.defects"] = ""
    return load_recipe(RECIPE, overrides=[f"{key}={value}" for key, value in settings.items()])


def learn(name: str, budget: Budget) -> None:
    """Train a run of `limner train`, and predict all pieces."""
    torch.set_num_threads(budget.threads)
    torch.backends.cudnn.benchmark = True
    folder = budget.out / name
    model = load_model(train(recipe_of(RUNS[name], budget), folder, progress=False))
    save_halved(model, folder / "small")
    method = affinity_method(model)
    (folder / "offsets.json").write_text(json.dumps([list(offset) for offset in method.offsets]))
    for piece, image, own in pieces(budget.data):
        keep(predicted(method, image)[:, own], folder, piece)


def save_halved(model: Any, path: Path) -> None:
    """Save a model whose weights are of 16 bits of accuracy; their files pack well."""
    for parameter in model.method.parameters():
        parameter.data = parameter.data.half().float()
    save_model(model, path)


class Plain(nn.Module):
    """The U-Net that everybody writes first: two convolutions with batch normalisation a level, and concatenation."""

    def __init__(self, features: tuple[int, ...] = (16, 32, 64)) -> None:
        super().__init__()
        self.down = nn.ModuleList(_twice(i, o) for i, o in zip((1, *features), features, strict=False))
        self.up = nn.ModuleList(_twice(a + b, a) for a, b in pairwise(features))
        self.head = nn.Conv3d(features[0], 3, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        values, skips = image, []
        for depth, block in enumerate(self.down):
            values = block(nn.functional.max_pool3d(values, 2) if depth else values)
            skips.append(values)
        skips.pop()
        for block in reversed(self.up):
            risen = nn.functional.interpolate(values, scale_factor=2.0, mode="nearest")
            values = block(torch.cat([skips.pop(), risen], 1))
        return self.head(values)


def _twice(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for given in (inputs, outputs):
        layers += [nn.Conv3d(given, outputs, 3, padding=1), nn.BatchNorm3d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


def learn_plain(budget: Budget) -> None:
    """Train the plain network for as long, on the same sections, with flips alone; predict with mirroring."""
    torch.set_num_threads(budget.threads)
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    offsets = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
    kept = Volumes.opened([Piece(image=budget.data / "medulla.hdf", sections=TRAINING)])
    scan = next(iter(kept.pieces.values()))
    image, labels = torch.from_numpy(scan.image).to(device), torch.from_numpy(scan.labels).long().to(device)
    network = Plain().to(device)
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    begun, step = time.perf_counter(), 0
    half = device.type == "cuda" or bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    while time.perf_counter() - begun < 60 * budget.minutes:
        seen, ids = _pieces_drawn(image, labels, crop=budget.crop, batch=budget.batch)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
            scores = network(seen).float()
        together, known = edges_of(ids, offsets)
        loss = nn.functional.binary_cross_entropy_with_logits(scores[known], together[known].float())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        step += 1
    folder = budget.out / PLAIN
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "offsets.json").write_text(json.dumps(offsets))
    (folder / "metrics.jsonl").write_text(json.dumps({"step": step, "loss": loss.item()}) + "\n")
    network.eval()
    ways = list(views(3))
    for name, values, own in pieces(budget.data):
        margins = [(0, 0), (0, 0), *[(0, -size % 4) for size in values.shape[1:]]]
        wide = torch.from_numpy(np.pad(values[None], margins, mode="symmetric")).to(device)
        with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
            found = averaged(lambda one: network(one).float().sigmoid(), wide, offsets=offsets, ways=ways)[0]
        cut = found[:, : values.shape[1], : values.shape[2], : values.shape[3]][:, own]
        keep((cut * 255).round().to(torch.uint8).cpu().numpy(), folder, name)


def _pieces_drawn(
    image: torch.Tensor, labels: torch.Tensor, *, crop: int, batch: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return pieces (B, 1, *S) and their ids (B, *S), flipped at random."""
    drawn = []
    for _ in range(batch):
        starts = [int(torch.randint(size - crop + 1, ())) for size in labels.shape]
        place = tuple(slice(start, start + crop) for start in starts)
        flips = [axis for axis in range(3) if torch.rand(()) < 0.5]
        drawn.append((image[0][place].flip(flips), labels[place].flip(flips)))
    return torch.stack([one for one, _ in drawn])[:, None], torch.stack([ids for _, ids in drawn])


def pack(folder: Path, *, largest: int = BYTES) -> Path:
    """Pack what fits of a network's results into one file, the most important first."""
    path, used = folder.with_name(f"{folder.name}.tar"), 0
    with tarfile.open(path, "w") as package:
        for name, content in _contents(folder):
            if used + len(content) + 2048 > largest:
                print(f"left out: {folder.name}/{name}, {len(content)} bytes")
                continue
            header = tarfile.TarInfo(f"{folder.name}/{name}")
            header.size = len(content)
            package.addfile(header, io.BytesIO(content))
            used += len(content) + 2048
    return path


def _contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents, the most important first."""
    near, far = ([f"{piece}.{kind}.xz" for piece in ("choice", "test", "crop", "damaged")] for kind in ("near", "far"))
    for name in ("offsets.json", "metrics.jsonl", "recipe.toml", *near):
        yield from _file(folder, name)
    yield from _model(folder)
    for name in far:
        yield from _file(folder, name)


def _file(folder: Path, name: str) -> Iterator[tuple[str, bytes]]:
    """Yield a file's name and content, if it is there."""
    if (folder / name).exists():
        yield name, (folder / name).read_bytes()


def keep(values: NDArray[np.uint8], folder: Path, piece: str) -> None:
    """Write affinities of near edges and the farthest ones apart, in steps of `STEP`, after a line with their shape."""
    for name, channels in (("near", values[:3]), ("far", values[6:9])):
        steps = np.round(channels / STEP).astype(np.uint8)
        content = json.dumps(channels.shape).encode() + b"\n" + lzma.compress(steps.tobytes(), preset=4)
        (folder / f"{piece}.{name}.xz").write_bytes(content)


def unpacked(content: bytes) -> NDArray[np.uint8]:
    """Return the affinities that `keep` wrote."""
    shape, _, rest = content.partition(b"\n")
    steps = np.frombuffer(lzma.decompress(rest), np.uint8).reshape(json.loads(shape))
    return np.minimum(steps.astype(np.uint16) * STEP, 255).astype(np.uint8)


def _model(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield a model as one compressed file of files."""
    if (folder / "small").exists():
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w:xz") as package:
            package.add(folder / "small", "model")
        yield "model.tar.xz", content.getvalue()


def _learned(name: str, budget: Budget) -> None:
    if name == PLAIN:
        learn_plain(budget)
    else:
        learn(name, budget)


def main() -> None:
    """Train, predict, pack; LIMNER_DATA names the folder of data."""
    given = _arguments().parse_args()
    data = Path(os.environ["LIMNER_DATA"]) / "em_neurons"
    budget = Budget(
        data, given.out, given.minutes, tuple(given.features), given.crop, given.batch, given.rate, given.threads
    )
    given.out.mkdir(parents=True, exist_ok=True)
    names = given.only or [*RUNS, PLAIN]
    spawn = get_context("spawn")
    workers = [spawn.Process(target=_learned, args=(name, budget)) for name in names]
    end = time.monotonic() + 60 * given.deadline
    for worker in workers:
        worker.start()
        if not given.together:
            worker.join(max(0, end - time.monotonic()))
    for worker in workers:
        worker.join(max(0, end - time.monotonic()))
        worker.terminate()
    for folder in sorted(path for path in given.out.iterdir() if path.is_dir()):
        print(pack(folder))


def _arguments() -> argparse.ArgumentParser:
    """Return what can be said on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of results and packages")
    parser.add_argument("--minutes", type=float, default=40, help="for which each network learns, at most")
    parser.add_argument("--deadline", type=float, default=10_000, help="minutes after which all ends")
    parser.add_argument("--features", type=int, nargs="+", default=[24, 48, 96], help="channels of wide ones")
    parser.add_argument("--crop", type=int, default=64, help="edge of their pieces, voxels")
    parser.add_argument("--batch", type=int, default=4, help="pieces in a step of theirs")
    parser.add_argument("--rate", type=float, default=1e-3, help="of learning of theirs")
    parser.add_argument("--threads", type=int, default=1, help="of torch, in each process")
    parser.add_argument("--only", choices=[*RUNS, PLAIN], nargs="+", help="some runs alone")
    parser.add_argument("--together", action="store_true", help="all at the same time, each in a process of its own")
    return parser


if __name__ == "__main__":
    main()
