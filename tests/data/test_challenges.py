"""Slices of brains and livers, from folders as two challenges lay them out, made small."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from limner.check import InputError
from limner.data.challenges import SEQUENCES, hemisphere_sections, liver_sections
from limner.data.cohort import read_cohort
from limner.data.sections import crop_sections
from limner.data.tasks import TaskOptions, build_task
from limner.files import save_volume
from limner.space import Array, Grid, Volume


def saved(data: Array, path: Path, *, kind: str = "image") -> None:
    """Write a volume of 1 x 2 x 3 mm voxels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_volume(Volume(data, Grid(data.shape, np.diag([1.0, 2.0, 3.0, 1.0])), kind), path)


@pytest.fixture(scope="module")
def brains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four people of 24 x 24 x 5 voxels, with a tumour of 3 % of the brain in two slices of the left half."""
    folder, rng = tmp_path_factory.mktemp("brains"), np.random.default_rng(0)
    for number in range(4):
        brain = np.zeros((24, 24, 5), bool)
        brain[2:22, 2:22, 1:] = True
        tumour = np.zeros(brain.shape, np.int32)
        tumour[4:7, 10:12, 1:3] = 4
        for sequence in SEQUENCES:
            saved(
                np.float32(brain * rng.normal(300, 30, brain.shape)),
                folder / f"p{number}" / f"p{number}_{sequence}.nii.gz",
            )
        saved(tumour, folder / f"p{number}" / f"p{number}_seg.nii.gz", kind="labels")
    return folder


def test_halves_of_brains_are_marked_by_what_they_show(brains: Path) -> None:
    sections = list(hemisphere_sections(brains, size=32, seed=0))
    assert len(sections) == 4 * 2 * 4
    for one in sections:
        assert one.image.shape == (4, 16, 32)
        assert one.spacing == (1, 2)
        assert np.abs(one.image).max() <= 1
        assert one.present == (int("left" in one.name and one.name.endswith(("001", "002"))),)
        assert (one.labels is not None and one.labels.sum() == 6) if one.present == (1,) else one.labels is None
    people = {one.person: {other.split for other in sections if other.person == one.person} for one in sections}
    assert all(len(splits) == 1 for splits in people.values())


def test_the_rule_of_the_public_code_asks_for_larger_tumours(brains: Path) -> None:
    strict = list(hemisphere_sections(brains, size=32, seed=0, rule="slice"))
    assert len(strict) == 4 * 2 * 4 - 4 * 2
    assert not [one for one in strict if one.present == (1,)]


def test_images_that_do_not_lie_on_one_another_are_refused(brains: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'a half-slice' has shape \(12,\), larger than 10 .*: raise --size"):
        list(hemisphere_sections(brains, size=20, seed=0))
    shutil.copytree(brains, tmp_path / "brains")
    saved(np.arange(24 * 24 * 4, dtype=np.float32).reshape(24, 24, 4), tmp_path / "brains/p0/p0_t1.nii.gz")
    with pytest.raises(InputError, match=r"t1 of 'p0' has shape \(24, 24, 4\) but its image has \(24, 24, 5\)"):
        list(hemisphere_sections(tmp_path / "brains", size=32, seed=0))
    saved(np.arange(9 * 9 * 5, dtype=np.float32).reshape(9, 9, 5), tmp_path / "livers/volume-0.nii.gz")
    saved(np.ones((9, 9, 4), np.int32), tmp_path / "livers/segmentation-0.nii.gz", kind="labels")
    with pytest.raises(InputError, match=r"segmentation of 'volume-0.nii.gz' has shape \(9, 9, 4\) but its image"):
        list(liver_sections(tmp_path / "livers", size=8, seed=0))


def test_rule_and_fold_are_options_of_a_task(brains: Path, tmp_path: Path) -> None:
    table = build_task("hemispheres", tmp_path / "task", source=brains, options=TaskOptions(size=32, rule="slice"))
    assert not [case for case in read_cohort(table) if case.present == (1,)]


def test_slices_of_livers_show_a_wide_lesion_or_none(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(8):
        ids = np.zeros((40, 40, 8), np.int32)
        ids[8:28, 8:28, 1:7] = 1
        ids[10:18, 10:18, 2:4] = 2  # 8 pixels wide
        ids[10:14, 10:18, 5] = 2  # 4 along one axis
        saved(np.float32(rng.normal(50, 20, ids.shape)), tmp_path / f"volume-{number}.nii.gz")
        saved(ids, tmp_path / f"segmentation-{number}.nii.gz", kind="labels")
    sections = list(liver_sections(tmp_path, size=32, seed=0))
    assert len({one.name for one in sections}) == len(sections)
    shown = [one for one in sections if one.present == (1,)]
    assert len(shown) == 8 * 2
    assert all(one.image.shape == (1, 32, 32) and one.labels is not None and one.labels.any() for one in shown)
    assert all(one.spacing == (20 / 32, 2 * 20 / 32) for one in shown)
    without = [one for one in sections if one.present == (0,)]
    assert all(one.split != "test" for one in without)
    assert not [one for one in without if one.name.endswith("0005")]
    splits = {
        person: {one.split for one in sections if one.person == person} for person in (one.person for one in sections)
    }
    assert sorted(split for (split,) in splits.values()).count("test") == 2
    other = {one.person for one in liver_sections(tmp_path, size=32, seed=0, fold=1) if one.split == "test"}
    assert not other & {one.person for one in sections if one.split == "test"}


def test_small_volumes_lie_in_the_middle_of_a_box(tmp_path: Path) -> None:
    for number in range(4):
        scan = np.random.default_rng(number).normal(1e5, 1e4, (9 + number, 12, 10)).astype(np.float32)
        labels = np.zeros(scan.shape, np.int32)
        labels[3:6, 3:6, 3:6] = 1 + number % 2
        saved(scan, tmp_path / "images" / f"person-{number}.nii.gz")
        saved(labels, tmp_path / "labels" / f"person-{number}.nii.gz", kind="labels")
    sections = list(crop_sections(tmp_path, size=16, seed=0))
    for one in sections:
        assert one.image.shape == (1, 12, 12, 10)
        assert one.spacing == (1, 2, 3)
        assert one.mask is not None
        assert one.mask.sum() == (9 + int(one.name[-1])) * 12 * 10
        assert one.labels is not None
        assert one.labels.sum() == 27
        assert one.labels.max() == 1
        assert not one.image[0][~one.mask].any()
    with pytest.raises(InputError, match=r"has shape \(9, 12, 10\), larger than 8 along an axis; .*raise --size"):
        list(crop_sections(tmp_path, size=8, seed=0))


def test_folders_without_scans_are_refused(tmp_path: Path) -> None:
    for sections in (hemisphere_sections, liver_sections, crop_sections):
        with pytest.raises(InputError, match="holds no .*; expected at least one: correct --source"):
            list(sections(tmp_path, size=32, seed=0))
