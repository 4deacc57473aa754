"""Tasks that methods are compared on: images, labels, and a table that says who is in which split."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from limner import check
from limner.data.challenges import hemisphere_sections, liver_sections
from limner.data.sections import Section, crop_sections, tumour_sections
from limner.data.synthetic import FIRST, Digits, Scenery, folds, pictures
from limner.data.video import Motion, film
from limner.files import replacing, save_volume
from limner.space import Array, Grid, Volume

TABLE, STRUCTURES, IMAGES, LABELS, MASKS = "table.csv", "labels.tsv", "images.npy", "labels.npy", "masks.npy"
#: Digits among clutter; the names are those of the paper's tables.
SCENERIES = {
    "digits-simple": Scenery(48, 8),
    "digits-hard": Scenery(48, 24),
    "digits-large": Scenery(128, 80),
    "digits-two": Scenery(48, 8, kinds=((0, 1, 2, 3, 4), (5, 6, 7, 8, 9))),
    "digits-smoke": Scenery(32, 4),
}
#: Films of moving digits.
VIDEO = "digits-video"
#: Frames of the films to train, validate and test on.
FRAMES = {"train": 128, "validation": 32, "test": 32}
SECTIONS = {
    "slices": ("tumour", tumour_sections),
    "hemispheres": ("tumour", hemisphere_sections),
    "liver": ("lesion", liver_sections),
    "hippocampus": ("hippocampus", crop_sections),
}
#: What `limner task` builds.
TASKS = (*SCENERIES, VIDEO, *SECTIONS)
#: Digits that are neither for training nor for testing; those for testing, where there are so many.
VALIDATION, TEST = 500, 10_000


@dataclass(frozen=True)
class TaskOptions:
    """How large a task is.

    Args:
        pairs: of images with and without digits to train on.
        validation: pairs to choose weights by.
        test: pairs to test on.
        size: edge of images that are not made but come from scans, pixels.
        seed: of everything that is drawn.
        fold: of "liver", which quarter of the people is for testing, 0 to 3.
        rule: of "hemispheres", whether a tumour counts from a share of the "brain", or as in the public code ("slice").
    """

    pairs: int = 6000
    validation: int = 200
    test: int = 2000
    size: int = 128
    seed: int = 0
    fold: int = 0
    rule: Literal["brain", "slice"] = "brain"


def build_task(name: str, out: Path, *, source: Path | None = None, options: TaskOptions | None = None) -> Path:
    """Write a task's images and labels, `table.csv` and `labels.tsv` into a new folder; return the table.

    Of "digits-video": a film and the ids of its objects for each split; what is returned is the film to train on.

    Args:
        name: one of TASKS.
        out: the folder.
        source: the collection of digits (.npz with x and y), or the folder of scans; digits-smoke and -video need none.
        options: how large it is.

    Raises:
        InputError: for an unknown name, a folder that is there already, or a source that cannot be used.
    """
    if name not in TASKS:
        raise check.unknown_name("task", name, known=TASKS)
    options = options or TaskOptions()
    check.new_folder(out)
    if name in SCENERIES:
        targets = ["digit"] if len(SCENERIES[name].kinds) == 1 else ["low", "high"]
        return _write(out, list(_digits(name, source, options=options)), targets=targets)
    if name == VIDEO:
        return _films(out, source, seed=options.seed)
    check.source_given(name, source)
    target, sections = SECTIONS[name]
    own: dict[str, dict[str, Any]] = {"liver": {"fold": options.fold}, "hemispheres": {"rule": options.rule}}
    found = list(sections(Path(str(source)), size=options.size, seed=options.seed, **own.get(name, {})))
    return _write(out, found, targets=[target])


def _digits(name: str, source: Path | None, *, options: TaskOptions) -> Iterable[Section]:
    """Yield the images of all splits of a digits task."""
    parts = _folds(None if name == "digits-smoke" else name, source)
    counts = options.pairs, options.validation, options.test
    rngs = np.random.default_rng(options.seed).spawn(len(counts))
    for split, part, count, rng in zip(FRAMES, parts, counts, rngs, strict=True):
        yield from _pairs(part, SCENERIES[name], split=split, count=count, rng=rng)


def _films(out: Path, source: Path | None, *, seed: int) -> Path:
    """Write a film and its ids for each split, a voxel being one mm and one frame; return the one to train on."""
    out.mkdir(parents=True, exist_ok=True)
    rngs = np.random.default_rng(seed).spawn(len(FRAMES))
    for (split, frames), part, rng in zip(FRAMES.items(), _folds(VIDEO if source else None, source), rngs, strict=True):
        image, ids = film(part, Motion(), frames=frames, rng=rng)
        grid = Grid(image.shape, np.eye(4))
        save_volume(Volume(ids, grid, "instances"), out / f"{split}_ids.tif")
        save_volume(Volume(image, grid, "image"), out / f"{split}.tif")
    return out / "train.tif"


def _folds(name: str | None, source: Path | None) -> tuple[Digits, Digits, Digits]:
    """Return the digits of all splits: of a task's source, or scikit-learn's without a name."""
    images, values = _collection(name, source) if name else _small_digits()
    few = len(images) < 10 * TEST // 2
    return folds(
        images, values, validation=len(images) // 10 if few else VALIDATION, test=len(images) // 5 if few else TEST
    )


def _pairs(digits: Digits, scenery: Scenery, *, split: str, count: int, rng: np.random.Generator) -> Iterable[Section]:
    """Yield the images of a split; labels of nines are used first."""
    for number, picture in enumerate(pictures(digits, scenery, count=count, rng=rng)):
        shows = any(picture.present)
        name = f"{split}-{number // 2:05d}{'' if shows else '-absent'}"
        yield Section(
            image=picture.image[None].astype(np.float16),
            labels=picture.labels if shows else None,
            present=picture.present,
            name=name,
            # Several digits share an image: what shares a digit shares a split, as folds do.
            person=f"digit-{picture.digits[0]:05d}" if len(picture.digits) == 1 else name,
            split=split,
            rank=int(picture.values != (FIRST,)) if len(scenery.kinds) == 1 else 0,
        )


def _collection(name: str, source: Path | None) -> tuple[Array, Array]:
    """Return digits (N, 28, 28) uint8 and their values from a file."""
    check.source_given(name, source)
    path = Path(str(source))
    check.existing_file(path)
    try:
        with np.load(path, allow_pickle=False) as content:
            return content["x"], content["y"]
    except (OSError, KeyError, ValueError) as error:
        raise check.unreadable(path, error) from error


def _small_digits() -> tuple[Array, Array]:
    """Return scikit-learn's 1797 digits of 8x8 pixels, enlarged to 24x24 uint8: for trying things out.

    Raises:
        InputError: if scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise check.without_sklearn() from error
    from scipy import ndimage

    found = load_digits()
    large = ndimage.zoom(found.images / 16, (1, 3, 3), order=1, grid_mode=True, mode="nearest")
    return np.round(255 * large).clip(0, 255).astype(np.uint8), found.target


def _write(out: Path, sections: list[Section], *, targets: list[str]) -> Path:
    """Write images, labels and table into a folder, the table last."""
    out.mkdir(parents=True, exist_ok=True)
    channels = len(sections[0].image)
    names = [IMAGES, *(f"images_{number}.npy" for number in range(2, channels + 1))]
    for channel, name in enumerate(names):
        _save(np.stack([section.image[channel] for section in sections]), out / name)
    empty = np.zeros(sections[0].image.shape[1:], np.uint8)
    _save(np.stack([empty if one.labels is None else one.labels for one in sections]), out / LABELS)
    if sections[0].mask is not None:
        _save(np.stack([one.mask for one in sections if one.mask is not None]), out / MASKS)
    lines = ["id\tname", *(f"{number}\t{target}" for number, target in enumerate(targets, start=1))]
    (out / STRUCTURES).write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows = [_row(section, number, images=names) for number, section in enumerate(sections)]
    with replacing(out / TABLE) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return out / TABLE


def _row(section: Section, number: int, *, images: list[str]) -> Mapping[str, Any]:
    """Return the line of a table that describes an image."""
    columns = ["image", *(f"image_{one}" for one in range(2, len(images) + 1))]
    return dict(zip(columns, images, strict=True)) | {
        "labels": "" if section.labels is None else LABELS,
        "mask": "" if section.mask is None else MASKS,
        "present": " ".join(map(str, section.present)),
        "case": section.name,
        "person": section.person,
        "split": section.split,
        "slice": number,
        "spacing": " ".join(f"{edge:g}" for edge in section.spacing),
        "rank": section.rank,
    }


def _save(array: Array, path: Path) -> None:
    """Write an array."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)
