"""Affinities and segments of whole volumes, by a model that tells objects apart."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from limner import check
from limner.blocks import Crew
from limner.cluster import Executor, Outcome, Processes, Progress, Serial
from limner.data.volumes import whole
from limner.files import is_store, is_volume, result_suffix, save_volume, suffix
from limner.files.affinities import SUFFIXES, save_affinities
from limner.files.names import case_names
from limner.files.parts import SUFFIXES as PARTS
from limner.files.parts import stored_shape
from limner.inference.blockwise import Prediction, segment_by_blocks
from limner.inference.lattice import MARGIN, Lattice
from limner.inference.lattice import predicted as predicted_box
from limner.inference.objects import affinity_method, decoder_of, offsets_in, whole_memory
from limner.instances.decoding import Decoder, decoded
from limner.methods.affinity import Affinity
from limner.methods.storage import load_model
from limner.preparation.overview import ENDING, keep, looked_over
from limner.space import Affinities, Array, Box, Volume
from limner.training.memory import available


def segment_volumes(
    paths: Sequence[Path],
    out: Path,
    *,
    model: Path,
    mirrored: bool | None = None,
    executor: Executor | None = None,
    memory: float | None = None,
    redo: bool = False,
    progress: Progress | None = None,
) -> Iterator[Path]:
    """Segment volumes, write for each NAME_affinities.zarr and NAME_labels, and yield the file of labels.

    Before, its sections are looked over: a warning tells which will fail, and NAME_sections.csv says more. A volume
    that takes more memory than there is goes block by block, and goes on where it was stopped.

    Args:
        paths: files of volumes.
        out: folder; or a file for the labels of one volume.
        model: folder of a model that tells objects apart, whose decoder is used.
        mirrored: whether to average over flips; as the model was made unless given.
        executor: does blocks; if one is given, volumes of any size go block by block.
        memory: that a process may take, bytes; all that the machine has unless given.
        redo: whether volumes that were begun, or are finished, block by block are done anew.
        progress: told how far it has come.

    Raises:
        InputError: for a model of classes, a volume that it is not for, or cannot be read; for one that does not fit
            into memory and whose format does not go block by block.
    """
    method = affinity_method(load_model(model), mirrored=mirrored)
    alone = is_store(out) or (is_volume(out) and not out.is_dir())
    if alone:
        check.one_file(list(paths), out)
    progress = progress or Progress()
    for name, path in zip(case_names(paths), paths, strict=True):
        kept = None if alone else out / f"{name}_affinities.zarr"
        large = executor or _too_large(method, path, memory=memory)
        progress.begun(1, known=0, changed=[])
        progress.step(path.name, "sections")
        _look_over(path, None if alone else out / f"{name}{ENDING}")
        if large:
            target = out if alone else out / f"{name}_labels.zarr"
            crew = Crew(executor or (Processes(1, threads=0, memory=memory) if memory else Serial()), progress)
            what = Prediction.of(path, model, mirrored=mirrored)
            segment_by_blocks(what, target, crew=crew, affinities=kept, redo=redo)
        else:
            target = out if alone else out / f"{name}_labels{_suffix(path)}"
            _segment_at_once(method, path, target=target, kept=kept, memory=memory, progress=progress)
        yield target


def _look_over(path: Path, table: Path | None) -> None:
    """Warn of sections of a volume that will fail, and write what was measured to a table, if there is to be one."""
    found = looked_over(path)
    if found is None:
        return
    measures, wrong = found
    if wrong:
        told = [f"{one.section} ({one})" for one in wrong]
        warnings.warn(check.faulty_sections(path.name, told, sections=len(measures)), stacklevel=3)
    if table:
        _make(table.parent)
        keep(measures, wrong, path=table)


def _segment_at_once(
    method: Affinity, path: Path, *, target: Path, kept: Path | None, memory: float | None, progress: Progress
) -> None:
    """Write the segments of a volume, and its affinities if they are to be kept."""
    began = time.perf_counter()
    progress.step(target.name, "affinities")
    found = volume_affinities(method, path, memory=memory)
    if kept:
        _make(kept.parent)
        save_affinities(found, kept)
    progress.step(target.name, "segments")
    save_volume(segments(found, decoder_of(method)), target)
    progress.finished(Outcome(target.name, seconds=time.perf_counter() - began))


def _too_large(method: Affinity, path: Path, *, memory: float | None) -> bool:
    """Tell whether a volume cannot be segmented at once, before it is read; nothing of one that is read as a whole."""
    if suffix(path) not in PARTS:
        return False
    shape = stored_shape(path)
    check.solid_or_flat(shape, method.task.dimensions)
    return whole_memory(method, shape) > _allowed(memory)


def _allowed(memory: float | None) -> float:
    """Return how many bytes a process may take: `memory`, or all that the machine has."""
    return available(torch.device("cpu")) if memory is None else memory


def volume_affinities(
    method: Affinity, path: Path, *, sections: tuple[int, int] | None = None, memory: float | None = None
) -> Affinities:
    """Return the affinities of a volume, uint8.

    Args:
        method: on any device; ready to predict.
        path: of the volume; a stack for a method of two dimensions.
        sections: the first one and one past the last that are wanted; what lies around them is looked at too.
        memory: that a process may take, bytes; all that the machine has unless given.

    Raises:
        InputError: for a volume that cannot be read, has other axes than the method, or does not fit into memory.
    """
    volume, image = whole(path)
    start, stop = sections or (0, volume.grid.shape[0])
    check.sections_there(path, (start, stop), available=volume.grid.shape[0])
    box = Box((start, *[0] * (volume.data.ndim - 1)), (stop, *volume.grid.shape[1:]))
    check.solid_or_flat(volume.data.shape, method.task.dimensions)
    check.volume_fits(whole_memory(method, box.shape), _allowed(memory))
    reach = MARGIN if volume.data.ndim == method.task.dimensions else 0
    first, last = max(0, start - reach), min(len(volume.data), stop + reach)
    data = predicted(method, image[:, first:last])[:, start - first : stop - first]
    return Affinities(np.ascontiguousarray(data), offsets_in(method, box.shape), volume.grid.cropped(box))


def segments(affinities: Affinities, decoder: Decoder) -> Volume:
    """Return the segments of affinities, by a decoder."""
    labels = decoded(affinities.data, affinities.offsets, by=decoder)
    return Volume(labels.astype(np.uint64), affinities.grid, "instances")


def predicted(method: Affinity, image: Array, *, side: int | None = None) -> NDArray[np.uint8]:
    """Return the affinities (C, *S) of an image, in 255ths, tile by tile if it is large.

    Args:
        method: ready to predict.
        image: (channels, *S) float32, made ready; it is mirrored at its borders.
        side: voxels along each axis of what is looked at in one piece, as `Lattice.of` takes it.
    """
    lattice = Lattice.of(method, image.shape[1:], side=side)
    return predicted_box(method, lambda box: image[:, *box.slices], box=Box.whole(lattice.shape), lattice=lattice)


def _make(folder: Path) -> None:
    """Make a folder if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise check.unwritable(folder, error) from error


def _suffix(path: Path) -> str:
    """Return the suffix of a volume's labels: its own if it can hold instances well, or that of Zarr."""
    own = result_suffix(path)
    return own if own in SUFFIXES else ".zarr"
