"""From image to labels by a mixture, on a made-up head; real ones are in test_real_brains.py."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tiny
from limner.check import InputError, InputWarning
from limner.files import open_volume, save_volume
from limner.inference import (
    Segmentation,
    lost_orientation,
    segment_volume,
    with_outliers,
)
from limner.methods.mixture import Mixture
from limner.priors.atlas import Atlas
from limner.priors.storage import load_prior
from limner.space import Array, Grid, Label, LabelTable, Volume, reoriented

TABLE = LabelTable.freesurfer()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a scan, its labels, a table and a prior."""
    return tiny.furnish(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def atlas(home: Path) -> Atlas:
    return load_prior(home / "prior")


@pytest.fixture(scope="module")
def found(atlas: Atlas) -> Segmentation:
    """The head, segmented."""
    return segment_volume(tiny.image(), prior=atlas, posteriors=True)


def test_labels_are_found(found: Segmentation) -> None:
    assert tiny.dice(found.labels.data, tiny.labels().data) > 0.9
    assert found.orientation is None
    assert found.labels.kind == "labels"


def test_posteriors_sum_to_one_and_explain_the_labels(found: Segmentation) -> None:
    stacked = np.stack([volume.data for volume in found.posteriors.values()])
    np.testing.assert_allclose(stacked.sum(0), 1, atol=1e-5)
    assert list(found.posteriors) == ["background", "rind", "pulp", "stone"]
    np.testing.assert_array_equal(stacked.argmax(0), found.labels.data)


def test_uncertainty_is_entropy(found: Segmentation) -> None:
    stacked = np.stack([volume.data for volume in found.posteriors.values()]).astype(np.float64)
    entropy = -(stacked * np.log(np.maximum(stacked, 1e-30))).sum(0)
    np.testing.assert_allclose(found.uncertainty.data, entropy, atol=1e-4)
    assert 0 <= found.uncertainty.data.min() < 1e-6
    assert 0.1 < found.uncertainty.data.max() <= math.log(4)


def test_volumes_are_counts_of_voxels(found: Segmentation) -> None:
    rows = {row["id"]: row for row in found.volumes()}
    assert set(rows) == {1, 2, 3}
    for label, name in ((1, "rind"), (2, "pulp"), (3, "stone")):
        volume = np.count_nonzero(found.labels.data == label) * 8
        told = {key: rows[label][key] for key in ("id", "name", "structure", "volume_mm3")}
        assert told == {"id": label, "name": name, "structure": name, "volume_mm3": volume}
        assert 0.75 * volume < rows[label]["low_mm3"] < 0.95 * volume
        assert 1.05 * volume < rows[label]["high_mm3"] < 1.3 * volume
        assert rows[label]["intracranial_share"] == ""  # nobody knows how much room the skull leaves


def test_the_same_again(found: Segmentation, atlas: Atlas) -> None:
    again = segment_volume(tiny.image(), prior=atlas)
    np.testing.assert_array_equal(again.uncertainty.data, found.uncertainty.data)
    assert again.posteriors == {}


def test_intensities_have_no_unit(found: Segmentation, atlas: Atlas) -> None:
    scan = tiny.image()
    brighter = Volume(1000 * scan.data - 7, scan.grid, "image")
    again = segment_volume(brighter, prior=atlas)
    # Rounded otherwise, intensities lead the alignment to a place some hundredths of a millimetre away.
    np.testing.assert_allclose(again.placement.transform, found.placement.transform, atol=0.05)
    assert np.mean(again.labels.data == found.labels.data) > 0.995


@pytest.mark.parametrize(
    "odd",
    [lambda seen: 1e6 * seen, lambda seen: seen - 500, lambda seen: -seen],
    ids=["large", "negative", "dark where bright"],
)
def test_odd_intensities_are_intensities(found: Segmentation, atlas: Atlas, odd: Callable[[Array], Array]) -> None:
    scan = tiny.image()
    again = segment_volume(Volume(np.where(scan.data != 0, odd(scan.data), 7), scan.grid, "image"), prior=atlas)
    assert tiny.dice(again.labels.data, found.labels.data) > 0.97


def test_where_the_scanner_put_its_origin_does_not_matter(found: Segmentation, atlas: Atlas) -> None:
    far = np.eye(4)
    far[:3, 3] = 700, -400, 1000
    again = segment_volume(Volume(tiny.image().data, tiny.GRID.moved(far), "image"), prior=atlas)
    assert tiny.dice(again.labels.data, found.labels.data) > 0.99


def test_a_mask_serves_for_an_empty_background(found: Segmentation, atlas: Atlas) -> None:
    scan = tiny.image()
    mask = Volume((scan.data != 0).astype(np.int32), scan.grid, "labels")
    skull = np.random.default_rng(3).normal(80, 30, scan.grid.shape).astype(np.float32)
    unstripped = Volume(np.where(mask.data > 0, scan.data, skull), scan.grid, "image")
    with pytest.raises(InputError, match="expected a skull-stripped scan, empty around the brain"):
        segment_volume(unstripped, prior=atlas)
    masked = segment_volume(unstripped, prior=atlas, mask=mask)
    assert np.mean(masked.labels.data == found.labels.data) > 0.999


def test_masks_that_do_not_fit(atlas: Atlas) -> None:
    scan = tiny.image()
    other = Grid(scan.grid.shape, scan.grid.affine + np.eye(4, k=3))
    with pytest.raises(InputError, match="mask of 'the scan' has another affine than its image, 1 mm apart"):
        segment_volume(scan, prior=atlas, mask=Volume(np.ones(other.shape, np.int32), other, "labels"))
    with pytest.raises(InputError, match="the mask is empty; expected at least one voxel of the brain"):
        segment_volume(scan, prior=atlas, mask=Volume(np.zeros(other.shape, np.int32), scan.grid, "labels"))


def test_a_channel_on_another_grid_helps(atlas: Atlas) -> None:
    rng = np.random.default_rng(5)
    truth, noise = tiny.labels(), rng.normal(0, 50, (2, *tiny.GRID.shape))
    noisy = [np.where(truth.data > 0, tiny.image().data + one, 0).astype(np.float32) for one in noise]
    first = Volume(noisy[0], truth.grid, "image")
    second = reoriented(Volume(noisy[1], truth.grid, "image"), "PIR")
    alone = segment_volume(first, prior=atlas)
    together = segment_volume(first, prior=atlas, channels=[second])
    assert tiny.dice(together.labels.data, truth.data) > tiny.dice(alone.labels.data, truth.data) + 0.01


def test_outliers_have_a_label_of_their_own(atlas: Atlas) -> None:
    scan = tiny.image()
    data = scan.data.copy()
    data[8:11, 6:9, 10:13] = 400
    lesioned = Volume(data, scan.grid, "image")
    kept = segment_volume(lesioned, prior=atlas, method=Mixture(outliers=0.01))
    assert set(np.unique(kept.labels.data[8:11, 6:9, 10:13])) == {99}
    assert np.count_nonzero(kept.labels.data == 99) < 40
    last = kept.volumes()[-1]
    assert (last["id"], last["name"], last["structure"]) == (99, "outliers", "outliers")
    assert last["volume_mm3"] == np.count_nonzero(kept.labels.data == 99) * 8
    assert last["low_mm3"] < last["volume_mm3"] < last["high_mm3"]


def test_outliers_take_the_next_free_id_where_99_is_taken() -> None:
    tumour = Label(99, "tumour", (9, 9, 9), "tumour", "tumour")
    assert with_outliers(TABLE.subset([2, 3])).ids.tolist() == [0, 2, 3, 99]
    assert with_outliers(LabelTable((TABLE[2], tumour))).ids.tolist() == [0, 2, 99, 100]


@pytest.mark.parametrize(
    ("ending", "stored", "lost"),
    [(".npz", {}, True), (".npz", {"affine": np.diag([1, 1, 1.5, 1])}, False), (".mgz", {}, False)],
)
def test_who_has_lost_the_orientation(tmp_path: Path, ending: str, stored: dict[str, Array], *, lost: bool) -> None:
    path = tmp_path / f"scan{ending}"
    if ending == ".npz":
        np.savez(path, vol_data=tiny.image().data, **stored)
    else:
        save_volume(Volume(tiny.image().data, Grid(tiny.GRID.shape, np.eye(4)), "image"), path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        assert lost_orientation(open_volume(path)) is lost


def test_a_given_orientation_is_believed(found: Segmentation, atlas: Atlas) -> None:
    fine = tiny.image().data.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    turned = np.ascontiguousarray(np.flip(fine.transpose(2, 0, 1), 1))
    bare = Volume(turned, Grid(turned.shape, np.eye(4)), "image")
    given = segment_volume(bare, prior=atlas, orientation="SLA")
    assert given.orientation == given.grid.orientation == "SLA"
    np.testing.assert_array_equal(given.labels.grid.affine, np.eye(4))
    back = np.flip(given.labels.data, 1).transpose(1, 2, 0)[::2, ::2, ::2]
    assert tiny.dice(back, found.labels.data) > 0.85
    with pytest.raises(InputError, match="orientation 'up' is not one; expected one letter of each of"):
        segment_volume(bare, prior=atlas, orientation="up")


def test_an_affine_outweighs_a_given_orientation(found: Segmentation, atlas: Atlas) -> None:
    again = segment_volume(tiny.image(), prior=atlas, orientation="SLA")
    np.testing.assert_array_equal(again.labels.data, found.labels.data)
    assert again.orientation is None


@pytest.mark.filterwarnings("ignore:the image shows")
def test_a_prior_of_something_else_is_refused(atlas: Atlas) -> None:
    scan = tiny.image()
    giant = Volume(scan.data, Grid(scan.grid.shape, np.diag([10, 10, 10, 1])), "image")
    with pytest.raises(InputError, match=r"fits the scan only at 4\.\d times its size; expected a third to three"):
        segment_volume(giant, prior=atlas)


def test_a_channel_of_another_place_is_refused(atlas: Atlas) -> None:
    scan = tiny.image()
    far = np.eye(4)
    far[0, 3] = 30
    moved = Volume(scan.data, scan.grid.moved(far), "image")
    with pytest.raises(InputError, match="a channel of 'the scan' covers 25% of its image"):
        segment_volume(scan, prior=atlas, channels=[moved])
