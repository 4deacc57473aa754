"""Train what `neurons.py` compares, predict its pieces, and pack both: on a GPU in minutes, or slowly on any machine.

Two seeds with defects among the augmentations, one without, and a plain network of public parts learn side by side from
the same sections for the same time. It ends when that is over, whatever was reached, and imports no decoder.
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
RUNS = {"seed 0": (0, True), "seed 1": (1, True), "without defects": (0, False)}
PLAIN = "plain"
#: Steps between the values that affinities are packed in, and how large the package may become.
STEP, BYTES = 8, 14_500_000


@dataclass(frozen=True)
class Budget:
    """What a network is given.

    Args:
        data: folder of `medulla.hdf` and `crop.hdf`.
        out: folder of the results.
        minutes: to learn for.
        features: channels at each level.
        crop: edge of the pieces that are learned from, voxels.
        batch: pieces in a step.
        mirrored: "none", "flips", or "all" for exchanged axes too.
        threads: of torch.
    """

    data: Path
    out: Path
    minutes: float
    features: tuple[int, ...]
    crop: int
    batch: int
    mirrored: str
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


def recipe_of(name: str, budget: Budget) -> Recipe:
    """Return the recipe of a run."""
    seed, defects = RUNS[name]
    volume = budget.data / "medulla.hdf"
    settings = {
        "seed": seed,
        "data.volumes.0.image": f"'{volume}'",
        "data.volumes.1.image": f"'{volume}'",
        "method.options.network.features": list(budget.features),
        "method.options.mirrored": f"'{budget.mirrored}'",
        "stages.0.minutes": budget.minutes,
        "stages.0.steps": 1_000_000,
        "stages.0.crop": [budget.crop] * 3,
        "stages.0.batch": budget.batch,
        "stages.0.checkpoint_every": 100_000,
    }
    if not defects:
        settings["method.options.microscopy.defects"] = ""
    return load_recipe(RECIPE, overrides=[f"{key}={value}" for key, value in settings.items()])


def learn(name: str, budget: Budget) -> None:
    """Train a run of `limner train`, and predict all pieces."""
    torch.set_num_threads(budget.threads)
    torch.backends.cudnn.benchmark = True
    folder = budget.out / name.replace(" ", "-")
    model = load_model(train(recipe_of(name, budget), folder, progress=False))
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


def pack(out: Path, *, largest: int = BYTES) -> Path:
    """Pack what fits of the results into one file, the most important first."""
    path, used = out.with_name(f"{out.name}.tar"), 0
    with tarfile.open(path, "w") as package:
        for name, content in _contents(out):
            if used + len(content) + 2048 > largest:
                print(f"left out: {name}, {len(content)} bytes")
                continue
            header = tarfile.TarInfo(name)
            header.size = len(content)
            package.addfile(header, io.BytesIO(content))
            used += len(content) + 2048
    return path


def _contents(out: Path) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents, the most important first: near edges, then a model, then far edges and models."""
    folders = [name.replace(" ", "-") for name in (*RUNS, PLAIN)]
    for folder in folders:
        for name in ("offsets.json", "metrics.jsonl", "recipe.toml"):
            yield from _file(out, f"{folder}/{name}")
    for piece in ("choice", "test", "crop", "damaged"):
        for folder in folders:
            yield from _file(out, f"{folder}/{piece}.near.xz")
    yield from _model(out / folders[0])
    for piece in ("choice", "test", "crop"):
        for folder in folders[:2]:
            yield from _file(out, f"{folder}/{piece}.far.xz")
    yield from _model(out / folders[1])
    yield from _model(out / folders[2])


def _file(out: Path, name: str) -> Iterator[tuple[str, bytes]]:
    """Yield a file's name and content, if it is there."""
    if (out / name).exists():
        yield name, (out / name).read_bytes()


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
        yield f"{folder.name}/model.tar.xz", content.getvalue()


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
        data, given.out, given.minutes, tuple(given.features), given.crop, given.batch, given.mirrored, given.threads
    )
    given.out.mkdir(parents=True, exist_ok=True)
    names = [given.only] if given.only else [*RUNS, PLAIN]
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
    print(pack(given.out))


def _arguments() -> argparse.ArgumentParser:
    """Return what can be said on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results; the package lies beside it")
    parser.add_argument("--minutes", type=float, default=40, help="for which each network learns")
    parser.add_argument("--deadline", type=float, default=10_000, help="minutes after which what there is is packed")
    parser.add_argument("--features", type=int, nargs="+", default=[12, 24, 48], help="channels at each level")
    parser.add_argument("--crop", type=int, default=48, help="edge of pieces, voxels")
    parser.add_argument("--batch", type=int, default=1, help="pieces in a step")
    parser.add_argument("--mirrored", choices=["none", "flips", "all"], default="flips")
    parser.add_argument("--threads", type=int, default=1, help="of torch, in each process")
    parser.add_argument("--only", choices=[*RUNS, PLAIN], help="one run alone")
    parser.add_argument("--together", action="store_true", help="all at the same time, each in a process of its own")
    return parser


if __name__ == "__main__":
    main()
