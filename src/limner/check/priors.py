"""Refuse what a prior cannot be made of, or applied to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limner.check.errors import InputError
from limner.check.voxels import three_dimensional


def window_size(size: int) -> None:
    """Refuse a neighbourhood window that is not an odd number of voxels wide, 3 to 21.

    Raises:
        InputError: with the size given.
    """
    if size not in range(3, 22, 2):
        raise InputError(
            f"neighbour window has size {size}; expected an odd number of voxels from 3 to 21: 3 is the usual one"
        )


def pair_counts(counts: NDArray[np.float64], pseudo_windows: float) -> None:
    """Refuse counts of neighbours that are no square table of finite numbers from 0, or a pseudo-count of 0 or less.

    Raises:
        InputError: with the shape, the lowest count or the pseudo-count.
    """
    remedy = "count them again from label maps"
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not counts.size:
        raise InputError(
            f"neighbour counts have shape {counts.shape}; expected one row and one column per class: {remedy}"
        )
    if not (np.isfinite(counts).all() and counts.min() >= 0):
        raise InputError(
            f"neighbour counts range from {counts.min():g} to {counts.max():g}; expected finite ones from 0: {remedy}"
        )
    if not 0 < pseudo_windows < np.inf:
        raise InputError(f"pseudo_windows is {pseudo_windows:g}; expected a finite number above 0: 1 suits most tables")


def class_indices(labels: NDArray[Any], classes: int) -> None:
    """Refuse labels that are not integers from 0 to `classes` - 1 on two or three axes.

    Raises:
        InputError: with the type, or the lowest and the highest label.
    """
    remedy = "turn label ids into class indices with the label table"
    three_dimensional(labels.shape, "labels")
    if labels.dtype.kind not in "bui":
        raise InputError(
            f"labels have type {labels.dtype}; expected integers, the indices of {classes} classes: {remedy}"
        )
    low, high = labels.min(), labels.max()
    if low < 0 or high >= classes:
        raise InputError(f"labels range from {low} to {high}; expected class indices from 0 to {classes - 1}: {remedy}")


def class_count(found: int, expected: int, *, name: object) -> None:
    """Refuse an array over another number of classes than its neighbour table.

    Raises:
        InputError: with both numbers.
    """
    if found != expected:
        raise InputError(
            f"'{name}' has {found} classes on its second axis but the neighbour table has {expected}; "
            "use the prior's own classes, in its order"
        )


def labelled(voxels: int, name: object) -> None:
    """Refuse a label map in which nothing is labelled.

    Raises:
        InputError: with the map's name.
    """
    if not voxels:
        raise InputError(f"label map '{name}' labels no voxel; expected at least one structure: leave the map out")


def structures_missing(structures: Iterable[str], maps: int) -> None:
    """Refuse to build a prior for structures that no map shows.

    Raises:
        InputError: listing them.
    """
    missing = list(structures)
    if missing:
        raise InputError(
            f"no voxel of {', '.join(missing)} in any of {maps} label maps; expected every structure of the table "
            "in at least one: add a map that has it, or give a table without it by --labels"
        )


def alignable(shared: int, names: Sequence[str], *, smallest: int) -> None:
    """Refuse label maps that share no structure to be aligned by.

    Raises:
        InputError: with the first and the last map, and the number of voxels that counts.
    """
    if not shared:
        raise InputError(
            f"label maps '{names[0]}' to '{names[-1]}' share no label of {smallest} voxels or more; expected at least "
            "one to align them by: leave out the maps that lack most structures"
        )


def prior_needed(method: str) -> InputError:
    """Word a method that was called without the prior it stands on."""
    return InputError(
        f"method '{method}' got no prior; expected one: pass a placed prior, or --prior on the command line"
    )


def mask_not_empty(voxels: int) -> None:
    """Refuse a mask without a voxel.

    Raises:
        InputError: saying so.
    """
    if not voxels:
        raise InputError("the mask is empty; expected at least one voxel of the brain: check the mask or the image")


def prior_missing(path: Path) -> InputError:
    """Word a path that holds no prior."""
    found = "is a file" if path.is_file() else "has no prior.json" if path.is_dir() else "does not exist"
    return InputError(f"prior '{path}' {found}; expected a folder made by `limner atlas`: check --prior")


def prior_occupied(path: Path) -> InputError:
    """Word a path at which a prior would replace something that is none."""
    return InputError(f"'{path}' exists and is no prior; expected a new path or a prior to replace: choose another -o")


def prior_damaged(path: Path, reason: object) -> InputError:
    """Word a prior whose files do not hold what they should."""
    words = " ".join(str(reason).split()) or type(reason).__name__
    return InputError(
        f"prior '{path}' is damaged ({words}); expected the files as `limner atlas` wrote them: build it again"
    )


def prior_version(path: Path, found: object, *, expected: str) -> None:
    """Refuse a prior of another format or version.

    Raises:
        InputError: with both.
    """
    if found != expected:
        raise InputError(
            f"prior '{path}' is of format '{found}' but this limner reads '{expected}': "
            "build it again with `limner atlas`"
        )


def lattice_divides(shape: Sequence[int], stride: int) -> None:
    """Refuse a shape model's lattice that cannot be halved as often as its networks do.

    Raises:
        InputError: with the size that does not divide.
    """
    wrong = [size for size in shape if size % stride]
    if wrong:
        raise InputError(
            f"the shape model's lattice has {wrong[0]} voxels along an axis but its networks divide it by {stride}; "
            f"expected a multiple of {stride}: change method.options.shape.shape, or give fewer features"
        )


def latent_exceeds(latent: int, slices: int) -> str:
    """Word a shape model with more numbers in a code than slices to learn them from."""
    return (
        f"the shape model has {latent} numbers in a code but {slices} slices to learn them from; expected fewer "
        "numbers than slices: give more maps, or lower method.options.shape.latent"
    )
