"""The neighbourhood prior: which classes lie beside which, as a table and its energy (a Markov random field)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from limner import check
from limner.networks.rows import put, taken

# Voxels mixed at a time: tens of megabytes of scratch, and too few calls for their overhead to show.
_CHUNK = 1 << 19
# Planes of a volume worked on at a time, where maps are made of rows.
_PLANES = 16


@dataclass(frozen=True, eq=False)
class NeighbourTable:
    """What it costs two classes to be neighbours, from how often they were.

    The neighbours in one window are not independent observations, so the pseudo-count is measured in windows: by
    default Laplace's rule with the window as its unit, as if every class had also been seen once surrounded wholly by
    each class. It keeps pairs that one person happens to lack, and classes that a map lacks, possible and finite.

    Args:
        counts: (K, K) ordered pairs of voxels, not negative: the centre's class in rows, its neighbour's in columns.
        size: edge of the window in voxels, odd, 3 to 21.
        pseudo_windows: whole windows of neighbours added to every pair of classes, above 0.

    Raises:
        InputError: an argument is none of these.

    Source: Yu et al. 2020 (SAE), eq. 9; there without pseudo-counts. Rows are normalised as in its code, which differs
    from the printed V(b|a) by a constant.
    """

    counts: NDArray[np.float64]
    size: int
    pseudo_windows: float = 1.0

    def __post_init__(self) -> None:
        counts = np.array(self.counts, dtype=np.float64)
        check.window_size(self.size)
        check.pair_counts(counts, self.pseudo_windows)
        counts.flags.writeable = False
        object.__setattr__(self, "counts", counts)

    @property
    def classes(self) -> int:
        """Return K."""
        return len(self.counts)

    @property
    def log_probabilities(self) -> NDArray[np.float64]:
        """Return (K, K) nats: row a is the log-probability of a neighbour's class given the centre's class a."""
        counts = self.counts + self.pseudo_windows * (self.size**3 - 1)
        return np.asarray(np.log(counts / counts.sum(axis=1, keepdims=True)))

    @property
    def potential(self) -> NDArray[np.float64]:
        """Return (K, K) nats, the mean of `log_probabilities` and its transpose: all that the energy depends on."""
        rows = self.log_probabilities
        return (rows + rows.T) / 2


def neighbour_counts(labels: ArrayLike, classes: int, *, size: int = 3) -> NDArray[np.int64]:
    """Count the ordered pairs of neighbours of each two classes, exactly; the counts of several maps add.

    Voxels outside the map do not count, so the counts are symmetric. The cost does not depend on `size`.

    Args:
        labels: (Z, Y, X) or (Y, X) class indices, 0 to `classes` - 1.
        classes: K.
        size: edge of the window in voxels, odd, 3 to 21; its centre is no neighbour of itself.

    Returns:
        (K, K): the centre's class in rows, its neighbour's in columns.

    Raises:
        InputError: `labels` are not class indices or `size` is no window.

    Source: Yu et al. 2020 (SAE), the count in eq. 9; there the border voxels are repeated outwards.
    """
    labels = np.asarray(labels)
    check.window_size(size)
    check.class_indices(labels, classes)
    volume = np.ascontiguousarray(labels.reshape((1,) * (3 - labels.ndim) + labels.shape), dtype=np.uint16)
    return _compiled()(volume, classes, radius=size // 2)


def neighbour_energy(q: Tensor, table: NeighbourTable) -> Tensor:
    """Return the expected -log p of the neighbourhood prior, up to the log of its partition function.

    E = - sum_j sum_{k in N_j} sum_ab q_j(a) potential(a, b) q_k(b) over the ordered pairs: each unordered pair counts
    twice, as published, and voxels outside the volume not at all. The weight of the prior is the caller's. Forward
    finds the gradient too and keeps it, one float32 as large as `q`, so that backward is one product.

    Args:
        q: (B, K, *S) class probabilities, S of two or three axes; half precision is computed in float32.
        table: the pairs' costs, over the same K classes in the same order.

    Returns:
        (B,) nats, float32, or float64 if `q` is.

    Raises:
        InputError: `q` and `table` differ in K.

    Source: Yu et al. 2020 (SAE), L_MRF. With a symmetric potential and a zero border the neighbour sum is self-adjoint:
    E = <q, dE/dq> / 2.
    """
    check.class_count(q.shape[1], table.classes, name="q")
    energy: Tensor = _Energy.apply(q, table)  # type: ignore[no-untyped-call]
    return energy


def neighbour_messages(q: Tensor, table: NeighbourTable) -> Tensor:
    """Return d neighbour_energy / dq, which mean field subtracts from its logits.

    Args:
        q: (B, K, *S) class probabilities, S of two or three axes; half precision is computed in float32.
        table: the pairs' costs, over the same K classes in the same order.

    Returns:
        (B, K, *S) nats, float32, or float64 if `q` is.

    Raises:
        InputError: `q` and `table` differ in K.

    Source: Yu et al. 2020 (SAE), the derivative of L_MRF.
    """
    check.class_count(q.shape[1], table.classes, name="q")
    messages: Tensor = _Messages.apply(q, table)  # type: ignore[no-untyped-call]
    return messages


def neighbour_energy_within(q: Tensor, mask: Tensor, *, table: NeighbourTable) -> Tensor:
    """Return the energy of segmentations that are background outside a mask: `neighbour_energy`, with less memory.

    Args:
        q: (N, K) class probabilities at the mask's voxels.
        mask: (B, *S) bool.
        table: the pairs' costs, over the same K classes in the same order.

    Returns:
        (B,) nats.

    Raises:
        InputError: `q` and `table` differ in K.

    Source: as `neighbour_energy`.
    """
    check.class_count(q.shape[1], table.classes, name="q")
    energy: Tensor = _EnergyWithin.apply(q, mask, table)  # type: ignore[no-untyped-call]
    return energy


class _EnergyWithin(torch.autograd.Function):
    """The energy of rows; what is kept for backward are rows too, and maps are made of a few planes at a time."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, mask: Tensor, table: NeighbourTable) -> Tensor:
        messages, energies = torch.empty_like(q), []
        begin = 0
        for inside in mask:
            counts = inside.flatten(1).sum(1)
            rows = slice(begin, begin := begin + int(counts.sum()))
            energies.append(_by_planes(q[rows], inside, table=table, messages=messages[rows]))
        ctx.save_for_backward(messages, mask)
        return torch.stack(energies)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        messages, mask = ctx.saved_tensors
        return messages * gradient.repeat_interleave(mask.flatten(1).sum(1))[:, None], None, None


def _by_planes(q: Tensor, mask: Tensor, *, table: NeighbourTable, messages: Tensor) -> Tensor:
    """Return the energy (nats) of rows (N, K) within a mask (*S), and fill the messages (N, K) to them."""
    reach = table.size // 2
    first = [0, *mask.flatten(1).sum(1).cumsum(0).tolist()]  # row that each plane begins with
    energy = q.new_zeros(())
    for low in range(0, len(mask), _PLANES):
        high = min(low + _PLANES, len(mask))
        around = slice(max(0, low - reach), min(len(mask), high + reach))
        dense = put(q[first[around.start] : first[around.stop]], mask[None, around], background=1)
        found = _messages(dense, table)
        inner = slice(low - around.start, high - around.start)
        energy += _dot(dense[:, :, inner], found[:, :, inner])[0] / 2
        messages[first[low] : first[high]] = taken(found[:, :, inner], mask[None, low:high])
    return energy


class _Energy(torch.autograd.Function):
    """The energy and, kept for backward, its gradient from one pass over the neighbours."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, table: NeighbourTable) -> Tensor:
        messages = _messages(q, table)
        ctx.save_for_backward(q)
        ctx.table, ctx.messages = table, messages
        return _dot(q, messages) / 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (q,) = ctx.saved_tensors
        scale = gradient.view(-1, *[1] * (q.ndim - 1))
        messages, ctx.messages = ctx.messages, None  # spent: what was kept becomes the gradient itself
        if messages is None or torch.is_grad_enabled():  # a second backward, or second derivatives
            return _Messages.apply(q, ctx.table) * scale, None  # type: ignore[no-untyped-call]
        return messages.mul_(scale), None


class _Messages(torch.autograd.Function):
    """The messages, which are linear in q and self-adjoint: gradients pass back the way messages came."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, table: NeighbourTable) -> Tensor:
        ctx.table = table
        return _messages(q, table)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Messages.apply(gradient, ctx.table), None  # type: ignore[no-untyped-call]


def _messages(q: Tensor, table: NeighbourTable) -> Tensor:
    """Sum over the neighbours and weigh by what each pair costs, in float32 at least."""
    with torch.autocast(q.device.type, enabled=False):
        if table.size == 3 and q.ndim == 5 and q.dtype == torch.float32 and q.stride(1) == 1:
            return _convolved(q, table)
        sums = _neighbour_sums(q, table.size)
        return _mix(sums, torch.as_tensor(-2 * table.potential, dtype=sums.dtype, device=sums.device))


def _convolved(q: Tensor, table: NeighbourTable) -> Tensor:
    """Return the messages as one dense convolution: the quickest where the classes of a voxel lie side by side."""
    costs = torch.as_tensor(-2 * table.potential, dtype=q.dtype, device=q.device)
    kernel = costs[:, :, None, None, None].repeat(1, 1, 3, 3, 3)
    kernel[:, :, 1, 1, 1] = 0
    kernel = kernel.contiguous(memory_format=torch.channels_last_3d)
    # A GPU would round to 10 bits (TF32) what is to be summed exactly.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        return torch.nn.functional.conv3d(q, kernel, padding=1)


def _dot(first: Tensor, second: Tensor) -> Tensor:
    """Return (B,) scalar products of (B, K, *S), by planes: all products at once would be one more volume of K."""
    planes = zip(first.unbind(2), second.unbind(2), strict=True)
    return torch.stack([(one * other).flatten(1).sum(dim=1) for one, other in planes]).sum(dim=0)


def _mix(channels: Tensor, matrix: Tensor) -> Tensor:
    """Replace the K channels of (B, K, *S) at every voxel by `matrix` (K, K) times them, in place and by chunks."""
    layers = channels.flatten(3).transpose(1, 2)  # (B, S[0], K, the rest of S)
    depth = max(1, _CHUNK // layers.shape[3])
    scratch = channels.new_empty(depth, *layers.shape[2:])
    for sample in layers:
        for chunk in sample.split(depth):
            weights = matrix.expand(len(chunk), -1, -1)
            chunk.copy_(torch.bmm(weights, chunk, out=scratch[: len(chunk)]))
    return channels


def _neighbour_sums(q: Tensor, size: int) -> Tensor:
    """Sum each channel of (B, K, *S) over the window of every voxel, without the centre and with zeros outside.

    A channel is copied into a flat buffer in which every row and plane is followed by `size // 2` zeros. Any window
    that leaves the volume then meets zeros, and a step along any axis is one stride: each axis is a sum over shifts of
    the whole buffer.
    """
    radius, (first, *others) = size // 2, q.shape[2:]
    padded = (first, *(length + radius for length in others))
    strides = [math.prod(padded[axis + 1 :]) for axis in range(len(padded))]
    reach = radius * sum(strides)  # from a voxel to the first of its window
    sums = torch.empty(q.shape, dtype=torch.promote_types(q.dtype, torch.float32), device=q.device)
    buffer, *spare = sums.new_zeros(3, math.prod(padded) + 2 * reach)
    crop = tuple(slice(length) for length in q.shape[2:])
    voxels = buffer[reach:][: math.prod(padded)].view(padded)[crop]
    for channel, total in zip(q.flatten(0, 1), sums.flatten(0, 1), strict=True):
        voxels.copy_(channel)
        windows = _window_sums(buffer, size, strides=strides, spare=spare)
        torch.sub(windows.view(padded)[crop], channel, out=total)
    return sums


def _window_sums(values: Tensor, size: int, *, strides: Sequence[int], spare: list[Tensor]) -> Tensor:
    """Sum the window that begins at each value, `size` steps of each stride wide; return those that are complete.

    Where 3 divides `size`, sums of three are summed: 21 costs 3 + 7 terms. A running sum would cost two whatever the
    size, but its subtractions cancel digits in float32.
    """
    factors = [factor for factor in (3, size // 3) if factor > 1] if size % 3 == 0 else [size]
    for stride in strides:
        step = stride
        for factor in factors:
            terms = values.unfold(0, (factor - 1) * step + 1, 1)[:, ::step]
            values = torch.sum(terms, dim=1, out=spare[0][: len(terms)])
            spare, step = spare[::-1], step * factor
    return values


def _pairs(labels: NDArray[np.uint16], classes: int, *, radius: int) -> NDArray[np.int64]:
    """Add the histogram of the window around every voxel of (Z, Y, X), but the voxel, to the row of the voxel's class.

    Running sums, exact in integers: `columns` over z, `rows` over z and y, `window` over all three. The innermost loops
    are written out, and over a multiple of 16 classes, because the compiler then makes vector instructions of them.
    """
    depth, height, width = labels.shape
    edge, lanes = 2 * radius + 1, (classes + 15) // 16 * 16
    pairs, voxels = np.zeros((lanes, lanes), np.int64), np.zeros(lanes, np.int64)
    columns = np.zeros((height + edge, width + edge, lanes), np.int32)
    for z in range(-radius, depth):
        for plane, change in ((z + radius, 1), (z - radius - 1, -1)):
            if 0 <= plane < depth:
                for y in range(height):
                    for x in range(width):
                        columns[y + radius + 1, x + radius + 1, labels[plane, y, x]] += change
        if z < 0:
            continue
        rows = columns[:edge].sum(axis=0)
        for y in range(height):
            for x in range(width + edge):
                for neighbour in range(lanes):
                    rows[x, neighbour] += columns[y + edge, x, neighbour] - columns[y, x, neighbour]
            window = rows[:edge].sum(axis=0)
            for x in range(width):
                centre = labels[z, y, x]
                voxels[centre] += 1
                for neighbour in range(lanes):
                    window[neighbour] += rows[x + edge, neighbour] - rows[x, neighbour]
                    pairs[centre, neighbour] += window[neighbour]
    return (pairs - np.diag(voxels))[:classes, :classes].copy()


@functools.cache
def _compiled() -> Callable[..., NDArray[np.int64]]:
    """Return `_pairs` as machine code, kept on disk; numba is imported here because only building a table needs it."""
    import numba

    compiled: Callable[..., NDArray[np.int64]] = numba.njit(cache=True)(_pairs)
    return compiled
