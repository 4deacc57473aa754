"""Slices of volumes with a lesion: what becomes of folders as two challenges give them out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from limner import check
from limner.data.sections import Section, split_by_person
from limner.files import open_volume
from limner.space import Array, Box

#: Share of a half-slice that is brain at least; of the brain that is tumour at least.
LEAST_BRAIN, LEAST_TUMOUR = 0.25, 0.01
SEQUENCES = ("flair", "t1ce", "t1", "t2")
#: Ids of the liver challenge.
LIVER, LESION = 1, 2
#: Share of a slice that is liver at least; edge that a lesion exceeds along both axes, pixels; steps of height.
LEAST_LIVER, LEAST_EDGE, BINS = 0.06, 6, 20


def hemisphere_sections(
    folder: Path, *, size: int, seed: int, rule: Literal["brain", "slice"] = "brain"
) -> Iterator[Section]:
    """Yield halves of axial slices of brains, left and right of the middle, in the layout of BraTS.

    A folder PERSON holds PERSON_flair.nii.gz, _t1ce, _t1, _t2 and _seg. All sequences of a person are brought to mean 0
    and sd a fifth together, over voxels that are not 0, between -1 and 1; no bias is taken out. Halves with little
    brain are left out, and those with the rim of a tumour alone.

    Args:
        folder: of the people.
        size: edge along the longer axis, pixels; the other is half of it. Smaller images are surrounded by nothing.
        seed: of the splits by person.
        rule: a tumour counts from a hundredth of the "brain", as printed; or from four, as the public code counts brain
            in four sequences and tumours in one ("slice").

    Raises:
        InputError: for a folder without people, or a file that is missing.

    Source: Vorontsov et al. 2022 and its public code, but for bias correction with the tumour's mask.
    """
    people = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    check.sources_found(folder, len(people), kind="PERSON/PERSON_flair.nii.gz")
    least = LEAST_TUMOUR * (1 if rule == "brain" else len(SEQUENCES))
    return iter(
        split_by_person((one for person in people for one in _halves(person, size=size, least=least)), seed=seed)
    )


def _halves(person: Path, *, size: int, least: float) -> Iterator[Section]:
    """Yield a person's half-slices."""
    scans = [open_volume(_one(person, sequence)) for sequence in SEQUENCES]
    spacing = tuple(scans[0].grid.voxel_sizes[:2].tolist())
    tumour = open_volume(_one(person, "seg"), kind="labels").data > 0
    for kind, array in zip((*SEQUENCES, "seg"), (*(scan.data for scan in scans), tumour), strict=True):
        check.same_size(array.shape, scans[0].data.shape, case=person.name, kind=kind)
    image = np.stack([scan.data for scan in scans]).astype(np.float32)
    inside = image != 0
    values = image[inside]
    mean, spread = float(values.mean()), float(values.std())
    bounded = np.where(inside, ((image - mean) / (5 * max(spread, 1e-12))).clip(-1, 1), 0)
    brain, middle = inside.any(0), image.shape[1] // 2
    for side, part in (("left", slice(middle)), ("right", slice(middle, None))):
        for height in range(image.shape[3]):
            shown, there = tumour[part, :, height], brain[part, :, height]
            share = int((shown & there).sum()) / max(1, int(there.sum()))
            if there.mean() > LEAST_BRAIN and (not shown.any() or share > least):
                yield Section(
                    image=_framed(bounded[:, part, :, height], (size // 2, size)).astype(np.float16),
                    labels=_framed(shown[None], (size // 2, size))[0].astype(np.uint8) if shown.any() else None,
                    present=(int(shown.any()),),
                    name=f"{person.name}-{side}-{height:03d}",
                    person=person.name,
                    spacing=spacing,
                )


@dataclass(frozen=True, eq=False)
class _LiverSlice:
    """A slice of a liver, and how high in the liver it is, 0 to 1."""

    section: Section
    height: float


def liver_sections(folder: Path, *, size: int, seed: int, fold: int = 0) -> Iterator[Section]:
    """Yield axial slices of livers with and without lesions, in the layout of LiTS.

    A folder holds volume-N.nii and segmentation-N.nii (1 liver, 2 lesion). Intensities are brought to mean 0 and sd a
    fifth over the liver, nothing lies outside it, and slices are cropped to it. A slice counts where the liver fills
    a share of it; it shows a lesion that is wider than six pixels along both axes, or none at all. Slices without are
    drawn so that they are as high in the liver as those with, from people in training and validation alone.

    Args:
        folder: of the volumes.
        size: edge of the slices that come out, pixels.
        seed: of the order of people, and of the draw.
        fold: which quarter of the people is for testing.

    Raises:
        InputError: for a folder without volumes, or a file that is missing.

    Source: Vorontsov et al. 2022 and its public code; every slice comes once, the heights are those of people in
    training, and no slice of a person in testing is drawn.
    """
    volumes = sorted(folder.glob("volume-*.nii*"))
    check.sources_found(folder, len(volumes), kind="volume-N.nii")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(volumes))
    testing = set(np.array_split(order, 4)[fold % 4].tolist())
    rest = [number for number in order.tolist() if number not in testing]
    valid = set(rest[: max(1, len(volumes) // 10)])
    found: dict[str, list[_LiverSlice]] = {"train": [], "validation": [], "test": []}
    for number, path in enumerate(volumes):
        split = "test" if number in testing else "validation" if number in valid else "train"
        found[split] += list(_liver(path, size=size, split=split))
    heights = [one.height for one in found["train"] if one.section.present == (1,)]
    weights = np.histogram(heights, BINS, (0, 1))[0].astype(float)
    for split, slices in found.items():
        yield from (one.section for one in slices if one.section.present == (1,))
        if split != "test":
            yield from _matched([one for one in slices if one.section.present == (0,)], weights, rng=rng)


def _matched(slices: list[_LiverSlice], weights: Array, *, rng: np.random.Generator) -> Iterator[Section]:
    """Yield slices drawn by how many with a lesion are as high, each at most once."""
    if not slices:
        return
    chances = np.array([weights[min(int(one.height * BINS), BINS - 1)] for one in slices])
    count = min(int(weights.sum()), int(np.count_nonzero(chances)))
    if count:
        for number in sorted(rng.choice(len(slices), count, replace=False, p=chances / chances.sum()).tolist()):
            yield slices[number].section


def _liver(path: Path, *, size: int, split: str) -> Iterator[_LiverSlice]:
    """Yield the slices of a volume that count."""
    truth = path.with_name(path.name.replace("volume", "segmentation"))
    check.existing_file(truth)
    volume, ids = open_volume(path), open_volume(truth, kind="labels").data
    check.same_size(ids.shape, volume.data.shape, case=path.name, kind="segmentation")
    organ = np.isin(ids, (LIVER, LESION))
    if not organ.any():
        return
    values = volume.data[ids == LIVER]
    mean, spread = float(values.mean()), float(values.std())
    bounded = np.where(organ, ((volume.data - mean) / (5 * spread + 1)).clip(-1, 1), 0)
    box = Box.around(organ)
    spacing = tuple((volume.grid.voxel_sizes * box.shape / size)[:2].tolist())
    person, (first, last) = path.name.partition(".")[0], (box.start[2], box.stop[2])
    for height in range(first, last):
        lesion = ids[:, :, height] == LESION
        if organ[:, :, height].mean() > LEAST_LIVER and (not lesion.any() or _wide(lesion)):
            plane = box.slices[:2]
            section = Section(
                image=_scaled(bounded[:, :, height][plane], size)[None].astype(np.float16),
                labels=(_scaled(lesion[plane].astype(np.float32), size) >= 0.5).astype(np.uint8)
                if lesion.any()
                else None,
                present=(int(lesion.any()),),
                name=f"{person}-{height:04d}",
                person=person,
                split=split,
                spacing=spacing,
            )
            yield _LiverSlice(section, (height - first) / max(1, last - first - 1))


def _wide(lesion: Array) -> bool:
    """Tell whether a connected part of a mask (Y, X) is wide enough along both axes."""
    from scipy import ndimage

    parts, _ = ndimage.label(lesion)
    return any(min(edge.stop - edge.start for edge in box) > LEAST_EDGE for box in ndimage.find_objects(parts))


def _scaled(image: Array, size: int) -> Array:
    """Return an image (Y, X) of edge `size`, linear between pixels."""
    from scipy import ndimage

    factors = [size / edge for edge in image.shape]
    return np.asarray(ndimage.zoom(image, factors, order=1, grid_mode=True, mode="nearest"))


def _framed(image: Array, shape: tuple[int, int]) -> Array:
    """Return images (C, Y, X) in the middle of a shape, surrounded by nothing.

    Raises:
        InputError: if they are larger.
    """
    for edge, whole in zip(image.shape[1:], shape, strict=True):
        check.fits((edge,), whole, name="a half-slice")
    framed = np.zeros((len(image), *shape), image.dtype)
    begin = [(whole - edge) // 2 for whole, edge in zip(shape, image.shape[1:], strict=True)]
    framed[:, *(slice(first, first + edge) for first, edge in zip(begin, image.shape[1:], strict=True))] = image
    return framed


def _one(person: Path, kind: str) -> Path:
    """Return a person's file of a kind.

    Raises:
        InputError: if it is missing.
    """
    path = next(iter(sorted(person.glob(f"*_{kind}.nii*"))), person / f"{person.name}_{kind}.nii.gz")
    check.existing_file(path)
    return path
