"""A look at affinities."""

from __future__ import annotations

from typing import Any

import numba


@numba.njit(cache=True, nogil=True)
def all_shares(values: Any) -> bool:
    """Tell whether all values (N,) lie from 0 to 1; NaN does not."""
    wrong = False
    for place in range(len(values)):
        wrong |= not (values[place] >= 0 and values[place] <= 1)
    return not wrong
