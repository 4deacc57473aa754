from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instances.twins import inside, partners
from limner.check import InputError, InputWarning
from limner.instances import affinities_of, components, ends, mutex_watershed, nearest, valid
from limner.space import Affinities, Grid

shapes = st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple)


@st.composite
def drawn(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], np.ndarray]:
    """A shape, an offset that may leave it, and labels with some background."""
    shape = draw(shapes)
    offset = tuple(draw(st.integers(-7, 7)) for _ in shape)
    return shape, offset, np.random.default_rng(draw(st.integers(0, 99))).integers(0, 3, shape)


@given(drawn())
def test_ends_pair_every_voxel_with_its_partner(case) -> None:
    shape, offset, _ = case
    here, there = ends(offset, shape)
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    np.testing.assert_array_equal(places[here] + np.array(offset), places[there])
    assert places[here].size // len(shape) == len(partners(shape, [offset]))


@given(drawn())
def test_affinities_and_their_mask_are_those_of_plain_loops(case) -> None:
    shape, offset, labels = case
    found, known = affinities_of(labels, [offset]), valid(labels != 2, [offset])
    for voxel in np.ndindex(*shape):
        partner = tuple(np.add(voxel, offset))
        there = inside(partner, shape)
        assert found[0][voxel] == (there and labels[voxel] == labels[partner] > 0)
        assert known[0][voxel] == (there and labels[voxel] != 2 and labels[partner] != 2)


def test_the_edge_is_stored_at_the_later_voxel() -> None:
    labels = np.array([1, 1, 2, 2, 0, 0])
    assert affinities_of(labels, nearest(1))[0].tolist() == [False, True, False, True, False, False]
    assert nearest(3) == ((-1, 0, 0), (0, -1, 0), (0, 0, -1))


def test_another_background() -> None:
    assert affinities_of(np.array([0, 0, 7, 7]), nearest(1), background=7)[0].tolist() == [False, True, False, False]


def test_affinities_must_fit_their_offsets_and_grid() -> None:
    grid, data = Grid((2, 3, 4), np.eye(4)), np.ones((3, 2, 3, 4), np.float32)
    assert Affinities(data, nearest(3), grid).offsets == nearest(3)
    for values, offsets, message in (
        (data[:2], nearest(3), r"shape \(2, 2, 3, 4\) and 3 offsets of \[3\] steps; expected channels first"),
        (data, nearest(2), r"and 2 offsets of \[2\] steps"),
        (data[:, :1], nearest(3), r"have shape \(3, 1, 3, 4\); expected \(2, 3, 4\) after the channels"),
        (data.astype(np.float64), nearest(3), "are of type float64; expected float32 or uint8"),
        (data, (*nearest(3)[:2], (0, 0, 0)), "an offset has no step"),
    ):
        with pytest.raises(InputError, match=message):
            Affinities(values, offsets, grid)


@pytest.mark.parametrize("decoder", [mutex_watershed, lambda *given: components(*given, threshold=0.5)])
@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "hold NaN values; expected 0"), (1.5, "from 0.5 to 1.5"), (-1, "from -1 to 0.5")]
)
def test_affinities_out_of_range_are_refused(decoder, value: float, message: str) -> None:
    values = np.full((3, 2, 3, 4), 0.5, np.float32)
    values[1, 1, 2, 3] = value
    with pytest.raises(InputError, match=message):
        decoder(values, nearest(3))


def test_neighbours_are_needed() -> None:
    values = np.ones((1, 2, 3, 4), np.float32)
    with pytest.raises(InputError, match=r"have the offsets \[\[0, 0, -2\]\], none of one step along one axis"):
        components(values, [(0, 0, -2)], threshold=0.5)


def test_boundary_probabilities_are_noticed() -> None:
    labels = np.repeat(np.arange(1, 5), 5)
    values = affinities_of(labels[None] + np.zeros((20, 1), int), nearest(2)).astype(np.float32)
    components(values, nearest(2), threshold=0.5)
    with pytest.warns(InputWarning, match="half of the affinities of neighbouring voxels are below 0.00, though most"):
        components(1 - values, nearest(2), threshold=0.5)
