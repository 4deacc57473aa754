from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.check import InputError
from limner.space import Grid, Volume, reoriented, resampled
from space.strategies import ORIENTATIONS, images


@given(images(), st.sampled_from(ORIENTATIONS))
def test_reorienting_there_and_back_changes_nothing(volume: Volume, orientation: str) -> None:
    turned = reoriented(volume, orientation)
    assert turned.grid.orientation == orientation
    back = reoriented(turned, volume.grid.orientation)
    np.testing.assert_array_equal(back.data, volume.data)
    np.testing.assert_allclose(back.grid.affine, volume.grid.affine, rtol=0, atol=1e-9)


@given(images(), st.sampled_from(ORIENTATIONS))
def test_reorienting_leaves_every_value_in_its_place(volume: Volume, orientation: str) -> None:
    turned = reoriented(volume, orientation)
    places = {}
    for each in (volume, turned):
        where = each.grid.world(np.moveaxis(np.indices(each.data.shape), 0, -1))
        places[each] = where.reshape(-1, 3)[np.argsort(each.data, axis=None)]
    np.testing.assert_allclose(places[turned], places[volume], atol=1e-8)


def test_reorienting_to_the_same_is_free_and_otherwise_contiguous() -> None:
    volume = Volume(np.arange(24).reshape(2, 3, 4), Grid((2, 3, 4), np.eye(4)), "labels")
    assert reoriented(volume, "RAS") is volume
    turned = reoriented(volume, "PSL")
    assert turned.data.flags.c_contiguous
    assert turned.data.shape == (3, 4, 2)
    assert turned.data[0, 0, 0] == volume.data[1, 2, 0]


def test_reorienting_in_two_dimensions() -> None:
    volume = Volume(np.arange(6).reshape(2, 3), Grid((2, 3), np.eye(3)), "labels")
    assert reoriented(volume, "AL").data.tolist() == [[3, 0], [4, 1], [5, 2]]


@pytest.mark.parametrize("orientation", ["RA", "RAR", "RLS", "XYZ", "RASA", ""])
def test_orientations_name_each_axis_once(orientation: str) -> None:
    volume = Volume(np.ones((2, 2, 2)), Grid((2, 2, 2), np.eye(4)), "image")
    with pytest.raises(
        InputError, match=f"orientation '{orientation}' is not one; expected one letter of each of L or R"
    ):
        reoriented(volume, orientation)


@given(images())
def test_resampling_onto_the_same_grid_is_exact(volume: Volume) -> None:
    same = resampled(volume, Grid(volume.grid.shape, volume.grid.affine))
    np.testing.assert_array_equal(same.data, volume.data)


@given(images(), st.sampled_from(ORIENTATIONS))
def test_resampling_onto_a_turned_grid_is_reorienting(volume: Volume, orientation: str) -> None:
    turned = reoriented(volume, orientation)
    np.testing.assert_allclose(resampled(volume, turned.grid).data, turned.data, atol=1e-4)


def ramp() -> Volume:
    """An image that is linear in space: x + 2 y - 3 z in mm, on an oblique grid."""
    affine = np.array([[1.5, 0.2, 0, -4], [-0.2, 1, 0, 3], [0, 0.1, 2, 5], [0, 0, 0, 1]])
    grid = Grid((12, 11, 10), affine)
    world = grid.world(np.moveaxis(np.indices(grid.shape), 0, -1))
    return Volume((world @ [1, 2, -3]).astype(np.float32), grid, "image")


def test_linear_interpolation_reproduces_a_linear_image() -> None:
    image = ramp()
    target = Grid((5, 6, 7), np.array([[0.5, 0, 0, 2.2], [0, 0.6, 0, 6.6], [0, 0, 0.7, 12.1], [0, 0, 0, 1]]))
    found = resampled(image, target)
    world = target.world(np.moveaxis(np.indices(target.shape), 0, -1))
    np.testing.assert_allclose(found.data, world @ [1, 2, -3], atol=1e-4)
    assert found.data.dtype == np.float32


def test_integer_images_are_not_rounded() -> None:
    image = Volume(np.array([[[0, 1]]], np.uint8), Grid((1, 1, 2), np.eye(4)), "image")
    affine = np.eye(4)
    affine[2, 3] = 0.5
    assert resampled(image, Grid((1, 1, 1), affine)).data.item() == 0.5


def test_labels_are_never_mixed_and_zero_outside() -> None:
    labels = Volume(np.array([[[3, 3, 42, 42]]], np.int32), Grid((1, 1, 4), np.eye(4)), "labels")
    affine = np.diag([1.0, 1, 0.3, 1])
    affine[2, 3] = -0.9
    found = resampled(labels, Grid((1, 1, 20), affine))
    where = -0.9 + 0.3 * np.arange(20)
    expected = np.select([where < -0.5, where < 1.5, where < 3.5], [0, 3, 42], 0)
    np.testing.assert_array_equal(found.data.ravel(), expected)
    assert found.data.dtype == np.int32


def test_ids_of_64_bits_are_never_mixed() -> None:
    ids = np.array([[2**63 + 1, 2**63 + 2], [2**64 - 1, 5]], np.uint64)
    volume = Volume(ids, Grid((2, 2), np.eye(3)), "instances")
    finer = Grid((4, 6), np.array([[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1]]))
    found = resampled(volume, finer)
    expected = np.pad(ids.repeat(2, 0).repeat(2, 1), ((0, 0), (0, 2)))
    np.testing.assert_array_equal(found.data, expected)
    assert found.data.dtype == np.uint64
