"""The two kinds of message: what is refused, and what is tolerated."""

from __future__ import annotations


class InputError(ValueError):
    """What the user gave cannot be used; `str()` is the whole message."""


class InputWarning(UserWarning):
    """Something irregular in the input was tolerated."""
