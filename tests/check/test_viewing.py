from __future__ import annotations

import errno
import os

from check.messages import refusal
from limner import check


def test_what_is_said_without_neuroglancer() -> None:
    assert refusal(check.without_neuroglancer) == (
        "limner view needs neuroglancer, which is not installed; expected it: run `pip install 'limner[view]'`"
    )


def test_what_is_said_of_a_port() -> None:
    error = OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    assert refusal(lambda: check.port_taken(80, error)) == (
        "--port 80 cannot be used (Address already in use); expected a free one: choose another, or leave it out"
    )
