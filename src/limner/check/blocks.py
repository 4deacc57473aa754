"""Word what keeps a volume from being worked on block by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from limner.check.errors import InputError, InputWarning

#: Blocks whose reasons are listed.
LISTED = 3


def blocks_failed(reasons: Mapping[str, str], *, total: int, stage: str) -> InputError:
    """Word blocks of a volume that could not be done.

    Args:
        reasons: by the blocks' names, which say where they begin.
        total: blocks of the volume.
        stage: in which they failed.
    """
    listed = "; ".join(f"{name}: {reason}" for name, reason in list(reasons.items())[:LISTED])
    more = f"; and {len(reasons) - LISTED} more" if len(reasons) > LISTED else ""
    return InputError(
        f"{len(reasons)} of {total} blocks failed twice in the stage '{stage}' ({listed}{more}); expected all: mend "
        "the cause and give the same command again, which goes on with these"
    )


def block_output(source: Path, out: Path) -> None:
    """Refuse to write labels into the store that they are made from, or to anything but a store.

    Raises:
        InputError: naming both.
    """
    inside, whole = out.absolute(), source.absolute()
    if inside == whole or whole in inside.parents or inside in whole.parents:
        raise InputError(f"'{out}' and '{source}' lie in one another; expected labels elsewhere: choose another -o")
    if not out.name.lower().endswith(".zarr"):
        raise InputError(f"'{out}' cannot be written block by block; expected a name that ends in .zarr: rename it")


def block_fits(memory: float, *, needed: float, fits: bool) -> None:
    """Refuse a limit that not even the smallest block keeps.

    Raises:
        InputError: with both, in GB.
    """
    if not fits:
        raise InputError(
            f"--max-memory is {memory / 1e9:.2g} GB but the smallest block needs {needed / 1e9:.2g}; expected more: "
            "raise it"
        )


def only_whole(path: Path, known: Sequence[str]) -> InputError:
    """Word a volume of a format that is only read as a whole where a part is to be read at a time."""
    return InputError(
        f"'{path}' can only be read as a whole; expected a name that ends in {', '.join(known)} to go block by block: "
        "convert it with `limner convert` where there is memory for it"
    )


def countable(fragments: int) -> None:
    """Refuse more fragments than 32 bits can number.

    Raises:
        InputError: with their number.
    """
    if fragments >= 2**31 - 1:
        raise InputError(
            f"the volume has {fragments} fragments; expected fewer than 2**31 to agglomerate them: choose a larger "
            "separation, or segment parts of the volume"
        )


def graph_fits(memory: float, *, needed: float, edges: int) -> None:
    """Refuse to merge more fragments than a limit has room for.

    Args:
        memory: that the process may take, bytes.
        needed: that their graph takes, bytes.
        edges: of it.

    Raises:
        InputError: with all of them, in GB.
    """
    if needed > memory:
        raise InputError(
            f"the fragments of the volume touch in {edges} places, and merging them takes {needed / 1e9:.2g} GB in one "
            f"process but --max-memory is {memory / 1e9:.2g}; expected more: raise it, or choose a larger separation"
        )


def other_blocks(before: Sequence[int], now: Sequence[int]) -> InputWarning:
    """Word blocks that were begun with another size, voxels along each axis, and are done anew."""
    return InputWarning(f"what was half done had blocks of {list(before)} voxels, now {list(now)}; it was begun anew")
