"""Build an atlas from label maps: bring them to a space that prefers none of them, average, and keep it sparse."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limner import check
from limner.priors.atlas import Atlas
from limner.priors.neighbours import NeighbourTable, neighbour_counts
from limner.priors.sparse import SparseMaps
from limner.space import Array, Box, Grid, LabelTable, Volume, reoriented
from limner.space.labels import REST

#: Gaussian sd in mm that one map alone is blurred with: the first atlas of Yu et al. 2020.
BLUR_OF_ONE = 3.0
#: Background kept around the labels, in mm.
MARGIN = 8.0
#: Structures with fewer voxels than this in some map have no reliable centre.
SMALLEST = 50
#: With fewer centres than this, the extent of all labels together helps to fix the affine map.
ENOUGH = 8


@dataclass(frozen=True, eq=False)
class _Map:
    """A label map cropped to what is labelled.

    Args:
        name: of the file, for messages.
        rows: (*S) rows of the table.
        grid: (*S) where they lie.
        transform: (4, 4) from its world to the common space, mm.
    """

    name: str
    rows: NDArray[Any]
    grid: Grid
    transform: Array

    @property
    def to_common(self) -> Array:
        """(4, 4) from voxel indices to the common space."""
        return np.asarray(self.transform @ self.grid.affine)


def build_atlas(
    volumes: dict[str, Callable[[], Volume]],
    table: LabelTable,
    *,
    spacing: float = 1.0,
    blur: float | None = None,
    window: int = 3,
    fold_unknown: bool = False,
    keep_outside: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Atlas:
    """Average label maps into a probabilistic atlas with a neighbour table.

    Maps are aligned by the centres of their structures, each counting the same, and the common space is the one in
    which the maps' mean change of shape and position is none. They may differ in orientation, size and field of view;
    one is in memory whole at a time.

    Args:
        volumes: by name, functions that each open one label map.
        table: must know every id in them; the atlas keeps the part that occurs.
        spacing: of the atlas in mm, isotropic.
        blur: Gaussian sd in mm; None: 3 mm for one map, none for several.
        window: edge in voxels of the neighbour table's window, odd, 3 to 21.
        fold_unknown: count ids that the table does not know as background instead of refusing them.
        keep_outside: keep what the table ties to the background (skull, skin, eyes) as labels of their own.
        progress: told each step in words.

    Raises:
        InputError: for an image instead of labels, unknown ids, a structure of the table that no map has, a map without
            labels, or maps that share no label to be aligned by.

    Source: Van Leemput et al. 1999 (averaged affine atlas); Yu et al. 2020 (SAE), Atlas1 (one map blurred by 3 mm) and
    eq. 9 (neighbour table). Our departures: alignment by a generalised Procrustes analysis of centres instead of
    images, and pseudo-counts.
    """
    maps: list[_Map] = []
    for name, open_map in volumes.items():
        progress(f"reading {name}")
        maps.append(_read(name, open_map(), table=table, fold_unknown=fold_unknown, keep_outside=keep_outside))
    present = np.array([np.bincount(one.rows.ravel(), minlength=len(table)) for one in maps])
    present[:, 0] += 1  # There is background around every map, if not in it.
    check.structures_missing(_structures_missing(present, table), len(maps))
    progress("counting neighbours")
    counts = sum(_counts(one, table, window=window) for one in maps)
    progress("aligning the maps")
    maps = aligned_maps(maps, present)
    grid = _common_grid(maps, spacing)
    sd = (BLUR_OF_ONE if len(maps) == 1 else 0.0) if blur is None else blur
    progress("averaging")
    kept = np.flatnonzero(present.any(0))
    sparse = SparseMaps.gathered(_averages(maps, grid, kept=kept, sd=sd), grid.shape, labels=len(kept))
    order = _kept_structures(table, kept)
    record = _provenance(maps, present, table=table) | {"blur_mm": sd, "spacing_mm": spacing}
    neighbours = NeighbourTable(np.asarray(counts)[np.ix_(order, order)], window)
    return Atlas(table.subset(table.ids[kept]), grid, sparse, neighbours, record)


def _read(name: str, volume: Volume, *, table: LabelTable, fold_unknown: bool, keep_outside: bool) -> _Map:
    """Return a map as rows of the table, in RAS order and cropped to what is labelled."""
    check.label_map(volume.kind, f"label map '{name}'")
    volume = reoriented(volume, "RAS")
    ids = np.where(np.isin(volume.data, table.ids), volume.data, 0) if fold_unknown else volume.data
    rows: NDArray[Any] = table.rows(ids, name).astype(np.uint8 if len(table) <= 256 else np.uint16)
    if not keep_outside:
        rows = np.where(table.structure_of == 0, 0, np.arange(len(table))).astype(rows.dtype)[rows]
    box = Box.around(rows > 0)
    check.labelled(box.size, name)
    return _Map(name, np.ascontiguousarray(rows[box.slices]), volume.grid.cropped(box), np.eye(4))


def _counts(one: _Map, table: LabelTable, *, window: int) -> NDArray[np.int64]:
    """Return the (K, K) neighbour counts of a map, with a border of background as wide as the window reaches."""
    classes = np.pad(table.structure_of[one.rows], window // 2)
    return neighbour_counts(classes, len(table.structures), size=window)


def _structures_missing(present: NDArray[Any], table: LabelTable) -> list[str]:
    """Return the structures, other than background and rest, of which no map has a voxel."""
    found = np.zeros(len(table.structures), bool)
    found[table.structure_of[present.any(0)]] = True
    return [name for name, there in zip(table.structures, found, strict=True) if not there and name != REST]


def _kept_structures(table: LabelTable, kept: NDArray[Any]) -> NDArray[Any]:
    """Return the indices of the structures that the kept rows have, in the order of the smaller table."""
    smaller = table.subset(table.ids[kept])
    return np.array([table.structures.index(name) for name in smaller.structures])


def _provenance(maps: Sequence[_Map], present: NDArray[Any], *, table: LabelTable) -> dict[str, Any]:
    """Return what the atlas was built from: each map's name and hash, and which labels some maps lack."""
    hashes = {one.name: hashlib.sha256(one.rows.tobytes()).hexdigest()[:16] for one in maps}
    some = present.any(0) & ~present.all(0)
    missing = {
        str(table.ids[row]): [one.name for one, has in zip(maps, present[:, row], strict=True) if not has]
        for row in np.flatnonzero(some)
    }
    return {"maps": hashes, "missing_from": missing}


def aligned_maps(maps: Sequence[_Map], present: NDArray[Any]) -> list[_Map]:
    """Return the maps with affine transforms to their common space, from the centres of shared structures.

    Args:
        maps: at least one.
        present: (maps, L) voxels of each row.
    """
    if len(maps) == 1:
        return list(maps)
    shared = 1 + np.flatnonzero((present[:, 1:] >= SMALLEST).all(0))
    check.alignable(len(shared), [one.name for one in maps], smallest=SMALLEST)
    points = np.stack([_landmarks(one, shared) for one in maps])
    turned = [_turned(cloud, points[0]) for cloud in points]
    points = np.stack([_moved(turn, cloud) for turn, cloud in zip(turned, points, strict=True)])
    transforms = _procrustes(points)
    return [replace(one, transform=after @ turn) for one, after, turn in zip(maps, transforms, turned, strict=True)]


def _landmarks(one: _Map, shared: NDArray[Any]) -> Array:
    """Return the centres of the shared rows in mm, (N, 3); where they are few, also six points of the whole extent."""
    from scipy import ndimage

    everywhere = np.broadcast_to(1, one.rows.shape)
    points = one.grid.world(ndimage.center_of_mass(everywhere, one.rows, shared))
    if len(shared) >= ENOUGH:
        return points
    inside = one.grid.world(np.argwhere(one.rows > 0))
    middle, extent = inside.mean(0), np.diag(inside.std(0))
    return np.concatenate([points, middle + extent, middle - extent])


def _turned(points: Array, reference: Array) -> Array:
    """Return the turn of the axes (4, 4), none unless a file had lost them, that brings points near to others."""
    from scipy.optimize import linear_sum_assignment

    linear = _fitted(points, reference)[:3, :3]
    rows, columns = linear_sum_assignment(-np.abs(linear))
    turn = np.eye(4)
    turn[:3, :3] = 0
    turn[rows, columns] = np.sign(linear[rows, columns])
    return turn


def _procrustes(points: Array, rounds: int = 50) -> list[Array]:
    """Return affine maps that bring point sets (M, N, 3) to their common mean, and whose mean inverse is the identity.

    Each round fits every set to the mean and then carries the mean back by the average of the inverse maps, so that the
    common space has the average shape, size, position and tilt of the sets.
    """
    mean = points.mean(0)
    for _ in range(rounds):
        transforms = [_fitted(cloud, mean) for cloud in points]
        mean = np.mean([_moved(transform, cloud) for transform, cloud in zip(transforms, points, strict=True)], axis=0)
        mean = _moved(np.mean([np.linalg.inv(transform) for transform in transforms], axis=0), mean)
    return [_fitted(cloud, mean) for cloud in points]


def _fitted(source: Array, target: Array) -> Array:
    """Return the affine map (4, 4) that brings points (N, 3) nearest to others, in least squares."""
    homogeneous = np.c_[source, np.ones(len(source))]
    transform = np.eye(4)
    transform[:3] = np.linalg.lstsq(homogeneous, target, rcond=None)[0].T
    return transform


def _moved(transform: Array, points: Array) -> Array:
    """Return points (N, 3) after an affine map (4, 4)."""
    return np.asarray(points @ transform[:3, :3].T + transform[:3, 3])


def _common_grid(maps: Sequence[_Map], spacing: float) -> Grid:
    """Return an axis-aligned RAS grid around all maps in the common space."""
    clouds = (_moved(one.to_common, np.argwhere(one.rows > 0)) for one in maps)
    lows, highs = zip(*((points.min(0), points.max(0)) for points in clouds), strict=True)
    low, high = np.min(lows, axis=0) - MARGIN, np.max(highs, axis=0) + MARGIN
    affine = np.diag([spacing] * 3 + [1.0])
    affine[:3, 3] = low
    return Grid(tuple(np.ceil((high - low) / spacing).astype(int) + 1), affine)


def _averages(
    maps: Sequence[_Map], grid: Grid, *, kept: NDArray[Any], sd: float
) -> Iterator[tuple[int, Box, NDArray[np.float32]]]:
    """Yield each row kept under its new number: its box, and its mean over the maps on `grid`, blurred by `sd` mm."""
    from scipy import ndimage

    spacing = float(grid.voxel_sizes[0])
    boxes = [ndimage.find_objects(one.rows, max_label=kept[-1]) for one in maps]
    for number, row in enumerate(kept[1:].tolist(), start=1):
        found = [(one, _box(places[row - 1])) for one, places in zip(maps, boxes, strict=True) if places[row - 1]]
        box = _target_box(found, grid, reach=int(np.ceil(4 * sd / spacing)) + 1)
        total = np.zeros(box.shape, np.float32)
        for one, place in found:
            total += _warped(one, row, place=place, target=grid.cropped(box))
        yield number, box, ndimage.gaussian_filter(total / len(maps), sd / spacing, mode="constant")


def _box(places: tuple[slice, ...]) -> Box:
    """Return slices as a box."""
    return Box(tuple(place.start for place in places), tuple(place.stop for place in places))


def _target_box(found: Sequence[tuple[_Map, Box]], grid: Grid, *, reach: int) -> Box:
    """Return the box of `grid` that holds the boxes of the maps, with `reach` voxels around it."""
    clouds = [
        replace(one.grid.cropped(place), affine=one.transform @ one.grid.cropped(place).affine) for one, place in found
    ]
    corners = grid.indices(np.concatenate([cloud.corners() for cloud in clouds]))
    box = Box(tuple(np.floor(corners.min(0)).astype(int)), tuple(np.ceil(corners.max(0)).astype(int) + 1))
    return box.grown(reach).clipped(grid.shape)


def _warped(one: _Map, row: int, *, place: Box, target: Grid) -> NDArray[np.float32]:
    """Return the share of `row` in a map, linearly interpolated on the target grid."""
    from scipy import ndimage

    indicator = (one.rows[place.slices] == row).astype(np.float32)
    source = one.grid.cropped(place)
    matrix = np.linalg.inv(one.transform @ source.affine) @ target.affine
    return np.asarray(
        ndimage.affine_transform(
            indicator, matrix[:3, :3], matrix[:3, 3], output_shape=target.shape, order=1, mode="grid-constant"
        )
    )
