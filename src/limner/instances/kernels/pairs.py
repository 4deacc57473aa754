"""Pairs of numbers in a table with open addresses, which tells where a pair is or belongs."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

FREE = np.uint64(0xFFFFFFFFFFFFFFFF)
MIXER = np.uint64(0x9E3779B97F4A7C15)


@numba.njit(cache=True, nogil=True)
def pair(first: Any, second: Any) -> Any:
    """Return one number for two, whichever comes first."""
    low, high = min(first, second), max(first, second)
    return (np.uint64(low) << np.uint64(32)) | np.uint64(high)


@numba.njit(cache=True, nogil=True)
def place(keys: Any, key: Any) -> Any:
    """Return where a key is in a table of a power of two places, or the free one where it belongs."""
    last = np.uint64(len(keys) - 1)
    mixed = key * MIXER
    at = (mixed ^ (mixed >> np.uint64(32))) & last
    while keys[at] != FREE and keys[at] != key:
        at = (at + np.uint64(1)) & last
    return at


@numba.njit(cache=True, nogil=True)
def grown(keys: Any, values: Any) -> Any:
    """Return a table of twice as many places, and the values that go with its keys."""
    wider, moved = np.full(2 * len(keys), FREE, np.uint64), np.empty(2 * len(keys), np.int32)
    for at in range(len(keys)):
        if keys[at] != FREE:
            there = place(wider, keys[at])
            wider[there] = keys[at]
            moved[there] = values[at]
    return wider, moved
