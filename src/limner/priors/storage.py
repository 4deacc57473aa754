"""A prior on disk: a folder of JSON and compressed safetensors, checked by hash, never executed."""

from __future__ import annotations

import hashlib
import json
import lzma
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from limner import check
from limner.files import replacing_folder
from limner.priors.atlas import Atlas
from limner.priors.deformation import Warps
from limner.priors.neighbours import NeighbourTable
from limner.priors.sparse import SparseMaps
from limner.space import Grid, LabelTable

FORMAT = "limner prior 1"
DESCRIPTION = "prior.json"
#: What the names of the tensors of the whole head begin with.
HEAD = "head_"
TENSORS = "tensors.safetensors.xz"
#: The prior that ships with the package.
SHIPPED = Path(__file__).parents[1] / "atlases" / "brain"


def claim(path: str | Path) -> None:
    """Make sure that a prior can be written to `path`, before hours are spent on it.

    Raises:
        InputError: if `path` is something else than a prior, or its parent folder cannot be made.
    """
    path = Path(path)
    if path.exists() and not (path / DESCRIPTION).is_file():
        raise check.prior_occupied(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise check.unwritable(path, error) from error


def save_prior(atlas: Atlas, path: str | Path) -> str:
    """Write an atlas as the folder `path`, which appears whole or not at all; return its hash.

    A prior that stood there is replaced; anything else is not.

    Raises:
        InputError: if `path` is something else, or the disk refuses.

    Source: our own.
    """
    from safetensors.numpy import save

    path = Path(path)
    claim(path)
    tensors = atlas.maps.ragged()
    if atlas.neighbours is not None:
        tensors["neighbour_counts"] = np.asarray(atlas.neighbours.counts)
    if atlas.head is not None:
        tensors |= {HEAD + name: array for name, array in atlas.head.maps.ragged().items()}
    if atlas.warps is not None:
        tensors["modes"], tensors["mode_units"] = atlas.warps.stored()
    content = lzma.compress(save({name: np.ascontiguousarray(array) for name, array in tensors.items()}))
    description = _described(atlas) | {"tensors_sha256": hashlib.sha256(content).hexdigest()}
    with replacing_folder(path) as folder:
        (folder / TENSORS).write_bytes(content)
        (folder / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    return str(description["tensors_sha256"])


def load_prior(path: str | Path) -> Atlas:
    """Read an atlas.

    Raises:
        InputError: if `path` is no prior, one of another version, or a damaged one.
    """
    path = Path(path)
    if not (path / DESCRIPTION).is_file():
        raise check.prior_missing(path)
    try:
        description = json.loads((path / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise check.prior_damaged(path, error) from error
    check.prior_version(path, description.get("format") if isinstance(description, dict) else None, expected=FORMAT)
    try:
        return _restored(path, description)
    except (OSError, KeyError, TypeError, ValueError, lzma.LZMAError, EOFError) as error:
        raise check.prior_damaged(path, error) from error


def prior_hash(path: str | Path) -> str:
    """Return the hash that a prior's description records."""
    return str(json.loads((Path(path) / DESCRIPTION).read_text(encoding="utf-8"))["tensors_sha256"])


def _described(atlas: Atlas) -> dict[str, Any]:
    """Return everything but the tensors, JSON-ready."""
    neighbours = atlas.neighbours
    return {
        "format": FORMAT,
        "kind": "atlas",
        **_lattice(atlas.grid),
        "neighbours": None
        if neighbours is None
        else {"size": neighbours.size, "pseudo_windows": neighbours.pseudo_windows},
        "warps": atlas.warps and _lattice(atlas.warps.grid),
        "head": atlas.head and {**_lattice(atlas.head.grid), "table": atlas.head.table.as_dict()},
        "provenance": dict(atlas.provenance),
        "table": atlas.table.as_dict(),
    }


def _restored(path: Path, description: dict[str, Any]) -> Atlas:
    """Return the atlas that a description and the tensors beside it hold."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    content = (path / TENSORS).read_bytes()
    if hashlib.sha256(content).hexdigest() != description["tensors_sha256"]:
        raise ValueError(f"the hash of {TENSORS} is not the one recorded")
    try:
        tensors = load(lzma.decompress(content))
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    settings = description["neighbours"]
    neighbours = settings and NeighbourTable(tensors.pop("neighbour_counts"), **settings)
    bending = description.get("warps")
    warps = bending and Warps.from_stored(_grid(bending), modes=tensors.pop("modes"), unit=tensors.pop("mode_units"))
    whole = {name: tensors.pop(name) for name in list(tensors) if name.startswith(HEAD)}
    head = description.get("head") and _mapped(
        description["head"], {name.removeprefix(HEAD): array for name, array in whole.items()}
    )
    found = _mapped(description, tensors)
    if neighbours and neighbours.classes != len(found.table.structures):
        raise ValueError(f"the neighbour table has {neighbours.classes} classes, not {len(found.table.structures)}")
    head = head and replace(head, warps=warps)
    return replace(found, neighbours=neighbours, provenance=description["provenance"], warps=warps, head=head)


def _mapped(description: dict[str, Any], tensors: dict[str, Any]) -> Atlas:
    """Return the atlas of the maps that are stored."""
    grid, table = _grid(description), LabelTable.from_dict(description["table"])
    maps = SparseMaps.from_ragged(tensors)
    # The loops over voxels trust rows to be of the table, and read anything anywhere if they are not.
    if maps.shape != grid.shape or maps.rows.max() >= len(table):
        raise ValueError(f"{TENSORS} is of another grid or table than {DESCRIPTION}")
    return Atlas(table, grid, maps)


def _lattice(grid: Grid) -> dict[str, Any]:
    """Return a grid, JSON-ready."""
    return {"shape": list(grid.shape), "affine": grid.affine.tolist()}


def _grid(description: dict[str, Any]) -> Grid:
    """Return the grid that a description tells."""
    return Grid(tuple(description["shape"]), np.array(description["affine"]))
