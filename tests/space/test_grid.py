from __future__ import annotations

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.check import InputError
from limner.space import Box, Grid, Volume
from space.strategies import ORIENTATIONS, affines, boxes, grids

CONFORMED = np.array([[-1, 0, 0, 128], [0, 0, 1, -128], [0, -1, 0, 128], [0, 0, 0, 1]])


@given(grids())
def test_world_and_indices_undo_each_other(grid: Grid) -> None:
    indices = np.array([[0, 0, 0], [1.5, -2, 3], [5, 5, 5]])
    np.testing.assert_allclose(grid.indices(grid.world(indices)), indices, atol=1e-8)


@given(grids())
def test_sizes_and_volume_are_distances_between_voxels(grid: Grid) -> None:
    steps = grid.world(np.eye(3)) - grid.world(np.zeros(3))
    np.testing.assert_allclose(grid.voxel_sizes, np.linalg.norm(steps, axis=1))
    np.testing.assert_allclose(grid.voxel_volume, abs(np.linalg.det(steps)))


@given(grids())
def test_corners_enclose_the_volume_about_the_centre(grid: Grid) -> None:
    corners = grid.corners()
    assert corners.shape == (8, 3)
    np.testing.assert_allclose(corners.mean(axis=0), grid.centre, atol=1e-8)
    edges = [corners[i] - corners[0] for i in (4, 2, 1)]
    np.testing.assert_allclose(abs(np.linalg.det(edges)), grid.voxel_volume * np.prod(grid.shape), rtol=1e-6)


@given(affines(shears=False), st.sampled_from(ORIENTATIONS))
def test_orientation_agrees_with_nibabel_near_the_axes(affine: np.ndarray, orientation: str) -> None:
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    turn = nibabel.orientations.inv_ornt_aff(nibabel.orientations.axcodes2ornt(orientation), (4, 5, 6))
    grid = Grid((4, 5, 6), np.linalg.inv(turn) @ np.diag([*sizes, 1]))
    assert grid.orientation == "".join(nibabel.aff2axcodes(grid.affine))


def test_orientation_of_conformed_scans() -> None:
    assert Grid((256, 256, 256), CONFORMED).orientation == "LIA"


def test_two_dimensions() -> None:
    grid = Grid((4, 5), np.diag([2, 3, 1]))
    assert (grid.dimensions, grid.orientation, grid.voxel_volume) == (2, "RA", pytest.approx(6))
    assert grid.corners().tolist() == [[-1, -1.5], [-1, 13.5], [7, -1.5], [7, 13.5]]


@given(grids(), boxes())
def test_cropping_leaves_every_voxel_in_its_place(grid: Grid, box: Box) -> None:
    cropped = grid.cropped(box)
    assert cropped.shape == box.shape
    np.testing.assert_allclose(cropped.world([0, 1, 2]), grid.world(np.add(box.start, [0, 1, 2])), atol=1e-8)


@given(grids(), affines())
def test_moving_carries_the_world_along(grid: Grid, transform: np.ndarray) -> None:
    point = grid.moved(transform).world([1, 2, 3])
    np.testing.assert_allclose(point, (transform @ [*grid.world([1, 2, 3]), 1])[:3], atol=1e-6)


@given(grids(), st.floats(0.3, 4))
def test_spaced_covers_the_same_box_about_the_same_centre(grid: Grid, spacing: float) -> None:
    spaced = grid.spaced(spacing)
    np.testing.assert_allclose(spaced.voxel_sizes, spacing)
    np.testing.assert_allclose(spaced.centre, grid.centre, atol=1e-8)
    extent, wanted = np.array(spaced.shape) * spacing, np.array(grid.shape) * grid.voxel_sizes
    assert (extent >= wanted - 1e-5).all()
    assert (extent < wanted + spacing).all()


def test_spaced_at_its_own_spacing_is_the_same_grid() -> None:
    grid = Grid((5, 6, 7), np.diag([0.7, 0.7, 0.7, 1]))
    assert grid.spaced(0.7).matches(grid, tolerance=1e-9)


@pytest.mark.parametrize("grid", [Grid((7, 8, 9), CONFORMED), Grid((7, 8, 3), np.diag([1.0, 3.5, 8.0, 1.0]))])
def test_thinned_leaves_every_third_voxel_but_of_thick_ones_more(grid: Grid) -> None:
    places = np.moveaxis(np.indices(grid.shape), 0, -1)
    left, thinned = grid.thinned(3, apart=7.5)
    found = places[left]
    assert found.shape[:-1] == thinned.shape
    np.testing.assert_allclose(grid.world(found), thinned.world(np.moveaxis(np.indices(thinned.shape), 0, -1)))
    steps = [part.step for part in left]
    assert steps == ([3, 3, 3] if grid.shape[2] == 9 else [3, 2, 1])


def test_skew_is_the_cosine_between_axes() -> None:
    affine = np.array([[2, 3, 0, 1], [0, 3, 0, 1], [0, 0, 1, 1], [0, 0, 0, 1]])
    assert Grid((2, 2, 2), affine).skew == pytest.approx(np.sqrt(0.5))
    assert Grid((2, 2, 2), CONFORMED).skew == 0


def test_matching_is_judged_in_millimetres_at_the_corners() -> None:
    grid = Grid((100, 100, 100), np.eye(4))
    turned = np.eye(4)
    turned[0, 1] = 2e-5
    assert grid.matches(grid.moved(turned), tolerance=3e-3)
    assert not grid.matches(grid.moved(turned))
    assert not grid.matches(Grid((100, 100, 99), np.eye(4)), tolerance=10)


def test_affine_is_a_private_read_only_copy() -> None:
    affine = np.eye(4)
    grid = Grid((2, 2, 2), affine)
    affine[0, 3] = 9
    assert grid.affine[0, 3] == 0
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 3] = 9


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        (np.diag([1, 1, 0, 1]), "affine of 'grid' is singular"),
        (np.ones((4, 4)), "affine of 'grid' is singular"),
        (np.diag([1, np.nan, 1, 1]), "affine of 'grid' has NaN or infinite entries"),
        (np.eye(3), r"affine of 'grid' has shape \(3, 3\); expected \(4, 4\)"),
        (np.diag([1, 1, 1, 2]), "affine of 'grid' is singular"),
    ],
)
def test_bad_affines_are_refused(affine: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Grid((2, 2, 2), affine)


def test_tiny_voxels_are_not_singular() -> None:
    assert Grid((2, 2, 2), np.diag([1e-5, 1e-5, 1e-5, 1])).voxel_volume == pytest.approx(1e-15)


def test_volumes_agree_with_their_grid_and_kind() -> None:
    grid = Grid((2, 3, 4), np.eye(4))
    with pytest.raises(InputError, match=r"volume has data of shape \(2, 3, 5\); expected that of its grid"):
        Volume(np.zeros((2, 3, 5)), grid, "image")
    with pytest.raises(InputError, match="volume of labels has data of type float64; expected integers"):
        Volume(np.zeros((2, 3, 4)), grid, "labels")
    with pytest.raises(InputError, match="volume has kind 'mask'; expected 'image', 'labels' or 'instances'"):
        Volume(np.zeros((2, 3, 4)), grid, "mask")
    with pytest.raises(InputError, match=r"'volume' has 4 dimensions, shape \(2, 3, 4, 5\)"):
        Volume(np.zeros((2, 3, 4, 5)), grid, "image")


def test_a_grid_covers_what_its_voxels_fill() -> None:
    grid = Grid((8, 10, 12), np.diag([2.0, 1.0, 3.0, 1.0]))
    assert grid.covered(grid) == 1
    shift = np.eye(4)
    shift[0, 3] = 8
    assert grid.covered(grid.moved(shift)) == pytest.approx(0.5, abs=0.05)
    shift[0, 3] = 100
    assert grid.covered(grid.moved(shift)) == 0
    assert grid.covered(grid.cropped(Box((0, 0, 0), (8, 10, 3)))) == pytest.approx(0.25, abs=0.05)
