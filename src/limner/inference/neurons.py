"""Affinities and segments of whole volumes, by a model that tells objects apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limner import check
from limner.data.volumes import whole
from limner.files import is_store, is_volume, result_suffix, save_volume
from limner.files.affinities import SUFFIXES, save_affinities
from limner.files.names import case_names
from limner.inference.tiling import tiled
from limner.instances.decoding import Decoder, decoded
from limner.methods.affinity import Affinity
from limner.methods.storage import Model
from limner.space import Affinities, Array, Box, Volume

#: Voxels that a network looks at in one piece.
LARGEST = 160**3
#: Voxels around a piece that are looked at and then left out, at most; farther ones say little.
MARGIN = 16
#: Voxels at the seams of tiles in which both count.
OVERLAP = 8
#: What a voxel takes: its image, the affinities of a channel as they are added up, and as they are kept; bytes.
IMAGE, ADDED, KEPT = 12.0, 4.0, 1.0


def segment_volumes(
    paths: Sequence[Path],
    out: Path,
    *,
    model: Model,
    mirrored: bool | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[Path]:
    """Segment volumes, write for each NAME_affinities.zarr and NAME_labels, and yield the file of labels.

    Args:
        paths: files of volumes.
        out: folder; or a file for the labels of one volume.
        model: of a method that tells objects apart, whose decoder is used.
        mirrored: whether to average over flips; as the model was made unless given.
        tell: told what is being done.

    Raises:
        InputError: for a model of classes, or a volume that it is not for, cannot be read, or does not fit into memory.
    """
    method = affinity_method(model, mirrored=mirrored)
    alone = is_volume(out) and (is_store(out) or not out.is_dir())
    if alone:
        check.one_file(list(paths), out)
    for name, path in zip(case_names(paths), paths, strict=True):
        tell(f"{name}: affinities")
        found = volume_affinities(method, path)
        if not alone:
            save_affinities(found, _made(out) / f"{name}_affinities.zarr")
        target = out if alone else out / f"{name}_labels{_suffix(path)}"
        tell(f"{name}: segments")
        save_volume(segments(found, decoder_of(method)), target)
        yield target


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


def volume_affinities(method: Affinity, path: Path, *, sections: tuple[int, int] | None = None) -> Affinities:
    """Return the affinities of a volume, uint8.

    Args:
        method: on any device; ready to predict.
        path: of the volume; a stack for a method of two dimensions.
        sections: the first one and one past the last that are wanted; what lies around them is looked at too.

    Raises:
        InputError: for a volume that cannot be read, has other axes than the method, or does not fit into memory.
    """
    volume, image = whole(path)
    start, stop = sections or (0, volume.grid.shape[0])
    check.sections_there(path, (start, stop), available=volume.grid.shape[0])
    box = Box((start, *[0] * (volume.data.ndim - 1)), (stop, *volume.grid.shape[1:]))
    check.solid_or_flat(volume.data.shape, method.task.dimensions)
    _check_memory(image[:, start:stop].size, channels=len(method.offsets))
    flat = volume.data.ndim > method.task.dimensions
    offsets = tuple((0, *offset) if flat else offset for offset in method.offsets)
    if flat:
        data = np.stack([predicted(method, section) for section in image[:, start:stop].swapaxes(0, 1)], 1)
    else:
        first, last = max(0, start - MARGIN), min(len(volume.data), stop + MARGIN)
        data = predicted(method, image[:, first:last])[:, start - first : stop - first]
    return Affinities(np.ascontiguousarray(data), offsets, volume.grid.cropped(box))


def segments(affinities: Affinities, decoder: Decoder) -> Volume:
    """Return the segments of affinities, by a decoder."""
    labels = decoded(affinities.data, affinities.offsets, by=decoder)
    return Volume(labels.astype(np.uint64), affinities.grid, "instances")


def predicted(method: Affinity, image: Array, *, largest: int = LARGEST) -> NDArray[np.uint8]:
    """Return the affinities (C, *S) of an image, in 255ths, tile by tile if it is large.

    Args:
        method: ready to predict.
        image: (channels, *S) float32, made ready; it is mirrored at its borders.
        largest: voxels that are looked at in one piece.
    """
    shape = image.shape[1:]
    margin = _up(min(method.context, MARGIN), method.stride)
    side = int(largest ** (1 / len(shape)) + 1e-6) if math.prod(size + 2 * margin for size in shape) > largest else 0
    wide = np.pad(image, [(0, 0), *[(margin, margin + method.stride) for _ in shape]], mode="symmetric")
    seen = torch.from_numpy(wide)

    def inside(box: Box) -> Tensor:
        sizes = [_up(size, method.stride) + 2 * margin for size in box.shape]
        places = tuple(slice(first, first + size) for first, size in zip(box.start, sizes, strict=True))
        found = _looked(method, seen[:, *places])
        return found[:, *(slice(margin, margin + size) for size in box.shape)]

    tile = max(side - 2 * (margin + OVERLAP), method.stride) if side else max(shape)
    blended = tiled(inside, shape, tile=tile, context=OVERLAP if side else 0)
    return (blended.clamp(0, 1) * 255).round().to(torch.uint8).numpy()


@torch.no_grad()
def _looked(method: Affinity, image: Tensor) -> Tensor:
    """Return the affinities (C, *S) of a piece (channels, *S), on the CPU; in bf16 where that is fast."""
    device = next(method.parameters()).device
    known = torch.cpu.get_capabilities() if device.type == "cpu" else {"avx512_bf16": True}
    half = bool(known.get("amx_bf16") or known.get("avx512_bf16"))
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
        return method.predict(image[None].to(device), None)[0].float().cpu()


def _check_memory(voxels: int, *, channels: int) -> None:
    """Refuse a volume that does not fit into memory, before anything is computed."""
    from limner.training.memory import available

    needed = voxels * (IMAGE + channels * (ADDED + KEPT))
    check.volume_fits(needed, available(torch.device("cpu")))


def _made(folder: Path) -> Path:
    """Return a folder, made if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise check.unwritable(folder, error) from error
    return folder


def _suffix(path: Path) -> str:
    """Return the suffix of a volume's labels: its own if it can hold instances well, or that of Zarr."""
    own = result_suffix(path)
    return own if own in SUFFIXES else ".zarr"


def _up(size: int, stride: int) -> int:
    """Return the least multiple of the stride that is not smaller."""
    return -(-size // stride) * stride
