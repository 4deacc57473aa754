"""A prior moved to where it explains evidence: against known maps, scipy's interpolation and finite differences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.optimize
import torch
from scipy import ndimage
from torch import Tensor

import phantoms
from limner.priors.alignment import FLOOR, Evidence, bent, interpolated, refined
from limner.priors.deformation import Smooth, Warps
from limner.space import Array, Grid

GRID = phantoms.grid(3.0)
COUNT = 15_000


@pytest.fixture(scope="module")
def maps() -> Tensor:
    """Probabilities of the head's classes, blurred."""
    atlas = phantoms.atlas(GRID)
    return atlas.place(GRID).log_probability().exp()


def evidence_after(transform: Array, *, count: int = COUNT) -> Evidence:
    """What a scan of the head says that lies where `transform` takes it: each point's class, as good as certain."""
    grid = phantoms.grid(2.0, half=(58, 58, 52))
    table = phantoms.table()
    truth = table.structure_of[table.rows(phantoms.labels(grid, transform).data)]
    chosen = np.random.default_rng(count).choice(truth.size, count, replace=False)
    points = grid.world(np.stack(np.unravel_index(chosen, truth.shape), -1))
    likelihood = np.full((len(table.structures), count), 1e-3, np.float32)
    likelihood[truth.ravel()[chosen], np.arange(count)] = 1
    return Evidence(points, torch.from_numpy(likelihood), torch.full((count,), 1 / count))


@pytest.mark.parametrize(
    "transform",
    [
        np.eye(4),
        phantoms.turned((5, -4, 6), (4, -6, 3)),
        phantoms.turned((-3, 2, 4), (-3, 2, 5)) @ np.diag([1.08, 0.94, 1.03, 1]),
    ],
)
def test_a_known_affine_map_is_found(maps: Tensor, transform: Array) -> None:
    found, score = refined(maps, GRID, evidence=evidence_after(transform), start=np.eye(4), rounds=60)
    assert phantoms.farthest(found @ transform, np.eye(4), GRID) < 2.5
    _, before = refined(maps, GRID, evidence=evidence_after(transform), start=np.eye(4), rounds=0)
    assert before <= score < 0


def test_the_score_is_the_mean_log_likelihood(maps: Tensor) -> None:
    evidence = evidence_after(np.eye(4), count=500)
    found, score = refined(maps, GRID, evidence=evidence, start=np.eye(4), rounds=2)
    moved = Grid((1, 1, 1), found).world(evidence.points)
    here = interpolated(maps, GRID, points=moved)
    expected = ((here + FLOOR) * evidence.likelihood).sum(0).log().mean()
    assert score == pytest.approx(float(expected), rel=1e-4)


def test_heavier_points_decide(maps: Tensor) -> None:
    """Two halves of the points that saw the head in different places: the half that counts is believed."""
    one, other = np.eye(4), phantoms.turned((0, 0, 0), (6, 0, 0))
    first, second = evidence_after(one, count=COUNT), evidence_after(other, count=COUNT)
    points = np.concatenate([first.points, second.points])
    likelihood = torch.cat([first.likelihood, second.likelihood], 1)
    for share, truth in ((0.99, one), (0.01, other)):
        weights = torch.cat([torch.full((COUNT,), share / COUNT), torch.full((COUNT,), (1 - share) / COUNT)])
        found, _ = refined(maps, GRID, evidence=Evidence(points, likelihood, weights), start=np.eye(4), rounds=40)
        assert phantoms.farthest(found @ truth, np.eye(4), GRID) < 2


def test_the_gradient_agrees_with_finite_differences(maps: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Callable[[Array], tuple[float, Array]], Array]] = []
    minimize = scipy.optimize.minimize

    def spied(cost: Callable[[Array], tuple[float, Array]], start: Array, **settings: object) -> object:
        seen.append((cost, start))
        return minimize(cost, start, **settings)

    monkeypatch.setattr(scipy.optimize, "minimize", spied)
    start = phantoms.turned((3, -5, 4), (2, -3, 4))
    refined(maps, GRID, evidence=evidence_after(np.eye(4)), start=start, rounds=1)
    ((cost, parameters),) = seen
    _, gradient = cost(parameters)
    step = 1e-5  # of 50 mm: few points cross into another voxel
    for number, slope in enumerate(gradient):
        change = step * (np.arange(12) == number)
        difference = (cost(parameters + change)[0] - cost(parameters - change)[0]) / (2 * step)
        assert slope == pytest.approx(difference, rel=1e-3, abs=1e-3 * abs(gradient).max())


def test_interpolation_is_linear_with_the_border_continued(maps: Tensor) -> None:
    grid = Grid(GRID.shape, phantoms.turned((10, 20, 30), (1, 2, 3)) @ GRID.affine)
    points = np.random.default_rng(0).uniform(-80, 80, (500, 3))
    found = interpolated(maps.double(), grid, points=points)
    places = grid.indices(points).T
    expected = [ndimage.map_coordinates(one, places, order=1, mode="nearest") for one in maps.double().numpy()]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def stretched(share: float) -> Callable[[Array], Array]:
    """A map of the world that is no affine one: points left of the middle move outwards, by a share of a wave."""
    return lambda points: points + share * np.sin(points / 15) * np.array([1.0, -1.0, 0.5])


def test_a_known_warp_is_found(maps: Tensor) -> None:
    """Points that see the head where a warp took it: bending explains them, and takes them back."""
    warps, move = Warps.over(GRID, (Smooth(12.0, 4.0),)), stretched(4.0)
    plain = evidence_after(np.eye(4))
    evidence = Evidence(move(plain.points), plain.likelihood, 30_000 * plain.weights)
    settings = {"evidence": evidence, "transform": np.eye(4), "warps": warps}
    found, score = bent(maps, GRID, **settings, start=np.zeros(warps.size), rounds=30)
    warp = warps.warp(found)
    moved = warp.moved(evidence.points)
    assert float(warp.jacobian().min()) > 0
    inside = np.linalg.norm(plain.points / np.array([40, 38, 32]), axis=1) < 1
    before, left = (np.linalg.norm(there - plain.points, axis=1)[inside] for there in (evidence.points, moved))
    # Along surfaces, and inside of what is all alike, nothing shows how far it went.
    assert np.median(left) < 0.6 * np.median(before)
    for rounds in (0, 3):
        _, less = bent(maps, GRID, **settings, start=np.zeros(warps.size), rounds=rounds)
        assert less < score


@pytest.mark.parametrize("seed", range(4))
def test_a_warp_never_lowers_the_penalised_likelihood(maps: Tensor, seed: int) -> None:
    """Also from a start that is far off, and one step at a time."""
    warps = Warps.over(GRID, (Smooth(16.0, 2.0), Smooth(7.0, 1.0)))
    start = np.random.default_rng(seed).normal(size=warps.size) * seed
    evidence = evidence_after(phantoms.turned((3, 2, -4), (2, -3, 1)), count=4000)
    settings = {"evidence": evidence, "transform": np.eye(4), "warps": warps}
    _, score = bent(maps, GRID, **settings, start=start, rounds=0)
    for _ in range(4):
        start, better = bent(maps, GRID, **settings, start=start, rounds=1)
        assert better >= score
        score = better


def test_the_gradient_of_a_warp_agrees_with_finite_differences(maps: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    costs: list[Callable[[Array], tuple[float, Array]]] = []

    def spied(cost: Callable[[Array], tuple[float, Array]], start: Array, **_: object) -> object:
        costs.append(cost)
        return scipy.optimize.OptimizeResult(x=start, fun=0.0)

    monkeypatch.setattr(scipy.optimize, "minimize", spied)
    warps = Warps.over(GRID, (Smooth(10.0, 2.0),))
    rng = np.random.default_rng(0)
    coefficients, direction = rng.normal(size=(2, warps.size))
    evidence = evidence_after(np.eye(4), count=4000)
    heavier = Evidence(evidence.points, evidence.likelihood, 1e4 * evidence.weights)
    bent(maps, GRID, evidence=heavier, transform=np.eye(4), warps=warps, start=coefficients, rounds=1)
    (cost,) = costs
    _, gradient = cost(coefficients)
    step = 1e-2
    ahead, behind = (cost(coefficients + sign * step * direction)[0] for sign in (1, -1))
    assert (ahead - behind) / (2 * step) == pytest.approx(float(gradient @ direction), rel=0.02)
