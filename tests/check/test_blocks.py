from __future__ import annotations

from pathlib import Path

import pytest

from check.messages import Inspection, refusal
from limner import check

REFUSED = [
    (
        lambda: check.only_whole(Path("stack.tif"), (".zarr", ".hdf")),
        (
            "'stack.tif' can only be read as a whole; expected a name that ends in .zarr, .hdf to go block by block: "
            "convert it with `limner convert` where there is memory for it"
        ),
    ),
    (
        lambda: check.countable(2**31),
        (
            "the volume has 2147483648 fragments; expected fewer than 2**31 to agglomerate them: choose a larger "
            "separation, or segment parts of the volume"
        ),
    ),
    (
        lambda: check.graph_fits(2e9, needed=5e9, edges=20_000_000),
        (
            "the fragments of the volume touch in 20000000 places, and merging them takes 5 GB in one process but "
            "--max-memory is 2; expected more: raise it, or choose a larger separation"
        ),
    ),
    (
        lambda: check.block_fits(1e9, needed=1.5e9, fits=False),
        "--max-memory is 1 GB but the smallest block needs 1.5; expected more: raise it",
    ),
]


@pytest.mark.parametrize(("inspect", "message"), REFUSED, ids=range(len(REFUSED)))
def test_refused(inspect: Inspection, message: str) -> None:
    assert refusal(inspect) == message


def test_what_can_go_block_by_block_passes() -> None:
    check.countable(7)
    check.graph_fits(2e9, needed=1e9, edges=4_000_000)
    check.block_fits(2e9, needed=1.5e9, fits=True)
    check.block_output(Path("raw.hdf"), Path("labels.zarr"))


def test_warned() -> None:
    assert str(check.other_blocks([256, 256, 256], [64, 64, 64])) == (
        "what was half done had blocks of [256, 256, 256] voxels, now [64, 64, 64]; it was begun anew"
    )
