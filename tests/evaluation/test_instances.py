from __future__ import annotations

import numpy as np
import pytest

from limner.check import InputError, InputWarning
from limner.evaluation import INSTANCE_METRICS, evaluate_instances
from limner.space import Grid, Volume

NM = 1e-6
AXES = np.array([[0, 0, 4, 0], [0, 4, 0, 0], [40, 0, 0, 0], [0, 0, 0, 1 / NM]]) * NM


def volume(data: np.ndarray, start: tuple[int, int, int] = (0, 0, 0), kind: str = "instances") -> Volume:
    """Voxels of 40 x 4 x 4 nm (z, y, x), the first `start` voxels from the origin."""
    affine = AXES.copy()
    affine[:3, 3] = AXES[:3, :3] @ start
    return Volume(data, Grid(data.shape, affine), kind)


def blocks() -> np.ndarray:
    """Eight objects of 3 x 10 x 10 voxels."""
    z, y, x = np.indices((6, 20, 20)) // np.array([3, 10, 10])[:, None, None, None]
    return (4 * z + 2 * y + x + 1).astype(np.uint64)


def scores(prediction: Volume, reference: Volume, **options: float) -> dict[str, float]:
    rows = evaluate_instances(prediction, reference, case="cube", **options).rows
    assert {(row["case"], row["structure"]) for row in rows} == {("cube", "volume")}
    assert [row["metric"] for row in rows] == list(INSTANCE_METRICS)
    return {row["metric"]: row["value"] for row in rows}


def test_a_perfect_segmentation() -> None:
    found = scores(volume(blocks() + 2**63), volume(blocks()))
    for metric in ("vi_split", "vi_merge", "vi", "adapted_rand_error", "cremi_score", "mergers_through_z"):
        assert found[metric] == pytest.approx(0)
    assert found["ap75"] == found["rand_f"] == found["information_f"] == 1
    assert (found["objects"], found["segments"], found["largest_segment"]) == (8, 8, 0.125)


def test_mergers_are_told_by_direction() -> None:
    data = blocks()
    merged = np.array([0, 1, 2, 3, 3, 1, 6, 7, 8], np.uint64)[data]
    found = scores(volume(merged), volume(data))
    assert (found["mergers_through_z"], found["mergers_in_section"]) == (1, 1)
    assert found["vi_merge"] == pytest.approx(0.5)
    told = evaluate_instances(volume(merged), volume(data), case="cube", worst=1)
    assert [merger.objects for merger in told.mergers] == [(1, 5)]
    assert told.splits == []


def test_a_tolerance_forgives_borders_in_nm() -> None:
    data = blocks()
    shifted = np.roll(data, 1, axis=2)
    shifted[..., 0] = data[..., 0]
    assert scores(volume(shifted), volume(data))["vi"] > 0.1
    assert scores(volume(shifted), volume(data), tolerance=3.9)["vi"] == pytest.approx(0)
    assert scores(volume(shifted), volume(data), tolerance=25)["objects"] == 8


def test_a_padded_prediction_is_cropped_to_the_reference() -> None:
    padded = np.pad(blocks(), 2)
    assert scores(volume(padded, (-2, -2, -2)), volume(blocks()))["vi"] == pytest.approx(0)
    assert scores(volume(blocks()), volume(padded, (-2, -2, -2)))["vi"] == pytest.approx(0)
    assert scores(volume(blocks()[1:, 3:], (1, 3, 0)), volume(blocks()))["vi"] == pytest.approx(0)


def test_two_dimensions() -> None:
    flat = Volume(blocks()[0], Grid((20, 20), np.diag([4 * NM, 4 * NM, 1])), "instances")
    assert scores(flat, flat, tolerance=8)["vi"] == pytest.approx(0)


@pytest.mark.parametrize(
    ("prediction", "reference", "message"),
    [
        (volume(blocks(), kind="labels"), volume(blocks()), "prediction of 'cube' was opened as labels; expected inst"),
        (volume(blocks()), volume(np.zeros_like(blocks())), "reference of 'cube' is ignored everywhere"),
        (volume(blocks(), (9, 0, 0)), volume(blocks()), "of 'cube' share no voxel; expected overlapping extents"),
        (volume(blocks(), (0, 0.5, 0)), volume(blocks()), r"lie \[0.0, 0.5, 0.0\] voxels apart; expected whole"),
        (
            Volume(blocks(), Grid((6, 20, 20), np.eye(4)), "instances"),
            volume(blocks()),
            r"have voxels in the ratio \[250000.0, 250000.0, 25000.0\] or other axes",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(prediction: Volume, reference: Volume, message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate_instances(prediction, reference, case="cube")


def test_an_empty_prediction_is_scored() -> None:
    with pytest.warns(InputWarning, match="prediction of 'cube' is 0 in every voxel, and has no segment"):
        found = scores(volume(np.zeros_like(blocks())), volume(blocks()))
    assert (found["vi_split"], found["vi_merge"], found["segments"]) == pytest.approx((0, 3, 0))
    assert found["ap50"] == 0
