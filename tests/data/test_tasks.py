"""Tasks: what images are made of, whose they are, and which labels are used first."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from limner.check import InputError
from limner.data.cohort import read_cohort, revealed
from limner.data.sections import LEAST_TUMOUR, tumour_sections
from limner.data.stacks import stacked
from limner.data.synthetic import FIRST, NOISE, Digits, Scenery, folds, pictures
from limner.data.tasks import FRAMES, TaskOptions, build_task
from limner.data.video import NOISE as GRAIN
from limner.data.video import Motion, film
from limner.files import open_volume

SMALL = TaskOptions(pairs=30, validation=4, test=6)


def digits(count: int = 40) -> Digits:
    """Squares of 12 pixels that stand for digits; their values go round."""
    images = np.zeros((count, 28, 28), np.float32)
    images[:, 8:20, 8:20] = 0.9
    return Digits(images, np.arange(count) % 10, np.arange(count))


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of digits like the real one: 15,000 of them, noise."""
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    rng = np.random.default_rng(0)
    np.savez(path, x=rng.integers(0, 255, (15_000, 28, 28), np.uint8), y=rng.integers(0, 10, 15_000).astype(np.uint8))
    return path


def test_a_picture_without_clutter_is_the_digit_on_noise() -> None:
    scenery, rng = Scenery(48, 0), np.random.default_rng(0)
    with_digit, without = pictures(digits(), scenery, count=1, rng=rng)
    assert with_digit.labels.sum() == 144
    assert (with_digit.image[with_digit.labels == 1] == np.float32(0.9)).all()
    assert abs(float(without.image.std()) - NOISE) < 0.1 * NOISE
    assert (with_digit.present, without.present) == ((1,), (0,))
    assert not without.labels.any()


def test_clutter_lies_on_the_digit_and_darkens_it_but_not_its_mask() -> None:
    pairs = list(pictures(digits(), Scenery(48, 60), count=20, rng=np.random.default_rng(1)))
    shown = [one for one in pairs if one.present == (1,)]
    assert all(one.labels.sum() == 144 for one in shown)
    numbers = np.arange(40)
    images = digits().images * np.where(numbers % 10 == 0, 0.6, 0.3)[:, None, None].astype(np.float32) / 0.9
    dim = Digits(images, numbers % 10, numbers)
    covered = list(pictures(dim, Scenery(48, 60, kinds=((0,),)), count=4, rng=np.random.default_rng(1)))
    over = [one.image[one.labels == 1] for one in covered if one.labels.any()]
    assert all(len(pixels) == 144 for pixels in over)
    assert min(float(pixels.min()) for pixels in over) == pytest.approx(0.3)


def test_digits_are_shown_once_each() -> None:
    shown = [one.digits for one in pictures(digits(), Scenery(), count=40, rng=np.random.default_rng(0)) if one.digits]
    assert Counter(shown) == Counter((number,) for number in range(40))


def test_two_kinds_are_there_alone_or_together() -> None:
    scenery = Scenery(48, 2, kinds=((0, 1, 2, 3, 4), (5, 6, 7, 8, 9)))
    found = list(pictures(digits(), scenery, count=40, rng=np.random.default_rng(0)))
    assert {one.present for one in found} == {(0, 0), (1, 0), (0, 1), (1, 1)}
    for one in found:
        assert set(np.unique(one.labels)) <= {0, *(target + 1 for target, there in enumerate(one.present) if there)}
        assert [value >= 5 for value in one.values] == [bool(t) for t, there in enumerate(one.present) if there]


def test_folds_share_no_digit() -> None:
    parts = folds(np.zeros((100, 28, 28), np.uint8), np.arange(100) % 10, validation=10, test=20)
    assert [len(part.numbers) for part in parts] == [70, 10, 20]
    assert len(set().union(*(part.numbers.tolist() for part in parts))) == 100


def test_a_task_is_a_table_of_slices(collection: Path, tmp_path: Path) -> None:
    table = build_task("digits-hard", tmp_path / "task", source=collection, options=SMALL)
    cohort = read_cohort(table)
    assert Counter(case.split for case in cohort) == {"train": 60, "validation": 8, "test": 12}
    assert Counter(case.present for case in cohort) == {(1,): 40, (0,): 40}
    for case in cohort:
        image, mask, labels = stacked(case)
        assert image.shape == (1, 48, 48)
        assert mask.all()
        assert (labels.max() == 1) if case.present == (1,) else (labels == -1).all()
    again = build_task("digits-hard", tmp_path / "again", source=collection, options=SMALL)
    assert again.read_text() == table.read_text()
    assert (again.parent / "images.npy").read_bytes() == (table.parent / "images.npy").read_bytes()


def test_labels_of_nines_are_used_first(collection: Path, tmp_path: Path) -> None:
    table = build_task("digits-simple", tmp_path / "task", source=collection, options=TaskOptions(200, 1, 1))
    training = [case for case in read_cohort(table) if case.split == "train"]
    with np.load(collection) as content:
        values = content["y"]
    few = [case for case in revealed(training, 0.02) if case.labels]
    assert len(few) == 4
    assert {int(values[int(case.person.removeprefix("digit-"))]) for case in few} == {FIRST}
    assert sum(case.labels is not None for case in revealed(training, 1.0)) == 200


def test_a_file_that_was_replaced_is_read_anew(collection: Path, tmp_path: Path) -> None:
    case = read_cohort(build_task("digits-simple", tmp_path / "task", source=collection, options=SMALL))[0]
    image = stacked(case)[0]
    np.save(case.images[0], np.load(case.images[0]) + 1)
    assert np.allclose(stacked(case)[0], image + 1, atol=1e-2)


def test_empty_masks_of_images_that_show_nothing_are_no_labels(collection: Path, tmp_path: Path) -> None:
    table = build_task("digits-simple", tmp_path / "task", source=collection, options=SMALL)
    training = [case for case in read_cohort(table) if case.split == "train"]
    labels = next(case.labels for case in training if case.labels)
    every = [replace(case, labels=labels) for case in training]
    shown = [case for case in revealed(every, 0.2) if case.labels and case.present == (1,)]
    assert len(shown) == 6


def test_slices_are_split_by_patient_and_marked_by_what_they_show(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for person in range(8):
        flair = rng.integers(60, 200, (6, 32, 32)).astype(np.uint8)
        mask = np.zeros((6, 32, 32), np.uint8)
        mask[:2, 8:20, 8:20] = 1
        mask[2, 8:10, 8:10] = 1  # the rim of a tumour: 4 of 1024
        np.savez(tmp_path / f"patient-{person}.npz", flair=flair, mask=mask, slice=np.arange(6))
    sections = list(tumour_sections(tmp_path, size=16, seed=0))
    assert LEAST_TUMOUR > 4 / 1024
    assert len(sections) == 8 * 5
    splits = {one.person: set() for one in sections}
    for one in sections:
        splits[one.person].add(one.split)
        assert np.abs(one.image).max() <= 1
        assert (one.labels is not None and one.labels.sum() == 36) if one.present == (1,) else one.labels is None
    assert Counter(split for (split,) in splits.values()) == {"train": 5, "validation": 1, "test": 2}


def test_digits_of_a_film_move_and_hide_each_other() -> None:
    motion = Motion(size=56, objects=3, speed=2.0)
    image, ids = film(digits(), motion, frames=30, rng=np.random.default_rng(0))
    assert set(np.unique(ids)) == {0, 1, 2, 3}
    assert np.abs(image[ids == 0]).max() < 6 * GRAIN
    areas = np.stack([(ids == number).sum((1, 2)) for number in (1, 2, 3)])
    assert (areas[2] == 12 * 12).all()  # nothing passes over the last
    assert areas.min() < 12 * 12  # but over the others
    for number in (1, 2, 3):
        rows = [np.argwhere(frame == number).mean(0) for frame in ids if (frame == number).sum() == 12 * 12]
        assert np.ptp(rows, axis=0).max() > 3
    last = np.array([np.argwhere(frame == 3).min(0) for frame in ids])
    assert 0 < np.abs(np.diff(last, axis=0)).max() <= 3  # rounding adds one to the speed at most


def test_films_are_a_volume_and_its_ids_for_each_split(collection: Path, tmp_path: Path) -> None:
    first = build_task("digits-video", tmp_path / "task", source=collection)
    assert first == tmp_path / "task/train.tif"
    for split, frames in FRAMES.items():
        image, ids = (open_volume(tmp_path / f"task/{split}{kind}.tif") for kind in ("", "_ids"))
        np.testing.assert_array_equal(image.grid.affine, ids.grid.affine)
        assert image.data.shape == ids.data.shape == (frames, 96, 96)
        assert set(np.unique(ids.data)) == {0, 1, 2, 3}


def test_what_cannot_be_built_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="task 'digits-hrad' is not known.*did you mean 'digits-hard'"):
        build_task("digits-hrad", tmp_path / "a")
    with pytest.raises(InputError, match="task 'digits-hard' is made of data but --source is not given"):
        build_task("digits-hard", tmp_path / "a")
    with pytest.raises(InputError, match=r"holds no PERSON\.npz; expected at least one: correct --source"):
        build_task("slices", tmp_path / "a", source=tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(InputError, match="'.*full' exists already; expected a new folder"):
        build_task("digits-smoke", tmp_path / "full")
