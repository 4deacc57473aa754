"""Decoders tried on a labelled piece, and the one that costs the fewest bits kept in the model."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from limner import check
from limner.data.volumes import cells
from limner.evaluation import partition
from limner.evaluation.instances import common
from limner.files import open_volume, stem
from limner.inference.neurons import volume_affinities
from limner.inference.objects import affinity_method
from limner.instances import merges, region_graph
from limner.instances.decoding import Decoder, decoded, oversegmented, without_small
from limner.methods.storage import Model, load_model, save_model
from limner.space import Affinities, Array, Offsets, Volume

#: What is tried.
MEMBRANES, SEPARATIONS = (0.3, 0.5, 0.7, 0.85), (3.0, 5.0, 8.0)
THRESHOLDS = tuple(np.arange(0.1, 0.96, 0.05).round(2).tolist())
QUANTILES = (0.25, 0.5, 0.75)
CUTS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
SIZES = (20, 100, 500)
STRIDES = (1, 2, 4)
KINDS = ("mean", "quantile", "components", "mutex")

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Trial:
    """A decoder, and what its segments cost.

    Args:
        decoder: with its settings.
        split: H(segments | objects), bits.
        merge: H(objects | segments), bits.
    """

    decoder: Decoder
    split: float
    merge: float

    @property
    def cost(self) -> float:
        """Return the sum of both, bits."""
        return self.split + self.merge


def tune(
    model: Path,
    volume: Path,
    *,
    labels: Path | None = None,
    sections: tuple[int, int] | None = None,
    insides: bool = False,
    kinds: Sequence[str] = KINDS,
    out: Path | None = None,
    tell: Tell = lambda _: None,
) -> list[Trial]:
    """Choose decoder and thresholds of a model by the variation of information on a labelled piece, and keep them.

    Args:
        model: folder.
        volume: file of an image that the model was not trained on.
        labels: file of its instances; `volume` holds them too unless given.
        sections: the first one and one past the last; all without it.
        insides: whether the labels are a mask of all that is inside a cell, whose connected pieces in each section are
            the cells.
        kinds: of decoders that are tried, as `Decoder` has them.
        out: folder for the model with its decoder; `model` itself unless given.
        tell: told what is being done.

    Returns:
        All that was tried, the best first.

    Raises:
        InputError: for a model of classes, a volume that cannot be used, or only kinds that the model has no edges for.
    """
    found = load_model(model)
    method = affinity_method(found)
    tell("predicting affinities")
    affinities = volume_affinities(method, volume, sections=sections)
    truth = open_volume(labels or volume, kind="instances")
    if insides:
        truth = replace(truth, data=cells(truth.data).astype(np.uint64))
    attempts = tried(affinities, truth, case=stem(volume), kinds=kinds, tell=tell)
    trials = sorted(attempts, key=lambda trial: trial.cost)
    check.some_trial(len(trials), kinds=kinds)
    save_model(with_decoder(found, trials, volume=volume), out or model)
    return trials


def with_decoder(model: Model, trials: Sequence[Trial], *, volume: Path) -> Model:
    """Return a model whose decoder is the best of those tried, the first, and that tells how it was chosen."""
    method, best = model.method, trials[0]
    method.options = method.options.model_copy(update={"decoder": best.decoder})
    told = {"volume": volume.name, "vi_split": best.split, "vi_merge": best.merge, "tried": len(trials)}
    return replace(model, method=method.cpu(), provenance={**model.provenance, "tuned": told})


def best_of_each(trials: Sequence[Trial]) -> list[Trial]:
    """Return the best trial of each kind of decoder, the best of all first."""
    best: dict[str, Trial] = {}
    for trial in sorted(trials, key=lambda trial: trial.cost):
        best.setdefault(trial.decoder.kind, trial)
    return list(best.values())


def tried(
    affinities: Affinities, truth: Volume, *, case: str, kinds: Sequence[str] = KINDS, tell: Tell = lambda _: None
) -> Iterator[Trial]:
    """Yield what every decoder costs, each with many settings; the best of each kind also without small segments.

    Args:
        affinities: of a piece.
        truth: instances, which may begin and end elsewhere.
        case: for messages.
        kinds: of decoders.
        tell: told what is being done.
    """
    channels = [Volume(channel, affinities.grid, "image") for channel in affinities.data]
    shared = [common(channel, truth, case=case) for channel in channels]
    values, objects = np.stack([channel for channel, _, _ in shared]), shared[0][1]
    flat = all(offset[0] == 0 for offset in affinities.offsets) and len(affinities.grid.shape) == 3
    seen = _Seen(values, affinities.offsets, objects, flat, tell)
    for attempts in dict.fromkeys(ATTEMPTS[kind] for kind in kinds):
        trials = [trial for trial in attempts(seen) if trial.decoder.kind in kinds]
        yield from trials
        yield from _sized(seen, best_of_each(trials))


@dataclass(frozen=True, eq=False)
class _Seen:
    """What decoders are tried on: affinities (C, *S), offsets (C, D), true objects (*S), whether sections are flat."""

    values: Array
    offsets: Offsets
    objects: Array
    flat: bool
    tell: Tell

    def scored(self, decoder: Decoder, labels: Array) -> Trial:
        """Return what segments (*S) cost."""
        return _costs(decoder, partition.shared(labels, self.objects))


def _costs(decoder: Decoder, table: partition.Shared) -> Trial:
    return Trial(decoder, *partition.variation_of_information(table))


def _agglomerations(seen: _Seen) -> Iterator[Trial]:
    """Yield agglomeration by mean and quantiles with every threshold, of fragments made in several ways."""
    for membrane, separation in itertools.product(MEMBRANES, SEPARATIONS):
        seen.tell(f"watershed, membrane {membrane}, separation {separation:g}")
        decoder = Decoder(membrane=membrane, separation=separation, sections=seen.flat)
        pieces = oversegmented(seen.values, seen.offsets, by=decoder)
        # Thresholds join fragments, so that voxels are counted once for all of them.
        table = partition.shared(pieces, seen.objects)
        for kind, quantiles in (("mean", (0.5,)), ("quantile", QUANTILES)):
            graph = region_graph(seen.values, seen.offsets, fragments=pieces, quantiles=kind == "quantile")
            for quantile in quantiles:
                order = merges(graph, quantile=quantile)
                for threshold in THRESHOLDS:
                    chosen = {"kind": kind, "quantile": quantile, "threshold": threshold}
                    names = order.until(threshold)[table.segments]
                    yield _costs(decoder.model_copy(update=chosen), partition.joined(table, names))


def _components(seen: _Seen) -> Iterator[Trial]:
    """Yield components with every threshold."""
    for threshold, smallest in itertools.product(CUTS, (50, 500)):
        seen.tell(f"components, threshold {threshold}")
        decoder = Decoder(kind="components", threshold=threshold, smallest=smallest)
        yield seen.scored(decoder, decoded(seen.values, seen.offsets, by=decoder))


def _mutexes(seen: _Seen) -> Iterator[Trial]:
    """Yield mutex watersheds with every stride, if there are edges that repel."""
    if all(sum(map(abs, offset)) == 1 for offset in seen.offsets):
        return
    for stride in STRIDES:
        seen.tell(f"mutex watershed, strides {stride}")
        strides = (1 if seen.flat else stride, *[stride] * (len(seen.offsets[0]) - 1))
        decoder = Decoder(kind="mutex", strides=strides)
        yield seen.scored(decoder, decoded(seen.values, seen.offsets, by=decoder))


def _sized(seen: _Seen, best: Sequence[Trial]) -> Iterator[Trial]:
    """Yield the best trials again without small segments."""
    for trial in best:
        if trial.decoder.kind != "components":
            labels = decoded(seen.values, seen.offsets, by=trial.decoder)
            for smallest in SIZES:
                decoder = trial.decoder.model_copy(update={"smallest": smallest})
                found = without_small(labels, seen.values, offsets=seen.offsets, smallest=smallest)
                yield seen.scored(decoder, found)


#: What tries each kind of decoder.
ATTEMPTS = {"mean": _agglomerations, "quantile": _agglomerations, "components": _components, "mutex": _mutexes}
