"""Labelled pieces of large volumes to learn from: sections of an image, and the instances that somebody found there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from limner import check
from limner.config import Settings, UserPath
from limner.data.batch import IGNORE
from limner.data.cohort import Case
from limner.data.intensity import CELL, Moments
from limner.data.scan import standardised
from limner.data.store import Prepared
from limner.data.tones import Look, looks
from limner.evaluation.instances import common
from limner.files import open_volume, stem
from limner.priors.atlas import Atlas
from limner.space import Array, Box, Grid, Label, LabelTable, Volume, blocks

OBJECT = "object"
#: What instances are, to a table of structures: objects alike.
OBJECTS = LabelTable((Label(1, OBJECT, (255, 255, 255), OBJECT, OBJECT),))
TRAINING: Literal["train"] = "train"
VALIDATION: Literal["validation"] = "validation"


class Piece(Settings):
    """A labelled piece of a volume.

    Args:
        image: file of the volume.
        labels: file of its instances; `image` holds them too, as CREMI's files do, unless given.
        sections: the first one and one past the last, along the first axis; all without it.
        split: what it serves for: "train" or "validation".
        ids: what they are: "instances"; or "insides", where all that is inside a cell has one id, of images of two
            dimensions whose connected insides are the cells.
        zero: what the id 0 means: "unknown", or "membrane", which belongs to no object.
        flat: whether each section is an image of two dimensions.
    """

    image: UserPath
    labels: UserPath | None = None
    sections: Annotated[tuple[int, ...], Field(min_length=2, max_length=2)] | None = None
    split: Literal["train", "validation"] = TRAINING
    ids: Literal["instances", "insides"] = "instances"
    zero: Literal["unknown", "membrane"] = "unknown"
    flat: bool = False


@dataclass(frozen=True, eq=False)
class Volumes:
    """Pieces of volumes, opened; it stands where a store of scans does.

    Args:
        pieces: by name of their case, ready to be learned from.
        prior: none; a volume lies in no prior's world.
    """

    pieces: dict[str, Prepared]
    prior: Atlas | None = None

    @classmethod
    def opened(cls, pieces: Sequence[Piece]) -> Volumes:
        """Open pieces of volumes.

        Raises:
            InputError: for files that cannot be read, labels that lie elsewhere than their image, sections that are not
                there, a piece without any labelled voxel, and insides that are not flat.
        """
        ready: dict[str, Prepared] = {}
        for piece in pieces:
            check.flat_insides(piece.image, ids=piece.ids, flat=piece.flat)
            for one in _prepared(piece):
                ready[one.case.name] = one
        return cls(ready)

    def prepared(self, case: Case) -> Prepared:
        """Return a piece by its case."""
        return self.pieces[case.name]

    def look(self) -> Look:
        """Return what the pieces to train on look like."""
        pieces = [self.prepared(case) for case in self.cases(TRAINING)]
        sizes = np.linalg.norm(pieces[0].world[:-1, :-1], axis=0)
        return looks([piece.image for piece in pieces], sizes)

    def cases(self, split: str) -> tuple[Case, ...]:
        """Return the cases of a split."""
        return tuple(one.case for one in self.pieces.values() if one.case.split == split)


def _prepared(piece: Piece) -> Iterator[Prepared]:
    """Yield a piece ready to be learned from, or each of its sections."""
    path = piece.labels or piece.image
    image, ids, grid = common(open_volume(piece.image), open_volume(path, kind="instances"), case=stem(piece.image))
    start, stop = piece.sections or (0, len(image))
    check.sections_there(piece.image, (start, stop), available=len(image))
    name, values = f"{stem(piece.image)}[{start}:{stop}]", image[start:stop]
    flat = torch.from_numpy(np.array(values, np.float32)).reshape(1, -1)
    ready = standardised(flat).reshape(values.shape).numpy()
    inner = grid.cropped(Box((start, *[0] * (grid.dimensions - 1)), (stop, *grid.shape[1:])))
    if not piece.flat:
        return (yield _as_case(piece, name, image=ready, ids=ids[start:stop], grid=inner))
    # An axis of a microscope's volume need not lead along the world's axis of its number.
    plane = Grid(inner.shape[1:], np.diag([*inner.voxel_sizes[1:], 1.0]))
    for number, (section, own) in enumerate(zip(ready, ids[start:stop], strict=True), start):
        yield _as_case(piece, f"{name}[{number}]", image=section, ids=own, grid=plane)


def _as_case(piece: Piece, name: str, *, image: Array, ids: Array, grid: Grid) -> Prepared:
    """Return one image (*S) with its instances (*S) as a case."""
    labels = numbered(cells(ids) if piece.ids == "insides" else ids, unknown=piece.zero == "unknown")
    check.some_labelled(int((labels != IGNORE).sum()), case=name)
    case = Case(name, (piece.image,), labels=piece.labels or piece.image, split=piece.split)
    return Prepared(case, image[None], np.ones(image.shape, np.bool_), labels, None, np.asarray(grid.affine))


def numbered(ids: Array, *, unknown: bool) -> Array:
    """Return ids of any size as 1, 2, ... (*S) int32; id 0 becomes IGNORE where it is `unknown`, and stays if not."""
    values, numbers = np.unique(ids, return_inverse=True)
    first = 0 if values[0] == 0 else 1
    labels = numbers.reshape(ids.shape).astype(np.int32) + first
    if unknown:
        labels[labels == 0] = IGNORE
    return labels


def cells(inside: Array) -> Array:
    """Return the connected insides of a section (Y, X), or of each section (Z, Y, X), as 1, 2, ...; outside is 0."""
    from scipy import ndimage

    faces = ndimage.generate_binary_structure(inside.ndim, 1)
    if inside.ndim == 3:
        faces[[0, 2]] = False  # sections do not touch
    return np.asarray(ndimage.label(inside, faces)[0])


def whole(path: Path) -> tuple[Volume, NDArray[np.float32]]:
    """Return a volume, and its intensities with mean 0 and sd 1, (1, *S)."""
    volume = open_volume(path)
    parts = [one.write.slices for one in blocks(volume.grid.shape, [CELL] * volume.grid.dimensions)]
    moments = Moments.joined([Moments.of(volume.data[part]) for part in parts])
    image = np.empty((1, *volume.grid.shape), np.float32)
    for part in parts:
        image[0][part] = moments.standardised(volume.data[part])
    return volume, image
