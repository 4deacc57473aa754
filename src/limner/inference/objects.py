"""A method that tells objects apart, made ready for whole volumes; and what memory it takes for them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from limner import check
from limner.inference.lattice import Lattice
from limner.instances.decoding import Decoder
from limner.methods.affinity import Affinity
from limner.methods.storage import Model

#: The libraries; bytes.
LOADED = 0.5e9
#: What a voxel of a piece takes for each feature of the levels' voxels that it is part of, and for each affinity of one
#: view, or twice that for the average of several; bytes.
FEATURE, PREDICTED = 10.0, 12.0
#: What a voxel takes: as it is read and made ready, and each of its affinities; bytes.
IMAGE, KEPT = 10.0, 1.0
#: What an affinity of a block takes until it is written; bytes.
WRITTEN = 3.0
#: What decoding takes for a voxel; bytes.
DECODED = {"components": 18.0, "mean": 28.0, "quantile": 30.0}
#: The same of the mutex watershed, for each affinity.
MUTEX = 6.0


def affinity_method(model: Model, *, mirrored: bool | None = None) -> Affinity:
    """Return the method of a model that tells objects apart, on the GPU if there is one.

    Args:
        model: as it was loaded.
        mirrored: whether to average over flips of the axes; as the model was made unless given.

    Raises:
        InputError: for a model of classes.
    """
    method = model.method
    if not isinstance(method, Affinity):
        raise check.no_instances(model.name)
    if mirrored is not None:
        wanted = method.options.mirrored if mirrored and method.options.mirrored != "none" else "flips"
        method.options = method.options.model_copy(update={"mirrored": wanted if mirrored else "none"})
    return method.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def decoder_of(method: Affinity) -> Decoder:
    """Return a method's decoder; where it looks at sections one by one, so do fragments."""
    decoder = method.options.decoder
    return decoder if method.task.dimensions == 3 else decoder.model_copy(update={"sections": True})


def offsets_in(method: Affinity, shape: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Return the offsets of a method's affinities in a volume of `shape`, (C, D); in a stack they stay in a section."""
    apart = (0,) * (len(shape) - method.task.dimensions)
    return tuple((*apart, *offset) for offset in method.offsets)


def piece_memory(method: Affinity, lattice: Lattice) -> float:
    """Return about how many bytes a process takes that looks at one piece of a lattice, on the CPU."""
    voxels = math.prod(lattice.piece)
    levels = zip(method.options.network.features, method.network.steps, strict=True)
    features = sum(count / math.prod(step) for count, step in levels)
    views = 1 if method.options.mirrored == "none" else 2
    return LOADED + voxels * (FEATURE * features + PREDICTED * views * len(method.offsets))


def block_memory(method: Affinity, lattice: Lattice, *, size: Sequence[int]) -> float:
    """Return about how many bytes a process takes that predicts and writes blocks of `size` voxels, piece by piece."""
    return piece_memory(method, lattice) + WRITTEN * len(method.offsets) * math.prod(size)


def whole_memory(method: Affinity, shape: Sequence[int]) -> float:
    """Return about how many bytes a process takes that segments a volume of `shape` at once."""
    channels, decoder = len(method.offsets), method.options.decoder
    decoding = DECODED.get(decoder.kind, MUTEX * channels)
    return piece_memory(method, Lattice.of(method, shape)) + math.prod(shape) * (IMAGE + KEPT * channels + decoding)
