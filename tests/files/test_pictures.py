from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from limner.check import InputError, InputWarning
from limner.files import open_volume, result_suffix, save_volume, stored_volume
from limner.space import Array, Grid, Volume, reoriented

pytestmark = pytest.mark.filterwarnings("ignore::limner.check.InputWarning")
NOISE = np.random.default_rng(0).integers(0, 255, (7, 5))


def flat(data: Array, kind: str = "image") -> Volume:
    return Volume(data, Grid(data.shape, np.eye(data.ndim + 1)), kind)


@pytest.mark.parametrize(
    ("ending", "dtype"), [("png", "u1"), ("png", "u2"), ("tif", "u1"), ("tif", "u2"), ("tiff", "f4")]
)
def test_pictures_come_back_as_they_were(tmp_path: Path, ending: str, dtype: str) -> None:
    path = tmp_path / f"slice.{ending}"
    save_volume(flat(NOISE.astype(dtype)), path, as_stored=True)
    seen = tifffile.imread(path) if "tif" in ending else np.asarray(Image.open(path))
    np.testing.assert_array_equal(seen, NOISE.T)  # others count rows first
    found = stored_volume(path)
    assert found.data.dtype == dtype
    np.testing.assert_array_equal(found.data, NOISE)


def test_pages_make_a_volume(tmp_path: Path) -> None:
    data = np.random.default_rng(0).random((4, 5, 3), dtype=np.float32)
    save_volume(flat(data), tmp_path / "stack.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "stack.tif"), data.T)
    np.testing.assert_array_equal(open_volume(tmp_path / "stack.tif").data, data)
    with pytest.raises(InputError, match=r"has room for one slice but the volume has 3; expected a 2-D image: write"):
        save_volume(flat(NOISE.reshape(7, 5, 1).repeat(3, 2), "labels"), tmp_path / "stack.png")
    assert not (tmp_path / "stack.png").exists()


@pytest.mark.parametrize("axes", ["RAS", "LIA", "SAR", "PIR"])
def test_stacks_say_where_they_lie(tmp_path: Path, axes: str) -> None:
    volume = reoriented(
        Volume(np.arange(60.0).reshape(3, 4, 5), Grid((3, 4, 5), np.diag([1, 1.5, 0.8, 1])), "image"), axes
    )
    save_volume(volume, tmp_path / "stack.tif")
    found = open_volume(tmp_path / "stack.tif")
    np.testing.assert_array_equal(found.data, volume.data)
    np.testing.assert_allclose(found.grid.affine, volume.grid.affine, rtol=1e-12)


def test_a_page_is_a_picture_and_a_stack_has_sections(tmp_path: Path) -> None:
    for name, data in (("page.tif", NOISE), ("stack.tif", NOISE.reshape(1, 7, 5).repeat(4, 0))):
        tifffile.imwrite(tmp_path / name, data.astype(np.uint8), photometric="minisblack")
    assert open_volume(tmp_path / "page.tif").grid.shape == (5, 7)
    assert open_volume(tmp_path / "stack.tif").grid.shape == (4, 7, 5)


def test_labels_take_as_many_bits_as_they_need(tmp_path: Path) -> None:
    save_volume(flat(NOISE * 2, "labels"), tmp_path / "labels.png")
    np.testing.assert_array_equal(open_volume(tmp_path / "labels.png", kind="labels").data, NOISE * 2)
    with pytest.raises(InputError, match=r"cannot hold these voxels of type int64: its format has uint8, uint16; exp"):
        save_volume(flat(-NOISE, "labels"), tmp_path / "negative.png")


def test_grey_in_three_colours_is_grey(tmp_path: Path) -> None:
    grey = NOISE.T.astype(np.uint8)
    opaque = np.full_like(grey, 255)
    colours = Image.fromarray(np.stack([grey, grey, grey.T.reshape(grey.shape)], -1))
    for ending in ("png", "tif"):
        for name, channels in (("rgb", [grey] * 3), ("rgba", [grey] * 3 + [opaque])):
            Image.fromarray(np.stack(channels, -1)).save(tmp_path / f"{name}.{ending}")
            np.testing.assert_array_equal(open_volume(tmp_path / f"{name}.{ending}").data, NOISE)
        colours.save(tmp_path / f"colour.{ending}")
        with pytest.raises(InputError, match=rf"colour.{ending}' shows colours; expected one real number per voxel: c"):
            open_volume(tmp_path / f"colour.{ending}")


def test_jpeg_is_only_read(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(16), 4 * np.arange(16)).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "slice.jpg", quality=98)
    assert np.abs(open_volume(tmp_path / "slice.jpg").data - smooth.T).max() < 4
    with pytest.raises(InputError, match="is of a format that is read but not written"):
        save_volume(flat(NOISE, "labels"), tmp_path / "labels.jpg")


def test_pictures_say_what_they_do_not_keep(tmp_path: Path) -> None:
    with pytest.warns(InputWarning, match=r"slice.png' keeps the voxels but not the affine"):
        save_volume(flat(NOISE, "labels"), tmp_path / "slice.png")
    with pytest.warns(InputWarning, match=r"slice.png' has no affine"):
        open_volume(tmp_path / "slice.png")
    assert [result_suffix(tmp_path / name) for name in ("slice.png", "stack.tif")] == [".nii.gz"] * 2


@pytest.mark.parametrize("ending", ["png", "tif", "jpg"])
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_truncated(tmp_path: Path, ending: str, share: float) -> None:
    path = tmp_path / f"slice.{ending}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50)).astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(InputError, match=r"cannot be read \(.+\); expected a complete image file"):
        open_volume(path)
