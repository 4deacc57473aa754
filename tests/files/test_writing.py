"""Writing that fails: nothing half-written, nothing lost."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from limner import files
from limner.check import InputError
from limner.files import FORMATS, STORES, replacing, save_volume
from limner.space import Grid, Volume

GRID = Grid((3, 4, 5), np.array([[0, 0, 2, -3], [-1.5, 0, 0, 4], [0, 1, 0, 5], [0, 0, 0, 1]]))
IMAGE = Volume(np.arange(60, dtype=np.float32).reshape(3, 4, 5), GRID, "image")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A sound image to be damaged."""
    save_volume(IMAGE, tmp_path / "image.nii.gz")
    return tmp_path / "image.nii.gz"


class Forbidden:
    """A format whose disk refuses after some bytes."""

    def __init__(self, number: int) -> None:
        self.number = number

    def write(self, volume: Volume, path: Path) -> None:
        path.write_bytes(volume.data.tobytes()[:100])
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "No space left on device.*: free some space, or write to another disk"),
        (errno.EACCES, "Permission denied.*: ask for permission there, or choose another folder"),
        (errno.EROFS, "Read-only file system.*: ask for permission there, or choose another folder"),
        (errno.EIO, "Input/output error.*: check the disk and the path"),
    ],
)
def test_failed_writing_leaves_everything_as_it_was(
    image: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    before = image.read_bytes()
    monkeypatch.setitem(files.WRITERS, ".nii.gz", Forbidden(number))
    with pytest.raises(InputError, match=rf"image.nii.gz' cannot be written \({message}"):
        save_volume(IMAGE, image)
    assert image.read_bytes() == before
    assert list(image.parent.iterdir()) == [image]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
@pytest.mark.parametrize("size", [3, 64])
@pytest.mark.parametrize("ending", [known for known in FORMATS if known not in STORES])
@pytest.mark.filterwarnings("ignore::limner.check.InputWarning")
def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, size: int) -> None:
    # What is small fails when the file is closed, what is large while it is written.
    noise = np.random.default_rng(0).integers(0, 99, (size**2, size, 1))
    monkeypatch.setattr("secrets.token_hex", lambda _: "full")
    (tmp_path / f".full-scan{ending}").symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"cannot be written \(No space left on device\), and nothing was changed"):
        save_volume(Volume(noise, Grid(noise.shape, np.eye(4)), "labels"), tmp_path / f"scan{ending}")
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_missing_or_a_file(tmp_path: Path, image: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be written \(No such file or directory\).*: create its folder first"):
        save_volume(IMAGE, tmp_path / "none" / "scan.nii")
    with pytest.raises(InputError, match=r"cannot be written \(Not a directory\).*: its parent is a file"):
        save_volume(IMAGE, image / "scan.mgz")


def test_folder_in_the_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "scan.nii").mkdir()
    with pytest.raises(
        InputError, match=r"cannot be written \(Is a directory\).*: it is a folder: name a file inside it"
    ):
        save_volume(IMAGE, tmp_path / "scan.nii")
    assert list(tmp_path.iterdir()) == [tmp_path / "scan.nii"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_folder_without_write_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match=r"cannot be written \(Permission denied\)"):
        save_volume(IMAGE, tmp_path / "scan.nii")


def test_interruption_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with replacing(tmp_path / "table.csv") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
