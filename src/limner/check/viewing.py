"""Word why nothing can be shown in a browser."""

from __future__ import annotations

from limner.check.errors import InputError


def without_neuroglancer() -> InputError:
    """Word a viewer that was asked for without the library that it is."""
    return InputError(
        "limner view needs neuroglancer, which is not installed; expected it: run `pip install 'limner[view]'`"
    )


def port_taken(port: int, error: OSError) -> InputError:
    """Word a port at which no server can listen."""
    return InputError(
        f"--port {port} cannot be used ({error.strerror}); expected a free one: choose another, or leave it out"
    )
