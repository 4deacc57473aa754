"""Scans prepared once, placed once, and kept as memory maps."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch

from limner import check
from limner.data.cohort import Case
from limner.data.painting import painted
from limner.data.scan import Preparation, Scan, brought, classes, found_axes, prepared
from limner.data.stacks import stacked
from limner.files import open_volume
from limner.priors.atlas import Atlas, Placement
from limner.priors.bias import Bias
from limner.priors.deformation import Warp
from limner.priors.dense import part_maps
from limner.space import Array, Grid, LabelTable

#: Changes whenever what is kept, or how it is computed, changes.
VERSION = 3
PLACEMENT = "placement.json"
WORLD = "world.json"
WARP, BIAS = "warp", "bias"

#: Finds where a scan lies in a prior.
Placer: TypeAlias = Callable[[Scan], Placement]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A scan ready to be learned from: memory maps.

    Args:
        case: whose it is.
        image: (C, *S) float32, standardised inside the mask and 0 outside.
        mask: (*S) bool.
        labels: (*S) class indices, or ids of instances, or IGNORE.
        parts: (*S, P) float16, the prior's parts at each voxel side by side, if there is a prior.
        world: (D+1, D+1), voxel indices to mm of the prior's world, or of the scan's without a prior.
    """

    case: Case
    image: Array
    mask: Array
    labels: Array
    parts: Array | None
    world: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along each axis, S."""
        return tuple(self.mask.shape)


class Kept(Protocol):
    """Whatever keeps cases ready to be learned from."""

    @property
    def prior(self) -> Atlas | None:
        """Whose parts are kept with each case, if any."""

    def prepared(self, case: Case) -> Prepared:
        """Return a case as it is kept."""


@dataclass(frozen=True, eq=False)
class Store:
    """A folder of prepared scans, which fills as they are asked for. It may be deleted at any time.

    Args:
        folder: made if need be.
        preparation: of the scans.
        table: of the label maps' ids.
        prior: whose parts are kept with each scan, if any.
        place: finds where a scan lies in the prior's world; without it, scans lie there already.
        placer: name and version of `place`: another is asked again.
    """

    folder: Path
    preparation: Preparation
    table: LabelTable | None = None
    prior: Atlas | None = None
    place: Placer | None = None
    placer: str = ""

    def prepared(self, case: Case) -> Prepared:
        """Return a case as it is kept, having prepared it if it is new or has changed.

        Raises:
            InputError: for what is wrong with its files.
        """
        if case.slice is not None:
            return self._sliced(case)
        folder = self.folder / f"{case.name}-{self._key(case)}"
        if not folder.is_dir():
            self._keep(case, folder)
        arrays = {path.stem: np.load(path, mmap_mode="c") for path in folder.glob("*.npy")}
        world = np.array(json.loads((folder / WORLD).read_text(encoding="utf-8")))
        check_absent(case, arrays["labels"])
        return Prepared(case, arrays["image"], arrays["mask"], arrays["labels"], arrays.get("parts"), world)

    def _sliced(self, case: Case) -> Prepared:
        """Return one image of a stack, which nothing needs to be kept of.

        Raises:
            InputError: for stacks that cannot be read so, or labels that the table does not know.
        """
        image, mask, ids = stacked(case)
        kept = torch.zeros(image.shape)
        kept[:, mask] = brought(torch.from_numpy(image[:, mask]), self.preparation.intensity)
        labels = classes(ids, self.table, name=case.name)
        check_absent(case, labels)
        check.spacing_of_axes(case.spacing, mask.shape, case=case.name)
        world = np.diag([*(case.spacing or (1.0,) * mask.ndim), 1.0])
        return Prepared(case, kept.numpy(), mask, labels, None, world)

    def placed(self, case: Case) -> tuple[Scan, Placement | None]:
        """Return a case made ready, without its gain, and where it lies in the prior, if there is one.

        Raises:
            InputError: for what is wrong with its files.
        """
        if self.prior is None or self.place is None:
            return _scan(case, self.preparation, table=self.table), None
        placement, orientation = self._placement(case, self.place)
        scan = _scan(case, self.preparation, table=self.table, orientation=orientation)
        return replace(scan, image=placement.evened(scan.image, scan.grid)), placement

    def _placement(self, case: Case, place: Placer) -> tuple[Placement, str | None]:
        """Return where a case lies, found once in its own voxels, and the axes that this starts from."""
        own = self.preparation.native()
        bare = replace(case, labels=None) if case.images else case
        folder = self.folder / f"{case.name}-{_hashed(_files(bare), own, knowledge=[self._prior_hash, self.placer])}"
        path = folder / PLACEMENT
        if not path.is_file():
            scan = _scan(bare, own, table=None if case.images else self.table)
            check.solid(scan.grid.shape)
            placement, orientation = place(scan), case.orientation
            if not scan.oriented:
                orientation, change = found_axes(scan, placement.transform)
                placement = placement.before(change)
            _keep_placement(placement, folder, orientation=orientation)
        return _kept_placement(folder)

    def _keep(self, case: Case, folder: Path) -> None:
        """Prepare a case and write it to a folder, which appears whole or not at all."""
        scan, placement = self.placed(case)
        world = scan.grid
        arrays = {
            "image": scan.standardised().numpy(),
            "mask": scan.mask.numpy(),
            "labels": scan.labels.numpy().astype(np.int16),
        }
        if self.prior is not None:
            check.solid(world.shape)
            lies = placement or Placement(np.eye(4), 0.0)
            placed = lies.placed(self.prior, grid=world, mask=scan.mask)
            arrays["parts"], world = part_maps(placed.atlas, placed.grid), placed.grid
        _write(folder, arrays, text={WORLD: world.affine.tolist()})

    def _key(self, case: Case) -> str:
        """Return what changes whenever the case, or what is made of it, does."""
        return _hashed(_files(case), self.preparation, knowledge=[self._prior_hash, self.placer, self._table_hash])

    @cached_property
    def _table_hash(self) -> str:
        """What changes whenever the table does."""
        return hashlib.sha256(json.dumps(self.table and self.table.as_dict()).encode()).hexdigest()

    @cached_property
    def _prior_hash(self) -> str:
        """What changes whenever the prior's maps do."""
        if self.prior is None:
            return ""
        digest = hashlib.sha256(json.dumps(self.prior.table.as_dict()).encode())
        maps, warps = self.prior.maps, self.prior.warps
        for array in (self.prior.grid.affine, maps.rows, maps.weights, *(warps.stored() if warps else ())):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def check_absent(case: Case, labels: Array) -> None:
    """Refuse labels that show what a case is marked to be without.

    Args:
        case: whose.
        labels: (*S) class indices, the targets from 1 on.

    Raises:
        InputError: with how many voxels do.
    """
    for target, present in enumerate(case.present, start=1):
        if present == 0 and (voxels := int(np.count_nonzero(labels == target))):
            raise check.absent_mask(case.name, voxels)


def _scan(
    case: Case, preparation: Preparation, *, table: LabelTable | None = None, orientation: str | None = None
) -> Scan:
    """Open a case and make it ready."""
    labels = open_volume(case.labels, kind="labels") if case.labels else None
    if labels and not case.images:
        images = [painted(labels, table or LabelTable.freesurfer(), name=case.name)]
    else:
        images = [open_volume(path) for path in case.images]
    return prepared(
        images[0],
        channels=images[1:],
        labels=labels,
        mask=open_volume(case.mask, kind="labels") if case.mask else None,
        orientation=orientation or case.orientation,
        table=table,
        preparation=preparation,
        name=case.name,
    )


def _keep_placement(placement: Placement, folder: Path, *, orientation: str | None) -> None:
    """Write where a case lies, and the axes that this starts from."""
    content = {
        "transform": np.asarray(placement.transform).tolist(),
        "score": placement.score,
        "orientation": orientation,
        "warp": None,
        "bias": None,
    }
    arrays = {}
    if placement.warp:
        grid, arrays[WARP] = placement.warp.grid, placement.warp.displacement.numpy()
        content["warp"] = grid.affine.tolist()
    if placement.bias:
        bias, arrays[BIAS] = placement.bias, placement.bias.coefficients.numpy()
        content["bias"] = [bias.frame.tolist(), bias.sizes.tolist()]
    _write(folder, arrays, text={PLACEMENT: content})


def _kept_placement(folder: Path) -> tuple[Placement, str | None]:
    """Return what `_keep_placement` wrote."""
    found, warp, bias = json.loads((folder / PLACEMENT).read_text(encoding="utf-8")), None, None
    if found["warp"]:
        displacement = np.load(folder / f"{WARP}.npy")
        warp = Warp(Grid(displacement.shape[1:], np.array(found["warp"])), torch.from_numpy(displacement))
    if found["bias"]:
        frame, sizes = map(np.array, found["bias"])
        bias = Bias(frame, sizes, torch.from_numpy(np.load(folder / f"{BIAS}.npy")))
    return Placement(np.array(found["transform"]), found["score"], warp, bias), found["orientation"]


def _files(case: Case) -> list[Any]:
    """Return what tells a case's files, as they are now, from others."""
    paths = [path.absolute() for path in (*case.images, case.labels, case.mask) if path]
    for path in paths:
        check.existing_file(path)
    states = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return [states, len(case.images), bool(case.labels), bool(case.mask), case.orientation]


def _hashed(files: list[Any], preparation: Preparation, *, knowledge: list[str]) -> str:
    """Return a short hash of everything that decides what is kept; `knowledge` is of prior, placer and table."""
    content = json.dumps([VERSION, files, preparation.model_dump(), knowledge])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _write(folder: Path, arrays: dict[str, Array], *, text: dict[str, Any]) -> None:
    """Write arrays and JSON as a folder, which appears whole or not at all.

    Raises:
        InputError: if the disk refuses.
    """
    temporary = folder.with_name(f".{secrets.token_hex(4)}-{folder.name}")
    try:
        temporary.mkdir(parents=True)
        for name, array in arrays.items():
            np.save(temporary / f"{name}.npy", array)
        for name, content in text.items():
            (temporary / name).write_text(json.dumps(content), encoding="utf-8")
        temporary.replace(folder)
    except OSError as error:
        # Another process may have been quicker; what it wrote is the same.
        if not folder.is_dir():
            raise check.unwritable(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
