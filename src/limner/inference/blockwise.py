"""Volumes that no memory holds, block by block: from image to affinities and segments, by a trained model."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from limner import check
from limner.blocks import Crew, Wanted, connect, working
from limner.blocks.intensities import measured
from limner.blocks.stages import store
from limner.cluster import Item, Made
from limner.cluster.work import Step
from limner.data.intensity import Moments
from limner.files.affinities import told_of
from limner.files.parts import StoredImage
from limner.inference.lattice import Lattice, predicted
from limner.inference.objects import affinity_method, block_memory, decoder_of, offsets_in
from limner.methods.affinity import Affinity
from limner.methods.storage import load_model, model_hash
from limner.space import Array, Box

#: Sections of a block of a method that looks at them one by one.
SECTIONS = 16


@dataclass(frozen=True)
class Prediction:
    """Which affinities are wanted: all that they depend on, whatever the blocks.

    Args:
        volume: file or store of the image, absolute.
        model: folder, absolute.
        mirrored: what predictions are averaged over, as `AffinityOptions` has it.
        side: voxels along each axis of what the network looks at in one piece, as `Lattice.of` takes it.
        state: hash of how the volume's files looked at the beginning.
        weights: hash of the model's at the beginning: another model in the same folder is another prediction.
        tones: hash of the curve of an adapted model, which its weights say nothing of; nothing without one.
    """

    volume: Path
    model: Path
    mirrored: str
    side: int | None
    state: str
    weights: str
    tones: str = ""

    @classmethod
    def of(cls, volume: Path, model: Path, *, mirrored: bool | None = None, side: int | None = None) -> Prediction:
        """Return that of a volume as it is now.

        Args:
            volume: file or store of the image.
            model: folder.
            mirrored: whether to average over flips; as the model was made unless given.
            side: voxels along each axis of a piece, if not the usual.

        Raises:
            InputError: for a model of classes.
        """
        method = affinity_method(load_model(model), mirrored=mirrored)
        state, weights = working.state(volume), model_hash(model)
        curve = method.options.tones
        tones = hashlib.sha256(curve.model_dump_json().encode()).hexdigest()[:16] if curve else ""
        return cls(volume.absolute(), model.absolute(), method.options.mirrored, side, state, weights, tones)

    @property
    def origin(self) -> tuple[tuple[str, str], ...]:
        """What affinities are made from, name by name, as it is in this process."""
        more = {"side": None if self.side is None else str(self.side), "tones": self.tones}
        known = tuple((name, value) for name, value in more.items() if value)
        return (("volume", self.state), ("model", model_hash(self.model)), ("mirrored", self.mirrored), *known)

    @property
    def facts(self) -> dict[str, Any]:
        """The same, JSON-ready, with the version."""
        return {"limner": version("limner"), **dict(self.origin)}

    def method(self) -> Affinity:
        """Load the model; ready to predict."""
        method = affinity_method(load_model(self.model))
        method.options = method.options.model_copy(update={"mirrored": self.mirrored})
        return method


def segment_by_blocks(
    what: Prediction, out: Path, *, crew: Crew, affinities: Path | None = None, redo: bool = False
) -> int:
    """Write the segments of a volume by the model's decoder; return how many there are.

    Args:
        what: affinities.
        out: `.zarr` for the labels.
        crew: does the blocks.
        affinities: `.zarr` that is to keep them; they go in the end unless given.
        redo: whether to begin anew.

    Raises:
        InputError: as `predict_blocks` and `segment_blocks` do.
    """
    check.block_output(what.volume, out)
    decoder = decoder_of(what.method())
    wanted = Wanted(decoder, fill=decoder.smallest > 1, origin=what.origin)
    found = None if redo else working.finished(out, facts=wanted.facts)
    if found:
        return int(found["segments"])
    if redo:
        shutil.rmtree(working.work_of(out), ignore_errors=True)
    kept = affinities or working.work_of(out) / "affinities.zarr"
    predict_blocks(what, kept, crew=crew, redo=redo)
    return connect(kept, out, wanted=wanted, crew=crew, redo=redo)


def predict_blocks(what: Prediction, out: Path, *, crew: Crew, block: int | None = None, redo: bool = False) -> None:
    """Write the affinities of a volume, uint8, equal to those that `volume_affinities` returns.

    Args:
        what: affinities.
        out: `.zarr` for them; it appears whole or not at all.
        crew: does the blocks.
        block: voxels along each axis of a block, made to hold whole tiles; a tile unless given.
        redo: whether to begin anew.

    Raises:
        InputError: for a volume or a model that cannot be used, an `out` that was made otherwise, memory that holds no
            piece, a block that failed twice, or what the disk refuses. Nothing that is finished is lost.
    """
    check.block_output(what.volume, out)
    if not redo and working.finished(out, facts=what.facts):
        return
    image, method, work = StoredImage.opened(what.volume), what.method(), working.work_of(out)
    shape = image.grid.shape
    check.solid_or_flat(shape, method.task.dimensions)
    lattice = Lattice.of(method, shape, side=what.side)
    size = block_of(lattice, block)
    if memory := crew.executor.memory:
        needed = block_memory(method, lattice, size=size)
        check.block_fits(memory, needed=needed, fits=needed <= memory)
    if redo:
        shutil.rmtree(work, ignore_errors=True)
    moments = measured(image, what.state, crew=crew, work=work)
    target = store(work, Predicting.name)
    offsets = offsets_in(method, shape)
    told, shards = told_of(image.grid, offsets), (len(offsets), *size)
    working.allocate(target, (len(offsets), *shape), dtype=np.uint8, told=told, shards=shards)
    crew.work(Predicting(what, target, moments, size), working.boxes(shape, size), home=work / Predicting.name)
    working.publish(target, out, facts=what.facts)


@dataclass(frozen=True)
class Predicting:
    """How a process begins to predict affinities.

    Args:
        what: affinities.
        target: store of them.
        moments: of the volume's intensities.
        size: (D,) voxels of a block.
    """

    what: Prediction
    target: Path
    moments: Moments
    size: tuple[int, ...]
    name: ClassVar[str] = "affinities"

    @property
    def facts(self) -> dict[str, Any]:
        """What all blocks have in common."""
        return {**self.what.facts, "block": list(self.size), "stage": self.name}

    def __call__(self) -> Predicted:
        """Open the volume, and load the model."""
        with working.told_before():
            return Predicted(self, StoredImage.opened(self.what.volume), self.what.method())


@dataclass(frozen=True, eq=False)
class Predicted:
    """Predicts the affinities of blocks."""

    asked: Predicting
    image: StoredImage
    method: Affinity

    @property
    def facts(self) -> dict[str, Any]:
        """What all blocks have in common."""
        return self.asked.facts

    @cached_property
    def lattice(self) -> Lattice:
        """Where the network looks."""
        return Lattice.of(self.method, self.image.grid.shape, side=self.asked.what.side)

    def read(self, box: Box) -> Array:
        """Return what lies in a box, made ready, (1, *box)."""
        return self.asked.moments.standardised(self.image.read(box))[None]

    def __call__(self, item: Item, *, step: Step) -> Made:
        """Predict the affinities of a block.

        Raises:
            InputError: if what lies around it cannot be read.
        """
        step("predicting")
        box = working.box_of(item)
        found = predicted(self.method, self.read, box=box, lattice=self.lattice)
        return Made({}, working.write(self.asked.target, found, box=box))


def block_of(lattice: Lattice, block: int | None = None) -> tuple[int, ...]:
    """Return the voxels of a block along each axis: whole tiles, at least one, or less where the volume ends.

    Args:
        lattice: of the tiles.
        block: voxels along each axis that are wanted; a tile unless given, and of single sections some.
    """
    wanted = [block or (SECTIONS if tile == 1 else tile) for tile in lattice.tile]
    whole = [max(1, one // tile) * tile for one, tile in zip(wanted, lattice.tile, strict=True)]
    return working.fitted(whole, lattice.shape)
