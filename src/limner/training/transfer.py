"""A model that tells objects apart goes on learning from a volume of another kind that nobody labelled."""

from __future__ import annotations

import math
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch

from limner import check
from limner.config import checked
from limner.data.batch import IGNORE
from limner.data.cohort import Case
from limner.data.defects import Defects
from limner.data.electron import Microscopy
from limner.data.loader import Loader
from limner.data.store import Prepared
from limner.data.tones import NANOMETRES, Look, looks, matching
from limner.data.volumes import Volumes, whole
from limner.files import open_volume, stem
from limner.files.parts import SUFFIXES, stored_shape
from limner.methods.affinity import Affinity
from limner.methods.mean_teacher import MeanTeacher, MeanTeacherOptions, confident
from limner.methods.storage import DESCRIPTION, Model, claim_model, load_model, model_hash, save_model
from limner.space import Array, Grid
from limner.training.adaptation import drift
from limner.training.log import Log
from limner.training.loop import fit
from limner.training.memory import available
from limner.training.recipe import Stage
from limner.training.run import fabric_of

#: How far from one half what the teacher says must be, as a share of the way.
CONFIDENCE = 0.8
DECAY = 0.98
#: What the student sees of a piece that its teacher sees as it is. Twice as much of each made affinities worse.
STRONG = Microscopy(
    brightness=0.2,
    contrast=0.1,
    noise=0.2,
    defects=Defects(blurred=0.05, darkened=0.05, noisy=0.05, missing=0.01),
)
#: Pieces that are looked at before and after, and their edges, voxels, where a model does not say what it learned from.
LOOKED_AT, CROP = 8, {2: 192, 3: 48}
#: What a voxel of the volume takes, bytes.
HELD = 24.0
#: How many times as large as the source's, or as small, voxels may be.
FARTHEST = 1.5


@dataclass(frozen=True)
class Transfer:
    """What adapting a model to a volume did.

    Args:
        steps: of the optimiser.
        volume: name of its file.
        matched: whether its intensities go through a curve; they do not if they are nearly the source's.
        confident: shares of the volume's edges that the model is sure of, before and after.
        agreement: of those, the shares that it decides alike where the volume is spoiled, before and after.
        kept: share of the edges that the source was sure of that the adapted model decides alike.
        drift: norm of the change of all weights, as a share of theirs.
        source: hash of the source's weights.
    """

    steps: int
    volume: str
    matched: bool
    confident: tuple[float, float]
    agreement: tuple[float, float]
    kept: float
    drift: float
    source: str


def adapt_volume(
    model: str | Path,
    volume: Path,
    *,
    out: str | Path,
    like: Path | None = None,
    steps: int = 100,
    learning_rate: float = 5e-4,
    seed: int = 0,
    progress: bool = True,
) -> Transfer:
    """Adapt a model to a volume of another kind without labels; the source stays as it is.

    Intensities are matched to those that the model learned from, and the network then learns to say of spoiled pieces
    what the moving average of itself says of them as they are, where that one is sure.

    Args:
        model: folder of the source.
        volume: file of an image.
        out: folder for the adapted model.
        like: a volume of the kind that the source learned from, if the model does not know what that looked like.
        steps: of the optimiser; with none, intensities are matched, and that is all.
        learning_rate: which falls to 0.
        seed: of the pieces and the noise.
        progress: whether to show progress on stderr.

    Raises:
        InputError: for a volume that the model is not for, or that does not fit into memory; voxels of far other sizes;
            a model that does not know what it learned from, without `like`; and as `train` does.

    Source: histogram matching; mean teacher, Tarvainen and Valpola 2017, for another domain after French et al. 2018.
    """
    model, out = Path(model), Path(out)
    source = load_model(model)
    method = source.method
    if not isinstance(method, Affinity):
        raise check.no_instances(source.name)
    claim_model(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    look = _look(source, model, like=like)
    image, grid = _opened(volume, method)
    check.voxels_alike(volume, _sizes(grid, method), expected=look.voxels, farthest=FARTHEST)
    wanted = method.options.model_copy(update={"tones": matching(image, look)})
    method.options = wanted.model_copy(update={"mirrored": "none", "microscopy": STRONG})
    pieces = _pieces(image, volume, flat=image.ndim - 1 > method.task.dimensions)
    lesson = _Lesson(pieces, _stage(source, steps=steps, rate=learning_rate), method.stride, seed)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".adapting-") as folder:
        found = lesson.learned(method, folder=Path(folder), progress=progress) if steps else method
    told = lesson.compared(method, found)
    told = replace(told, volume=volume.name, source=model_hash(model))
    found.options = wanted
    save_model(replace(source, method=found, provenance={**source.provenance, "adapted": asdict(told)}), out)
    return told


@dataclass(frozen=True, eq=False)
class _Lesson:
    """What there is to learn from, and how."""

    pieces: Volumes
    stage: Stage
    stride: int
    seed: int

    def learned(self, method: Affinity, *, folder: Path, progress: bool) -> Affinity:
        """Return what became of a method as its own student's teacher."""
        options = method.options.model_dump(mode="json", exclude_none=True)
        asked = MeanTeacherOptions(
            student="affinity",
            options=options,
            consistency=1.0,
            decay=DECAY,
            confidence=CONFIDENCE,
            balanced=True,  # most edges are inside of objects, and those between them are what matters
        )
        both = MeanTeacher(method.task, asked)
        for one in (both.student, both.teacher):
            one.load_state_dict(method.state_dict())
        fabric, log = fabric_of(), Log(bar=progress)
        fabric.launch()
        both.to(fabric.device)
        fit(both, self._loader(self.seed), stage=self.stage, fabric=fabric, folder=folder, log=log, seed=self.seed)
        log.close()
        return cast("Affinity", both.teacher.cpu().eval())

    @torch.no_grad()
    def compared(self, before: Affinity, after: Affinity) -> Transfer:
        """Return what two methods say of the same pieces, as they are and spoiled."""
        loader, counts = self._loader(self.seed + 1), np.zeros(6)
        torch.default_generator.manual_seed(0)
        for number in range(LOOKED_AT):
            batch, _ = loader.batch(number)
            weak, strong = before.views(batch.image)
            inside = batch.mask[:, None].expand(-1, len(before.offsets), *[-1] * before.task.dimensions)
            plain, spoiled = ([one.predict(view, None)[inside] for one in (before, after)] for view in (weak, strong))
            sure = [confident(one, CONFIDENCE) for one in plain]
            alike = [
                ((one > 0.5) == (other > 0.5))[where] for one, other, where in zip(plain, spoiled, sure, strict=True)
            ]
            same = ((plain[0] > 0.5) == (plain[1] > 0.5))[sure[0]]
            counts += [inside.sum(), *(where.sum() for where in sure), *(one.sum() for one in alike), same.sum()]
        edges, sure_before, sure_after, alike_before, alike_after, kept = counts.tolist()
        return Transfer(
            steps=self.stage.steps if after is not before else 0,
            volume="",
            matched=before.options.tones is not None,
            confident=(sure_before / edges, sure_after / edges),
            agreement=(alike_before / max(1, sure_before), alike_after / max(1, sure_after)),
            kept=kept / max(1, sure_before),
            drift=drift(before.state_dict(), after.state_dict()),
            source="",
        )

    def _loader(self, seed: int) -> Loader:
        cases = tuple(piece.case for piece in self.pieces.pieces.values())
        return Loader(self.pieces, cases, batch=self.stage.batch, crop=self.stage.crop, stride=self.stride, seed=seed)


def _look(source: Model, path: Path, *, like: Path | None) -> Look:
    """Return what a model's volumes looked like.

    Raises:
        InputError: if it does not know, and no volume says.
    """
    if like is not None:
        volume, image = whole(like)
        return looks([image], volume.grid.voxel_sizes[-source.task.dimensions :])
    known = source.provenance.get("look")
    if known is None:
        raise check.look_unknown(path)
    return checked(known, Look, source=path / DESCRIPTION)


def _opened(volume: Path, method: Affinity) -> tuple[Array, Grid]:
    """Return the image of a volume, (1, *S) of mean 0 and sd 1, and its grid.

    Raises:
        InputError: for one that has too few axes, does not fit into memory, or is constant.
    """
    shape = stored_shape(volume) if volume.name.lower().endswith(SUFFIXES) else open_volume(volume).data.shape
    check.solid_or_flat(shape, method.task.dimensions)
    check.volume_fits(HELD * math.prod(shape), available(torch.device("cpu")))
    found, image = whole(volume)
    check.varied(image, volume)
    return image, found.grid


def _sizes(grid: Grid, method: Affinity) -> list[float]:
    """Return the edges of voxels along the axes that a method looks at, nm."""
    sizes: list[float] = (grid.voxel_sizes[-method.task.dimensions :] * NANOMETRES).round(6).tolist()
    return sizes


def _pieces(image: Array, path: Path, *, flat: bool) -> Volumes:
    """Return an image (1, *S), or each of its sections, as what nobody labelled."""
    parts = (
        {f"{stem(path)}[{number}]": part for number, part in enumerate(image[0])} if flat else {stem(path): image[0]}
    )
    found = {}
    for name, part in parts.items():
        nothing, everything = (np.broadcast_to(value, part.shape) for value in (np.int32(IGNORE), np.True_))
        world = np.eye(part.ndim + 1)
        found[name] = Prepared(Case(name, (path,)), part[None], everything, nothing, None, world)
    return Volumes(found)


def _stage(source: Model, *, steps: int, rate: float) -> Stage:
    """Return a stage with pieces as large as those that a model learned from."""
    stages = source.provenance.get("stages", [])
    last = stages[-1] if stages else {}
    dimensions = source.task.dimensions
    return Stage(
        name="adapted",
        data="volumes",
        steps=max(1, steps),
        batch=last.get("batch", 1),
        crop=tuple(last.get("crop") or (CROP[dimensions],) * dimensions),
        learning_rate=rate,
        clip=1.0,
        schedule="cosine",
    )
