"""Images that are slices of one array on disk: thousands of small ones are read as fast as one."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from limner import check
from limner.data.batch import IGNORE
from limner.data.cohort import Case
from limner.space import Array

SUFFIX = ".npy"


def stacked(case: Case) -> tuple[Array, Array, Array]:
    """Return a slice's image (C, *S) float32, mask (*S) bool and label ids (*S), IGNORE where it has none.

    Raises:
        InputError: for files that are no stacks, or have no such slice.
    """
    number = case.slice or 0
    image = np.stack([_slice(path, number) for path in case.images]).astype(np.float32)
    shape = image.shape[1:]
    mask = np.ones(shape, bool) if case.mask is None else _slice(case.mask, number) != 0
    labels = np.full(shape, IGNORE, np.int16) if case.labels is None else _slice(case.labels, number).astype(np.int16)
    for kind, array in (("mask", mask), ("labels", labels)):
        check.same_size(array.shape, shape, case=case.name, kind=kind)
    return image, mask, labels


def _slice(path: Path, number: int) -> Array:
    """Return a slice of the stack in a file."""
    check.existing_file(path)
    stack = _opened(path, path.stat().st_mtime_ns)
    check.has_slice(path, number, slices=len(stack))
    return np.asarray(stack[number])


@lru_cache(maxsize=64)
def _opened(path: Path, changed: int) -> Array:  # noqa: ARG001 -- part of the key: a file may have been replaced
    """Return the array in a file as a memory map.

    Raises:
        InputError: if it is none.
    """
    check.sliceable(path, suffix=SUFFIX)
    try:
        found: Array = np.load(path, mmap_mode="r", allow_pickle=False)
        return found
    except (OSError, ValueError) as error:
        raise check.unreadable(path, error) from error
