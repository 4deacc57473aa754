"""A prior on disk: what was written is what is read, and what cannot be trusted is refused."""

from __future__ import annotations

import errno
import json
import lzma
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import phantoms
from limner.check import InputError
from limner.priors.atlas import Atlas
from limner.priors.deformation import Warps
from limner.priors.storage import DESCRIPTION, TENSORS, claim, load_prior, prior_hash, save_prior
from limner.space import Grid

#: Two modes on every second voxel of 5 x 7 x 5.
WARPS = Warps(
    Grid((5, 7, 5), np.diag([4.0, 4, 4, 1])), torch.linspace(-1, 1, 2 * 3 * 3 * 4 * 3).view(2, 3, 3, 4, 3).mul(3)
)


@pytest.fixture(scope="module")
def head() -> Atlas:
    return phantoms.atlas(phantoms.grid(4.0))


@pytest.fixture
def stored(head: Atlas, tmp_path: Path) -> Path:
    save_prior(head, tmp_path / "prior")
    return tmp_path / "prior"


def assert_same(found: Atlas, expected: Atlas) -> None:
    assert found.table == expected.table
    assert found.provenance == expected.provenance
    assert found.grid.shape == expected.grid.shape
    np.testing.assert_array_equal(found.grid.affine, expected.grid.affine)
    np.testing.assert_array_equal(found.maps.weights, expected.maps.weights)
    assert (found.warps is None) == (expected.warps is None)
    if found.warps and expected.warps:
        assert found.warps.grid.matches(expected.warps.grid)
        for one, other in zip(found.warps.stored(), expected.warps.stored(), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5)
    kept = expected.maps.weights > 0
    np.testing.assert_array_equal(found.maps.rows[kept], expected.maps.rows[kept])
    assert (found.neighbours is None) == (expected.neighbours is None)
    if found.neighbours and expected.neighbours:
        np.testing.assert_array_equal(found.neighbours.counts, expected.neighbours.counts)
        assert found.neighbours.size == expected.neighbours.size
        assert found.neighbours.pseudo_windows == expected.neighbours.pseudo_windows


@pytest.mark.parametrize(
    "changes",
    [{}, {"neighbours": None}, {"warps": WARPS}, {"warps": replace(WARPS, modes=torch.zeros(0, 3, 1, 1, 1))}],
    ids=["counted", "uncounted", "bending", "bending without modes"],
)
def test_a_prior_comes_back_to_the_bit(head: Atlas, tmp_path: Path, changes: dict[str, object]) -> None:
    atlas = replace(head, **changes)
    found = save_prior(atlas, tmp_path / "prior")
    assert_same(load_prior(tmp_path / "prior"), atlas)
    assert prior_hash(tmp_path / "prior") == found
    assert sorted(path.name for path in (tmp_path / "prior").iterdir()) == [DESCRIPTION, TENSORS]


def test_the_same_atlas_has_the_same_hash(head: Atlas, tmp_path: Path) -> None:
    other = phantoms.atlas(phantoms.grid(4.0), blur=4.0)
    hashes = [save_prior(atlas, tmp_path / name) for name, atlas in (("a", head), ("b", head), ("c", other))]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_prior_is_replaced_and_nothing_else_is(head: Atlas, stored: Path, tmp_path: Path) -> None:
    other = replace(head, provenance={"note": "newer"})
    save_prior(other, stored)
    assert_same(load_prior(stored), other)
    for occupied in (tmp_path / "letter.txt", tmp_path / "letters"):
        occupied.write_text("dear") if occupied.suffix else occupied.mkdir()
        with pytest.raises(
            InputError, match=f"'{re.escape(str(occupied))}' exists and is no prior; expected a new path"
        ):
            save_prior(head, occupied)
    assert (tmp_path / "letter.txt").read_text() == "dear"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["letter.txt", "letters", "prior"]


def refuse(number: int) -> Callable[..., None]:
    def refused(*_: object, **__: object) -> None:
        raise OSError(number, "No space left on device")

    return refused


@pytest.mark.parametrize("step", ["mkdir", "write_bytes", "write_text"])
@pytest.mark.parametrize("before", [True, False])
def test_a_full_disk_leaves_what_was_there(
    head: Atlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, before: bool
) -> None:
    path = tmp_path / "prior"
    if before:
        save_prior(head, path)
    with monkeypatch.context() as patched:
        patched.setattr(Path, step, refuse(errno.ENOSPC))
        with pytest.raises(InputError, match="cannot be written .No space left on device.*free some space"):
            save_prior(replace(head, neighbours=None), path)
    assert [found.name for found in tmp_path.iterdir()] == ["prior"] * before
    if before:
        assert_same(load_prior(path), head)


def test_a_rename_that_fails_brings_the_old_prior_back(
    head: Atlas, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.replace

    def renamed(self: Path, target: Path) -> Path:
        if (self / DESCRIPTION).is_file() and target == stored and not self.name.endswith("former"):
            raise OSError(errno.EPERM, "Operation not permitted")
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", renamed)
        with pytest.raises(InputError, match="nothing was changed there: ask for permission"):
            save_prior(replace(head, neighbours=None), stored)
    assert_same(load_prior(stored), head)
    assert [found.name for found in stored.parent.iterdir()] == ["prior"]


def test_its_folder_is_made(head: Atlas, tmp_path: Path) -> None:
    save_prior(head, tmp_path / "new" / "folder" / "prior")
    assert_same(load_prior(tmp_path / "new" / "folder" / "prior"), head)


def test_a_path_is_claimed_before_the_work(tmp_path: Path) -> None:
    claim(tmp_path / "new" / "prior")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="letter.txt' exists and is no prior"):
        claim(tmp_path / "letter.txt")
    with pytest.raises(InputError, match="letter.txt/prior' cannot be written .File exists., and nothing was changed"):
        claim(tmp_path / "letter.txt" / "prior")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "does not exist; expected a folder made by `limner atlas`: check --prior"),  # noqa: ARG005
        (lambda path: path.mkdir(), "has no prior.json"),
        (lambda path: path.write_text("prior"), "is a file"),
    ],
)
def test_what_is_no_prior_is_refused(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    make(tmp_path / "prior")
    with pytest.raises(InputError, match=f"prior' {message}"):
        load_prior(tmp_path / "prior")


def described(path: Path, **changes: object) -> None:
    """Change entries of a prior's description; None takes one away."""
    content = json.loads((path / DESCRIPTION).read_text()) | changes
    (path / DESCRIPTION).write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def test_another_format_is_refused(stored: Path) -> None:
    described(stored, format="limner prior 9")
    with pytest.raises(
        InputError, match="is of format 'limner prior 9' but this limner reads 'limner prior 1': build it"
    ):
        load_prior(stored)
    (stored / DESCRIPTION).write_text("[]")
    with pytest.raises(InputError, match="is of format 'None'"):
        load_prior(stored)


def flipped(path: Path) -> None:
    content = bytearray((path / TENSORS).read_bytes())
    content[len(content) // 2] ^= 1
    (path / TENSORS).write_bytes(content)


def truncated(path: Path) -> None:
    content = (path / TENSORS).read_bytes()
    (path / TENSORS).write_bytes(content[: len(content) // 2])


def rehashed(path: Path, content: bytes) -> None:
    """Other tensors, with the hash that is theirs."""
    import hashlib

    (path / TENSORS).write_bytes(content)
    described(path, tensors_sha256=hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (flipped, "the hash of tensors.safetensors.xz is not the one recorded"),
        (truncated, "the hash of tensors.safetensors.xz is not the one recorded"),
        (lambda path: (path / TENSORS).unlink(), "No such file"),
        (lambda path: rehashed(path, b"not compressed"), "Input format not supported"),
        (lambda path: rehashed(path, lzma.compress(b"")[:20]), "Compressed data ended"),
        (lambda path: rehashed(path, lzma.compress(b"no tensors")), "[Hh]eader"),
        (lambda path: (path / DESCRIPTION).write_text("{"), "Expecting property name"),
        (lambda path: (path / DESCRIPTION).write_bytes(b"\xff\xfe{}"), "codec can't decode"),
        (lambda path: described(path, affine=None), "'affine'"),
        (lambda path: described(path, affine=[[0.0] * 4] * 4), "singular"),
        (lambda path: described(path, shape=[2, 2, 2]), "another grid or table than prior.json"),
        (lambda path: described(path, table=phantoms.table([2, 3]).as_dict()), "another grid or table than prior.json"),
        (lambda path: described(path, table={"labels": []}), "'structures'"),
        (lambda path: described(path, neighbours={"size": 4, "pseudo_windows": 1.0}), "neighbour window has size 4"),
    ],
)
def test_a_damaged_prior_is_refused(stored: Path, damage: Callable[[Path], object], reason: str) -> None:
    damage(stored)
    with pytest.raises(
        InputError, match=f"prior' is damaged .*{reason}.*; expected the files as `limner atlas` wrote them"
    ):
        load_prior(stored)


def test_a_neighbour_table_of_other_classes_is_refused(head: Atlas, tmp_path: Path) -> None:
    lumped = replace(head.table, labels=tuple(replace(label, structure="rest") for label in head.table.labels))
    save_prior(replace(head, table=lumped), tmp_path / "prior")
    with pytest.raises(InputError, match="is damaged .the neighbour table has 9 classes, not 2"):
        load_prior(tmp_path / "prior")
