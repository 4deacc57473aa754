"""What a process is asked for before it takes thousands of steps."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

#: What glibc calls its settings: large blocks from the system one by one, and the top of the heap.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


@contextmanager
def hurried() -> Iterator[None]:
    """Have this process take steps as fast as it can; also a decorator."""
    keep_memory()
    # Numbers nearer to 0 than 1e-38 are taken for 0, here and in threads that begin here: processors compute with them
    # many times as slowly, and weight decay makes them of the weights of maps that have died. Not for longer than it
    # takes: others in this process may want to know them.
    before = flushing()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def flushing() -> bool:
    """Tell whether numbers that are too near to 0 to be normal are taken for 0."""
    return float(torch.tensor(1e-310, dtype=torch.float64) * 1.0) == 0


def keep_memory() -> None:
    """Ask the C library to keep memory that is freed, for the whole process.

    Every step asks for the same large tensors again. By default each comes as fresh pages from the system, and touching
    them for the first time takes as long as the arithmetic: a step takes twice as long. Where the library is not glibc,
    nothing happens.
    """
    if os.name == "nt":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 1 << 26)):
            library.mallopt(option, value)
