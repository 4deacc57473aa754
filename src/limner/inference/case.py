"""One scan from file to file: opened, segmented, written, and what is to be told of it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from limner import check
from limner.cluster import Item, Made
from limner.data import cohort
from limner.files import bids, open_volume, result_suffix, save_volume
from limner.inference.approach import approach
from limner.inference.memory import memory_needed
from limner.inference.segmentation import Segmentation, Step, segment_volume
from limner.methods.mixture import Mixture
from limner.methods.storage import Model, load_model, model_hash, prior_home
from limner.preparation import n4
from limner.priors.atlas import Atlas, Placement
from limner.priors.storage import SHIPPED, load_prior, prior_hash
from limner.space import Volume

MIXTURE = "mixture"
#: What to cite, by method.
CITATIONS = {
    MIXTURE: (
        "Van Leemput K et al. Automated model-based tissue classification of MR images of the brain. IEEE TMI 1999.",
        "Yu E et al. An auto-encoder strategy for adaptive image segmentation. MIDL 2020 (neighbour prior).",
    ),
    "anatomy": ("Dalca AV et al. Anatomical priors in CNNs for unsupervised biomedical segmentation. CVPR 2018.",),
    "sae": ("Yu E et al. An auto-encoder strategy for adaptive image segmentation. MIDL 2020.",),
}


@dataclass(frozen=True)
class Options:
    """What a run of scans is to do, beyond which scans, which prior and which model.

    Args:
        method: how to segment without a model.
        channels: further images of the one scan.
        mask: where the one scan's brain is.
        orientation: of scans whose files do not say.
        posteriors: whether to write NAME_posteriors, a folder of the structures' probabilities.
        n4: whether N4 takes out the gain of the coils first, which is found on the way otherwise.
        samples: to draw and write into NAME_samples, a folder, by a model that can.
    """

    method: Mixture = field(default_factory=Mixture)
    channels: tuple[Path, ...] = ()
    mask: Path | None = None
    orientation: str | None = None
    posteriors: bool = False
    n4: bool = False
    samples: int = 0


@dataclass(frozen=True)
class Segmenting:
    """How a process begins to segment scans: it loads prior and model.

    Args:
        out: folder of the results.
        prior: folder, if one was given.
        model: folder, if one was given.
        options: of the run.
        memory: that a process may take, bytes; None for no limit.
        token: what tells this run from others; in a process, prior and model are loaded once for each.
    """

    out: Path = field(compare=False)
    prior: Path | None = field(compare=False)
    model: Path | None = field(compare=False)
    options: Options = field(compare=False)
    memory: float | None = field(compare=False, default=None)
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    def anywhere(self) -> Segmenting:
        """Return the same for processes that work in other folders; it is equal to this one."""
        prior, model, mask = (path and path.absolute() for path in (self.prior, self.model, self.options.mask))
        channels = tuple(path.absolute() for path in self.options.channels)
        options = replace(self.options, channels=channels, mask=mask)
        return replace(self, out=self.out.absolute(), prior=prior, model=model, options=options)

    def __call__(self) -> Scans:
        """Load prior and model, and see to it that they suit each other."""
        method = _on_device(load_model(self.model)) if self.model else self.options.method
        if self.options.samples:
            _draw(method, self.options.samples)
        atlas = None if self.model and not self.prior else load_prior(self.prior or SHIPPED)
        return Scans(self, method, atlas)


@dataclass(frozen=True, eq=False)
class Scans:
    """What segments scans in this process.

    Args:
        asked: what was asked for.
        method: a mixture or a trained model.
        atlas: the prior, if one was given or is needed; a model has its own.
    """

    asked: Segmenting
    method: Mixture | Model
    atlas: Atlas | None

    @cached_property
    def told(self) -> dict[str, Any]:
        """What the manifest tells of method, model, prior, options and labels."""
        options, model, how = self.asked.options, self.asked.model, approach(self.method, self.atlas)
        home = self.asked.prior or (prior_home(model) if model else SHIPPED)
        name = self.method.name if isinstance(self.method, Model) else MIXTURE
        return {
            "method": name,
            "model": model and {"name": model.name, "hash": model_hash(model)},
            "prior": how.atlas and {"name": home.name, "hash": prior_hash(home), "provenance": how.atlas.provenance},
            "options": {key: value for key, value in asdict(options).items() if not (model and key == "method")},
            "table": how.table.as_dict(),
            "citation": CITATIONS.get(name, ()),
        }

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """What labels depend on, beside the scan and what belongs to it."""
        told = self.told
        hashes = {kind: (told[kind] or {}).get("hash", "") for kind in ("model", "prior")}
        # The files that belong to a scan are its own, and known by what they hold.
        options = {
            key: value for key, value in told["options"].items() if key not in ("channels", "mask", "orientation")
        }
        return {"limner": version("limner"), "method": told["method"], **hashes, "options": options}

    def item(self, case: cohort.Case) -> Item:
        """Return a scan, and what belongs to it, as an item of a ledger."""
        options = self.asked.options
        channels = (*case.images[1:], *options.channels)
        masks = [mask for mask in (options.mask or case.mask,) if mask]
        own = {"channels": len(channels), "mask": len(masks), "orientation": case.orientation or options.orientation}
        return Item(case.name, (case.images[0], *channels, *masks), own | {"bids": case.dataset is not None})

    def __call__(self, item: Item, *, step: Step) -> Made:
        """Segment a scan and write what was found."""
        return self._written(item, self.segmented(item, step=step))

    def segmented(self, item: Item, *, step: Step) -> Segmentation:
        """Open one scan, with what belongs to it, and segment it.

        Raises:
            InputError: if it cannot be used, or takes more memory than it may.
        """
        step("reading")
        scan, *others = item.inputs
        channels, masks = others[: item.facts["channels"]], others[item.facts["channels"] :]
        mask = open_volume(masks[0], kind="labels") if masks else None
        image = open_volume(scan)
        if self.asked.memory:
            how = approach(self.method, self.atlas)
            check.scan_fits(memory_needed(image, how, channels=1 + len(channels), mask=mask), self.asked.memory)
        more = [open_volume(channel) for channel in channels]
        if self.asked.options.n4:
            step("evening by N4")
            image, *more = n4.evened(image, mask), *(n4.evened(channel) for channel in more)
        return segment_volume(
            image,
            prior=self.atlas,
            method=self.method,
            channels=more,
            mask=mask,
            orientation=item.facts["orientation"],
            posteriors=self.asked.options.posteriors,
            progress=step,
        )

    def _written(self, item: Item, found: Segmentation) -> Made:
        """Write a scan's files, in its own format, and return what is to be told of it."""
        out = self.asked.out
        names = {kind: str(_place(item, kind)) for kind in ("mask", "uncertainty", "labels")}
        maps = {out / _place(item, name, group="posteriors"): volume for name, volume in found.posteriors.items()}
        maps |= {out / _place(item, name, group="samples"): volume for name, volume in found.samples.items()}
        if found.mask:
            maps[out / names["mask"]] = found.mask
        # The labels last: where they are, everything is.
        maps |= {out / names["uncertainty"]: found.uncertainty, out / names["labels"]: found.labels}
        _save(maps)
        case: dict[str, Any] = {kind: name for kind, name in names.items() if out / name in maps} | believed(found)
        case |= {"orientation": found.orientation, "notes": [_told(found.placement)] if found.placement else []}
        return Made({"case": case, "volumes": found.volumes(), "measures": _measures(found)}, tuple(maps))


def _place(item: Item, kind: str, *, group: str = "") -> Path:
    """Return where a result belongs, from the folder of all: where BIDS says, or by the scan's name.

    Args:
        item: the scan.
        kind: labels, uncertainty or mask; or what it is of a group.
        group: "posteriors", each of a structure; or "samples", each with a number, and what is told of them.
    """
    scan = item.inputs[0]
    if item.facts["bids"]:
        return bids.derived(scan, kind, sample=group == "samples")
    ending = result_suffix(scan)
    if group:
        return Path(f"{item.name}_{group}", f"{kind.replace(' ', '-')}{ending}")
    return Path(f"{item.name}_{kind}{ending}")


def believed(found: Segmentation) -> dict[str, Any]:
    """Return the verdict on a segmentation, and its reason; nothing if there is no telling."""
    return {"verdict": found.quality.verdict, "reason": found.quality.reason} if found.quality else {}


def _draw(method: Mixture | Model, count: int) -> None:
    """Let a model draw samples.

    Raises:
        InputError: if it cannot.
    """
    if not isinstance(method, Model):
        raise check.draws_nothing(MIXTURE)
    options = method.method.options
    if "samples" not in type(options).model_fields:
        raise check.draws_nothing(method.name)
    method.method.options = options.model_copy(update={"samples": count})


def _on_device(model: Model) -> Model:
    """Move a model to the GPU, if there is one."""
    model.method.to("cuda" if torch.cuda.is_available() else "cpu")
    return model


def _measures(found: Segmentation) -> dict[str, Any]:
    """Return the verdict on a scan, its reason, and what was measured."""
    if found.quality is None:
        return {}
    return believed(found) | {name: round(value, 4) for name, value in asdict(found.quality).items()}


def _told(placement: Placement) -> str:
    """Return in words where a scan lies."""
    words = f"aligned to the prior at {placement.score:.3f} nats"
    if placement.warp is None:
        return words
    volumes = placement.warp.jacobian()
    return f"{words}, which was bent: volumes by {float(volumes.min()):.2f} to {float(volumes.max()):.2f}"


def _save(volumes: Mapping[Path, Volume]) -> None:
    """Write all volumes, or leave none of them."""
    written = []
    try:
        for path, volume in volumes.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            save_volume(volume, path)
            written.append(path)
    except BaseException:
        for path in written:
            path.unlink()
        raise
