from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from monai.metrics import compute_dice
from sklearn.metrics import confusion_matrix, f1_score

from limner.evaluation import contingency, dice, volumes

SHAPES = st_numpy.array_shapes(min_dims=2, max_dims=3, max_side=6)
PAIRS = SHAPES.flatmap(
    lambda shape: st.tuples(*[st_numpy.arrays(np.int32, shape, elements=st.integers(-2, 5)) for _ in range(2)])
)


def random_maps(labels: int, shape: tuple[int, ...] = (12, 10, 8)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    reference = rng.integers(labels, size=shape)
    return np.where(rng.random(shape) < 0.6, reference, rng.integers(labels, size=shape)), reference


def test_contingency_is_sklearns_confusion_matrix() -> None:
    prediction, reference = random_maps(6)
    expected = confusion_matrix(prediction.ravel(), reference.ravel(), labels=range(6))
    np.testing.assert_array_equal(contingency(prediction, reference, ids=range(6))[:-1, :-1], expected)


def test_dice_agrees_with_sklearn_and_monai() -> None:
    prediction, reference = random_maps(6)
    found = dice(contingency(prediction, reference, ids=range(6)))
    np.testing.assert_allclose(found, f1_score(reference.ravel(), prediction.ravel(), average=None))
    hot = [torch.tensor(np.stack([labels == k for k in range(6)]))[None] for labels in (prediction, reference)]
    np.testing.assert_allclose(found, compute_dice(*hot)[0], rtol=1e-6)


@given(PAIRS)
def test_contingency_and_dice_agree_with_loops(maps: tuple[np.ndarray, np.ndarray]) -> None:
    prediction, reference = maps
    ids = [3, 0, 4]
    counts = np.zeros((4, 4), dtype=int)
    for predicted, true in zip(prediction.flat, reference.flat, strict=True):
        counts[ids.index(predicted) if predicted in ids else 3, ids.index(true) if true in ids else 3] += 1
    found = contingency(prediction, reference, ids=ids)
    np.testing.assert_array_equal(found, counts)
    for label, value in zip(ids, dice(found), strict=True):
        mine, theirs = prediction == label, reference == label
        if mine.any() or theirs.any():
            assert value == 2 * (mine & theirs).sum() / (mine.sum() + theirs.sum())
        else:
            assert np.isnan(value)


@given(PAIRS)
def test_dice_is_symmetric_and_one_with_itself(maps: tuple[np.ndarray, np.ndarray]) -> None:
    prediction, reference = maps
    ids = range(6)
    forth, back = dice(contingency(prediction, reference, ids=ids)), dice(contingency(reference, prediction, ids=ids))
    np.testing.assert_array_equal(forth, back)
    itself = dice(contingency(prediction, prediction, ids=ids))
    np.testing.assert_array_equal(itself, [1 if (prediction == k).any() else np.nan for k in ids])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64])
def test_any_integers_in_any_memory_order(dtype: type) -> None:
    prediction, reference = (labels.astype(dtype) * 41 for labels in random_maps(6))
    expected = contingency(prediction // 41, reference // 41, ids=range(6))
    ids = range(0, 246, 41)
    np.testing.assert_array_equal(contingency(prediction, reference, ids=ids), expected)
    np.testing.assert_array_equal(contingency(np.asfortranarray(prediction), reference, ids=ids), expected)


def test_a_label_in_one_map_has_dice_zero_and_in_neither_none() -> None:
    one, other = np.array([[1, 1]]), np.array([[2, 0]])
    np.testing.assert_array_equal(dice(contingency(one, other, ids=[1, 2, 3])), [0, 0, np.nan])


def test_volumes_count_every_voxel_of_a_label() -> None:
    one, other = np.array([[1, 1, 2]]), np.array([[1, 0, 0]])
    predicted, true = volumes(contingency(one, other, ids=[1, 2]), voxel_volume=2.5)
    np.testing.assert_array_equal(predicted, [5, 2.5])
    np.testing.assert_array_equal(true, [2.5, 0])


def test_no_labels_at_all() -> None:
    assert contingency(np.zeros((2, 2), int), np.ones((2, 2), int), ids=[]).tolist() == [[4]]
