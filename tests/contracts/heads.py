"""Heads of sixteen voxels a side as batches, and the trainable methods that see them; imported by processes too."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Adam

import phantoms
from limner.data.batch import Batch
from limner.methods import method_class
from limner.methods.method import Task, Trainable
from limner.priors.atlas import Atlas
from limner.priors.dense import DensePrior
from limner.space import Grid

VOXEL = 6.5
SIZE = 16
FEATURES = (8, 12, 16)
PYRAMID, UNET = ({"network": {"kind": kind, "features": FEATURES}} for kind in ("pyramid", "unet"))
CODEC = {"network": {"kind": "codec", "codec": {"features": FEATURES}}}
SHAPE = {"shape": (16, 16, 16), "spacing": VOXEL, "centre": (0.0, 0.0, 0.0), "features": FEATURES, "latent": 8}
#: Methods without labels learn the prior first.
SAE = {"first": {"data_weight": 0.0}}
ANATOMY = {"shape": SHAPE}
PUBLISHED = {
    "shape": SHAPE | {"slices": "coronal"},
    "sees": "image",
    "appearance": "linear",
    "bound": "jensen",
    "answer": "decoder",
}
SHAPE_FIRST = {"first": {"learns": "shape"}}


@dataclass(frozen=True)
class Variant:
    """A method of METHODS as a recipe may ask for it.

    It may have to learn something `first`, by other options. Its gain is the share of a head's voxels that it labels
    right, at least, and the prior alone does not.
    """

    method: str
    options: dict[str, Any] = field(default_factory=dict)
    gain: float = 0.2
    first: dict[str, Any] | None = None


CLASSES = {
    "sae": Variant("sae", PYRAMID, **SAE),
    "sae with a decoder": Variant("sae", PYRAMID | {"likelihood": "decoder"}, gain=0.02, **SAE),
    "sae with the published network": Variant("sae", UNET, **SAE),
    "sae that is told the place": Variant("sae", PYRAMID | {"location": 0.5, "balance": 0.5}, **SAE),
    "supervised": Variant("supervised", PYRAMID, gain=0.25),
    "supervised with the published network": Variant("supervised", UNET, gain=0.25),
    "supervised with a codec": Variant("supervised", CODEC, gain=0.25),
    "supervised that is told the place": Variant("supervised", PYRAMID | {"location": 0.5}, gain=0.25),
    "anatomy": Variant("anatomy", ANATOMY | {"rounds": 3}, **SHAPE_FIRST),
    "anatomy as published": Variant("anatomy", ANATOMY | PUBLISHED, gain=0.05, **SHAPE_FIRST),
}
#: Methods that tell objects apart take a head's classes for ids of objects.
OBJECTS = {"affinity": Variant("affinity", {"network": {"features": FEATURES}, "shape_width": 2.0})}
VARIANTS = CLASSES | OBJECTS


@cache
def atlas() -> Atlas:
    """The prior of the head."""
    return phantoms.atlas(phantoms.grid(4.0))


def grid() -> Grid:
    """Sixteen voxels a side about the centre of the head."""
    affine = np.diag([VOXEL] * 3 + [1.0])
    affine[:3, 3] = -VOXEL * (SIZE - 1) / 2
    return Grid((SIZE,) * 3, affine)


def seen(*people: int, dimensions: int = 3, channels: int = 1) -> tuple[Batch, DensePrior]:
    """A batch of some people, each a little turned, and the prior on it; of two dimensions, a slice of each."""
    each = [_person(number, channels=channels) for number in people]
    image, labels = torch.stack([image for image, _ in each]), torch.stack([labels for _, labels in each])
    maps = DensePrior.of(atlas(), grid()).probability.expand(len(people), *[-1] * 4)
    if dimensions == 2:
        image, labels, maps = (values[..., SIZE // 2] for values in (image, labels, maps))
    mask = labels > 0
    places = [*range(dimensions), 3]
    world = torch.from_numpy(grid().affine[np.ix_(places, places)]).repeat(len(people), 1, 1)
    names = tuple(f"person {number}" for number in people)
    present = torch.zeros(len(people), 0, dtype=torch.int64)
    batch = Batch(_standardised(image, mask), labels, present, mask, world, names)
    return batch, DensePrior(atlas().parts, maps, atlas().neighbours, world=world)


def _person(number: int, *, channels: int) -> tuple[Tensor, Tensor]:
    """An image (C, *S) and the classes (*S) that it shows."""
    turn = phantoms.turned((number - 2, 3 - number, 2 * number - 3), (number - 1, 1, -number))
    truth = phantoms.labels(grid(), turn)
    table = atlas().table
    drawn = [phantoms.image(truth, seed=10 * number + channel) * (-0.4) ** channel for channel in range(channels)]
    return torch.from_numpy(np.stack(drawn)), torch.from_numpy(table.structure_of[table.rows(truth.data)])


def _standardised(image: Tensor, mask: Tensor) -> Tensor:
    """Images (B, C, *S) of mean 0 and sd 1 inside their masks, and 0 outside."""
    result = torch.zeros_like(image)
    for one, where, target in zip(image, mask, result, strict=True):
        values = one[:, where]
        target[:, where] = (values - values.mean(1, keepdim=True)) / values.std(1, keepdim=True)
    return result


def made(variant: Variant, *, dimensions: int = 3, channels: int = 1, seed: int = 0, **options: Any) -> Trainable:
    """A method whose weights are those of the seed."""
    kind = method_class(variant.method)
    chosen = kind.Options(**(variant.options | options))
    task = Task(channels, len(atlas().table.structures), dimensions)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return kind(task, chosen)


def begun(variant: Variant, batch: Batch, prior: DensePrior, *, dimensions: int = 3, **options: Any) -> Trainable:
    """A method that has learned on a batch what it has to learn first, if anything."""
    method = made(variant, dimensions=dimensions, **options)
    if variant.first:
        before = made(variant, dimensions=dimensions, **variant.first)
        stepped(before, batch, prior, steps=30)
        method.load_state_dict(before.state_dict())
    return method


def lost(method: Trainable, batch: Batch, prior: DensePrior, *, seed: int = 0) -> dict[str, Tensor]:
    """All loss terms of a batch, their noise that of the seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return {name: term for _, terms in method.losses(batch, prior) for name, term in terms.items()}


def stepped(method: Trainable, batch: Batch, prior: DensePrior, *, steps: int, rate: float = 1e-2) -> list[float]:
    """Train a method of one player on one batch, and return its loss before each step."""
    learning = [parameter for parameter in method.parameters() if parameter.requires_grad]
    optimiser, found = Adam(learning, rate), []
    for step in range(steps):
        optimiser.zero_grad()
        loss = torch.stack(list(lost(method, batch, prior, seed=step).values())).sum()
        loss.backward()
        optimiser.step()
        method.after_step()
        found.append(loss.item())
    return found


def agreement(method: Trainable, batch: Batch, prior: DensePrior) -> float:
    """The share of the mask's voxels that a method labels right."""
    with torch.no_grad():
        labels = torch.from_numpy(method.segment(method.predict(batch.image, prior, mask=batch.mask)))
    return float((labels == batch.labels)[batch.mask].float().mean())
