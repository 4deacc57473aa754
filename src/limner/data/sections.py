"""Slices of scans, marked by what they show: what becomes of folders of scans in several layouts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from limner import check
from limner.files import open_volume
from limner.space import Array

#: Below this share of the patient's brightest hundredth, a pixel is background.
DARK = 0.1
#: A slice is left out with less of it inside the head, or with less of the head inside the tumour, but some.
LEAST_HEAD, LEAST_TUMOUR = 0.15, 0.01
#: Shares of the people for validation and for testing.
SHARES = (0.16, 0.25)


@dataclass(frozen=True, eq=False)
class Section:
    """An image of a task.

    Args:
        image: (C, *S).
        labels: (*S) uint8; None where nobody needs them, as nothing is there.
        present: for each target, whether it is there.
        name: of the case.
        person: whose it is.
        split: that it is in.
        rank: of its labels.
        mask: (*S) bool, what counts, if that is not all of it.
        spacing: of its voxels along each axis, mm, where it is known.
    """

    image: Array
    labels: Array | None
    present: tuple[int, ...]
    name: str
    person: str
    split: str = ""
    rank: int = 0
    mask: Array | None = None
    spacing: tuple[float, ...] = ()


def tumour_sections(folder: Path, *, size: int, seed: int) -> Iterator[Section]:
    """Yield the slices of patients in a folder of PERSON.npz, each with `flair` (N, Y, X), `mask` and `slice`.

    Intensities are those of Vorontsov et al. 2022: less the patient's mean, over five sd, between -1 and 1; here over
    what is not dark. Slices with little of the head, or with the rim of a tumour alone, are left out.

    Args:
        folder: of the patients.
        size: edge of the slices that come out, pixels, at most theirs.
        seed: of the splits by patient.

    Raises:
        InputError: for a folder without patients, or a file without these arrays.
    """
    paths = sorted(folder.glob("*.npz"))
    check.sources_found(folder, len(paths), kind="PERSON.npz")
    return iter(split_by_person((one for path in paths for one in _patient(path, size=size)), seed=seed))


def crop_sections(folder: Path, *, size: int, seed: int) -> Iterator[Section]:
    """Yield small volumes of one structure, from `images` and `labels` of the same names in a folder.

    What the labels tell apart is one structure; intensities are brought to mean 0 and sd a fifth, between -1 and 1.
    Volumes come out in the smallest box that holds any of them, surrounded by nothing, which does not count.

    Args:
        folder: of the two.
        size: voxels along an axis that they have at most.
        seed: of the splits by person.

    Raises:
        InputError: for a folder without volumes, images without labels, or volumes that are larger.
    """
    paths = sorted((folder / "images").glob("*.nii*"))
    check.sources_found(folder, len(paths), kind="images/NAME.nii.gz")
    found = [_crop(path, folder / "labels" / path.name, size=size) for path in paths]
    shape = tuple(np.max([section.image.shape[1:] for section in found], axis=0).tolist())
    return iter(split_by_person([_framed(section, shape) for section in found], seed=seed))


def _crop(path: Path, labels: Path, *, size: int) -> Section:
    """Return a volume and what its labels show."""
    scan, truth = open_volume(path), open_volume(labels, kind="labels").data
    check.same_size(truth.shape, scan.data.shape, case=path.name, kind="labels")
    check.fits(truth.shape, size, name=path.name)
    values = ((scan.data - scan.data.mean()) / (5 * max(float(scan.data.std()), 1e-12))).clip(-1, 1)
    name, spacing = path.name.partition(".")[0], tuple(scan.grid.voxel_sizes.tolist())
    image, inside = values[None].astype(np.float16), (truth > 0).astype(np.uint8)
    return Section(image, inside, present=(1,), name=name, person=name, spacing=spacing)


def _framed(section: Section, shape: tuple[int, ...]) -> Section:
    """Return a volume in the middle of a shape, and where in it the volume is."""
    edges = section.image.shape[1:]
    sides = [((whole - edge) // 2, -((edge - whole) // 2)) for whole, edge in zip(shape, edges, strict=True)]
    inside = None if section.labels is None else np.pad(section.labels, sides)
    mask = np.pad(np.ones(edges, bool), sides)
    return replace(section, image=np.pad(section.image, [(0, 0), *sides]), labels=inside, mask=mask)


def _patient(path: Path, *, size: int) -> Iterator[Section]:
    """Yield a patient's slices."""
    try:
        with np.load(path, allow_pickle=False) as content:
            scan, mask = content["flair"].astype(np.float32), content["mask"] > 0
            numbers = content["slice"]
    except (OSError, KeyError, ValueError) as error:
        raise check.unreadable(path, error) from error
    head = scan > DARK * np.percentile(scan, 99)
    values = scan[head]
    mean, spread = float(values.mean()), float(values.std())
    bounded = np.where(head, ((scan - mean) / (5 * spread)).clip(-1, 1), 0)
    for image, inside, tumour, number in zip(bounded, head, mask, numbers.tolist(), strict=True):
        shown = int((tumour & inside).sum()) / max(1, int(inside.sum()))
        if inside.mean() > LEAST_HEAD and (shown == 0 or shown > LEAST_TUMOUR):
            yield Section(
                image=reduced(image, size)[None].astype(np.float16),
                labels=(reduced(tumour.astype(np.float32), size) >= 0.5).astype(np.uint8) if shown else None,
                present=(int(shown > 0),),
                name=f"{path.stem}-{number:03d}",
                person=path.stem,
            )


def reduced(image: Array, size: int) -> Array:
    """Return an image (Y, X) of edge `size`: each pixel is the mean over what it covers, parts of pixels too.

    Raises:
        InputError: if the image is smaller.
    """
    check.size_within(size, image.shape)
    for axis, edge in enumerate(image.shape):
        common = math.gcd(size, edge)
        fine = image.repeat(size // common, axis).swapaxes(0, axis)
        image = fine.reshape(size, edge // common, -1).mean(1).swapaxes(0, axis)
    return image


def split_by_person(sections: Iterable[Section], *, seed: int, shares: tuple[float, float] = SHARES) -> list[Section]:
    """Return sections with a split for each of their people, by lot.

    Args:
        sections: of all people.
        seed: of the lot.
        shares: of the people for validation and for testing.
    """
    sections = list(sections)
    people = np.random.default_rng(seed).permutation(sorted({section.person for section in sections})).tolist()
    validation, test = (round(share * len(people)) for share in shares)
    splits = ["test"] * test + ["validation"] * validation + ["train"] * (len(people) - test - validation)
    chosen = dict(zip(people, splits, strict=True))
    return [replace(section, split=chosen[section.person]) for section in sections]
