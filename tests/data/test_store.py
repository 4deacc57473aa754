"""A scan is prepared and placed once, kept as memory maps, and made anew when anything it depends on changes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Barrier, Thread

import numpy as np
import pytest
import torch

import tiny
from data.cohorts import aside, cohort
from limner.check import InputError
from limner.data.cohort import Case
from limner.data.scan import Preparation, Scan, prepared
from limner.data.store import Prepared, Store
from limner.files import open_volume, save_volume
from limner.priors.atlas import Atlas, Placement
from limner.priors.averaging import build_atlas
from limner.priors.dense import DensePrior
from limner.space import Array, LabelTable, Volume, reoriented


@dataclass
class Counting:
    """A placer that remembers what it was asked."""

    place: Callable[[Scan], Placement]
    asked: list[Scan] = field(default_factory=list)

    def __call__(self, scan: Scan) -> Placement:
        self.asked.append(scan)
        return self.place(scan)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> LabelTable:
    return tiny.table(tmp_path_factory.mktemp("table"))


@pytest.fixture(scope="module")
def atlas(table: LabelTable) -> Atlas:
    return build_atlas({"map": tiny.labels}, table, spacing=2, blur=1)


@pytest.fixture
def cases(tmp_path: Path) -> tuple[Case, ...]:
    (tmp_path / "scans").mkdir()
    return cohort(tmp_path / "scans")


def store(tmp_path: Path, table: LabelTable, **changes: object) -> Store:
    return replace(Store(tmp_path / "cache", Preparation(), table), **changes)


def contents(kept: Prepared) -> list[Array]:
    return [array for array in (kept.image, kept.mask, kept.labels, kept.parts, kept.world) if array is not None]


def test_what_is_kept_is_the_scan_made_ready(tmp_path: Path, table: LabelTable, cases: tuple[Case, ...]) -> None:
    for case in cases:
        kept = store(tmp_path, table).prepared(case)
        assert case.labels is not None
        labels = open_volume(case.labels, kind="labels")
        scan = prepared(open_volume(case.images[0]), labels=labels, table=table)
        np.testing.assert_array_equal(kept.image, scan.standardised())
        np.testing.assert_array_equal(kept.mask, scan.mask)
        np.testing.assert_array_equal(kept.labels, scan.labels)
        np.testing.assert_array_equal(kept.world, scan.grid.affine)
        assert (kept.image.dtype, kept.mask.dtype, kept.labels.dtype) == (np.float32, np.bool_, np.int16)
        assert kept.parts is None
        assert all(isinstance(array, np.memmap) for array in (kept.image, kept.mask, kept.labels))


def test_parts_lie_where_the_scan_was_placed(
    tmp_path: Path, table: LabelTable, atlas: Atlas, cases: tuple[Case, ...]
) -> None:
    for case in cases:
        kept = store(tmp_path, table, prior=atlas, place=aside).prepared(case)
        scan = prepared(open_volume(case.images[0]))
        expected = aside(scan).placed(atlas, grid=scan.grid, mask=scan.mask)
        np.testing.assert_allclose(kept.world, expected.grid.affine, atol=1e-9)
        assert kept.parts is not None
        assert kept.parts.flags.c_contiguous
        assert kept.parts.dtype == np.float16
        found = DensePrior(atlas.parts, torch.from_numpy(kept.parts).movedim(-1, 0)[None]).part_probability()[0]
        torch.testing.assert_close(found, expected.part_probability(), atol=3e-4, rtol=0)
        assert (
            found - atlas.within(scan.mask, expected.grid).place(expected.grid).part_probability()
        ).abs().max() > 0.1


def test_scans_lie_in_the_priors_world_if_nobody_places_them(
    tmp_path: Path, table: LabelTable, atlas: Atlas, cases: tuple[Case, ...]
) -> None:
    kept = store(tmp_path, table, prior=atlas).prepared(cases[0])
    np.testing.assert_array_equal(kept.world, prepared(open_volume(cases[0].images[0])).grid.affine)
    assert kept.parts is not None


def test_a_scan_is_placed_once_for_all_voxel_sizes(
    tmp_path: Path, table: LabelTable, atlas: Atlas, cases: tuple[Case, ...]
) -> None:
    place = Counting(aside)
    fine = store(tmp_path, table, prior=atlas, place=place)
    coarse = replace(fine, preparation=Preparation(spacing=4))
    for one in (coarse, fine, coarse, fine):
        kept = one.prepared(cases[0])
        assert np.linalg.norm(kept.world[:3, 0]) == pytest.approx(4 if one is coarse else 2)
    assert len(place.asked) == 1
    assert place.asked[0].grid.voxel_sizes == pytest.approx([2, 2, 2])
    replace(fine, placer="another").prepared(cases[0])
    assert len(place.asked) == 2


def test_what_was_kept_is_made_anew_only_if_something_changed(
    tmp_path: Path, table: LabelTable, atlas: Atlas, cases: tuple[Case, ...]
) -> None:
    case, kept = cases[0], store(tmp_path, table, prior=atlas, place=aside)
    kept.prepared(case)
    folder = tmp_path / "cache"

    def made(of: Store, one: Case = case) -> int:
        before = set(folder.iterdir())
        of.prepared(one)
        return len(set(folder.iterdir()) - before)

    assert made(kept) == 0
    assert made(replace(kept)) == 0
    assert made(replace(kept, preparation=Preparation(spacing=3))) == 1
    assert made(replace(kept, preparation=Preparation(margin=1))) == 2
    assert made(replace(kept, table=None)) == 1
    assert made(replace(kept, prior=build_atlas({"map": tiny.labels}, table, spacing=2, blur=2))) == 2
    assert made(kept, replace(case, labels=None)) == 1
    save_volume(tiny.image(9), case.images[0])
    os.utime(case.images[0], ns=(1, 1))
    assert made(kept) == 2
    np.testing.assert_array_equal(kept.prepared(case).image, prepared(tiny.image(9)).standardised())


def test_axes_that_nobody_knows_are_found(tmp_path: Path, table: LabelTable, atlas: Atlas) -> None:
    image = reoriented(tiny.image(), "LIA")
    np.savez(tmp_path / "bare.npz", vol_data=image.data)

    def place(scan: Scan) -> Placement:
        assert not scan.oriented
        return Placement(image.grid.affine, 0.0)

    with pytest.warns(UserWarning, match="no affine"):
        kept = store(tmp_path, table, prior=atlas, place=place).prepared(Case("bare", (tmp_path / "bare.npz",)))
    expected = prepared(tiny.image())
    np.testing.assert_array_equal(kept.image, expected.standardised())
    np.testing.assert_allclose(kept.world, expected.grid.affine, atol=1e-9)


@pytest.mark.filterwarnings("ignore:.*no affine")
@pytest.mark.parametrize("place", [None, aside])
def test_slices_have_no_place_in_an_atlas(
    tmp_path: Path, atlas: Atlas, place: Callable[[Scan], Placement] | None
) -> None:
    data = np.zeros((9, 8), np.float32)
    data[2:7, 2:6] = np.arange(20).reshape(5, 4) + 1
    np.savez(tmp_path / "slice.npz", vol_data=data)
    case = Case("slice", (tmp_path / "slice.npz",))
    with pytest.raises(InputError, match="expected three axes of two voxels or more"):
        Store(tmp_path / "cache", Preparation(), prior=atlas, place=place).prepared(case)
    assert Store(tmp_path / "cache", Preparation(margin=1)).prepared(case).image.shape == (1, 7, 6)


def test_two_who_prepare_the_same_do_not_disturb_each_other(
    tmp_path: Path, table: LabelTable, cases: tuple[Case, ...]
) -> None:
    both, found = Barrier(2), []

    class Late(Store):
        def placed(self, case: Case) -> tuple[Scan, Placement | None]:
            result = super().placed(case)
            both.wait(20)
            return result

    def work() -> None:
        found.append(Late(tmp_path / "cache", Preparation(), table).prepared(cases[0]))

    threads = [Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, second = found
    for one, other in zip(contents(first), contents(second), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_failed_scan_leaves_nothing(tmp_path: Path, table: LabelTable, cases: tuple[Case, ...]) -> None:
    kept = store(tmp_path, table)
    with pytest.raises(InputError, match="does not exist"):
        kept.prepared(replace(cases[0], labels=tmp_path / "none.nii"))
    wrong = tiny.labels()
    save_volume(Volume(np.where(wrong.data == 3, 44, 0), wrong.grid, "labels"), tmp_path / "wrong.nii.gz")
    with pytest.raises(InputError, match=r"'labels of head-0' has labels that the label table does not know: 44"):
        kept.prepared(replace(cases[0], labels=tmp_path / "wrong.nii.gz"))
    assert not (tmp_path / "cache").exists()
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(InputError, match="cannot be written"):
        kept.prepared(cases[0])


def test_a_label_map_is_placed_as_a_scan_of_it_would_be(tmp_path: Path, table: LabelTable, atlas: Atlas) -> None:
    path = tmp_path / "map.nii.gz"
    save_volume(tiny.labels(), path)
    place = Counting(aside)
    kept = store(tmp_path, table, prior=atlas, place=place)
    found = kept.prepared(Case("map", (), labels=path))
    (scan,) = place.asked
    np.testing.assert_array_equal(scan.mask, found.mask)
    np.testing.assert_array_equal(found.labels > 0, found.mask)
    assert scan.image.shape[0] == 1
    means = [scan.image[0][torch.from_numpy(found.labels == label)].mean() for label in (1, 2, 3)]
    np.testing.assert_allclose(np.diff(means), 1, atol=0.1)
    kept.prepared(Case("map", (), labels=path))
    assert len(place.asked) == 1
