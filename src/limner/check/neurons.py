"""Refuse affinities and instances that cannot be decoded or scored, and word what is odd about them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limner.check.errors import InputError, InputWarning

#: What two volumes are called of which one is scored by the other.
COMPARED = ("prediction", "reference")


def affinities(data: NDArray[Any], offsets: Sequence[Sequence[int]], *, shape: tuple[int, ...] | None = None) -> None:
    """Refuse an array that does not have a channel for each offset, and an axis for each of its steps.

    Raises:
        InputError: with the shapes, the type, or an offset of zeros.
    """
    channels(data.shape, offsets)
    if shape is not None and data.shape[1:] != tuple(shape):
        raise InputError(f"affinities have shape {data.shape}; expected {shape} after the channels: crop both alike")
    if data.dtype not in (np.uint8, np.float32):
        raise InputError(f"affinities are of type {data.dtype}; expected float32 or uint8: convert with astype")


def channels(shape: tuple[int, ...], offsets: Sequence[Sequence[int]]) -> None:
    """Refuse a shape that does not have a channel for each offset, and an axis for each of its steps.

    Raises:
        InputError: with the shape, or an offset of zeros.
    """
    sizes = {len(offset) for offset in offsets}
    if len(sizes) != 1 or len(shape) not in (3, 4) or shape[0] != len(offsets) or sizes != {len(shape) - 1}:
        raise InputError(
            f"affinities have shape {shape} and {len(offsets)} offsets of {sorted(sizes)} steps; expected "
            "channels first, one for each offset, and a step for each other axis: give the offsets it was made with"
        )
    if any(not any(offset) for offset in offsets):
        raise InputError("an offset has no step; expected each to lead to another voxel: leave its channel out")


def affinity_range(low: float, high: float) -> None:
    """Refuse affinities that are NaN, or outside 0 to 1, by their lowest and highest.

    Raises:
        InputError: with both.
    """
    if not (low >= 0 and high <= 1):
        found = "NaN values" if np.isnan(low) or np.isnan(high) else f"values from {low:.4g} to {high:.4g}"
        raise InputError(
            f"affinities hold {found}; expected 0 (apart) to 1 (together): apply the sigmoid to scores, scale others, "
            "and see where a network went wrong if there are NaN"
        )


def decodable(voxels: int, edges: int) -> None:
    """Refuse a volume whose voxels or edges cannot be numbered in 32 bits.

    Raises:
        InputError: with both.
    """
    if voxels >= 2**31 or edges >= 2**32:
        raise InputError(
            f"affinities of {voxels} voxels with {edges} edges are too many to decode at once; expected fewer than "
            "2**31 voxels and 2**32 edges: decode the volume in blocks"
        )


def likely_inverted(middle: float) -> InputWarning:
    """Word affinities most of which say that neighbours are apart, by their median."""
    return InputWarning(
        f"half of the affinities of neighbouring voxels are below {middle:.2f}, though most neighbours belong "
        "together: if they are boundary probabilities, give 1 minus them, or write the attribute sign = 'repulsive'; "
        "if that is there, take it away"
    )


def no_nearest(offsets: Sequence[Sequence[int]]) -> InputError:
    """Word affinities none of which are those of direct neighbours."""
    return InputError(
        f"affinities have the offsets {[list(offset) for offset in offsets]}, none of one step along one axis; "
        "expected direct neighbours among them, which alone join voxels: add their channels"
    )


def no_offsets(path: Path) -> InputError:
    """Word an array of affinities that does not say what its channels are."""
    return InputError(
        f"'{path}' has no attribute 'offsets'; expected for each channel the steps z, y, x from a voxel to its "
        "partner, such as [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]: they are never guessed; write the attribute"
    )


def affinity_sign(path: Path, sign: object, *, known: Sequence[str]) -> str:
    """Return an attribute `sign` that is one of the known ones.

    Raises:
        InputError: with the sign.
    """
    if sign not in known:
        raise InputError(
            f"'{path}' has the sign '{sign}'; expected 'attractive' (high where voxels belong together) or "
            "'repulsive': correct the attribute"
        )
    return str(sign)


def affinity_suffix(path: Path, known: Sequence[str]) -> InputError:
    """Word a name of a format that has no place for channels and what they mean."""
    return InputError(f"'{path}' cannot hold affinities; expected a name that ends in {', '.join(known)}: rename it")


def no_segment(what: str) -> InputWarning:
    """Word a segmentation without a segment; `what` names the setting that did it."""
    return InputWarning(f"{what} leaves no segment, and every voxel is background: choose another")


def all_background(name: str) -> InputWarning:
    """Word a segmentation that has no segment, where it is scored."""
    return InputWarning(f"{name} is 0 in every voxel, and has no segment: see whether the right file was given")


def same_lattice(shift: NDArray[np.float64], *, case: str, names: tuple[str, str] = COMPARED) -> None:
    """Refuse two grids whose voxels do not coincide, by the voxels (D,) between their first ones.

    Raises:
        InputError: with the shift.
    """
    if np.abs(shift - np.rint(shift)).max() > 1e-2:
        raise InputError(
            f"{names[0]} and {names[1]} of '{case}' lie {np.round(shift, 3).tolist()} voxels apart; expected whole "
            "voxels of one size: resample one onto the grid of the other, or correct its resolution and offset"
        )


def overlapping(voxels: int, *, case: str, names: tuple[str, str] = COMPARED) -> None:
    """Refuse two volumes that share no voxel.

    Raises:
        InputError: naming the case.
    """
    if voxels == 0:
        raise InputError(
            f"{names[0]} and {names[1]} of '{case}' share no voxel; expected overlapping extents: correct their offsets"
        )


def some_reference(voxels: int, *, case: str) -> None:
    """Refuse a reference in which everything is ignored.

    Raises:
        InputError: naming the case.
    """
    if voxels == 0:
        raise InputError(
            f"reference of '{case}' is ignored everywhere (0, or within the border tolerance); expected labelled "
            "voxels: give another reference, or a smaller tolerance"
        )


def same_axes(axes: NDArray[np.float64], *, case: str, names: tuple[str, str] = COMPARED) -> None:
    """Refuse two grids whose axes or voxel sizes differ, by the axes (D, D) of the one in voxels of the other.

    Raises:
        InputError: with the ratio of their sizes.
    """
    if np.abs(axes - np.eye(len(axes))).max() > 1e-3:
        ratio = np.round(np.linalg.norm(axes, axis=0), 4).tolist()
        raise InputError(
            f"{names[0]} and {names[1]} of '{case}' have voxels in the ratio {ratio} or other axes; expected the same: "
            "a resolution may be missing or in another unit; correct it, or resample one of them"
        )


def instances(kind: str, name: object) -> None:
    """Refuse an image or a label map where instances are meant.

    Raises:
        InputError: naming which.
    """
    if kind != "instances":
        raise InputError(f"{name} was opened as {kind}; expected instances: open it with kind='instances'")


def offsets(given: Sequence[Sequence[int]], *, dimensions: int) -> None:
    """Refuse offsets that a network cannot learn, or a decoder not use.

    Raises:
        InputError: with those given.
    """
    shown = [list(offset) for offset in given]
    if any(len(offset) != dimensions or not any(offset) for offset in given) or len(set(map(tuple, given))) < len(
        given
    ):
        raise InputError(
            f"method.options.offsets are {shown}; expected rows of {dimensions} steps, not all 0 and none twice: "
            "correct them, or leave them out"
        )
    if not any(sum(map(abs, offset)) == 1 for offset in given):
        raise no_nearest(given)


def network_levels(name: str, given: int, *, wanted: int) -> InputError:
    """Word a list of a network's levels that is too long or too short."""
    return InputError(
        f"network.{name} has {given} entries; expected {wanted}, for the levels that features has: change one of both"
    )


def edge_per_axis(edges: Sequence[int], dimensions: int) -> None:
    """Refuse the edges of a pool or a kernel that are not one for each axis.

    Raises:
        InputError: with them.
    """
    if len(edges) != dimensions:
        raise InputError(
            f"a pool or kernel of the network is {list(edges)}; expected {dimensions} numbers, one for each axis of "
            "the images, or a single one for all: correct network.pools or network.kernels"
        )


def odd_kernel(edges: Sequence[int]) -> None:
    """Refuse a kernel without a middle.

    Raises:
        InputError: with its edges.
    """
    if any(edge % 2 == 0 for edge in edges):
        raise InputError(f"network.kernels has {list(edges)}; expected odd edges: add or take away one")


def no_instances(method: str) -> InputError:
    """Word a model that labels classes where one that tells objects apart is asked for."""
    return InputError(
        f"the model is of method '{method}', which labels structures; expected one that tells objects apart, such as "
        "'affinity': give such a model"
    )


def only_classes(option: str, method: str) -> InputError:
    """Word an option of `limner segment` that means nothing to a model that tells objects apart."""
    return InputError(
        f"{option} means nothing to a model of method '{method}', which tells objects apart; expected no options of "
        "brains: leave it out"
    )


def only_instances(option: str) -> InputError:
    """Word an option of `limner segment` that only a model that tells objects apart can follow."""
    return InputError(f"{option} is for models that tell objects apart; expected --model with one: leave it out")


def solid_or_flat(shape: tuple[int, ...], dimensions: int) -> None:
    """Refuse a volume with fewer axes than a network looks at.

    Raises:
        InputError: with its shape.
    """
    if len(shape) < dimensions:
        raise InputError(
            f"the volume has shape {shape} but the model looks at {dimensions} axes; expected as many: "
            "give a stack of sections, or a model of two dimensions"
        )


def some_trial(count: int, *, kinds: Sequence[str]) -> None:
    """Refuse to choose among no decoders.

    Raises:
        InputError: naming the kinds.
    """
    if not count:
        raise InputError(
            f"no decoder of the kind {', '.join(kinds)} can be tried, because the model has affinities of direct "
            "neighbours only; expected some that repel: leave --decoder out, or choose another"
        )


def volume_fits(needed: float, available: float) -> None:
    """Refuse a volume that takes more memory than there is, both in bytes.

    Raises:
        InputError: with both.
    """
    if needed > available:
        raise InputError(
            f"the volume takes about {needed / 1e9:.3g} GB at once but {available / 1e9:.3g} GB are allowed; expected "
            "less: convert it to .zarr, which can go block by block, or cut it into pieces"
        )


def stack(shape: tuple[int, ...], *, kind: str) -> None:
    """Refuse what has no sections that could be aligned.

    Raises:
        InputError: with its shape and kind.
    """
    if len(shape) != 3 or shape[0] < 2 or kind != "image":
        raise InputError(
            f"--align-sections was given {kind} of shape {shape}; expected an image of two sections or more, along its "
            "first axis: give the image of a stack"
        )
