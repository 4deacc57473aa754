from __future__ import annotations

import errno
import gzip
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from limner.check import InputError
from limner.files import FORMATS, STORES, SUFFIXES, open_volume, save_volume
from limner.files.affinities import open_affinities
from limner.files.folders import scans_in
from limner.files.parts import StoredImage
from limner.files.unread import UnreadVolume
from limner.space import Grid, Volume

FILES = [known for known in SUFFIXES if known not in STORES]
GRID = Grid((3, 4, 5), np.array([[0, 0, 2, -3], [-1.5, 0, 0, 4], [0, 1, 0, 5], [0, 0, 0, 1]]))
IMAGE = Volume(np.arange(60, dtype=np.float32).reshape(3, 4, 5), GRID, "image")
VOLUMES = [known for known in FORMATS if known not in (".png", *STORES)]
LABELS = Volume(np.arange(60, dtype=np.int32).reshape(3, 4, 5) % 7, GRID, "labels")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A sound image to be damaged."""
    save_volume(IMAGE, tmp_path / "image.nii.gz")
    return tmp_path / "image.nii.gz"


def saved(folder: Path, data: np.ndarray, name: str = "image.npz") -> Path:
    """What a careless program might write."""
    path = folder / name
    affine = np.eye(data.ndim + 1 if data.ndim < 4 else 4)
    if name.endswith(".npz"):
        np.savez(path, vol_data=data, affine=affine)
    else:
        nibabel.save(nibabel.Nifti1Image(data, affine, dtype=data.dtype), path)
    return path


# --- files that are not what they should be


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'.*scan.nii.gz' does not exist; expected a file: check the path"):
        open_volume(tmp_path / "scan.nii.gz")


@pytest.mark.parametrize("look", [open_volume, UnreadVolume.opened, StoredImage.opened, scans_in, open_affinities])
def test_addresses_are_refused_and_not_repeated(look: Callable[[Path], object]) -> None:
    address = "s3://key:hunter2@bucket/volume.zarr"
    for refused in (lambda: look(Path(address)), lambda: save_volume(IMAGE, address)):
        with pytest.raises(InputError, match="an address that begins with s3:// was given; expected a path") as raised:
            refused()
        assert "hunter2" not in str(raised.value)


def test_folder_for_a_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no DICOM images; expected the slices of a series: name"):
        open_volume(tmp_path)


def test_unknown_suffix_lists_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "scan.tar.xz").write_text("x")
    known = re.escape(", ".join(SUFFIXES))
    with pytest.raises(InputError, match=rf"scan.tar.xz' has .tar.xz; expected one of {known}: convert"):
        open_volume(tmp_path / "scan.tar.xz")
    with pytest.raises(InputError, match=rf"'scan' has no suffix; expected one of {known}"):
        save_volume(IMAGE, "scan")


@pytest.mark.parametrize("ending", FILES)
def test_empty_file(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"scan{ending}").touch()
    with pytest.raises(
        InputError, match=r"is empty \(0 bytes\); expected a file with contents: copy or export it again"
    ):
        open_volume(tmp_path / f"scan{ending}")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("kind", ["image", "labels"])
@pytest.mark.parametrize("ending", VOLUMES)
@pytest.mark.filterwarnings("ignore::limner.check.InputWarning")
def test_truncated_file(tmp_path: Path, ending: str, kind: str, share: float) -> None:
    path = tmp_path / f"scan{ending}"
    noise = np.random.default_rng(0).random((8, 9, 10), dtype=np.float32)
    save_volume(Volume(noise, Grid(noise.shape, np.eye(4)), "image"), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match=r"scan.* cannot be read \(.+\); .* the file is probably damaged or cut short"):
        open_volume(path, kind=kind)


@pytest.mark.parametrize("ending", [".nii.gz", ".mgz", ".npz", ".nrrd", ".mha"])
def test_a_flipped_bit_is_noticed_where_there_is_a_checksum(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"scan{ending}"
    noise = np.random.default_rng(0).random((12, 12, 12), dtype=np.float32)
    save_volume(Volume(noise, Grid(noise.shape, np.eye(4)), "image"), path)
    whole = path.read_bytes()
    for place in np.linspace(len(whole) // 3, len(whole) * 2 // 3, 20).astype(int).tolist():
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(InputError, match="cannot be read"):
            open_volume(path)


def test_gzip_in_several_members_is_whole(tmp_path: Path, image: Path) -> None:
    content = gzip.decompress(image.read_bytes())
    parts = [gzip.compress(content[:300]), gzip.compress(content[300:])]
    (tmp_path / "parts.nii.gz").write_bytes(b"".join(parts))
    np.testing.assert_array_equal(open_volume(tmp_path / "parts.nii.gz").data, IMAGE.data)
    (tmp_path / "parts.nii.gz").write_bytes(b"".join(parts)[:-6])
    with pytest.raises(InputError, match="its compressed part ends early"):
        open_volume(tmp_path / "parts.nii.gz")


@pytest.mark.parametrize("ending", FILES)
def test_file_of_something_else(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"scan{ending}"
    content = b"<html>404: this is no image, and it goes on for a while</html>" * 20
    path.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    with pytest.raises(InputError, match="cannot be read"):
        open_volume(path)


@pytest.mark.parametrize("name", ["scan.nii.gz", "scan.mgz"])
def test_uncompressed_file_named_as_compressed(tmp_path: Path, name: str) -> None:
    save_volume(IMAGE, tmp_path / "scan.nii")
    (tmp_path / "scan.nii").rename(tmp_path / name)
    with pytest.raises(InputError, match=r"is named as a gzip file but is not one; .* drop the 'gz' from its name"):
        open_volume(tmp_path / name)


def test_format_of_another_suffix(tmp_path: Path, image: Path) -> None:
    image.rename(tmp_path / "scan.mgz")
    with pytest.raises(InputError, match=r"scan.mgz' cannot be read"):
        open_volume(tmp_path / "scan.mgz")


@pytest.mark.parametrize("ending", [*VOLUMES, ".dcm", ".jpg"])
@pytest.mark.filterwarnings("ignore::limner.check.InputWarning")
def test_unreadable_for_want_of_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    path = tmp_path / f"scan{ending}"
    if ending in VOLUMES:
        save_volume(IMAGE, path)
    else:
        path.write_bytes(b"x")

    # Nothing is forbidden to root, and tests may run as root.
    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", forbidden)
    monkeypatch.setattr(nibabel, "load", forbidden)
    with pytest.raises(InputError, match=r"cannot be read \(.*Permission denied\).*: ask for permission there"):
        open_volume(path)


def test_archive_of_several_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", first=IMAGE.data, second=IMAGE.data, affine=np.eye(4))
    with pytest.raises(InputError, match="holds the arrays 'first', 'second'; expected 'vol_data', or one array only"):
        open_volume(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", affine=np.eye(4))
    with pytest.raises(InputError, match="holds the arrays none; expected 'vol_data'"):
        open_volume(tmp_path / "b.npz")


def test_archive_of_one_array_under_any_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", scan=IMAGE.data, affine=GRID.affine)
    assert open_volume(tmp_path / "a.npz").grid.matches(GRID)


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_pickled_objects_are_refused(tmp_path: Path, name: str) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "sprung",)

    objects = np.array([Trap()], dtype=object)
    with (tmp_path / name).open("wb") as file:
        np.savez(file, vol_data=objects) if name == "a.npz" else np.save(file, objects, allow_pickle=True)
    with pytest.raises(InputError, match=r"holds pickled Python objects; .* loading could run code"):
        open_volume(tmp_path / name)
    (tmp_path / name).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InputError, match=r"cannot be read \(it is no numpy file\)"):
        open_volume(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


# --- values that are not what they should be


@pytest.mark.parametrize("name", ["image.nii.gz", "image.npz"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(tmp_path: Path, name: str, value: float) -> None:
    data = IMAGE.data.copy()
    data[0, 0, :2] = value
    path = saved(tmp_path, data, name)
    with pytest.raises(InputError, match=rf"{name}' has NaN or infinite values in 2 of 60 voxels; .*nan_to_num"):
        open_volume(path)
    with pytest.raises(InputError, match=rf"labels '.*{name}' hold (nan|-?inf) at voxel \(0, 0, 0\), one of 2"):
        open_volume(path, kind="labels")


def test_constant_image(tmp_path: Path) -> None:
    path = saved(tmp_path, np.full((3, 4, 5), 7.5))
    with pytest.raises(
        InputError, match=r"image.npz' is constant, 7.5 in every voxel; expected an image with contrast"
    ):
        open_volume(path)
    path = saved(tmp_path, np.full((3, 4, 5), 7))
    assert open_volume(path, kind="labels").data.max() == 7


@pytest.mark.parametrize("name", ["image.nii.gz", "image.npz"])
def test_four_dimensions(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path, np.zeros((3, 4, 5, 6), np.float32), name)
    with pytest.raises(
        InputError, match=r"has 4 dimensions, shape \(3, 4, 5, 6\); expected three \(or two\): save one of its volumes"
    ):
        open_volume(path)


def test_one_dimension_and_no_voxels(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has 1 dimensions, shape \(5,\); expected three"):
        open_volume(saved(tmp_path, np.zeros(5)))
    with pytest.raises(InputError, match=r"has no voxels, shape \(2, 0, 3\)"):
        open_volume(saved(tmp_path, np.zeros((2, 0, 3))))


def test_colours_and_complex_values(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds values of type complex64; expected one real number per voxel"):
        open_volume(saved(tmp_path, IMAGE.data.astype(np.complex64), "image.nii"))
    with pytest.raises(InputError, match="holds values of type <U1; expected one real number per voxel"):
        open_volume(saved(tmp_path, np.array([[["a"]]])))


def test_labels_that_are_not_whole(tmp_path: Path) -> None:
    data = LABELS.data.astype(np.float64)
    data[1, 2, 3] = 2.7
    data[2, 0, 0] = -0.5
    with pytest.raises(
        InputError, match=r"hold 2.7 at voxel \(1, 2, 3\), one of 2 such values; expected whole numbers"
    ):
        open_volume(saved(tmp_path, data), kind="labels")


def test_labels_beyond_32_bits(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"hold 3000000000 at voxel \(0, 0, 0\)"):
        open_volume(saved(tmp_path, np.full((2, 2, 2), 3_000_000_000, np.uint32)), kind="labels")


def test_singular_affine(tmp_path: Path) -> None:
    stored = nibabel.Nifti1Image(IMAGE.data, np.eye(4))
    stored.header["srow_z"] = 0
    stored.header["sform_code"] = 1
    nibabel.save(nibabel.Nifti1Image(IMAGE.data, None, stored.header), tmp_path / "scan.nii")
    with pytest.raises(InputError, match=r"affine of '.*scan.nii' is singular, .* expected 3 independent axes: repair"):
        open_volume(tmp_path / "scan.nii")
    np.savez(tmp_path / "scan.npz", vol_data=IMAGE.data, affine=np.zeros((4, 4)))
    with pytest.raises(InputError, match=r"affine of '.*scan.npz' is singular"):
        open_volume(tmp_path / "scan.npz")
    np.savez(tmp_path / "scan.npz", vol_data=IMAGE.data, affine=np.eye(3))
    with pytest.raises(InputError, match=r"affine of '.*scan.npz' has shape \(3, 3\); expected \(4, 4\)"):
        open_volume(tmp_path / "scan.npz")
