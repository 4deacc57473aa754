from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from limner.check import InputError
from limner.data.batch import IGNORE
from limner.data.volumes import TRAINING, VALIDATION, Piece, Volumes, cells, numbered
from limner.files import hdf5, save_volume
from limner.files.nanometres import placed
from limner.space import Grid, Volume

SHAPE = (6, 8, 10)
AFFINE = np.diag([4e-5, 4e-6, 4e-6, 1.0])


def cube(folder: Path) -> Path:
    """A file of CREMI with raw and ids, which begin two sections inside it."""
    rng = np.random.default_rng(0)
    raw = Volume(rng.integers(0, 255, SHAPE).astype(np.float32), Grid(SHAPE, AFFINE), "image")
    ids = rng.integers(0, 2, (4, 8, 10)).astype(np.uint64) * np.uint64(2**63 + 5)
    moved = AFFINE.copy()
    moved[0, 3] = 2 * 4e-5
    hdf5.write_all({hdf5.RAW: raw, hdf5.LABELS: Volume(ids, Grid(ids.shape, moved), "instances")}, folder / "cube.hdf")
    return folder / "cube.hdf"


def test_pieces_are_what_raw_and_ids_share(tmp_path: Path) -> None:
    path = cube(tmp_path)
    pieces = [
        Piece(image=path, sections=(0, 3)),
        Piece(image=path, sections=(3, 4), split="validation", zero="membrane"),
    ]
    kept = Volumes.opened(pieces)
    (training,), (validation,) = kept.cases(TRAINING), kept.cases(VALIDATION)
    one, other = kept.prepared(training), kept.prepared(validation)
    assert (training.name, one.image.shape, one.labels.shape) == ("cube[0:3]", (1, 3, 8, 10), (3, 8, 10))
    assert set(np.unique(one.labels)) == {IGNORE, 1}
    assert set(np.unique(other.labels)) == {0, 1}
    assert one.mask.all()
    assert abs(one.image.mean()) < 1e-6
    assert abs(one.image.std() - 1) < 1e-5
    np.testing.assert_allclose(one.world[:3, 3], [8e-5, 0, 0], atol=1e-9)
    np.testing.assert_allclose(other.world[:3, 3], [20e-5, 0, 0], atol=1e-9)


def test_insides_are_the_cells_of_each_section(tmp_path: Path) -> None:
    inside = np.full((2, 8, 9), 255, np.int32)
    inside[0, :, 4], inside[1, 3] = 0, 0
    grid = Grid(inside.shape, AFFINE)
    save_volume(Volume(inside, grid, "labels"), tmp_path / "inside.tif")
    save_volume(
        Volume(np.random.default_rng(0).random(grid.shape).astype(np.float32), grid, "image"), tmp_path / "raw.tif"
    )
    piece = Piece(image=tmp_path / "raw.tif", labels=tmp_path / "inside.tif", ids="insides", zero="membrane", flat=True)
    kept = Volumes.opened([piece])
    first, second = (kept.prepared(case) for case in kept.cases(TRAINING))
    assert first.image.shape == (1, 8, 9)
    assert first.world.shape == (3, 3)
    np.testing.assert_array_equal(first.labels[0], [1, 1, 1, 1, 0, 2, 2, 2, 2])
    np.testing.assert_array_equal(second.labels[:, 0], [1, 1, 1, 0, 2, 2, 2, 2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sections": (2, 9)}, r"has sections \[2, 9\]; expected the first and one past the last within \[0, 4\]"),
        ({"ids": "insides"}, "is not flat"),
    ],
)
def test_pieces_that_cannot_be(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Volumes.opened([Piece(image=cube(tmp_path), **options)])


def test_a_piece_of_nothing(tmp_path: Path) -> None:
    grid = Grid(SHAPE, AFFINE)
    raw = Volume(np.random.default_rng(0).random(SHAPE).astype(np.float32), grid, "image")
    none = Volume(np.zeros(SHAPE, np.uint64), grid, "instances")
    hdf5.write_all({hdf5.RAW: raw, hdf5.LABELS: none}, tmp_path / "none.hdf")
    with pytest.raises(InputError, match="has no labelled voxel"):
        Volumes.opened([Piece(image=tmp_path / "none.hdf")])


def test_cells_of_a_stack_end_with_their_section() -> None:
    inside = np.ones((2, 4, 5), np.uint8)
    inside[:, :, 2] = 0
    np.testing.assert_array_equal(cells(inside)[:, 0], [[1, 1, 0, 2, 2], [3, 3, 0, 4, 4]])


def test_ids_are_numbered() -> None:
    ids = np.array([2**64 - 1, 7, 0, 7], np.uint64)
    np.testing.assert_array_equal(numbered(ids, unknown=True), [2, 1, IGNORE, 1])
    np.testing.assert_array_equal(numbered(ids, unknown=False), [2, 1, 0, 1])
    np.testing.assert_array_equal(numbered(ids[:2], unknown=True), [2, 1])


def test_sections_of_a_microscopes_volume_are_flat_images(tmp_path: Path) -> None:
    """Whose axes are z, y, x, and lead along the world's in the opposite order."""
    grid = Grid(SHAPE, placed([40.0, 8.0, 4.0]))
    rng = np.random.default_rng(0)
    raw = Volume(rng.integers(0, 255, SHAPE).astype(np.float32), grid, "image")
    ids = Volume(rng.integers(1, 4, SHAPE).astype(np.uint64), grid, "instances")
    hdf5.write_all({hdf5.RAW: raw, hdf5.LABELS: ids}, tmp_path / "cube.hdf")
    kept = Volumes.opened([Piece(image=tmp_path / "cube.hdf", flat=True)])
    assert len(kept.cases(TRAINING)) == SHAPE[0]
    assert kept.look().voxels == (8.0, 4.0)
