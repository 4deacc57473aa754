"""ANTs' ways of labelling one scan, for benchmarks/rivals.py: registration, Atropos, plain EM on a registered atlas."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import ants
import brains
import numpy as np
import torch
from scipy import ndimage

from limner.data.scan import standardised
from limner.files import open_volume, save_volume
from limner.methods.gaussians import GaussianSettings, class_evidence, fit_to_parts
from limner.methods.mixture import FITTED_ON
from limner.priors.atlas import FLOOR, Atlas
from limner.priors.storage import load_prior
from limner.space import Array, Box, Grid, LabelTable, Volume, led

TABLE = LabelTable.freesurfer()
#: Whose labelled scan is carried over to others, and to that person.
LABELLED, SECOND = "person-6", "person-1"
#: Blur in mm of the template's labels where they serve as probabilities.
BLUR = 1.0
#: Voxels around the brain that rivals see.
MARGIN = 10
#: RAS+ to LPS+.
TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
#: Voxels of fluid around the brain that the average shows.
RIM = 3
#: What the random numbers of a registration begin with.
SEED = 1
#: The ways, as the table calls them.
ROWS = (
    "affine: average of 16 maps",
    "affine: average of 16 maps, plain EM",
    "affine: template",
    "affine: template, plain EM",
    "SyN: a labelled brain",
    "SyN: average of 16 maps",
    "SyN: average of 16 maps, Atropos, defaults, 0.25",
    "SyN: average of 16 maps, Atropos, Socrates[0], 0.5",
    "SyN: template",
    "SyN: template, Atropos, defaults, 0.25",
    "SyN: template, Atropos, Socrates[0], 0.5",
    "SyN: average of 16 maps, Atropos without neighbours, Socrates[0], 0.5",
    "SyN: template, Atropos without neighbours, Socrates[0], 0.5",
)
#: Atropos's Markov random field: its weight, and how many voxels away neighbours count.
NEIGHBOURS, NONE = "[0.2,1x1x1]", "[0,1x1x1]"


@dataclass(frozen=True, eq=False)
class Source:
    """A brain with labels: image (*S) without its skull, and the probability of each part (P, *S)."""

    name: str
    image: Volume
    parts: Array


@dataclass(frozen=True, eq=False)
class Target:
    """A stripped scan to be labelled, on its grid; `crop` is what rivals see of it."""

    name: str
    image: Volume
    grid: Grid

    @cached_property
    def crop(self) -> Box:
        """The brain and a margin."""
        return Box.around(self.image.data != 0).grown(MARGIN).clipped(self.image.data.shape)

    @cached_property
    def seen(self) -> Volume:
        """The scan in that box."""
        return Volume(self.image.data[self.crop.slices].astype(np.float32), self.grid.cropped(self.crop), "image")

    def labels(self, classes: Array) -> Volume:
        """Return classes in the box (*S) as labels of the whole scan, background outside the brain."""
        ids = np.array([TABLE.structure_id(name) for name in TABLE.structures], np.int32)
        whole = np.zeros(self.image.data.shape, np.int32)
        whole[self.crop.slices] = ids[classes]
        return Volume(np.where(self.image.data != 0, whole, 0), self.image.grid, "labels")


def as_ants(data: Array, grid: Grid) -> ants.ANTsImage:
    """Return an array on a grid as ANTs has it."""
    affine = TO_LPS @ grid.affine
    direction = affine[:3, :3] / grid.voxel_sizes
    return ants.from_numpy(
        np.ascontiguousarray(data, np.float32),
        origin=affine[:3, 3].tolist(),
        spacing=grid.voxel_sizes.tolist(),
        direction=direction,
    )


def named(title: str) -> str:
    """Return a row's title as part of a file's name."""
    return "".join(letter if letter.isalnum() else "-" for letter in title)


def normalised(parts: Array) -> Array:
    """Return probabilities (P, ...) with a floor, summing to 1."""
    floored = parts + FLOOR
    return floored / floored.sum(0)


def parts_of(labels: Array, atlas: Atlas) -> Array:
    """Return (P, *S) float32, 1 where labels (*S) are of a part; what has none in the atlas is the last of "rest"."""
    known, tissues = atlas.parts, atlas.parts.tissues
    of_names = {
        (atlas.table.structures[number], tissues[tissue]): part
        for part, (number, tissue) in enumerate(zip(known.class_of.tolist(), known.tissue_of.tolist(), strict=True))
    }
    last = {"background": 0, "rest": len(known.class_of) - 1}
    row_part = [of_names.get((one.structure, one.tissue), last.get(one.structure)) for one in TABLE.labels]
    part = np.array(row_part)[TABLE.rows(labels)]
    return np.stack([part == number for number in range(len(known.class_of))]).astype(np.float32)


def labelled(folder: Path, *, image: str, atlas: Atlas, blur: float = 0.0) -> Source:
    """Return a brain with labels, which are blurred by some mm if they are to be probabilities."""
    volume, labels = open_volume(folder / image), open_volume(folder / "aseg.mgz", kind="labels")
    box = Box.around(volume.data != 0).grown(MARGIN).clipped(volume.data.shape)
    parts = parts_of(labels.data[box.slices], atlas)
    if blur:
        sizes = blur / volume.grid.voxel_sizes
        parts = np.stack([ndimage.gaussian_filter(part, sizes) for part in parts])
    cropped = Volume(volume.data[box.slices].astype(np.float32), volume.grid.cropped(box), "image")
    return Source(folder.name, cropped, parts)


def average(atlas: Atlas, *, template: Source) -> Source:
    """Return an atlas with the image that it expects: each tissue as bright as it is in the template on average.

    Like a stripped scan, it shows the brain and a rim of fluid, but not the spine's.
    """
    grid = atlas.grid
    parts = atlas.sampled(grid).numpy()
    weights = template.parts.reshape(len(parts), -1)
    tissue_of, bright = atlas.parts.tissue_of.numpy(), np.zeros(len(parts), np.float32)
    for tissue in np.unique(tissue_of[1:]):
        shares = weights[tissue_of == tissue].sum(0)
        bright[tissue_of == tissue] = shares @ template.image.data.ravel() / shares.sum()
    inner = np.isin(tissue_of, [atlas.parts.tissues.index(name) for name in ("background", "csf")], invert=True)
    brain = ndimage.binary_dilation(parts[inner].sum(0) > 0.5, iterations=RIM)
    image = np.where(brain, np.tensordot(bright, parts, 1), 0).astype(np.float32)
    box = Box.around(brain).grown(MARGIN).clipped(image.shape)
    return Source("maps", Volume(image[box.slices], grid.cropped(box), "image"), parts[:, *box.slices])


@dataclass(frozen=True, eq=False)
class Study:
    """The rivals' material, and where registrations are kept.

    `prior` is where the atlas was read from, `latest` what was carried over last, as the next row often wants it again.
    """

    work: Path
    prior: Path
    atlas: Atlas
    sources: dict[str, Source]
    latest: dict[tuple[str, ...], Array] = field(default_factory=dict)

    def registered(self, target: Target, source: Source, kind: str) -> list[str]:
        """Return the files of the transforms that carry a source to a target, registering if need be."""
        prefix = self.work / f"{target.name}-{source.name}-{kind}-"
        stored = Path(f"{prefix}done.json")
        if not stored.exists():
            began = time.process_time()
            found = ants.registration(
                as_ants(target.seen.data, target.seen.grid),
                as_ants(source.image.data, source.image.grid),
                type_of_transform=kind,
                outprefix=str(prefix),
                random_seed=SEED,
            )
            content = {"files": found["fwdtransforms"], "seconds": time.process_time() - began}
            stored.write_text(json.dumps(content))
        return json.loads(stored.read_text())["files"]

    def seconds(self, target: Target, source: Source, kind: str) -> float:
        """Return the processor seconds that a registration took."""
        return json.loads((self.work / f"{target.name}-{source.name}-{kind}-done.json").read_text())["seconds"]

    def carried(self, target: Target, source: Source, kind: str) -> Array:
        """Return a source's parts where the target's voxels are, (P, *S)."""
        key = (target.name, source.name, kind)
        if key not in self.latest:
            files, fixed = self.registered(target, source, kind), as_ants(target.seen.data, target.seen.grid)
            moved = [
                ants.apply_transforms(fixed, as_ants(part, source.image.grid), files, interpolator="linear").numpy()
                for part in source.parts
            ]
            self.latest.clear()
            self.latest[key] = np.stack(moved)
        return self.latest[key]

    def summed(self, parts: Array) -> Array:
        """Return the classes' sums (K, *S) of values of the parts (P, *S)."""
        sums = np.zeros((len(TABLE.structures), *parts.shape[1:]), np.float32)
        np.add.at(sums, self.atlas.parts.class_of.numpy(), parts)
        return sums

    def likeliest(self, target: Target, source: Source, kind: str) -> tuple[Array, float]:
        """Return the likeliest class of a registered source, and the processor seconds."""
        return self.summed(self.carried(target, source, kind)).argmax(0), self.seconds(target, source, kind)

    def mixture(self, target: Target, source: Source, kind: str) -> tuple[Array, float]:
        """Return the classes that EM finds on a registered source: limner's Gaussians, no gain, no neighbours."""
        parts, inside = self.carried(target, source, kind), target.seen.data != 0
        began, of = time.process_time(), self.atlas.parts
        values = standardised(torch.from_numpy(target.seen.data[inside])[None])
        shares = torch.from_numpy(normalised(parts[:, inside]).T.copy())
        found = fit_to_parts(values, shares, of=of, settings=GaussianSettings(), voxels=FITTED_ON)
        evidence = class_evidence(found, values, parts=shares, of=of, classes=len(TABLE.structures))
        classes = np.zeros(inside.shape, np.int64)
        classes[inside] = evidence.argmax(1).numpy()
        return classes, self.seconds(target, source, kind) + time.process_time() - began

    def atropos(
        self, target: Target, source: Source, *, weight: float, mrf: str = NEIGHBOURS, **options: str
    ) -> tuple[Array, float]:
        """Return Atropos's classes, its priors being a source's classes carried over by SyN.

        With neighbours, its time grows with the square of the classes' number: see the brain's own box alone.
        """
        priors = normalised(self.summed(self.carried(target, source, "SyN")))
        inside = target.seen.data != 0
        box = Box.around(inside).grown(1).clipped(inside.shape)
        began, grid = time.process_time(), target.seen.grid.cropped(box)
        found = ants.atropos(
            as_ants(target.seen.data[box.slices], grid),
            as_ants(inside[box.slices], grid),
            i=[as_ants(prior, grid) for prior in priors[:, *box.slices]],
            m=mrf,
            priorweight=weight,
            **options,
        )
        classes = np.zeros(inside.shape, np.int64)
        classes[box.slices] = np.stack([prior.numpy() for prior in found["probabilityimages"]]).argmax(0)
        return classes, self.seconds(target, source, "SyN") + time.process_time() - began

    def rows(self, target: Target) -> dict[str, Callable[[], tuple[Array, float]]]:
        """Return how each row is made."""
        maps, template = self.sources["maps"], self.sources["template"]
        brain = self.sources[SECOND if target.name == LABELLED else LABELLED]
        sharp = {"weight": 0.5, "p": "Socrates[0]"}
        found = [
            partial(self.likeliest, target, maps, "Affine"),
            partial(self.mixture, target, maps, "Affine"),
            partial(self.likeliest, target, template, "Affine"),
            partial(self.mixture, target, template, "Affine"),
            partial(self.likeliest, target, brain, "SyN"),
            partial(self.likeliest, target, maps, "SyN"),
            partial(self.atropos, target, maps, weight=0.25),
            partial(self.atropos, target, maps, **sharp),
            partial(self.likeliest, target, template, "SyN"),
            partial(self.atropos, target, template, weight=0.25),
            partial(self.atropos, target, template, **sharp),
            partial(self.atropos, target, maps, mrf=NONE, **sharp),
            partial(self.atropos, target, template, mrf=NONE, **sharp),
        ]
        return dict(zip(ROWS, found, strict=True))

    def reference(self, target: Target, title: str) -> Volume:
        """Return the labels of a scan by one row."""
        path = self.work / f"reference-{target.name}-{named(title)}.nii.gz"
        if not path.exists():
            save_volume(target.labels(self.rows(target)[title]()[0]), path)
        return open_volume(path, kind="labels")


def target_of(path: Path, name: str, orientation: str | None = None) -> Target:
    """Return a scan to be labelled."""
    image = open_volume(path)
    return Target(name, image, led(image.grid, orientation) if orientation else image.grid)


def study_of(data: Path, work: Path) -> Study:
    """Return the rivals' material."""
    folder = work / "rivals"
    folder.mkdir(parents=True, exist_ok=True)
    prior = brains.prior_folder("good", data=data, work=work)
    atlas = load_prior(prior)
    template = labelled(data / "brains" / "template", image="brain.mgz", atlas=atlas, blur=BLUR)
    people = [
        labelled(data / "brains" / name, image=image, atlas=atlas)
        for name, image in ((LABELLED, "brain.mgz"), (SECOND, "brainmask.mgz"))
    ]
    every = [average(atlas, template=template), template, *people]
    return Study(folder, prior, atlas, {source.name: source for source in every})
