"""Label maps bent to one another: their average is sharper, and nobody's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import phantoms
from limner.priors import groupwise
from limner.priors.deformation import Warps
from limner.priors.groupwise import bent_maps
from limner.priors.label_maps import LabelMap, common_grid, shared
from limner.space import Grid

SPACING = 3.0


@pytest.fixture(scope="module")
def maps() -> list[LabelMap]:
    table, heads = phantoms.table(), [phantoms.bent(SPACING, seed=seed) for seed in range(3)]
    rows = [table.rows(head.data).astype(np.uint8) for head in heads]
    return [LabelMap(str(number), one, heads[0].grid, np.eye(4)) for number, one in enumerate(rows)]


@pytest.fixture(scope="module")
def together(maps: list[LabelMap]) -> tuple[list[LabelMap], Warps]:
    with pytest.MonkeyPatch.context() as patched:
        for name, value in (("SPACING", 3.0), ("POINTS", 30_000)):
            patched.setattr(groupwise, name, value)
        return bent_maps(maps, labels=len(phantoms.table()))


def sharpness(maps: list[LabelMap], grid: Grid) -> float:
    """Mean share of the likeliest label where it is not the background."""
    shares = shared(maps, grid, labels=len(phantoms.table()))
    return float(shares.max(0)[shares[0] < 0.9].mean())


def test_the_average_is_sharper(maps: list[LabelMap], together: tuple[list[LabelMap], Warps]) -> None:
    grid = common_grid(maps, SPACING)
    before, after = sharpness(maps, grid), sharpness(together[0], grid)
    assert after > before + 0.3 * (1 - before)


def test_warps_do_not_fold_and_prefer_nobody(together: tuple[list[LabelMap], Warps]) -> None:
    warps = [one.warp for one in together[0]]
    assert min(float(warp.jacobian().min()) for warp in warps if warp) > 0
    mean = torch.stack([warp.displacement for warp in warps if warp]).mean(0)
    each = torch.stack([warp.displacement for warp in warps if warp]).norm(dim=1).mean()
    assert float(mean.norm(dim=0).mean()) < 0.2 * float(each)


def test_the_modes_tell_how_the_maps_differ(together: tuple[list[LabelMap], Warps]) -> None:
    _, warps = together
    assert len(warps.modes) == 2
    # An sd along both modes moves the head by about as much as the maps were moved.
    typical = warps.modes.square().sum((0, 1)).sqrt().mean() * groupwise.LOOSE[0].sd
    assert 0.1 < float(typical) < 10


def test_one_map_is_not_bent(maps: list[LabelMap]) -> None:
    alone, warps = bent_maps(maps[:1], labels=len(phantoms.table()))
    assert alone[0].warp is None
    assert len(warps.modes) == 0
