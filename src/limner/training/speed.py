"""What a process is asked for before it takes thousands of steps."""

from __future__ import annotations

import ctypes
import os

import torch

#: What glibc calls its settings: large blocks from the system one by one, and the top of the heap.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


def speed_up() -> None:
    """Have this process take steps as fast as it can, from now on and in all threads that it begins."""
    keep_memory()
    flush_denormals()


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


def flush_denormals() -> None:
    """Take numbers nearer to 0 than 1e-38 for 0, in this thread and those that it begins.

    Processors compute with them many times as slowly, and weight decay brings the weights of maps that have died there:
    after a thousand steps, a step takes several times as long as the first.
    """
    torch.set_flush_denormal(True)
