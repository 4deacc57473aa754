"""The shape model's lattice lies where it says, and a prior that it shapes is a prior like any other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from contracts.heads import atlas, grid, seen
from limner.check import InputError
from limner.methods.mixture import Mixture
from limner.priors.neighbours import neighbour_energy
from limner.priors.shape import ShapedPrior, ShapeModel, ShapeOptions, divergence

LATTICE = {"shape": (8, 12, 16), "spacing": 5.0, "centre": (3.0, -2.0, 1.0), "features": (2, 3), "latent": 4}


def model(*, dimensions: int = 3, **options: Any) -> ShapeModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ShapeModel(2, 3, dimensions=dimensions, options=ShapeOptions(**(LATTICE | options)))


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def placed(dimensions: int = 3) -> Tensor:
    """From the voxels of two scans, 20 along each axis and a little turned, to the world."""
    worlds = []
    for angle in (0.2, -0.3):
        world = torch.eye(dimensions + 1, dtype=torch.float64)
        world[:2, :2] = 2 * torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        world[:-1, -1] = -world[:-1, :-1] @ torch.full((dimensions,), 9.5, dtype=torch.float64)
        worlds.append(world)
    return torch.stack(worlds)


def positions(world: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Where voxels lie in the world, (D, *shape)."""
    indices = torch.stack(torch.meshgrid(*(torch.arange(size).double() for size in shape), indexing="ij"))
    return torch.einsum("ij,j...->i...", world[:-1, :-1], indices) + world[:-1, -1].view(-1, *[1] * len(shape))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_lattice_is_centred_where_it_should_be(dimensions: int) -> None:
    shape = model(dimensions=dimensions)
    found = positions(shape.affine, shape.shape).flatten(1)
    torch.testing.assert_close(found.mean(1), torch.tensor(LATTICE["centre"][:dimensions]).double())


@pytest.mark.parametrize("dimensions", [2, 3])
def test_what_the_lattice_says_is_found_where_a_scan_lies(dimensions: int) -> None:
    """What is linear in the world stays what it is."""
    shape, world = model(dimensions=dimensions), placed(dimensions)
    mask = torch.rand(2, *[20] * dimensions, generator=torch.Generator().manual_seed(0)) < 0.5
    maps = positions(shape.affine, shape.shape).float().expand(2, *[-1] * (dimensions + 1))
    found = shape.interpolated(maps, mask=mask, world=world)
    expected = torch.cat([positions(one, mask.shape[1:])[:, where].T for one, where in zip(world, mask, strict=True)])
    inside = ((expected - torch.tensor(LATTICE["centre"][:dimensions])).abs() < 15).all(1)
    assert inside.sum() > 100
    torch.testing.assert_close(found[inside].double(), expected[inside], atol=1e-4, rtol=0)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_what_a_scan_shows_is_found_on_the_lattice(dimensions: int) -> None:
    shape, world = model(dimensions=dimensions), placed(dimensions)
    sizes = (20,) * dimensions
    ones = torch.ones(2, 1, *sizes)
    values = torch.stack([positions(one, sizes).float() for one in world])
    covered = shape.gathered(ones, world)
    found = shape.gathered(values, world)
    expected = positions(shape.affine, shape.shape).float().expand_as(found)
    whole = (covered > 0.999).expand_as(found)
    assert whole.float().mean() > 0.05
    torch.testing.assert_close(found[whole], expected[whole], atol=1e-3, rtol=0)
    assert (covered == 0).any()


@pytest.mark.parametrize("plane", ["sagittal", "coronal", "axial"])
def test_slices_have_codes_of_their_own(plane: str) -> None:
    shape = model(slices=plane)
    axis = ("sagittal", "coronal", "axial").index(plane)
    maps = drawn(2, 2, *shape.shape)
    mean, log_variance = shape.encoded(maps)
    assert mean.shape == log_variance.shape == (2, shape.shape[axis], 4)
    torch.nn.init.normal_(shape.decoder.head.weight)
    scores = shape.decoded(mean)
    assert scores.shape == (2, 3, *shape.shape)
    changed = maps.clone()
    changed.select(2 + axis, 5).add_(1)
    moved = (shape.decoded(shape.encoded(changed)[0]) - scores).abs().amax((0, 1))
    others = [number for number in range(shape.shape[axis]) if number != 5]
    assert moved.select(axis, 5).amax() > 1e-4
    assert moved.index_select(axis, torch.tensor(others)).amax() < 1e-5


def test_a_lattice_that_its_networks_cannot_halve_is_refused() -> None:
    with pytest.raises(InputError, match="has 9 voxels along an axis but its networks divide it by 2; expected a mult"):
        model(shape=(8, 9, 16))


def test_the_divergence_is_that_of_normal_distributions() -> None:
    mean, log_variance = drawn(5, 7), drawn(7, 5).T
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(divergence(mean, log_variance), expected)


class TestShapedPrior:
    """On the head of sixteen voxels a side."""

    def test_no_scores_leave_the_location_prior(self) -> None:
        _, base = seen(1, 2)
        shaped = ShapedPrior(base, torch.zeros_like(base.log_probability()), axis=1)
        torch.testing.assert_close(shaped.log_probability(), base.log_probability())
        torch.testing.assert_close(shaped.part_probability(), base.part_probability())

    def test_classes_are_multiplied_and_parts_keep_their_shares(self) -> None:
        batch, base = seen(1, 2)
        scores = drawn(*base.log_probability().shape)
        shaped = ShapedPrior(base, scores, axis=1)
        expected = (base.log_probability() + scores).softmax(1)
        torch.testing.assert_close(shaped.log_probability().exp(), expected)
        parts = shaped.part_probability()
        classes = torch.zeros_like(expected).index_add_(1, base.parts.class_of, parts)
        torch.testing.assert_close(classes, expected)
        rows = shaped.parts_within(batch.mask)
        torch.testing.assert_close(rows, parts.movedim(1, -1)[batch.mask])

    def test_its_energy_is_that_of_location_shape_and_neighbours(self) -> None:
        _, base = seen(1, 2)
        scores = drawn(*base.log_probability().shape)
        q = drawn(*scores.shape).flip(0).softmax(1).requires_grad_()
        shaped = ShapedPrior(base, scores, axis=1)
        own = -(q * (base.log_probability() + scores).log_softmax(1)).flatten(1).sum(1)
        between = base.neighbour_weight * neighbour_energy(q, base.neighbours)
        found = shaped.energy(q)
        torch.testing.assert_close(found, own + between)
        (gradient,) = torch.autograd.grad(found.sum(), q)
        torch.testing.assert_close(shaped.messages(q.detach()), gradient, rtol=1e-4, atol=1e-4)

    def test_the_mixture_takes_it_for_its_prior(self) -> None:
        """Scores that tell the truth make the mixture right where the atlas alone leaves it wrong."""
        batch, _ = seen(4)
        base = atlas().place(grid())
        truth = torch.nn.functional.one_hot(batch.labels[0], len(atlas().table.structures)).movedim(-1, 0).float()
        right = []
        for prior in (base, ShapedPrior(base, 4 * truth)):
            found = Mixture().segment(Mixture().predict(batch.image, prior, mask=batch.mask))
            right.append(float((torch.from_numpy(found) == batch.labels)[batch.mask].float().mean()))
        assert right[1] > right[0] + 0.02
