"""Sections of a stack laid upon one another: each is moved to the side by whole voxels, as its neighbours say.

Source: phase correlation, Kuglin and Hines 1975; positions by weighted least squares over several neighbours, so that a
bad section parts nobody, as in Saalfeld et al., Nature Methods 2012. The weak pull to where a section was is our own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limner import check
from limner.space import Array, Volume

#: Sections up to which a section is compared with those that follow.
NEIGHBOURS = 3
#: Voxels along the longer side of what is compared: more cost time and say no more.
SIDE = 512
#: Correlation below which two sections say nothing of each other.
LOWEST = 0.1


@dataclass(frozen=True, eq=False)
class Alignment:
    """Where sections belong.

    Args:
        shifts: (Z, 2) voxels along y and x by which each is to be moved.
        before: (Z - 1,) correlation of each section with the next as they were.
        after: (Z - 1,) the same once they are moved.
    """

    shifts: NDArray[np.int64]
    before: NDArray[np.float64]
    after: NDArray[np.float64]


def aligned(stack: Volume, *, farthest: int = 32, drift: float = 50) -> tuple[Volume, Alignment]:
    """Return a stack of sections with each in its place, and what was done to them.

    What comes from beyond a section's border has its mean.

    Args:
        stack: an image (Z, Y, X).
        farthest: that neighbours may lie apart along each axis, voxels.
        drift: sections after which the stack may have wandered off and come back: objects that run aslant are not set
            upright over more than that.

    Raises:
        InputError: for anything but an image of two sections or more.
    """
    check.stack(stack.data.shape, kind=stack.kind)
    sections = stack.data.astype(np.float32)
    shifts = np.rint(positions(sections, farthest=farthest, drift=drift)).astype(np.int64)
    moved = np.stack([shifted(section, shift) for section, shift in zip(stack.data, shifts, strict=True)])
    steps = zip(sections[:-1], sections[1:], np.diff(shifts, axis=0), strict=True)
    scores = np.array([[alike(one, other, shift=(0, 0)), alike(one, other, shift=step)] for one, other, step in steps])
    return Volume(moved, stack.grid, "image", stack.header), Alignment(shifts, *scores.reshape(-1, 2).T)


def positions(sections: Array, *, farthest: int, drift: float) -> NDArray[np.float64]:
    """Return by how much each section (Z, Y, X) is to be moved, (Z, 2) voxels along y and x."""
    from scipy.linalg import solveh_banded

    Z = len(sections)
    bands = np.zeros((min(NEIGHBOURS, Z - 1) + 1, Z))  # of a symmetric matrix, its diagonal first
    right = np.zeros((Z, 2))
    bands[0] = 1 / drift**2
    for one in range(Z):
        for other in range(one + 1, min(Z, one + NEIGHBOURS + 1)):
            shift, weight = compared(sections[one], sections[other], farthest=farthest * (other - one))
            bands[0, [one, other]] += weight
            bands[other - one, one] -= weight
            right[one] -= weight * shift
            right[other] += weight * shift
    found: NDArray[np.float64] = solveh_banded(bands, right, lower=True)
    centred: NDArray[np.float64] = found - np.rint(found.mean(0))
    return centred


def compared(one: Array, other: Array, *, farthest: int) -> tuple[NDArray[np.float64], float]:
    """Return by how much another section (Y, X) is to be moved onto one, (2,) voxels, and how sure that is, 0 to 1."""
    from scipy import fft

    cut = tuple(slice((size - min(size, SIDE)) // 2, (size + min(size, SIDE)) // 2) for size in one.shape)
    window = np.outer(*(np.hanning(part.stop - part.start + 2)[1:-1] for part in cut))
    first, second = (fft.rfft2((section[cut] - section[cut].mean()) * window) for section in (one, other))
    cross = first * second.conj()
    peaks = fft.irfft2(cross / (np.abs(cross) + 1e-9 * np.abs(cross).max() + 1e-30), window.shape)
    reach = [min(farthest, (size - 1) // 2) for size in window.shape]
    around = np.roll(peaks, reach, (0, 1))[: 2 * reach[0] + 1, : 2 * reach[1] + 1]
    shift = np.array(np.unravel_index(around.argmax(), around.shape)) - reach
    sure = alike(one, other, shift=shift)
    return shift.astype(np.float64), max(0.0, sure) ** 2 if sure > LOWEST else 0.0


def shifted(section: Array, shift: Array) -> Array:
    """Return a section (Y, X) moved by whole voxels (2,); what comes in from beyond has its mean."""
    moved = np.full_like(section, section.mean())
    target, source = _overlap(section.shape, shift)
    moved[target] = section[source]
    return moved


def _overlap(shape: tuple[int, ...], shift: Array) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return where what is moved by `shift` comes to lie, and where it came from."""
    steps = [int(step) for step in shift]
    target = tuple(slice(max(0, step), max(0, size + min(0, step))) for step, size in zip(steps, shape, strict=True))
    source = tuple(slice(max(0, -step), max(0, size - max(0, step))) for step, size in zip(steps, shape, strict=True))
    return target, source


def alike(one: Array, other: Array, *, shift: Array | tuple[int, int]) -> float:
    """Return the correlation of a section with another that is moved by `shift`, where both are; 0 if one is even."""
    target, source = _overlap(one.shape, np.asarray(shift))
    first, second = one[target].ravel(), other[source].ravel()
    spread = float(first.std() * second.std()) if first.size else 0.0
    if spread < 1e-9:
        return 0.0
    return float(((first - first.mean()) * (second - second.mean())).mean() / spread)
