from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from limner.files import open_volume
from limner.files.oddities import image_oddities, label_oddities
from limner.space import Array, Grid, Label, LabelTable, Volume

TABLE = LabelTable(tuple(Label(each, f"s{each}", (0, 0, 0), f"s{each}", f"s{each}") for each in (1, 2, 3, 4)))


def noise(shape: tuple[int, ...] = (40, 40, 40)) -> Array:
    """Blobs of a few voxels with noise, as sharp as a scan."""
    rng = np.random.default_rng(0)
    blobs = ndimage.gaussian_filter(rng.normal(size=shape), 2)
    return np.float32(1000 + 1000 * blobs + rng.normal(0, 20, shape))


def oddities(data: Array, sizes: tuple[float, ...] = (1.0, 1.0, 1.0)) -> list[str]:
    return list(image_oddities(Volume(data, Grid(data.shape, np.diag([*sizes, 1.0])), "image")))


def labelled(*labels: int, dtype: str = "u1") -> list[str]:
    data = np.repeat(np.array([0, *labels]), 27).reshape(-1, 3, 3).astype(dtype)
    return list(label_oddities(Volume(data, Grid(data.shape, np.eye(4)), "image"), TABLE))


def test_nothing_is_odd_about_a_usual_image() -> None:
    assert oddities(noise()) == []


def test_long_voxels() -> None:
    (told,) = oddities(noise(), (1, 1, 5))
    assert told == "voxels are 5 mm long along one axis and 1 along another"


def test_another_unit() -> None:
    (told,) = oddities(noise(), (1000, 1000, 1000))
    assert told == "the image is 4e+04 mm long: is the voxel size in mm?"


def test_slices_made_finer_than_they_were_scanned() -> None:
    fine = ndimage.zoom(noise(), (1, 1, 2.13), order=1)
    (told,) = oddities(fine, (1, 1, 0.47))
    assert told.startswith("voxels are 0.47 mm along axis 3, blurred like ")
    assert 0.6 < float(told.partition("like ")[2].partition(" ")[0]) < 1.3
    assert told.endswith(" mm: the image was made finer than it was scanned, smoothed, or averaged")


def test_values_cut_off() -> None:
    cut = np.minimum(noise(), np.percentile(noise(), 97))
    (told,) = oddities(cut)
    assert told.startswith("3.0% of what is not the lowest value has the highest, ")
    assert told.endswith(": intensities were cut off")


def test_negative_values() -> None:
    (told,) = oddities(noise() - 1000)
    assert told.endswith(": computed tomography, or standardised")
    assert "of the voxels are negative, down to -" in told


def test_few_values() -> None:
    assert oddities(np.round(noise() / 200)) == [
        f"there are only {len(np.unique(np.round(noise() / 200)))} different values"
    ]


def test_labels_that_were_interpolated() -> None:
    data = np.zeros((30, 30, 30), np.float32)
    data[5:25, 5:25, 5:25] = 17
    data[10:20, 10:20, 10:20] = 53
    data[4, 5:25, 5:25] = np.linspace(0.1, 16.9, 400).reshape(20, 20)
    assert "most values are whole numbers, and next to their like: labels that were interpolated?" in oddities(data)


def test_nothing_is_odd_about_usual_labels() -> None:
    assert labelled(1, 2, 3, 4) == []


def test_structures_that_are_missing() -> None:
    assert labelled(1, 2, 4) == ["no voxel of s3"]
    assert labelled(1) == []  # a map of something else, perhaps


def test_masks_for_display_and_real_numbers() -> None:
    assert labelled(255) == ["labels are 0 and 255: a mask for display; write 0 and 1, or name 255 with --labels TABLE"]
    assert labelled(1, 2, 3, 4, dtype="f8") == [
        "labels are stored as float64; whole numbers take less room and cannot be mixed"
    ]


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "blurred"),
    [
        ("person-1/T1.mgz", False),
        ("person-2/brainmask.mgz", False),
        ("person-6/brain.mgz", False),
        ("template/brain.mgz", True),
    ],
)
def test_blur_of_people_and_of_their_average(real_data: Path, name: str, blurred: bool) -> None:
    told = list(image_oddities(open_volume(real_data / "brains" / name)))
    assert any("blurred like" in words for words in told) is blurred


@pytest.mark.real
def test_blur_of_a_scan_made_finer(real_data: Path) -> None:
    scan = open_volume(real_data / "brains/person-3/brainmask.mgz")
    part = scan.data[80:150, 90:150, 90:150]
    fine = ndimage.zoom(part, (2.13, 1, 1), order=1)
    (told,) = [words for words in oddities(fine, (0.47, 1, 1)) if "blurred" in words]
    assert "0.47 mm along axis 1, blurred like " in told
