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
        lambda: check.blocks_decoder("mean", check.whole_needs(3.21e9, 2e9)),
        (
            "the whole volume takes about 3.21 GB and 2 GB are allowed, but the model's decoder is 'mean', which needs "
            "the whole volume at once; expected 'components' to go block by block: choose it with `limner tune MODEL "
            "PIECE --decoder components`, or segment the volume where there is more memory"
        ),
    ),
    (
        lambda: check.blocks_decoder("mutex", check.blocks_asked()),
        (
            "--workers, --cluster and --slurm go block by block but the model's decoder is 'mutex', which needs the "
            "whole volume at once; expected 'components' to go block by block: choose it with `limner tune MODEL PIECE "
            "--decoder components`, or segment the volume where there is more memory"
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
    check.blocks_decoder("components", "")
    check.block_fits(2e9, needed=1.5e9, fits=True)
    check.block_output(Path("raw.hdf"), Path("labels.zarr"))


def test_warned() -> None:
    assert str(check.other_blocks([256, 256, 256], [64, 64, 64])) == (
        "what was half done had blocks of [256, 256, 256] voxels, now [64, 64, 64]; it was begun anew"
    )
