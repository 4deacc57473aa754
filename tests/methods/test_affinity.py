from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from limner.check import InputError
from limner.data.batch import IGNORE, Batch
from limner.instances import affinities_of, nearest, valid
from limner.instances.decoding import Decoder
from limner.methods.affinity import FAR, Affinity, AffinityOptions, edges_of
from limner.methods.method import Task

SMALL = {"features": (6, 8)}


def made(dimensions: int = 2, **options: object) -> Affinity:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Affinity(Task(1, 2, dimensions), AffinityOptions(**({"network": SMALL} | options)))


def cells(size: int = 32, *, seed: int = 0, dimensions: int = 2) -> Batch:
    """Cells around random points, dark where two meet."""
    rng = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*[np.arange(size)] * dimensions, indexing="ij"), -1)
    away = np.linalg.norm(places[..., None, :] - rng.uniform(0, size, (6, dimensions)), axis=-1)
    labels = away.argmin(-1) + 1
    two = np.sort(away, -1)[..., :2]
    image = torch.tensor(np.minimum(two[..., 1] - two[..., 0], 4.0) - 2, dtype=torch.float32)
    whole = torch.ones(1, *[size] * dimensions, dtype=torch.bool)
    world = torch.eye(dimensions + 1, dtype=torch.float64)[None]
    return Batch(image[None, None], torch.from_numpy(labels)[None], torch.zeros(1, 0), whole, world, ("cells",))


def lost(method: Affinity, batch: Batch) -> dict[str, Tensor]:
    ((_, terms),) = method.losses(batch, None)
    return terms


@pytest.mark.parametrize("dimensions", [2, 3])
def test_edges_are_those_of_the_decoders(dimensions: int) -> None:
    labels = torch.randint(-1, 4, (2, *[7] * dimensions), generator=torch.Generator().manual_seed(0))
    offsets = (*nearest(dimensions), (2, *[-1] * (dimensions - 1)), (-9, *[0] * (dimensions - 1)))
    together, known = edges_of(labels, offsets)
    for ids, one, there in zip(labels.numpy(), together.numpy(), known.numpy(), strict=True):
        certain = valid(ids != IGNORE, offsets)
        np.testing.assert_array_equal(there, certain)
        np.testing.assert_array_equal(one & there, affinities_of(ids, offsets) & certain)


def test_cells_are_learned_and_decoded() -> None:
    batch, method = cells(), made(decoder=Decoder(threshold=0.6, separation=3, smallest=8))
    optimiser = torch.optim.Adam(method.parameters(), 1e-2)
    for _ in range(150):
        optimiser.zero_grad()
        torch.stack(list(lost(method, batch).values())).sum().backward()
        optimiser.step()
    with torch.no_grad():
        found = torch.from_numpy(method.segment(method.predict(batch.image, None)))
    one, other = (edges_of(labels, nearest(2))[0] for labels in (found, batch.labels))
    assert found.max() == len(batch.labels.unique())
    assert (one == other).float().mean() > 0.95


def test_the_default_offsets_are_near_and_far() -> None:
    method = made(3)
    assert method.offsets[:3] == nearest(3)
    assert [sum(map(abs, offset)) for offset in method.offsets] == [1, 1, 1, *[FAR[0]] * 3, *[FAR[1]] * 3]
    assert all(min(offset) < 0 <= -max(offset) for offset in method.offsets)


def test_only_known_edges_are_learned_from() -> None:
    batch, method = cells(), made(shape_width=2.0)
    half = torch.arange(32) < 16
    some = replace(batch, labels=torch.where(half, batch.labels, IGNORE))
    other = replace(some, mask=some.mask & half, labels=torch.where(half, batch.labels, 3))
    assert lost(method, some).keys() == {"near", "far", "shape"}
    for name, term in lost(method, some).items():
        assert torch.equal(term, lost(method, other)[name])
        assert not torch.equal(term, lost(method, batch)[name])


@pytest.mark.parametrize("dimensions", [2, 3])
def test_mirrored_predictions_turn_with_the_image(dimensions: int) -> None:
    """Every edge, wherever it is stored then, keeps its affinity."""
    image = torch.randn(1, 1, *[8] * dimensions, generator=torch.Generator().manual_seed(0))
    groups = (tuple(range(dimensions)),)
    method = made(dimensions, mirrored="all", microscopy={"exchanged": groups})
    with torch.no_grad():
        plain = method.predict(image, None)
        turned = method.predict(image.flip(2), None)
        exchanged = method.predict(image.transpose(2, 3), None)
    along = plain[:, 0, 1:]
    torch.testing.assert_close(turned[:, 0, 1:].flip(1), along, atol=1e-5, rtol=0)
    torch.testing.assert_close(turned[:, 1].flip(1), plain[:, 1], atol=1e-5, rtol=0)
    torch.testing.assert_close(exchanged[:, 1].transpose(1, 2), plain[:, 0], atol=1e-5, rtol=0)


def test_without_mirrors_it_does_not() -> None:
    image = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        one, other = made().predict(image, None), made().predict(image.transpose(2, 3), None)
    assert not torch.allclose(other[:, 1].transpose(1, 2), one[:, 0], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"offsets": ((0, -2), (0, -1, 0))}, "expected rows of 2 steps, not all 0 and none twice"),
        ({"offsets": ((0, -2),)}, "none of one step along one axis"),
        ({"network": {"features": (4, 8), "pools": ((1, 2, 2),)}}, "expected 2 numbers, one for each axis"),
        ({"network": {"features": (4, 8), "kernels": (3, 2)}}, "expected odd edges"),
        ({"network": {"features": (4, 8), "pools": (2, 2)}}, "network.pools has 2 entries; expected 1"),
    ],
)
def test_what_cannot_be_built_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises((InputError, ValueError), match=message):
        made(**options)
