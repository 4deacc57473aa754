"""Whether a step fits into memory, before hours are spent on finding out."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from limner import check
from limner.data.loader import Loaded
from limner.data.sampling import common_shape
from limner.methods.method import Trainable
from limner.training.materials import Materials
from limner.training.recipe import Stage

#: Sides of the piece of a scan that is tried, voxels, for images of two and three axes.
SIDE = {2: 128, 3: 32}
#: What a step takes beside the tensors that its backward pass needs, relative to them.
BESIDE = 0.5
#: A limit that containers set, where there is one.
LIMIT = Path("/sys/fs/cgroup/memory.max")


def check_memory(materials: Materials, device: torch.device, *, processes: int) -> None:
    """Refuse a recipe with a stage that cannot fit, from what a small piece of a scan takes.

    What the losses of a piece keep for their backward pass grows with its voxels; a step takes half as much again.

    Raises:
        InputError: with the estimate, and the crop that would fit.
    """
    free = available(device) / (processes if device.type == "cpu" else 1)
    for stage in materials.recipe.stages:
        method = materials.method(stage)
        shape = _largest(materials, stage, stride=method.stride)
        sides = [min(SIDE[len(shape)], size) for size in shape] if method.local else shape
        # A scan; or one that shows a target and one that does not, where both are needed.
        few = 2 if stage.apart == "present" and stage.labelled < stage.batch else 1
        piece = materials.loader(stage, stride=method.stride, batch=few, crop=sides).batch(0)
        each = bytes_per_voxel(method, piece) * stage.batch
        if each * math.prod(shape) > free:
            crop = _fitting(free / each, shape, stride=method.stride)
            raise check.too_little_memory(each * math.prod(shape), free, stage=stage.name, crop=crop)


def bytes_per_voxel(method: Trainable, piece: Loaded) -> float:
    """Return the memory that a step takes for each voxel of a batch of one, estimated on a piece of a scan."""
    batch, prior = piece
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor  # which also keeps its place from being given to another
        return tensor

    # On a copy: a look at the losses must not count as a step.
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        turns = list(copy.deepcopy(method).losses(batch, prior))
    weights = {parameter.numel() for parameter in method.parameters()}
    sizes = [tensor.untyped_storage().nbytes() for tensor in kept.values() if tensor.numel() not in weights]
    del turns
    return (1 + BESIDE) * sum(sizes) / batch.mask.numel()


def _largest(materials: Materials, stage: Stage, *, stride: int) -> tuple[int, ...]:
    """Return the largest shape that a stage's batches have."""
    if stage.crop:
        return common_shape([stage.crop], stride)
    store = materials.store(stage)
    return common_shape([store.prepared(case).shape for case in materials.cases(stage)], stride)


def _fitting(voxels: float, shape: Sequence[int], *, stride: int) -> tuple[int, ...]:
    """Return the largest crop, as near to a cube as the scans allow, of at most so many voxels."""
    side = max(shape)
    while side > stride and math.prod(min(side, size) for size in shape) > voxels:
        side -= stride
    return tuple(max(stride, min(side, size) // stride * stride) for size in shape)


def available(device: torch.device) -> float:
    """Return the bytes that are free on a device."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = LIMIT.read_text().strip() if LIMIT.is_file() else "max"
    return float(free if limit == "max" else min(free, int(limit)))
