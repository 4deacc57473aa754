"""DICOM: the slices of a series in a folder, several series in one, or a file alone. Only read."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limner import check
from limner.files import itk
from limner.space import Array

KIND = "GDCMImageIO"
MAGIC, MAGIC_AT = b"DICM", 128
ENDINGS = (".dcm", ".ima")
#: Leads the number of a series after the folder that holds several.
MARK = "#"
UID, NUMBER, DESCRIPTION, MODALITY = "0020|000e", "0020|0011", "0008|103e", "0008|0060"
POSITION, ORIENTATION, SPACING, THICKNESS = "0020|0032", "0020|0037", "0028|0030", "0018|0050"
#: What may tell apart images of one series at one place: echo, kind, acquisition, time.
TELLING = ("0018|0081", "0008|0008", "0020|0012", "0020|0100")
#: Positions, in steps, from which slices count as missing, unevenly spaced, or in the same place.
MISSING, UNEVEN, SAME = 1.5, 0.01, 0.01
#: By how much a direction may be longer than 1 before it is said.
LONG = 1e-5


@dataclass(frozen=True, eq=False)
class Slice:
    """One file: where it is, what its header says, and how many voxels it has along its axes."""

    path: Path
    tags: Mapping[str, str]
    size: tuple[int, ...]

    def numbers(self, tag: str) -> tuple[float, ...]:
        """Return the numbers of a tag; none if it is missing or says something else."""
        try:
            return tuple(float(word) for word in self.tags.get(tag, "").split("\\"))
        except ValueError:
            return ()

    @cached_property
    def directions(self) -> NDArray[np.float64]:
        """Of the axes, (2, 3) LPS, as the file says."""
        return np.reshape(self.numbers(ORIENTATION), (2, 3))

    @property
    def placed(self) -> bool:
        """Whether it says where it lies."""
        found = [len(self.numbers(tag)) for tag in (POSITION, ORIENTATION, SPACING)]
        return found == [3, 6, 2]

    @property
    def depth(self) -> float:
        """How far along the normal of its plane it lies, mm."""
        return float(np.cross(*self.directions) @ self.numbers(POSITION))


@dataclass(frozen=True, eq=False)
class Series:
    """Images that make one volume.

    Args:
        key: by which it is chosen.
        slices: in any order.
    """

    key: str
    slices: tuple[Slice, ...]

    def __str__(self) -> str:
        """Return what the header calls it."""
        tags = self.slices[0].tags
        words = " ".join(tags.get(tag, "").strip() for tag in (MODALITY, DESCRIPTION)).strip()
        return f"{words or 'without a name'}, {len(self.slices)} image{'s' * (len(self.slices) > 1)}"


def is_series(path: Path) -> bool:
    """Tell whether a path is a folder, or chooses one of the series in a folder."""
    return path.is_dir() or _chosen(path)[0] != path


def on_disk(path: Path) -> Path:
    """Return the file or folder that a path leads to: of a series chosen in a folder, the folder."""
    return _chosen(path)[0]


def is_dicom(path: Path) -> bool:
    """Tell whether a file begins as DICOM files do, or is called one."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return path.suffix.lower() in ENDINGS or file.read(MAGIC_AT + 4)[MAGIC_AT:] == MAGIC


def _chosen(path: Path) -> tuple[Path, str]:
    """Return the folder and the key of a series in it; the path itself and no key if it chooses none."""
    name, mark, key = path.name.rpartition(MARK)
    folder = path.with_name(name) if name else path.parent
    return (folder, key) if mark and not path.exists() and folder.is_dir() else (path, "")


def read(path: Path, dtype: type | None) -> tuple[Array, Array | None, itk.Header]:
    """Return data (X, Y[, Z]) in `dtype` (None: as stored), affine in mm if the file says it, and header.

    Warns about slices that are spaced a little unevenly, directions longer than 1, and files that were left out.

    Raises:
        InputError: for a folder without images, with several series none of which is chosen, with a slice missing, or
            with several images at one place; for a damaged file.
    """
    if not is_series(path):
        return _volume([_slice(path)], path, dtype=dtype)
    folder, key = _chosen(path)
    found = series_in(folder)
    told = {each: str(series) for each, series in found.items()}
    if key and key not in found:
        raise check.unknown_series(folder, key, told=told)
    if not key and len(found) > 1:
        raise check.several_series(folder, told)
    (series,) = [found[key]] if key else found.values()
    return _volume(series.slices, path, dtype=dtype)


def series_in(folder: Path) -> dict[str, Series]:
    """Return the series in a folder by their numbers, or by their UIDs if numbers are missing or the same.

    What is no image is left out; images of one series with other directions or sizes are a series of their own.

    Raises:
        InputError: if there is none.
    """
    files = sorted(path for path in folder.iterdir() if is_dicom(path))
    readable, failed = _readable(files)
    if failed:
        warnings.warn(check.images_left_out(folder, failed), stacklevel=5)
    if not readable:
        raise check.no_images(folder, len(files))
    by_uid = _grouped(readable, lambda one: one.tags.get(UID, ""))
    numbers = {uid: group[0].tags.get(NUMBER, "").strip() for uid, group in by_uid.items()}
    found: dict[str, Series] = {}
    for uid, group in sorted(by_uid.items(), key=lambda one: (not numbers[one[0]].isdigit(), numbers[one[0]].zfill(9))):
        unique = numbers[uid] and list(numbers.values()).count(numbers[uid]) == 1
        key = numbers[uid] if unique else str(uid) or "0"
        parts = _parts(group)
        for index, part in enumerate(parts):
            name = key if len(parts) == 1 else f"{key}{chr(ord('a') + index)}"
            found[name] = Series(name, tuple(part))
    return found


def _readable(files: Iterable[Path]) -> tuple[list[Slice], list[Path]]:
    """Return the images among files, and the others: reports, directories, what is damaged."""
    readable, failed = [], []
    for path in files:
        try:
            readable.append(_slice(path))
        except check.InputError:
            failed.append(path)
    return readable, [path for path in failed if path.name != "DICOMDIR"]


def _slice(path: Path) -> Slice:
    """Return a file's header.

    Raises:
        InputError: if it is damaged or no image.
    """
    found = itk.reader(path, KIND)
    check.one_value(path, ["colour"] * (found.GetNumberOfComponents() > 1))
    tags = {name: found.GetMetaData(name).strip() for name in found.GetMetaDataKeys()}
    return Slice(path, tags, tuple(found.GetSize()))


def _grouped(slices: Iterable[Slice], key: Callable[[Slice], Hashable]) -> dict[Hashable, list[Slice]]:
    """Return slices by a key of theirs, in the order in which keys come up."""
    groups: dict[Hashable, list[Slice]] = defaultdict(list)
    for one in slices:
        groups[key(one)].append(one)
    return dict(groups)


def _parts(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Return the slices of a series by what makes volumes of their own: size, directions, and what else tells."""

    def kind(one: Slice) -> Hashable:
        directions = tuple(np.round(one.directions.ravel(), 2) + 0.0) if one.placed else None
        return one.size, directions

    return [part for group in _grouped(slices, kind).values() for part in _apart(group)]


def _apart(slices: list[Slice]) -> list[list[Slice]]:
    """Return slices as they are if no two lie at one place, or parted by the first tag that keeps them apart."""
    if not _crowded(slices):
        return [slices]
    for tag in TELLING:
        parts = list(_grouped(slices, lambda one, tag=tag: one.tags.get(tag)).values())  # type: ignore[misc]
        if not any(map(_crowded, parts)):
            return parts
    return [slices]


def _crowded(slices: Sequence[Slice]) -> bool:
    """Tell whether two slices lie at one place."""
    if len(slices) < 2 or not all(one.placed for one in slices):
        return False
    gaps = np.diff(np.sort([one.depth for one in slices]))
    return bool(gaps.min() <= SAME * np.median(gaps))


def _volume(slices: Sequence[Slice], path: Path, *, dtype: type | None) -> tuple[Array, Array | None, itk.Header]:
    """Return data, affine and header of the slices of one volume.

    Raises:
        InputError: if they cannot be put in order.
    """
    first = slices[0]
    if len(slices) == 1 and (not first.placed or first.size[2:] not in ((), (1,))):
        return _alone(first, dtype=dtype)
    placed = [one for one in slices if one.placed]
    check.images_placed(path, len(placed), of=len(slices))
    ordered = sorted(placed, key=lambda one: one.depth)
    affine = _affine(ordered, path)
    planes = [itk.voxels(itk.reader(one.path, KIND), one.path, dtype=dtype).reshape(one.size[:2]) for one in ordered]
    grid_header = itk.stated(affine)
    return np.asfortranarray(np.stack(planes, -1)), affine, grid_header


def _alone(one: Slice, *, dtype: type | None) -> tuple[Array, Array | None, itk.Header]:
    """Return data, affine and header of one file of many frames, or of one that does not say where it lies."""
    found = itk.reader(one.path, KIND)
    placed = len(one.size) > 2 and one.size[2] > 1
    header = itk.header(found, fields={}, placed=placed)
    data = itk.voxels(found, one.path, dtype=dtype)
    return (data, header.affine, header) if placed else (data.reshape(one.size[:2]), None, header)


def _affine(slices: Sequence[Slice], path: Path) -> NDArray[np.float64]:
    """Return the affine (4, 4) in RAS mm of slices in order.

    Raises:
        InputError: if one is missing, or two lie at one place.
    """
    first = slices[0]
    lengths = np.linalg.norm(first.directions, axis=1)
    if np.abs(lengths - 1).max() > LONG:
        warnings.warn(check.long_directions(path, float(np.abs(lengths - 1).max())), stacklevel=6)
    affine = np.eye(4)
    down, along = first.numbers(SPACING)
    # A damaged header may say 0; the affine is judged later.
    axes = first.directions / np.where(lengths > 0, lengths, 1)[:, None]
    affine[:3, 0], affine[:3, 1] = axes[0] * along, axes[1] * down
    affine[:3, 2] = _step(slices, path, normal=np.cross(*axes))
    affine[:3, 3] = first.numbers(POSITION)
    affine[:3] *= itk.LPS[:, None]
    return affine


def _step(slices: Sequence[Slice], path: Path, *, normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the way from slice to slice in LPS mm, (3,): not along the normal if the gantry was tilted."""
    if len(slices) == 1:
        thickness = (slices[0].numbers(THICKNESS) or (1.0,))[0]
        return normal * (thickness if thickness > 0 else 1.0)
    places = np.array([one.numbers(POSITION) for one in slices])
    depths = places @ normal
    gaps = np.diff(depths)
    usual = float(np.median(gaps))
    check.apart(path, int((gaps <= SAME * usual).sum()), of=len(slices))
    widest = int(gaps.argmax())
    if gaps[widest] >= MISSING * usual:
        names = (slices[widest].path.name, slices[widest + 1].path.name)
        raise check.slice_missing(path, names, gap=float(gaps[widest]), usual=usual)
    even = np.linspace(depths[0], depths[-1], len(depths))
    off = float(np.abs(depths - even).max())
    if off > UNEVEN * usual:
        warnings.warn(check.uneven_slices(path, off), stacklevel=7)
    return np.asarray((places[-1] - places[0]) / (len(places) - 1))


def chosen(path: Path) -> list[Path]:
    """Return the paths that choose each of the series in a folder; the path itself if there are not several."""
    if not path.is_dir():
        return [path]
    try:
        keys = list(series_in(path))
    except check.InputError:  # which whoever opens it is told
        keys = []
    return [path.with_name(f"{path.name}{MARK}{key}") for key in keys] if len(keys) > 1 else [path]
