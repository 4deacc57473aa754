"""Warps: smooth as asked, invertible, and as likely as their prior says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

import phantoms
from limner.priors.deformation import SPACING, Smooth, Warp, Warps, displaced, flow
from limner.space import Grid

GRID = phantoms.grid(2.0)
SMOOTH = Smooth(12.0, 1.5)


@pytest.fixture(scope="module")
def warps() -> Warps:
    return Warps.over(GRID, (SMOOTH,))


def drawn(warps: Warps, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=warps.size)).float()


def rough(velocity: torch.Tensor, *, largest: float) -> torch.Tensor:
    return velocity * largest / velocity.abs().max()


def test_velocities_cover_the_atlas(warps: Warps) -> None:
    assert all(size % 2 for size in warps.grid.shape)
    np.testing.assert_allclose(warps.grid.voxel_sizes, SPACING)
    beyond = warps.grid.indices(GRID.world([[0, 0, 0], np.array(GRID.shape) - 1]))
    assert (beyond >= -1e-6).all()
    assert (beyond <= np.array(warps.grid.shape) - 1 + 1e-6).all()


def test_velocities_have_the_sd_and_the_smoothness_asked_for(warps: Warps) -> None:
    middle = tuple(slice(size // 3, -(size // 3)) for size in warps.grid.shape)
    fields = torch.stack([warps.velocity(drawn(warps, seed)) for seed in range(200)])[
        (slice(None), slice(None), *middle)
    ]
    assert float(fields.std()) * SPACING == pytest.approx(SMOOTH.sd, rel=0.1)
    # Of white noise blurred by a Gaussian, neighbours at distance d correlate by exp(-d^2 / 4 sd^2).
    near = (fields[..., 1:] * fields[..., :-1]).mean() / fields.square().mean()
    assert float(near) == pytest.approx(np.exp(-(SPACING**2) / (4 * SMOOTH.length**2)), abs=0.02)


def test_a_flow_is_undone_by_its_reverse(warps: Warps) -> None:
    velocity = rough(warps.velocity(drawn(warps, 0)), largest=1.5)
    there, back = flow(velocity), flow(-velocity)
    here = torch.stack(torch.meshgrid(*[torch.arange(float(size)) for size in warps.grid.shape], indexing="ij"))
    error = (there + displaced(back, here + there))[:, 4:-4, 4:-4, 4:-4]
    assert float(there.abs().max()) > 1
    assert float(error.abs().max()) < 0.05


def test_a_constant_velocity_moves_everything_alike() -> None:
    velocity = torch.tensor([0.7, -0.3, 0.2]).view(3, 1, 1, 1).expand(3, 9, 9, 9)
    torch.testing.assert_close(flow(velocity), velocity.contiguous(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("largest", [1.0, 3.0])
def test_flows_do_not_fold(warps: Warps, largest: float) -> None:
    for seed in range(5):
        warp = Warp(warps.grid, flow(rough(warps.velocity(drawn(warps, seed)), largest=largest)))
        assert float(warp.jacobian().min()) > 0


def test_a_warp_that_would_fold_is_halved(warps: Warps) -> None:
    wild = 30 * drawn(warps, 0)
    assert float(Warp(warps.grid, flow(warps.velocity(wild))).jacobian().min()) < 0
    found = warps.warp(wild.double().numpy())
    assert float(found.jacobian().min()) > 0
    assert float(found.displacement.abs().max()) > 1
    mild = drawn(warps, 0) / 3
    torch.testing.assert_close(warps.warp(mild.double().numpy()).displacement, flow(warps.velocity(mild)))


def test_the_jacobian_is_that_of_a_known_map() -> None:
    grid = Grid((7, 8, 9), np.diag([4.0, 4, 4, 1]))
    here = torch.from_numpy(np.indices(grid.shape)).float()
    stretch = torch.tensor([0.1, -0.2, 0.3]).view(3, 1, 1, 1)
    found = Warp(grid, stretch * here).jacobian()
    torch.testing.assert_close(found, torch.full(grid.shape, 1.1 * 0.8 * 1.3))


def test_points_move_as_the_displacement_says() -> None:
    grid = Grid((6, 7, 8), phantoms.turned((10, 20, 30), (5, 6, 7)) @ np.diag([4.0, 4, 4, 1]))
    displacement = np.random.default_rng(0).normal(size=(3, *grid.shape)).astype(np.float32)
    indices = np.random.default_rng(1).uniform(0.5, 4.5, (40, 3))
    moved = Warp(grid, torch.from_numpy(displacement)).moved(grid.world(indices))
    expected = indices + np.stack([ndimage.map_coordinates(one, indices.T, order=1) for one in displacement], -1)
    np.testing.assert_allclose(moved, grid.world(expected), atol=1e-4)


def test_modes_are_what_velocities_differ_by() -> None:
    """Draws that differ in two directions have two modes that span them, of the sd that was drawn."""
    rng = np.random.default_rng(0)
    coarse = Warps.over(GRID, (SMOOTH,), spacing=8.0)
    directions = torch.stack([coarse.velocity(drawn(coarse, seed)) for seed in (1, 2)])
    amounts = torch.from_numpy(rng.normal(size=(40, 2))).float()
    amounts -= amounts.mean(0)
    learned = Warps.learned(coarse.grid, torch.einsum("nd,dcxyz->ncxyz", amounts, directions))
    assert learned.modes.shape[0] == 39
    np.testing.assert_allclose(learned.grid.voxel_sizes, 4)
    np.testing.assert_allclose(learned.grid.corners(), coarse.grid.corners(), atol=2.01)
    sizes = learned.modes.flatten(1).norm(dim=1)
    assert float(sizes[2]) < 1e-3 * float(sizes[1])
    seen = 2 * directions.flatten(1)
    probe = torch.from_numpy(rng.normal(size=(seen.shape[1], 5))).float()
    expected, kept = seen.T @ (amounts.T @ amounts / 39) @ (seen @ probe), learned.modes[:2].flatten(1)
    torch.testing.assert_close(kept.T @ (kept @ probe), expected, atol=1e-3 * float(expected.abs().max()), rtol=0)


def test_modes_come_back_from_whole_numbers(warps: Warps) -> None:
    learned = Warps.learned(warps.grid, torch.stack([warps.velocity(drawn(warps, seed)) for seed in range(4)]))
    modes, unit = learned.stored()
    assert modes.dtype == np.int8
    again = Warps.from_stored(learned.grid, modes=modes, unit=unit)
    torch.testing.assert_close(again.modes, learned.modes, atol=float(unit.max()) / 2 + 1e-6, rtol=0)
    assert again.size == learned.size
