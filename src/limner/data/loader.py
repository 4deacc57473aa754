"""Batches of a step, made from the store; and ahead of time, in a thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from limner import check
from limner.data.batch import IGNORE, Batch
from limner.data.cohort import Case
from limner.data.sampling import VARIATION, Pattern, case_at, common_shape, crop_at, positions
from limner.data.store import Kept, Prepared
from limner.data.variation import Variation, varied
from limner.priors.dense import DensePrior
from limner.space import Array, Box

Loaded: TypeAlias = tuple[Batch, DensePrior | None]


class Loader:
    """Makes the batch of any step.

    Args:
        store: where the scans are kept.
        cases: to learn from, at least one.
        batch: scans of a batch, or what kinds of them it is made of.
        crop: voxels of the pieces, along each axis; whole scans without it.
        stride: sizes are padded to multiples of it, at the end of each axis.
        seed: of the order and the pieces.
        process: number of this process, and of all; together they see what one process would see.
        variation: how scans are varied at random; they are not without it.
    """

    def __init__(
        self,
        store: Kept,
        cases: Sequence[Case],
        *,
        batch: int | Pattern = 1,
        crop: Sequence[int] | None = None,
        stride: int = 1,
        seed: int = 0,
        process: tuple[int, int] = (0, 1),
        variation: Variation | None = None,
    ) -> None:
        self.store, self.cases = store, tuple(cases)
        self.pattern = batch if isinstance(batch, Pattern) else None
        self.size = len(batch.places) if isinstance(batch, Pattern) else batch
        self.crop, self.stride = crop, stride
        self.seed, self.process, self.variation = seed, process, variation

    def batch(self, step: int) -> Loaded:
        """Return the scans or pieces of a step, counted from 0, and the prior on them if the store has one."""
        rank, ranks = self.process
        return self._gathered([self._item(at) for at in positions(step, batch=self.size, rank=rank, ranks=ranks)])

    def whole(self, *cases: Case) -> Loaded:
        """Return a batch of whole scans, and the prior on them if the store has one."""
        scans = [self.store.prepared(case) for case in cases]
        return self._gathered([(scan, Box.whole(scan.shape)) for scan in scans])

    def _item(self, position: int) -> tuple[Prepared, Box]:
        """Return the scan at a position of the endless row, and the piece of it that is looked at."""
        if self.pattern:
            number = self.pattern.case_at(position, seed=self.seed)
        else:
            number = case_at(position, cases=len(self.cases), seed=self.seed)
        scan = self.store.prepared(self.cases[number])
        if self.variation:
            scan = varied(scan, self.variation, rng=np.random.default_rng((self.seed, VARIATION, position)))
        if self.crop is None:
            return scan, Box.whole(scan.shape)
        check.crop_axes(self.crop, scan.shape, case=scan.case.name)
        return scan, crop_at(position, scan.mask, crop=self.crop, seed=self.seed)

    def _gathered(self, items: Sequence[tuple[Prepared, Box]]) -> Loaded:
        """Return pieces of scans as one batch, padded to one shape."""
        shapes = [box.shape for _, box in items]
        shape = common_shape([*shapes, *([self.crop] if self.crop else [])], self.stride)
        batch = Batch(
            image=_padded([scan.image[:, *box.slices] for scan, box in items], shape, fill=0),
            labels=_padded([scan.labels[box.slices] for scan, box in items], shape, fill=IGNORE).long(),
            present=torch.tensor([scan.case.present for scan, _ in items], dtype=torch.int64),
            mask=_padded([scan.mask[box.slices] for scan, box in items], shape, fill=False),
            world=torch.from_numpy(np.stack([_begun(scan.world, box) for scan, box in items])),
            case=tuple(scan.case.name for scan, _ in items),
        )
        maps = [scan.parts[box.slices] for scan, box in items if scan.parts is not None]
        return batch, self._prior(maps, shape, world=batch.world) if maps else None

    def _prior(self, maps: Sequence[Array], shape: tuple[int, ...], *, world: Tensor) -> DensePrior | None:
        """Return the prior whose parts at each voxel are `maps` (*S, P), one for each scan; padding is background."""
        atlas = self.store.prior
        if atlas is None:
            return None
        background = np.eye(maps[0].shape[-1], dtype=maps[0].dtype)[0]
        probability = _padded(maps, (*shape, len(background)), fill=background)
        return DensePrior(atlas.parts, probability.movedim(-1, 1), atlas.neighbours, world=world)


def prefetched(loader: Loader, steps: Iterable[int], *, depth: int = 2) -> Iterator[Loaded]:
    """Yield the batches of steps while a thread makes those that follow.

    An error of a batch is raised when its turn comes. The thread ends with the iterator, also with one closed early.

    Args:
        loader: makes the batches.
        steps: whose batches are wanted.
        depth: batches made ahead.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="limner-loader")
    ahead: deque[Future[Loaded]] = deque()
    try:
        for step in steps:
            ahead.append(pool.submit(loader.batch, step))
            if len(ahead) > depth:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _padded(arrays: Sequence[Array], shape: tuple[int, ...], *, fill: object) -> Tensor:
    """Return arrays as one tensor (B, ..., *shape), each padded at the end of its last axes with `fill`."""
    first = arrays[0]
    leading = first.shape[: first.ndim - len(shape)]
    padded = np.empty((len(arrays), *leading, *shape), first.dtype)
    for array, target in zip(arrays, padded, strict=True):
        # What lies beyond the array along each axis; filling all of it first would write everything twice.
        for axis, size in enumerate(array.shape):
            if size < target.shape[axis]:
                target[(*[slice(None)] * axis, slice(size, None))] = fill
        target[tuple(slice(size) for size in array.shape)] = array
    return torch.from_numpy(padded)


def _begun(world: Array, box: Box) -> Array:
    """Return the affine (D+1, D+1) of the voxels that begin at a box's first."""
    moved = world.copy()
    moved[:-1, -1] += world[:-1, :-1] @ np.array(box.start)
    return moved
