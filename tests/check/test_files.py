from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from check.messages import SCAN, Inspection, refusal
from limner import check
from limner.check import InputWarning

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

REFUSED = [
    (
        lambda: check.existing_file(Path("none/scan.nii")),
        "'none/scan.nii' does not exist; expected a file: check the path",
    ),
    (lambda: check.existing_file(Path("/")), "'/' is a folder; expected a file: name a file inside it"),
    (
        lambda: check.unknown_suffix(Path("scan.tar.xz"), [".nii", ".mgz"]),
        "'scan.tar.xz' has .tar.xz; expected one of .nii, .mgz: convert the file, or correct its name",
    ),
    (
        lambda: check.not_gzip(SCAN),
        (
            "'data/scan.nii.gz' is named as a gzip file but is not one; expected gzip data: drop the 'gz' from its "
            "name if it is an uncompressed image, otherwise copy or export it again"
        ),
    ),
    (
        lambda: check.unreadable(SCAN, EOFError("ended\n  early")),
        (
            "'data/scan.nii.gz' cannot be read (ended early); expected a complete image file: "
            "the file is probably damaged or cut short: copy or export it again"
        ),
    ),
    (
        lambda: check.unwritable(SCAN, FULL),
        (
            "'data/scan.nii.gz' cannot be written (No space left on device), and nothing was changed there: "
            "free some space, or write to another disk"
        ),
    ),
    (
        lambda: check.pickled(SCAN),
        (
            "'data/scan.nii.gz' holds pickled Python objects; expected plain numbers: they are never loaded, "
            "because loading could run code; save the array again with a numeric dtype"
        ),
    ),
    (
        lambda: check.ambiguous_arrays(SCAN, ["x", "y"], key="vol_data"),
        (
            "'data/scan.nii.gz' holds the arrays 'x', 'y'; expected 'vol_data', or one array only: "
            "save the image as 'vol_data'"
        ),
    ),
]

WARNED = [
    (
        check.squeezed(SCAN, (2, 3, 4, 1), kept=(2, 3, 4)),
        "'data/scan.nii.gz' has shape (2, 3, 4, 1); its axes of one voxel were dropped, which leaves (2, 3, 4)",
    ),
    (
        check.no_affine(SCAN),
        "'data/scan.nii.gz' has no affine; voxels of 1 mm along the axes right, front, up (RAS) were assumed",
    ),
    (
        check.no_orientation(SCAN),
        "'data/scan.nii.gz' has neither sform nor qform; axes left, front, up (LAS) about the centre were assumed",
    ),
    (
        check.other_unit(SCAN, "micron"),
        "'data/scan.nii.gz' says its unit is the micron; its numbers were taken as mm, as most programs do",
    ),
    (
        check.long_quaternion(SCAN),
        "'data/scan.nii.gz' has a qform quaternion longer than 1; the nearest rotation was taken",
    ),
    (
        check.sheared(SCAN, 1e-4),
        "'data/scan.nii.gz' has axes that are 0.0057 degrees off a right angle; they were kept",
    ),
    (
        check.affine_lost(SCAN),
        "'data/scan.nii.gz' keeps the voxels but not the affine; write '.npz' or '.nii.gz' to keep both",
    ),
]


@pytest.mark.parametrize(("inspect", "message"), REFUSED)
def test_what_is_refused(inspect: Inspection, message: str) -> None:
    assert refusal(inspect) == message


@pytest.mark.parametrize(("warning", "message"), WARNED)
def test_what_is_tolerated(warning: InputWarning, message: str) -> None:
    assert type(warning) is InputWarning
    assert str(warning) == message


def test_a_file_with_contents_passes() -> None:
    check.existing_file(Path(__file__))


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii"
    path.touch()
    message = refusal(lambda: check.existing_file(path))
    assert message == f"'{path}' is empty (0 bytes); expected a file with contents: copy or export it again"


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EDQUOT, "free some space, or write to another disk"),
        (errno.EACCES, "ask for permission there, or choose another folder"),
        (errno.EROFS, "ask for permission there, or choose another folder"),
        (errno.EFBIG, "the disk or the system allows no file of that size: write to another disk, or raise the limit"),
        (errno.EEXIST, "a file stands in the way of a folder: choose another path"),
        (errno.ENOENT, "create its folder first"),
        (errno.ENOTDIR, "its parent is a file: name a folder instead"),
        (errno.EISDIR, "it is a folder: name a file inside it"),
        (errno.EIO, "check the disk and the path"),
    ],
)
def test_remedies_for_a_disk_that_refuses(number: int, remedy: str) -> None:
    assert str(check.unwritable(SCAN, OSError(number, "refused"))).endswith(f"nothing was changed there: {remedy}")


def test_a_file_without_permission_is_not_called_damaged() -> None:
    message = str(check.unreadable(SCAN, PermissionError("no")))
    assert message.endswith(": ask for permission there, or choose another folder")
