"""An atlas built from label maps: every id where it was, nobody's head preferred, nothing dropped in silence."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage, stats

import people
import phantoms
from limner.check import InputError
from limner.priors.atlas import Atlas
from limner.priors.averaging import build_atlas
from limner.priors.groupwise import aligned_maps
from limner.priors.label_maps import LabelMap
from limner.priors.neighbours import neighbour_counts
from limner.space import Array, Grid, Label, LabelTable, Volume, reoriented

SPACING = 2.0
#: Affine maps that three people's heads differ by.
PEOPLE = [
    phantoms.turned((4, -3, 8), (3, -2, 5), scale=1.05),
    phantoms.turned((-5, 2, -4), (-4, 1, -1), scale=0.93),
    phantoms.turned((2, 6, -3), (0, 4, -6), scale=1.0),
]


def opened(volumes: Sequence[Volume]) -> dict[str, Callable[[], Volume]]:
    return {f"map-{number}": lambda volume=volume: volume for number, volume in enumerate(volumes)}


def heads() -> list[Volume]:
    on = phantoms.grid(SPACING, half=(60, 60, 60))
    return [phantoms.labels(on, transform) for transform in PEOPLE]


def built(volumes: Sequence[Volume], table: LabelTable | None = None, **settings: object) -> Atlas:
    settings = {"bends": False, "spacing": SPACING} | settings
    return build_atlas(opened(volumes), table or phantoms.table(), **settings)


@pytest.fixture(scope="module")
def average() -> Atlas:
    return built(heads())


def likeliest(atlas: Atlas, grid: Grid) -> Array:
    """Ids of the likeliest label of all at each voxel of a grid."""
    rows = len(atlas.table)
    placed = atlas.place(grid)
    return atlas.table.ids[
        atlas.maps.sampled(placed._matrix, grid.shape, group_of=np.arange(rows), groups=rows).argmax(0)
    ]


def as_maps(volumes: Sequence[Volume], table: LabelTable) -> tuple[list[LabelMap], Array]:
    """What the alignment is given."""
    rows = [table.rows(volume.data).astype(np.uint8) for volume in volumes]
    maps = [LabelMap("a map", one, volume.grid, np.eye(4)) for one, volume in zip(rows, volumes, strict=True)]
    return maps, np.array([np.bincount(one.ravel(), minlength=len(table)) for one in rows])


def test_one_map_without_blur_is_kept_as_it_is() -> None:
    volume = heads()[0]
    atlas = built([volume], blur=0.0)
    np.testing.assert_array_equal(likeliest(atlas, volume.grid), volume.data)
    assert set(atlas.table.ids.tolist()) == set(np.unique(volume.data).tolist())


@pytest.mark.parametrize(("blur", "bends", "sd"), [(None, False, 3.0), (None, True, 1.5), (5.0, True, 5.0)])
def test_one_map_is_blurred_by_a_gaussian(blur: float | None, bends: bool, sd: float) -> None:
    grid = Grid((60, 12, 12), np.diag([1.0, 1.0, 1.0, 1.0]))
    data = np.zeros(grid.shape, np.int32)
    data[10:30], data[30:50] = 2, 3
    atlas = build_atlas(opened([Volume(data, grid, "labels")]), phantoms.table([2, 3]), blur=blur, bends=bends)
    assert (atlas.warps is not None) is bends
    assert atlas.provenance["blur_mm"] == sd
    shares = atlas.maps.sampled(np.eye(4), atlas.grid.shape, group_of=np.arange(3), groups=3)
    # The middle of the faces, far from where the block ends along the other axes, relative to those ends.
    middle = shares[:, :, shares.shape[2] // 2, shares.shape[3] // 2]
    both = middle[1] + middle[2]
    inner = slice(int(30 - atlas.grid.affine[0, 3]) - 6, int(30 - atlas.grid.affine[0, 3]) + 6)
    steps = atlas.grid.affine[0, 3] + np.arange(*inner.indices(len(both))) - 29.5
    np.testing.assert_allclose((middle[2] / both)[inner], stats.norm.cdf(steps / sd), atol=0.02)


def test_the_mean_of_the_inverse_transforms_is_the_identity() -> None:
    maps, present = as_maps(heads(), phantoms.table())
    inverses = [np.linalg.inv(one.transform) for one in aligned_maps(maps, present)]
    np.testing.assert_allclose(np.mean(inverses, axis=0), np.eye(4), atol=1e-4)


def test_heads_that_differ_by_affine_maps_fall_on_one_another(average: Atlas) -> None:
    maps, present = as_maps(heads(), phantoms.table())
    together = [one.transform @ person for one, person in zip(aligned_maps(maps, present), PEOPLE, strict=True)]
    grid = phantoms.grid()
    for other in together[1:]:
        assert phantoms.farthest(together[0], other, grid) < 1.5
    found, truth = likeliest(average, heads()[0].grid.moved(together[0] @ np.linalg.inv(PEOPLE[0]))), heads()[0].data
    scores = [phantoms.dice(found == label, truth == label) for label in average.table.ids[1:].tolist()]
    assert min(scores) > 0.75
    assert np.mean(scores) > 0.9


def test_the_order_of_maps_does_not_matter(average: Atlas) -> None:
    backwards = built(heads()[::-1])
    assert average.grid.matches(backwards.grid, tolerance=1e-3)
    difference = average.maps.weights.astype(int) - backwards.maps.weights
    assert abs(difference).max() <= 2


def stored_otherwise(volume: Volume, orientation: str, *, lost: bool) -> Volume:
    """The same map with its axes in another order, and perhaps without the affine that says so."""
    turned = reoriented(volume, orientation)
    affine = np.diag([SPACING] * 3 + [1.0]) if lost else turned.grid.affine
    return Volume(turned.data, Grid(turned.data.shape, affine), "labels")


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("orientation", ["LIA", "PSR", "RAI"])
def test_the_stored_orientation_of_a_map_does_not_matter(average: Atlas, orientation: str, lost: bool) -> None:
    volumes = heads()
    volumes[1] = stored_otherwise(volumes[1], orientation, lost=lost)
    atlas = built(volumes)
    assert atlas.grid.shape == average.grid.shape
    # An affine that is lost takes the position along, and the common space lies between all positions.
    shift = np.abs(atlas.grid.affine[:3, 3] - average.grid.affine[:3, 3]).max()
    assert (shift > 1) if lost else (shift < 1e-6)
    np.testing.assert_array_equal(atlas.table.ids, average.table.ids)
    assert (atlas.maps.rows == average.maps.rows).mean() > 0.999
    assert abs(atlas.maps.weights.astype(int) - average.maps.weights).max() <= 2
    np.testing.assert_array_equal(atlas.neighbours.counts, average.neighbours.counts)


def test_unknown_ids_are_listed_and_refused() -> None:
    volumes = heads()
    volumes[1].data[0, 0, :3] = 999
    with pytest.raises(InputError, match="'map-1' has labels that the label table does not know: 999 \\(3 voxels\\)"):
        built(volumes)


def test_unknown_ids_are_folded_into_the_background_if_asked(average: Atlas) -> None:
    volumes = heads()
    volumes[1].data[0, 0, :3] = 999
    folded = built([replace(volume, data=phantoms.table().folded(volume.data)) for volume in volumes])
    np.testing.assert_array_equal(folded.maps.weights, average.maps.weights)
    np.testing.assert_array_equal(folded.maps.rows, average.maps.rows)


def test_a_label_that_some_maps_lack_is_averaged_and_reported(average: Atlas) -> None:
    volumes = heads()
    volumes[2].data[volumes[2].data == 11] = 2
    atlas = built(volumes)
    assert atlas.provenance["missing_from"] == {"11": ["map-2"]}
    assert average.provenance["missing_from"] == {}

    def peak(of: Atlas) -> float:
        row = of.table.ids.tolist().index(11)
        return float(np.where(of.maps.rows == row, of.maps.weights, 0).max()) / 255

    assert peak(average) == 1
    assert peak(atlas) == pytest.approx(2 / 3, abs=0.01)


def test_a_structure_that_no_map_has_is_refused() -> None:
    table = phantoms.table([*phantoms.IDS, 17, 53, 13])
    with pytest.raises(InputError, match="no voxel of pallidum, hippocampus in any of 3 label maps; .* by --labels"):
        built(heads(), table)


def test_a_map_without_labels_is_refused() -> None:
    volumes = heads()
    volumes[2].data[:] = 0
    with pytest.raises(InputError, match="label map 'map-2' labels no voxel"):
        built(volumes)


def test_an_image_is_refused() -> None:
    volume = Volume(np.ones((3, 3, 3)), Grid((3, 3, 3), np.eye(4)), "image")
    with pytest.raises(InputError, match="label map 'map-0' was opened as an image"):
        built([volume])


def test_maps_without_a_label_in_common_are_refused() -> None:
    volumes = heads()
    volumes[0].data[volumes[0].data != 10] = 0
    volumes[1].data[volumes[1].data != 49] = 0
    with pytest.raises(InputError, match="label maps 'map-0' to 'map-1' share no label of 50 voxels or more"):
        built(volumes[:2], phantoms.table([10, 49]))


def test_two_structures_are_enough_to_align_by() -> None:
    """Where few structures are shared, the extent of all labels helps."""
    volumes = heads()
    for volume in volumes:
        volume.data[~np.isin(volume.data, [10, 49])] = 0
    atlas = built(volumes, phantoms.table([10, 49]))
    assert {10, 49} == set(likeliest(atlas, atlas.grid).ravel().tolist()) - {0}


def test_labels_that_fill_their_box_leave_the_background_its_row() -> None:
    data = np.full((12, 12, 12), 3, np.int32)
    data[6:] = 42
    volume = Volume(data, Grid(data.shape, np.diag([SPACING] * 3 + [1.0])), "labels")
    atlas = built([volume], phantoms.table([3, 42]), blur=0.0)
    assert atlas.table.ids.tolist() == [0, 3, 42]
    np.testing.assert_array_equal(likeliest(atlas, volume.grid), data)
    assert atlas.provenance["missing_from"] == {}


@pytest.mark.parametrize("kept", [False, True])
def test_what_lies_outside_the_brain_is_kept_in_an_atlas_of_the_head(kept: bool) -> None:
    volume = heads()[0]
    volume.data[volume.data == 24] = 258
    atlas = built([volume], phantoms.table([*set(phantoms.IDS) - {24}, 258]), blur=0.0, keep_outside=kept)
    assert 258 not in atlas.table
    np.testing.assert_array_equal(likeliest(atlas, volume.grid), np.where(volume.data == 258, 0, volume.data))
    assert (atlas.head is not None) is kept
    if atlas.head:
        row = atlas.head.table.ids.tolist().index(258)
        assert atlas.head.table.structure_of[row] == 0
        found = likeliest(atlas.head, volume.grid) == 258
        assert phantoms.dice(found, volume.data == 258) > 0.9


def test_neighbours_are_counted_on_the_maps_as_they_are() -> None:
    volume, table = heads()[0], phantoms.table([*phantoms.IDS, 14])
    atlas = built([volume], table, window=5)
    classes = atlas.table.structure_of[atlas.table.rows(volume.data)]
    expected = neighbour_counts(classes, len(atlas.table.structures), size=5)
    counted = atlas.neighbours
    assert counted is not None
    assert counted.size == 5
    # The map was cropped: pairs of background and background are fewer.
    np.testing.assert_array_equal(counted.counts.ravel()[1:], expected.ravel()[1:])


def test_provenance_tells_the_maps_apart(average: Atlas) -> None:
    maps = average.provenance["maps"]
    assert list(maps) == ["map-0", "map-1", "map-2"]
    assert len(set(maps.values())) == 3
    assert built(heads()).provenance == average.provenance


def many_labels() -> LabelTable:
    return LabelTable(tuple(Label(number, f"part-{number}", (0, 0, 0), "rest", "grey") for number in range(1, 61)))


def test_one_map_is_open_at_a_time_and_no_map_is_dense() -> None:
    """Sixty dense maps of the atlas would take 63 MB, the ten label maps 9 MB if they were all open."""
    size, seen = 48, []
    parts = ndimage.zoom(np.arange(1, 65).reshape(4, 4, 4) % 60 + 1, size // 4, order=0).astype(np.int64)

    def opening() -> Volume:
        gc.collect()
        assert all(reference() is None for reference in seen)
        volume = Volume(parts.copy(), Grid(parts.shape, np.eye(4)), "labels")
        seen.append(weakref.ref(volume.data))
        return volume

    build_atlas(
        {"warm": opening}, many_labels(), spacing=4.0, bends=False
    )  # compiles, and imports what is imported where used
    tracemalloc.start()
    try:
        build_atlas({str(number): opening for number in range(10)}, many_labels(), bends=False)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(seen) == 11
    assert peak < 22e6


@pytest.mark.real
def test_people_keep_all_their_labels_left_and_right_apart(real_data: Path) -> None:
    atlas, volumes = people.atlas(real_data), [opening() for opening in people.label_maps(real_data).values()]
    whole = LabelTable.freesurfer()
    inner = {label.id for label in whole.labels if label.structure != "background"}
    found = [set(np.unique(volume.data).tolist()) & inner for volume in volumes]
    assert set(atlas.table.ids.tolist()) - {0} == set.union(*found)
    rare = set.union(*found) - set.intersection(*found)
    assert {int(label) for label in atlas.provenance["missing_from"]} == rare
    for label in atlas.table.labels:
        assert label == whole[label.id]
        row = atlas.table.ids.tolist().index(label.id)
        side = np.average(np.nonzero(atlas.maps.rows == row)[1], weights=atlas.maps.weights[atlas.maps.rows == row])
        if label.name.startswith(("Left", "Right")):
            assert (side < atlas.grid.shape[0] / 2) == label.name.startswith("Left"), label


@pytest.mark.real
def test_people_fall_on_one_another(real_data: Path) -> None:
    """Where the white matter is deep, three people agree after alignment, and their ids come back from classes."""
    atlas = people.atlas(real_data)
    volumes = [opening() for opening in people.label_maps(real_data).values()]
    shares = [
        np.where(atlas.maps.rows == atlas.table.ids.tolist().index(label), atlas.maps.weights, 0).max() / 255
        for label in (2, 41, 4, 43, 10, 49, 11, 50, 12, 51, 16)
    ]
    assert min(shares) == 1
    known = [np.where(np.isin(volume.data, atlas.table.ids), volume.data, 0) for volume in volumes]
    maps, present = as_maps(
        [Volume(data, volume.grid, "labels") for data, volume in zip(known, volumes, strict=True)], atlas.table
    )
    for one in aligned_maps(maps, present):
        rows = np.ascontiguousarray(one.rows[::4, ::4, ::4])
        placed = atlas.place(Grid(rows.shape, one.to_common @ np.diag([4, 4, 4, 1])))
        truth, ids = atlas.table.ids[rows], placed.identified(atlas.table.structure_of[rows])
        sided = np.isin(truth, [2, 41, 3, 42, 4, 43, 8, 47, 10, 49, 11, 50, 12, 51, 13, 52, 17, 53, 18, 54])
        assert (ids == truth)[sided].mean() > 0.995
