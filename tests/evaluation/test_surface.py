from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
from skimage.metrics import hausdorff_distance
from skimage.morphology import ball

from limner.evaluation import Distances, average_distance, hausdorff, surface_distances
from limner.evaluation.surface import surface

SPACINGS = [(1.0, 1.0, 1.0), (0.5, 1.2, 3.0)]
PAIRS = st_numpy.array_shapes(min_dims=2, max_dims=3, max_side=5).flatmap(
    lambda shape: st.tuples(*[st_numpy.arrays(bool, shape) for _ in range(2)])
)


def blobs(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two overlapping unions of balls, one of which touches the border of the array."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((2, 30, 28, 26), dtype=bool)
    for mask in masks:
        for corner in rng.integers(0, 15, size=(4, 3)):
            mask[tuple(slice(start, start + 11) for start in corner)] |= ball(5).astype(bool)
    return masks[0], masks[1]


def brute_surface(mask: np.ndarray) -> list[tuple[int, ...]]:
    """Voxels with a face neighbour outside the object, one at a time."""
    padded = np.pad(mask, 1)
    found = []
    for voxel in np.argwhere(mask):
        neighbours = [voxel + 1 + sign * step for step in np.eye(mask.ndim, dtype=int) for sign in (1, -1)]
        if not all(padded[tuple(neighbour)] for neighbour in neighbours):
            found.append(tuple(voxel.tolist()))
    return found


def brute_distances(source: np.ndarray, target: np.ndarray, axes: np.ndarray) -> list[float]:
    goals = brute_surface(target)
    return [
        min((np.linalg.norm(axes @ np.subtract(start, goal)) for goal in goals), default=np.inf)
        for start in brute_surface(source)
    ]


@given(PAIRS, st.booleans())
@settings(max_examples=60)
def test_distances_agree_with_loops_also_on_sheared_axes(masks: tuple[np.ndarray, np.ndarray], sheared: bool) -> None:
    prediction, reference = masks
    axes = np.diag([0.7, 1.3, 2.5][: prediction.ndim])
    axes[0, 1] = 0.4 if sheared else 0
    found = surface_distances(prediction, reference, spacing=axes if sheared else axes.diagonal())
    np.testing.assert_allclose(found.from_prediction, brute_distances(prediction, reference, axes))
    np.testing.assert_allclose(found.from_reference, brute_distances(reference, prediction, axes))


@given(PAIRS)
def test_surface_agrees_with_loops(masks: tuple[np.ndarray, np.ndarray]) -> None:
    assert [tuple(voxel) for voxel in np.argwhere(surface(masks[0])).tolist()] == brute_surface(masks[0])


@pytest.mark.filterwarnings("ignore:monai:FutureWarning")
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("seed", range(3))
def test_scores_agree_with_monai(spacing: tuple[float, ...], seed: int) -> None:
    masks = blobs(seed)
    distances = surface_distances(*masks, spacing=spacing)
    hot = [torch.tensor(mask)[None, None] for mask in masks]
    options = {"include_background": True, "spacing": spacing}
    for percentile in (50, 95, 100):
        expected = compute_hausdorff_distance(*hot, percentile=percentile, **options).item()
        assert hausdorff(distances, percentile) == pytest.approx(expected, rel=1e-5)
    expected = compute_average_surface_distance(*hot, symmetric=True, **options).item()
    assert average_distance(distances) == pytest.approx(expected, rel=1e-5)


def test_largest_distance_agrees_with_skimage() -> None:
    prediction, reference = blobs()
    expected = hausdorff_distance(surface(prediction), surface(reference))
    assert hausdorff(surface_distances(prediction, reference, spacing=(1, 1, 1)), 100) == pytest.approx(expected)


@pytest.mark.parametrize("axis", range(3))
def test_parallel_planes_are_their_gap_apart(axis: int) -> None:
    spacing = (0.8, 1.5, 2.5)
    planes = np.zeros((2, 9, 9, 9), dtype=bool)
    for plane, position in zip(planes, (2, 5), strict=True):
        np.moveaxis(plane, axis, 0)[position] = True
    distances = surface_distances(*planes, spacing=spacing)
    np.testing.assert_allclose([hausdorff(distances), average_distance(distances)], 3 * spacing[axis])


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_shifted_cube_in_thick_slices(steps: int) -> None:
    prediction, reference = np.zeros((2, 12, 12, 20), dtype=bool)
    reference[3:9, 3:9, 4:10] = True
    prediction[3:9, 3:9, 4 + steps : 10 + steps] = True
    distances = surface_distances(prediction, reference, spacing=(1, 1, 2.5))
    # Far ends are `steps` slices apart, and they are more than a twentieth of the surface; inside the other cube the
    # nearest wall may be the side.
    assert hausdorff(distances) == pytest.approx(2.5 * steps)
    assert 0 < average_distance(distances) < 2.5 * steps


@given(PAIRS, st.tuples(*[st.integers(0, 3)] * 6))
def test_place_and_order_do_not_matter(masks: tuple[np.ndarray, np.ndarray], margins: tuple[int, ...]) -> None:
    dimensions = masks[0].ndim
    spacing = (0.7, 1.3, 2.5)[:dimensions]
    here = surface_distances(*masks, spacing=spacing)
    padding = [margins[2 * axis : 2 * axis + 2] for axis in range(dimensions)]
    there = surface_distances(*(np.pad(mask, padding) for mask in masks), spacing=spacing)
    back = surface_distances(masks[1], masks[0], spacing=spacing)
    for score in (hausdorff, average_distance):
        np.testing.assert_allclose([score(there), score(back)], score(here))


def test_an_object_is_no_distance_from_itself() -> None:
    mask, _ = blobs()
    distances = surface_distances(mask, mask, spacing=(1, 1, 1))
    assert hausdorff(distances) == average_distance(distances) == 0


def test_a_missing_object_is_infinitely_far_and_two_are_not_scored() -> None:
    mask, nothing = np.ones((2, 2, 2), dtype=bool), np.zeros((2, 2, 2), dtype=bool)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for pair in ((mask, nothing), (nothing, mask)):
            distances = surface_distances(*pair, spacing=(1, 1, 1))
            assert hausdorff(distances) == average_distance(distances) == np.inf
        neither = surface_distances(nothing, nothing, spacing=(1, 1, 1))
    assert np.isnan([hausdorff(neither), average_distance(neither)]).all()


def test_the_worse_direction_counts() -> None:
    distances = Distances(np.array([0.0, 1.0, 2.0]), np.array([4.0]))
    assert hausdorff(distances) == 4
    assert average_distance(distances) == 7 / 4
