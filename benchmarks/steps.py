"""Time one training step of SAE on 160 x 192 x 224 voxels: as published, and limner's ways.

Every way runs in a fresh process, in turns; a process does one step that does not count. Before anything is timed, the
terms that both formulations share must agree. Where there is a GPU, everything runs there.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import published
import torch
from rich.progress import track
from torch import Tensor, nn

from limner.data.batch import IGNORE, Batch
from limner.data.scan import Preparation, prepared
from limner.files import open_volume
from limner.methods.method import Task
from limner.methods.placement import place_scan
from limner.methods.sae import SAE, SAEOptions, unit_range
from limner.methods.scoring import class_probability
from limner.networks.options import NetworkOptions
from limner.networks.unet import UNet
from limner.priors.dense import DensePrior, part_maps
from limner.priors.storage import SHIPPED, load_prior
from limner.space import Grid
from limner.training.speed import keep_memory

SAME = NetworkOptions(kind="unet", features=(4, 8, 16, 32, 32))
OPTIONS = {
    "same network and decoder": SAEOptions(network=SAME, likelihood="decoder", variance="fixed"),
    "same network, Gaussians": SAEOptions(network=SAME),
    "default network, Gaussians": SAEOptions(),
}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PUBLISHED, BARE = "as published", "bare convolutions of that network"
APPLIED = {
    "limner, default network, applied to the aligned scan, float32": SAEOptions(),
    "limner, default network, applied without sweeps, float32": SAEOptions(sweeps=0),
}
WAYS = (
    PUBLISHED,
    f"{BARE}, float32",
    f"{BARE}, bf16",
    *(f"limner, {name}, {bits}" for name in OPTIONS for bits in ("float32", "bf16")),
    *APPLIED,
)


def store_scan(folder: Path) -> None:
    """Write a scan of 160 x 192 x 224 voxels, its mask and the shipped prior on it."""
    path = Path(os.environ["LIMNER_DATA"], "brains", "person-7", "vol.npz")
    scan = prepared(open_volume(path), orientation="LIA", preparation=Preparation(margin=1000))
    atlas = load_prior(SHIPPED)
    rng = np.random.default_rng(0)
    found = place_scan(scan.image, scan.mask, grid=scan.grid, atlas=atlas, rng=rng)
    world = scan.grid.moved(found.transform)
    maps = {"image": scan.standardised().numpy(), "mask": scan.mask.numpy(), "parts": part_maps(atlas, world)}
    np.savez(folder / "scan.npz", world=world.affine, **maps)


def loaded(folder: Path) -> tuple[Batch, DensePrior]:
    """Return the scan as a batch of one, and the prior on it."""
    atlas, stored = load_prior(SHIPPED), np.load(folder / "scan.npz")
    image, mask = (torch.from_numpy(stored[name])[None] for name in ("image", "mask"))
    world, present = torch.eye(4, dtype=torch.float64)[None], torch.full((1, 0), IGNORE)
    batch = Batch(image, torch.full(mask.shape, IGNORE), present, mask, world, ("person-7",))
    prior = DensePrior(atlas.parts, torch.from_numpy(stored["parts"]).movedim(-1, 0)[None], atlas.neighbours)
    return batch.to(DEVICE), prior.to(DEVICE)


def published_step(folder: Path) -> Callable[[], Any]:
    """Return what does one step as published."""
    batch, prior = loaded(folder)
    network = UNet(1, prior.classes).to(DEVICE, memory_format=torch.contiguous_format)
    decoder = nn.Conv3d(prior.classes, 1, 3, padding=1).to(DEVICE)
    scene = _scene(batch, prior)
    optimiser = torch.optim.Adam([*network.parameters(), *decoder.parameters()])
    del batch, prior

    def step() -> None:
        optimiser.zero_grad()
        torch.stack(list(published.terms(network, decoder, scene).values())).sum().backward()
        optimiser.step()

    return step


def bare_step(folder: Path, *, bits: str) -> Callable[[], Any]:
    """Return what runs the published network alone, forward and backward, in limner's layout."""
    batch, prior = loaded(folder)
    network, image = UNet(1, prior.classes).to(DEVICE), batch.image
    del batch, prior

    def step() -> None:
        with torch.autocast(DEVICE, torch.bfloat16, enabled=bits == "bf16"):
            scores = network(image)
        scores.backward(torch.ones_like(scores))

    return step


def limner_step(folder: Path, *, name: str, bits: str) -> Callable[[], Any]:
    """Return what does one step as limner does."""
    batch, prior = loaded(folder)
    method = SAE(Task(1, prior.classes), OPTIONS[name]).to(DEVICE)
    optimiser = torch.optim.AdamW(method.parameters())

    def step() -> None:
        optimiser.zero_grad()
        losses = method.losses(batch, DensePrior(prior.parts, prior.probability, prior.neighbours))
        with torch.autocast(DEVICE, torch.bfloat16, enabled=bits == "bf16"):
            _, terms = next(losses)
        torch.stack(list(terms.values())).sum().backward()
        optimiser.step()

    return step


def applied_step(folder: Path, options: SAEOptions) -> Callable[[], Any]:
    """Return what labels the scan, once it is aligned: the prior brought to its grid, the network, the likeliest."""
    (batch, _), atlas = loaded(folder), load_prior(SHIPPED)
    grid, mask = Grid(tuple(batch.mask.shape[1:]), np.load(folder / "scan.npz")["world"]), batch.mask[0].cpu()
    method = SAE(Task(1, len(atlas.table.structures)), options).to(DEVICE).eval()

    @torch.no_grad()
    def step() -> None:
        prior = DensePrior.of(atlas.within(mask, grid), grid).to(DEVICE)
        method.predict(batch.image, prior, mask=batch.mask).argmax(1)

    return step


def agree(folder: Path) -> None:
    """Stop where the terms that both formulations share differ: those of prior and neighbours, over all voxels."""
    batch, prior = loaded(folder)
    everywhere = Batch(batch.image, batch.labels, batch.present, torch.ones_like(batch.mask), batch.world, batch.case)
    options = OPTIONS["same network and decoder"].model_copy(update={"support": 1e-8})
    method = SAE(Task(1, prior.classes), options).to(DEVICE)
    with torch.no_grad():
        _, ours = next(method.losses(everywhere, prior))
        theirs = published.terms(method.network, method.decoder.convolution, _scene(batch, prior))
    for name in ("prior", "neighbours"):
        each = float(theirs[name]) / batch.mask.numel()
        np.testing.assert_allclose(float(ours[name]), each, rtol=1e-4, err_msg=name)


def _scene(batch: Batch, prior: DensePrior) -> published.Scene:
    """Return the scan as the published step takes it: dense float32 in Python's order."""
    if prior.neighbours is None:
        raise ValueError("the shipped prior has neighbours")
    parts = prior.parts_within(torch.ones_like(batch.mask))
    shares: Tensor = class_probability(parts, prior.parts).view(*batch.mask.shape, prior.classes).movedim(-1, 1)
    return published.Scene(
        batch.image, unit_range(batch.image), shares.contiguous(), prior.neighbours, prior.neighbour_weight
    )


def measure(way: str, folder: Path, *, repeats: int) -> dict[str, float]:
    """Return the median seconds of a way's steps in this process, and its peak memory in GB above the imports."""
    before = _peak()
    bits = way.rpartition(", ")[2]
    if way == PUBLISHED:
        step = published_step(folder)
    elif way in APPLIED:
        step = applied_step(folder, APPLIED[way])
    else:
        keep_memory()
        name = way.removeprefix("limner, ").removesuffix(f", {bits}")
        step = bare_step(folder, bits=bits) if way.startswith(BARE) else limner_step(folder, name=name, bits=bits)
    _finished(step)
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        _finished(step)
        seconds.append(time.perf_counter() - began)
    return {"seconds": statistics.median(seconds), "peak": _peak() - before}


def _finished(step: Callable[[], Any]) -> None:
    """Do a step, and wait for the GPU to be done with it."""
    step()
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def _peak() -> float:
    """Return the most memory that this process has held so far, of the GPU's if there is one, GB."""
    if DEVICE == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e9


def table(repeats: int) -> list[str]:
    """Return a table's lines: each way's seconds for a step, and memory."""
    if "LIMNER_DATA" not in os.environ:
        return ["LIMNER_DATA was not set."]
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        store_scan(Path(folder))
        agree(Path(folder))
        for _ in track(range(repeats), "training steps"):
            for way in WAYS:
                command = [sys.executable, __file__, way, folder]
                answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                found[way].append(json.loads(answer))
    lines = ["| way | median s | fastest to slowest s | times as fast | peak GB |", "|---|---|---|---|---|"]
    first = statistics.median(one["seconds"] for one in found[PUBLISHED])
    for way, runs in found.items():
        seconds = [run["seconds"] for run in runs]
        middle, peak = statistics.median(seconds), statistics.median(run["peak"] for run in runs)
        spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
        lines.append(f"| {way} | {middle:.2f} | {spread} | {first / middle:.1f} | {peak:.2f} |")
    return lines


if __name__ == "__main__":
    torch.set_num_threads(2)
    sys.stdout.write(json.dumps(measure(sys.argv[1], Path(sys.argv[2]), repeats=2)))
