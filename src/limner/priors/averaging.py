"""Build an atlas from label maps: bring them to a space that prefers none of them, average, keep it sparse."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limner import check
from limner.priors.atlas import Atlas
from limner.priors.groupwise import aligned_maps, bent_maps
from limner.priors.label_maps import LabelMap, averages, common_grid
from limner.priors.neighbours import NeighbourTable, neighbour_counts
from limner.priors.sparse import SparseMaps
from limner.space import Box, LabelTable, Volume, reoriented
from limner.space.labels import REST

#: Gaussian sd in mm that one map alone is blurred with: as in the first atlas of Yu et al. 2020, and less if it may
#: bend, which brings it nearer to the scan and needs edges to go by.
BLUR_OF_ONE, BLUR_OF_ONE_THAT_BENDS = 3.0, 1.5
#: Voxels of the atlas of the head, and how far it reaches around the brain's, mm.
HEAD_SPACING, AROUND = 2.0, 30.0


def build_atlas(
    volumes: dict[str, Callable[[], Volume]],
    table: LabelTable,
    *,
    spacing: float = 1.0,
    blur: float | None = None,
    window: int = 3,
    keep_outside: bool = True,
    bends: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> Atlas:
    """Average label maps into a probabilistic atlas with a neighbour table.

    Maps are aligned by the centres of their structures, each counting the same, and then bent; the common space is the
    one in which the maps' mean change of shape and position is none. They may differ in orientation, size and field of
    view.

    Args:
        volumes: by name, functions that each open one label map.
        table: must know every id in them; the atlas keeps the part that occurs.
        spacing: of the atlas in mm, isotropic.
        blur: Gaussian sd in mm; None: for one map 1.5 mm, or 3 mm if it does not bend, and none for several.
        window: edge in voxels of the neighbour table's window, odd, 3 to 21.
        keep_outside: keep what the table ties to the background (skull, skin, eyes), if the maps label it, in a coarser
            atlas of the whole head, by which brains are found in it.
        bends: bend several maps to one another before they are averaged, and let the atlas bend as they did. One map
            alone is averaged with nobody, and bends by stiffness alone.
        progress: told each step in words.

    Raises:
        InputError: for an image instead of labels, unknown ids, a structure of the table that no map has, a map without
            labels, or maps that share no label to be aligned by.

    Source: Van Leemput et al. 1999 (averaged affine atlas); Yu et al. 2020 (SAE), Atlas1 (one map blurred by 3 mm) and
    eq. 9 (neighbour table). Our departures: alignment by a generalised Procrustes analysis of centres instead of
    images, and pseudo-counts.
    """
    maps: list[LabelMap] = []
    heads: list[LabelMap] = []
    for name, open_map in volumes.items():
        progress(f"reading {name}")
        heads.append(_read(name, open_map(), table=table))
        maps.append(_brain(heads[-1], table))
    present = np.array([np.bincount(one.rows.ravel(), minlength=len(table)) for one in maps])
    present[:, 0] += 1  # There is background around every map, if not in it.
    check.structures_missing(_structures_missing(present, table), len(maps))
    record = _provenance(maps, present, table=table)
    kept = np.flatnonzero(present.any(0))
    smaller = table.subset(table.ids[kept])
    maps = [replace(one, rows=_renumbered(one.rows, kept)) for one in maps]
    progress("counting neighbours")
    counts = np.asarray(sum(_counts(one, smaller, window=window) for one in maps))
    progress("aligning the maps")
    maps, warps = aligned_maps(maps, present[:, kept]), None
    if bends:
        maps, warps = bent_maps(maps, labels=len(kept), progress=progress)
    grid = common_grid(maps, spacing)
    alone = BLUR_OF_ONE_THAT_BENDS if bends else BLUR_OF_ONE
    sd = (alone if len(maps) == 1 else 0.0) if blur is None else blur
    progress("averaging")
    sparse = SparseMaps.gathered(averages(maps, grid, labels=len(kept), sd=sd), grid.shape, labels=len(kept))
    record |= {"blur_mm": sd, "spacing_mm": spacing}
    found = Atlas(smaller, grid, sparse, NeighbourTable(counts, window), record, warps)
    if not keep_outside or all(head.rows.size == one.rows.size for head, one in zip(heads, maps, strict=True)):
        return found
    progress("averaging the heads")
    heads = [replace(head, transform=one.transform, warp=one.warp) for head, one in zip(heads, maps, strict=True)]
    return replace(found, head=_head(heads, table, around=found, sd=sd))


def _head(heads: Sequence[LabelMap], table: LabelTable, *, around: Atlas, sd: float) -> Atlas:
    """Return the atlas of the whole head around a brain's."""
    present = np.flatnonzero(np.any([np.bincount(one.rows.ravel(), minlength=len(table)) for one in heads], axis=0))
    smaller = table.subset(table.ids[present]).by_tissue()
    heads = [replace(one, rows=_renumbered(one.rows, present)) for one in heads]
    voxels = int(np.ceil(AROUND / HEAD_SPACING))
    inner = around.grid.cropped(Box.around(around.maps.rows[0] > 0)).spaced(HEAD_SPACING)
    grid = inner.cropped(Box.whole(inner.shape).grown(voxels))
    sparse = SparseMaps.gathered(averages(heads, grid, labels=len(present), sd=sd), grid.shape, labels=len(present))
    return Atlas(smaller, grid, sparse, warps=around.warps)


def _read(name: str, volume: Volume, *, table: LabelTable) -> LabelMap:
    """Return a map as rows of the table, in RAS order and cropped to what is labelled."""
    check.label_map(volume.kind, f"label map '{name}'")
    volume = reoriented(volume, "RAS")
    rows: NDArray[Any] = table.rows(volume.data, name).astype(np.uint8 if len(table) <= 256 else np.uint16)
    return _cropped(LabelMap(name, rows, volume.grid, np.eye(4)))


def _brain(head: LabelMap, table: LabelTable) -> LabelMap:
    """Return a map without what the table ties to the background."""
    rows = np.where(table.structure_of == 0, 0, np.arange(len(table))).astype(head.rows.dtype)[head.rows]
    return _cropped(replace(head, rows=rows))


def _cropped(one: LabelMap) -> LabelMap:
    """Return a map cropped to what is labelled."""
    box = Box.around(one.rows > 0)
    check.labelled(box.size, one.name)
    return replace(one, rows=np.ascontiguousarray(one.rows[box.slices]), grid=one.grid.cropped(box))


def _counts(one: LabelMap, table: LabelTable, *, window: int) -> NDArray[np.int64]:
    """Return the (K, K) neighbour counts of a map, with a border of background as wide as the window reaches."""
    classes = np.pad(table.structure_of[one.rows], window // 2)
    return neighbour_counts(classes, len(table.structures), size=window)


def _renumbered(rows: NDArray[Any], kept: NDArray[Any]) -> NDArray[Any]:
    """Return rows (*S) by their places among those kept."""
    return np.asarray(np.searchsorted(kept, np.arange(kept[-1] + 1)).astype(rows.dtype)[rows])


def _structures_missing(present: NDArray[Any], table: LabelTable) -> list[str]:
    """Return the structures, other than background and rest, of which no map has a voxel."""
    found = np.zeros(len(table.structures), bool)
    found[table.structure_of[present.any(0)]] = True
    return [name for name, there in zip(table.structures, found, strict=True) if not there and name != REST]


def _provenance(maps: Sequence[LabelMap], present: NDArray[Any], *, table: LabelTable) -> dict[str, Any]:
    """Return what the atlas was built from: each map's name and hash, and which labels some maps lack."""
    hashes = {one.name: hashlib.sha256(one.rows.tobytes()).hexdigest()[:16] for one in maps}
    some = present.any(0) & ~present.all(0)
    missing = {
        str(table.ids[row]): [one.name for one, has in zip(maps, present[:, row], strict=True) if not has]
        for row in np.flatnonzero(some)
    }
    return {"maps": hashes, "missing_from": missing}
