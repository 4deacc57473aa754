"""What half-known cohorts are made into: batches of kinds, shares of labels, slices of stacks, scans that vary."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from limner.check import InputError
from limner.data.batch import IGNORE
from limner.data.cohort import Case, find_cases, read_cohort, revealed
from limner.data.loader import Loader
from limner.data.sampling import patterned
from limner.data.scan import Preparation
from limner.data.store import Prepared, Store
from limner.data.variation import Variation, varied
from limner.space import LabelTable


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Two people with a bright square, one of them labelled twice, and a third without."""
    images = np.zeros((6, 8, 8), np.float32)
    labels = np.zeros((6, 8, 8), np.uint8)
    images[:4, 2:5, 3:6] = labels[:4, 2:5, 3:6] = 1
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", labels)
    rows = [
        f"images.npy,{'labels.npy' if n < 4 else ''},{int(n < 4)},c{n},p{n // 2},train,{n},{n // 2}" for n in range(6)
    ]
    (tmp_path / "table.csv").write_text("image,labels,present,case,person,split,slice,rank\n" + "\n".join(rows) + "\n")
    (tmp_path / "labels.tsv").write_text("id\tname\n1\tsquare\n")
    return tmp_path / "table.csv"


def store(table: Path) -> Store:
    preparation = Preparation(region="whole", intensity="kept")
    return Store(table.parent / "cache", preparation, LabelTable.read(table.parent / "labels.tsv"))


def test_slices_of_a_stack_are_scans(table: Path) -> None:
    cohort = read_cohort(table)
    batch, _ = Loader(store(table), cohort).whole(*cohort)
    assert batch.image.shape == (6, 1, 8, 8)
    assert batch.image.max() == 1
    assert batch.labels[:4].sum((1, 2)).tolist() == [9] * 4
    assert (batch.labels[4:] == IGNORE).all()
    assert batch.present[:, 0].tolist() == [1, 1, 1, 1, 0, 0]
    assert batch.mask.all()
    assert not (table.parent / "cache").exists()


def test_batches_are_of_the_kinds_that_are_wanted(table: Path) -> None:
    cohort = revealed(read_cohort(table), None, people=1)
    loader = Loader(store(table), cohort, batch=patterned(cohort, batch=4, apart=True, labelled=1))
    seen: Counter[str] = Counter()
    for step in range(12):
        batch, _ = loader.batch(step)
        assert batch.present[:, 0].tolist() == [1, 1, 0, 0]
        assert (batch.labels[0] != IGNORE).all()
        seen.update(batch.case)
    assert set(seen) == {f"c{number}" for number in range(6)}
    everything = patterned(cohort, batch=3, apart=True, labelled=3)
    assert everything.places == (0, 0, 0)
    assert {cohort[number].name for number in everything.kinds[0]} == {"c0", "c1"}


def test_processes_share_a_pattern(table: Path) -> None:
    cohort = read_cohort(table)
    whole, half = (patterned(cohort, batch=size, apart=True, labelled=0) for size in (4, 2))
    alone = [Loader(store(table), cohort, batch=whole).batch(step)[0].case for step in range(3)]
    ranks = [
        [Loader(store(table), cohort, batch=half, process=(rank, 2)).batch(step)[0].case for rank in (0, 1)]
        for step in range(3)
    ]
    for cases, (first, second) in zip(alone, ranks, strict=True):
        assert sorted(cases) == sorted((*first, *second))


def test_kinds_that_nobody_is_of_are_refused(table: Path) -> None:
    unlabelled = [replace(case, labels=None) for case in read_cohort(table)]
    with pytest.raises(InputError, match="1 scans of each batch are to be of those with labels but there are none"):
        patterned(unlabelled, batch=4, apart=True, labelled=1)
    with pytest.raises(InputError, match="2 scans of each batch are to be of those with no target"):
        patterned(unlabelled[:4], batch=4, apart=True, labelled=0)


def test_a_share_of_the_labels_is_of_whole_people(table: Path) -> None:
    cohort = read_cohort(table)
    for share, names in ((0.01, {"c0", "c1"}), (0.5, {"c0", "c1"}), (0.51, {"c0", "c1", "c2", "c3"})):
        assert {case.name for case in revealed(cohort, share) if case.labels} == names
    with pytest.raises(InputError, match=r"labels of a share of 0\.1 were wanted but none of 3 people has any"):
        revealed([replace(case, labels=None) for case in cohort], 0.1)


def test_a_mask_on_an_image_marked_absent_is_refused(table: Path) -> None:
    wrong = replace(read_cohort(table)[0], present=(0,))
    with pytest.raises(InputError, match=r"'c0' is marked absent \(present 0\) but its labels show 9 voxels"):
        store(table).prepared(wrong)


def test_stacks_that_cannot_be_read_are_refused(table: Path) -> None:
    case = read_cohort(table)[0]
    with pytest.raises(InputError, match=r"has no slice 9; expected 0 to 5: correct the column slice"):
        store(table).prepared(replace(case, slice=9))
    np.save(table.parent / "small.npy", np.zeros((6, 4, 4), np.uint8))
    with pytest.raises(InputError, match=r"labels of 'c0' has shape \(4, 4\) but its image has \(8, 8\)"):
        store(table).prepared(replace(case, labels=table.parent / "small.npy"))
    with pytest.raises(InputError, match=r"cannot be read slice by slice; expected an array in a \.npy file"):
        store(table).prepared(replace(case, images=(table,)))
    with pytest.raises(InputError, match="'c0' is a slice of a stack; expected a file of its own"):
        find_cases([table])
    text = table.read_text()
    table.write_text(text.replace(",train,0,", ",train,first,"))
    with pytest.raises(InputError, match="line 2: slice 'first' is no number; expected 0, 1, 2 and so on"):
        read_cohort(table)


def with_spacing(table: Path, spacing: str, *, slices: bool = True) -> Path:
    """The table with a column more, and as the sixth of its columns a slice or none."""
    head, *rows = table.read_text().splitlines()
    cells = [row.split(",") for row in rows]
    lines = [",".join([*row[:6], row[6] if slices else "", row[7], spacing]) for row in cells]
    table.write_text("\n".join([f"{head},spacing", *lines]) + "\n")
    return table


def test_slices_are_as_large_as_the_table_says(table: Path) -> None:
    cohort = read_cohort(with_spacing(table, "0.5 1"))
    batch, _ = Loader(store(table), cohort).whole(*cohort[:2])
    assert batch.world.tolist() == [[[0.5, 0, 0], [0, 1, 0], [0, 0, 1]]] * 2


def test_spacings_that_mean_nothing_are_refused(table: Path) -> None:
    text = table.read_text()
    with pytest.raises(InputError, match="'c0' has 2 axes but a spacing of 3 numbers; expected one each, mm"):
        store(table).prepared(read_cohort(with_spacing(table, "1 1 1"))[0])
    for wrong in ("0 1", "one", "-1 1"):
        table.write_text(text)
        with pytest.raises(InputError, match=f"line 2: spacing '{wrong}' is none; expected mm above 0 along each axis"):
            read_cohort(with_spacing(table, wrong))
    table.write_text(text)
    with pytest.raises(InputError, match="line 2: spacing is given to a file that says its own; expected it of slices"):
        read_cohort(with_spacing(table, "1 1", slices=False))


def test_intensities_are_kept_or_bounded(table: Path) -> None:
    case = read_cohort(table)[0]
    bounded = replace(store(table), preparation=Preparation(region="whole", intensity="bounded")).prepared(case)
    assert np.abs(bounded.image).max() <= 1
    assert abs(float(bounded.image.std()) - 0.2) < 1e-3


def scan(dimensions: int) -> Prepared:
    shape = (12,) * dimensions
    ramp = np.indices(shape).sum(0).astype(np.float32)[None] / 40
    labels = (ramp[0] > 0.5).astype(np.int16)
    return Prepared(Case("one", ()), ramp, np.ones(shape, bool), labels, None, np.eye(dimensions + 1))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_scan_that_is_not_varied_stays_as_it_is(dimensions: int) -> None:
    still = Variation(rotation=0, zoom=0, brightness=0, flips=(), warp=0)
    found = varied(scan(dimensions), still, rng=np.random.default_rng(0))
    np.testing.assert_allclose(found.image, scan(dimensions).image, atol=1e-5)
    np.testing.assert_array_equal(found.labels, scan(dimensions).labels)
    assert found.mask.all()


@pytest.mark.parametrize("dimensions", [2, 3])
def test_flips_are_flips_and_labels_go_with_the_image(dimensions: int) -> None:
    flips = Variation(rotation=0, zoom=0, brightness=0, flips=(0,), warp=0)
    seen = set()
    for seed in range(12):
        found = varied(scan(dimensions), flips, rng=np.random.default_rng(seed))
        flipped = not np.allclose(found.image, scan(dimensions).image, atol=1e-4)
        seen.add(flipped)
        expected = scan(dimensions).image[:, ::-1] if flipped else scan(dimensions).image
        np.testing.assert_allclose(found.image, expected, atol=1e-4)
    assert seen == {True, False}
    found = varied(scan(dimensions), Variation(warp=1), rng=np.random.default_rng(3))
    near = (found.image[0] > 0.5) == (found.labels == 1)
    assert near.mean() > 0.7
    assert found.image.max() <= scan(dimensions).image.max()


def test_the_border_of_a_warp_stays_where_it_is() -> None:
    warp = Variation(rotation=0, zoom=0, brightness=0, flips=(), warp=1)
    found = varied(scan(2), warp, rng=np.random.default_rng(0))
    np.testing.assert_allclose(found.image[:, 0], scan(2).image[:, 0], atol=1e-4)
    np.testing.assert_allclose(found.image[:, :, -1], scan(2).image[:, :, -1], atol=1e-4)
    assert not np.allclose(found.image, scan(2).image, atol=1e-2)
