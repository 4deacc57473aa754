"""A scan made ready is the same whatever axes it was stored along, and what is found in it goes back exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from limner.check import InputError, InputWarning
from limner.data.batch import IGNORE
from limner.data.scan import Preparation, Scan, _axis_weights, _mixed, found_axes, lost_orientation, prepared
from limner.space import Array, Grid, LabelTable, Volume, reoriented
from limner.space.resample import led

TENSORS = ("image", "mask", "labels")
#: Axes of unlike voxels, turned a little against the world.
TURN = np.array([[0.96, -0.28, 0, 5], [0.28, 0.96, 0, -4], [0, 0, 1, 3], [0, 0, 0, 1.0]])


def head(orientation: str = "RAS", *, sizes: tuple[float, float, float] = (2, 2, 2)) -> tuple[Volume, Volume]:
    """The head and its labels, stored along other axes, in voxels of other sizes."""
    grid = Grid(tiny.GRID.shape, TURN @ tiny.GRID.affine @ np.diag([*(np.array(sizes) / 2), 1]))
    volumes = (replace(volume, grid=grid) for volume in (tiny.image(), tiny.labels()))
    image, labels = (reoriented(volume, orientation) for volume in volumes)
    return image, labels


def ready(
    orientation: str = "RAS", *, spacing: float | None = None, sizes: tuple[float, float, float] = (2, 2, 2)
) -> Scan:
    image, labels = head(orientation, sizes=sizes)
    return prepared(image, labels=labels, preparation=Preparation(spacing=spacing))


@pytest.mark.parametrize("spacing", [None, 4.0, 3.1, 1.5])
@pytest.mark.parametrize("orientation", ["LIA", "PSR", "LPS"])
def test_copies_along_other_axes_are_one_scan(orientation: str, spacing: float | None) -> None:
    first, second = (ready(letters, spacing=spacing, sizes=(2, 1.5, 3)) for letters in ("RAS", orientation))
    for name in TENSORS:
        assert torch.equal(getattr(first, name), getattr(second, name)), name
    assert first.grid.matches(second.grid, 1e-9)
    assert first.grid.orientation == "RAS"
    assert second.source.grid.orientation == orientation


def test_what_is_cut_out_is_what_was_scanned() -> None:
    image, labels = head()
    scan = prepared(image, labels=labels, preparation=Preparation(margin=1))
    corner = np.rint(image.grid.indices(scan.grid.world([0, 0, 0]))).astype(int)
    inside = tuple(slice(start, start + size) for start, size in zip(corner, scan.grid.shape, strict=True))
    assert scan.grid.shape < image.grid.shape
    np.testing.assert_array_equal(scan.image[0], image.data[inside])
    np.testing.assert_array_equal(scan.labels, labels.data[inside])
    np.testing.assert_array_equal(scan.mask, labels.data[inside] > 0)


@pytest.mark.parametrize("margin", [0, 2])
def test_the_margin_is_kept_around_the_mask(margin: int) -> None:
    image, _ = head()
    scan = prepared(image, preparation=Preparation(margin=margin))
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        hit = np.flatnonzero(scan.mask.numpy().any(others))
        assert (hit[0], scan.grid.shape[axis] - 1 - hit[-1]) == (margin, margin)


@pytest.mark.parametrize("orientation", ["RAS", "LIA", "SPL"])
def test_values_return_to_their_voxels(orientation: str) -> None:
    image, labels = head(orientation)
    scan = ready(orientation)
    np.testing.assert_array_equal(scan.restored(scan.labels), labels.data)
    np.testing.assert_array_equal(scan.restored(scan.image), image.data[None])
    both = scan.restored(torch.stack([scan.image, 2 * scan.image]), outside=-1)
    assert both.shape == (2, 1, *image.grid.shape)
    outside = scan.restored(torch.zeros(scan.grid.shape, dtype=torch.bool), outside=1)
    np.testing.assert_array_equal(both[1, 0], np.where(outside, -1, 2 * image.data))


@pytest.mark.parametrize("orientation", ["RAS", "LIA"])
def test_a_ramp_survives_the_way_through_coarse_voxels(orientation: str) -> None:
    scan = ready(orientation, spacing=4.0)
    direction = np.array([0.3, -0.7, 1.1])

    def ramp(grid: Grid) -> Array:
        return grid.world(np.moveaxis(np.indices(grid.shape), 0, -1)) @ direction

    back = scan.restored(torch.from_numpy(ramp(scan.grid)).float())
    whole = scan.restored(scan.mask, outside=False)
    # Beyond the centres of the outermost coarse voxels the border continues.
    np.testing.assert_allclose(back[whole], ramp(scan.believed)[whole], atol=1e-4)
    assert scan.grid.voxel_sizes == pytest.approx([4, 4, 4])


def test_classes_return_from_coarse_voxels_much_as_they_were() -> None:
    _, labels = head("LIA")
    found = ready("LIA", spacing=4.0).restored(ready("LIA", spacing=4.0).labels)
    assert found.dtype == np.int64
    assert tiny.dice(found, labels.data) > 0.7


def test_two_to_one_is_the_mean_of_what_is_inside() -> None:
    data = np.zeros((12, 12, 12), np.float32)
    data[4:8, 4:8, 4:7] = np.random.default_rng(0).uniform(50, 99, (4, 4, 3))
    mask = data > 0
    labels = np.zeros(data.shape, np.int32)
    labels[4:6, 4:6, 4:6].flat = [5, 5, 5, 2, 2, 2, 5, 0]
    grid = Grid(data.shape, np.eye(4) * [1, 1, 1, 1])
    scan = prepared(
        Volume(data, grid, "image"),
        labels=Volume(labels, grid, "labels"),
        mask=Volume(mask.astype(np.int32), grid, "labels"),
        preparation=Preparation(spacing=2, margin=2),
    )
    assert scan.image.shape == (1, 4, 4, 4)
    # Along the last axis the box has 2 + 3 + 2 voxels, so that coarse voxels begin half a voxel before it.
    covered = np.broadcast_to([0.5, 1, 0.5], (2, 2, 3)) * mask[4:6, 4:6, 3:6]
    assert float(scan.image[0, 1, 1, 1]) == pytest.approx(np.average(data[4:6, 4:6, 3:6], weights=covered), rel=1e-6)
    # 5 fills 3.5 of the 8 voxels covered, 0 fills 2.5 and 2 fills 2.
    assert int(scan.labels[1, 1, 1]) == 5
    assert bool(scan.mask[1, 1, 1])
    assert not scan.image[0, 0].any()


@given(source=st.integers(1, 9), factor=st.floats(0.3, 4))
@settings(max_examples=60)
def test_weights_keep_a_constant_and_an_average(source: int, factor: float) -> None:
    ratio = round(factor, 6)
    target = max(1, int(np.ceil(source / ratio - 1e-6)))
    weights = _axis_weights(source, target, ratio=ratio)
    torch.testing.assert_close(weights.sum(1), torch.ones(target))
    twin = np.zeros((target, source))
    for j in range(target):
        centre = (source - 1) / 2 + (j - (target - 1) / 2) * ratio
        for i in range(source):
            if ratio >= 1:
                twin[j, i] = max(0, min(centre + ratio / 2, i + 0.5) - max(centre - ratio / 2, i - 0.5))
            else:
                twin[j, i] = max(0, 1 - abs(min(max(centre, 0), source - 1) - i))
    np.testing.assert_allclose(weights, twin / twin.sum(1, keepdims=True), atol=1e-6)


def test_axes_are_mixed_one_by_one() -> None:
    rng = np.random.default_rng(0)
    values, *weights = (torch.from_numpy(rng.random(shape)) for shape in ((3, 4, 5), (2, 3), (6, 4), (1, 5)))
    torch.testing.assert_close(_mixed(values, weights), torch.einsum("xyz,ax,by,cz->abc", values, *weights))


@pytest.mark.parametrize(("spacing", "resampled"), [(2.15, False), (1.85, False), (2.3, True)])
def test_nearly_the_spacing_wanted_is_left_alone(spacing: float, resampled: bool) -> None:
    assert (ready(spacing=spacing).grid.voxel_sizes[0] != pytest.approx(2)) == resampled


def test_standardised_is_of_mean_zero_inside_and_zero_outside() -> None:
    image, _ = head()
    other = replace(image, data=np.where(image.data > 0, 7, 0).astype(np.float32))
    scan = prepared(image, channels=[other])
    standard = scan.standardised()
    inside = standard[0][scan.mask]
    assert float(inside.mean()) == pytest.approx(0, abs=1e-6)
    assert float(inside.std(correction=0)) == pytest.approx(1, abs=1e-6)
    assert not standard[:, ~scan.mask].any()
    assert not standard[1].any()


def test_channels_lie_on_the_first_ones_voxels() -> None:
    image, _ = head("LIA")
    same = prepared(image, channels=[reoriented(image, "PSR")])
    assert torch.equal(same.image[0], same.image[1])
    far = np.eye(4)
    far[:3, 3] = 1000
    with pytest.raises(InputError, match="covers 0% of its image"):
        prepared(image, channels=[replace(image, grid=image.grid.moved(far))])


def test_holes_in_the_brain_belong_to_it() -> None:
    image, _ = head()
    data = image.data.copy()
    data[9:12, 9:12, 9:12] = 0
    assert torch.equal(prepared(replace(image, data=data)).mask, prepared(image).mask)


def test_labels_are_classes_and_what_nobody_knows_is_ignored(tmp_path: pytest.TempPathFactory) -> None:
    image, labels = head("LIA")
    table: LabelTable = tiny.table(tmp_path)
    ids = labels.data.copy()
    ids[ids == 3] = -5
    scan = prepared(image, labels=replace(labels, data=ids), table=table)
    back = scan.restored(scan.labels)
    np.testing.assert_array_equal(back == IGNORE, labels.data == 3)
    known = ids >= 0
    np.testing.assert_array_equal(back[known], table.structure_of[table.rows(ids[known])])
    assert (prepared(image).labels == IGNORE).all()
    with pytest.raises(InputError, match=r"'labels of ann' has labels that the label table does not know: 9 \("):
        prepared(image, labels=replace(labels, data=np.where(ids == 2, 9, 0)), table=table, name="ann")


def test_labels_and_masks_may_be_stored_along_other_axes() -> None:
    image, labels = head("LIA")
    other = reoriented(labels, "RAS")
    scan = prepared(image, labels=other, mask=other)
    assert torch.equal(scan.labels, ready("LIA").labels)
    assert torch.equal(scan.mask, ready("LIA").mask)


@pytest.mark.parametrize("name", ["labels", "mask"])
def test_what_lies_elsewhere_is_refused(name: str) -> None:
    image, labels = head()
    short = Volume(labels.data[1:], Grid(labels.data[1:].shape, labels.grid.affine), "labels")
    with pytest.raises(
        InputError, match=rf"{name} of 'ann' ha\w+ shape \(19, 24, 22\) but its image has \(20, 24, 22\)"
    ):
        prepared(image, name="ann", **{name: short})
    shifted = replace(labels, grid=labels.grid.moved(np.eye(4) + np.eye(4, k=3)))
    with pytest.raises(InputError, match=rf"{name} of 'ann' ha\w+ another affine than its image, 1 mm apart"):
        prepared(image, name="ann", **{name: shifted})


def test_an_image_without_background_or_with_an_empty_mask_is_refused() -> None:
    image, labels = head()
    with pytest.raises(InputError, match="of the image has the value of its border"):
        prepared(replace(image, data=np.random.default_rng(0).random(image.data.shape, np.float32)))
    with pytest.raises(InputError, match="the mask is empty"):
        prepared(image, mask=replace(labels, data=np.zeros_like(labels.data)))
    with pytest.raises(InputError, match="the mask is empty"):
        prepared(image, mask=replace(labels, data=np.int32(labels.data == 3)), preparation=Preparation(spacing=90))


def test_more_than_a_brain_is_told() -> None:
    image, _ = head(sizes=(12, 12, 12))
    with pytest.warns(InputWarning, match=r"the image shows \d\.\d litres, more than a brain"):
        prepared(image)


def test_an_image_of_two_axes_is_a_scan() -> None:
    data = np.zeros((9, 7), np.float32)
    data[2:7, 2:5] = np.arange(15).reshape(5, 3) + 1
    image = Volume(data, Grid(data.shape, np.diag([1.0, -1.0, 1.0])), "image")
    scan = prepared(image, preparation=Preparation(margin=1))
    assert scan.image.shape == (1, 7, 5)
    assert scan.grid.orientation == "RA"
    np.testing.assert_array_equal(scan.restored(scan.image)[0], data)


def test_axes_that_nobody_knows_are_those_a_placement_finds() -> None:
    image, labels = head("LIA")
    bare = Volume(image.data, Grid(image.data.shape, np.eye(4)), "image")
    assert lost_orientation(bare)
    assert not lost_orientation(image)
    scan = prepared(bare)
    assert not scan.oriented
    truth = np.eye(4)
    truth[:3, :3] = led(bare.grid, "LIA").affine[:3, :3]
    letters, change = found_axes(scan, truth)
    again = prepared(bare, orientation=letters, labels=Volume(labels.data, bare.grid, "labels"))
    assert letters == "LIA"
    assert again.oriented
    for name in TENSORS:
        assert torch.equal(getattr(again, name), getattr(ready("RAS"), name)), name
    # The same voxel is at the same place of the prior's world, whichever axes it was counted along.
    np.testing.assert_allclose(truth @ change @ again.believed.affine, truth @ scan.believed.affine)
    np.testing.assert_array_equal(again.restored(again.labels), labels.data)


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        Preparation(spacing=0)
