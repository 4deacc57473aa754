"""Segment a held-out piece of electron microscopy from its intensity alone: what any network has to beat.

Affinities are the lower of two neighbours' smoothed intensities, as ranks from 0 to 1: membranes are dark. All settings
are chosen on one piece by the sum of both variations of information, and scored on another.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import scipy.ndimage
import typer
from numpy.typing import NDArray

from limner.evaluation import INSTANCE_METRICS, evaluate_instances
from limner.files import open_volume
from limner.instances import agglomerated, components, ends, fragments, nearest
from limner.space import Box, Volume

#: Sections to choose settings on, and to score.
CHOICE, TEST = (125, 145), (145, 165)
COLUMNS = ("vi_split", "vi_merge", "vi", "adapted_rand_error", "cremi_score", "largest_segment")
TOLERANCE = 25
Values = NDArray[np.float32]
Way = tuple[str, Callable[[], Any]]


def piece(path: Path, sections: tuple[int, int]) -> tuple[Volume, Volume]:
    """Return image and instances of some sections."""
    volumes = open_volume(path), open_volume(path, kind="instances")
    box = Box((sections[0], 0, 0), (sections[1], *volumes[0].grid.shape[1:]))
    return tuple(Volume(each.data[box.slices], each.grid.cropped(box), each.kind) for each in volumes)


def intensity_affinities(image: Volume, width: float) -> Values:
    """Return affinities (3, Z, Y, X) of direct neighbours from an image smoothed by `width` voxels."""
    smooth = scipy.ndimage.gaussian_filter(image.data, width)
    ranks = np.searchsorted(np.sort(smooth, axis=None), smooth) / smooth.size
    values = np.zeros((3, *smooth.shape), np.float32)
    for channel, offset in zip(values, nearest(3), strict=True):
        here, there = ends(offset, smooth.shape)
        channel[here] = np.minimum(ranks[here], ranks[there])
    return values


def ways(image: Volume, widths: Sequence[float]) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    """Return each decoder with each of its settings: its name, the settings, and what runs it."""
    for width in widths:
        values = intensity_affinities(image, width)
        for threshold, smallest in itertools.product((0.2, 0.3, 0.4, 0.5), (50, 500)):
            told = f"smoothed by {width}, T {threshold}, smallest {smallest}, filled"
            yield (
                "components",
                told,
                lambda values=values, t=threshold, s=smallest: components(
                    values, nearest(3), threshold=t, smallest=s, fill=True
                ),
            )
        for membrane, separation in itertools.product((0.15, 0.25, 0.35), (5, 9)):
            pieces = fragments(values, nearest(3), threshold=membrane, separation=separation)
            told = f"smoothed by {width}, membrane {membrane}, separation {separation}"
            yield "watershed alone", told, lambda pieces=pieces: pieces
            for threshold, quantile in itertools.product((0.3, 0.4, 0.5, 0.6, 0.7), (None, 0.25, 0.5)):
                name = "watershed + mean" if quantile is None else "watershed + quantile"
                more = f"{told}, T {threshold}" + ("" if quantile is None else f", quantile {quantile}")
                yield (
                    name,
                    more,
                    lambda v=values, p=pieces, t=threshold, q=quantile: agglomerated(
                        v, nearest(3), fragments=p, threshold=t, quantile=q
                    ),
                )


def scored(labels: Any, truth: Volume, *, tolerance: float = 0) -> dict[str, float]:
    """Return the scores of labels (Z, Y, X), in which what is 0 counts as one segment."""
    prediction = Volume(labels.astype(np.uint64), truth.grid, "instances")
    rows = evaluate_instances(prediction, truth, case="piece", tolerance=tolerance).rows
    return {row["metric"]: row["value"] for row in rows}


def chosen(image: Volume, truth: Volume, *, widths: Sequence[float]) -> dict[str, str]:
    """Return for each decoder the settings with the lowest sum of both variations of information."""
    best: dict[str, tuple[float, str]] = {}
    for name, told, run in ways(image, widths):
        value = scored(run(), truth)["vi"]
        best[name] = min(best.get(name, (np.inf, "")), (value, told))
        typer.echo(f"{name}: {told}: {value:.3f}", err=True)
    return {name: told for name, (_, told) in best.items()}


def main(
    out: Annotated[Path, typer.Option(help="Report to write.")] = Path("benchmarks/results/neurons.md"),
    width: Annotated[list[float], typer.Option(help="Voxels to smooth by; several to choose from.")] = [0.5, 1.0, 1.5],  # noqa: B006
) -> None:
    """Write the table; LIMNER_DATA names the folder of data."""
    path = Path(os.environ["LIMNER_DATA"]) / "em_neurons/medulla.hdf"
    settings = chosen(*piece(path, CHOICE), widths=width)
    image, truth = piece(path, TEST)
    options = " ".join(f"--width {each}" for each in width)
    told = (
        f"`python benchmarks/neurons.py {options}`: medulla, sections {TEST[0]} to {TEST[1]}; settings chosen on "
        f"{CHOICE[0]} to {CHOICE[1]}. No network: what one has to beat. With and without a tolerance of {TOLERANCE} nm "
        "at borders."
    )
    lines = [
        "# Neurons from intensity alone",
        "",
        told,
        "",
        f"| decoder | nm | {' | '.join(f'{name} {INSTANCE_METRICS[name]}'.strip() for name in COLUMNS)} | settings |",
        "|---|---|" + "---|" * (len(COLUMNS) + 1),
    ]
    for name, told, run in ways(image, width):
        if settings[name] == told:
            labels = run()
            for tolerance in (0, TOLERANCE):
                found = scored(labels, truth, tolerance=tolerance)
                numbers = " | ".join(f"{found[column]:.3f}" for column in COLUMNS)
                lines.append(f"| {name} | {tolerance} | {numbers} | {told} |")
    largest = np.bincount(np.unique(truth.data, return_inverse=True)[1].reshape(-1)).max() / truth.data.size
    lines += ["", f"The largest true neuron has {largest:.3f} of the test piece."]
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    typer.echo(out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    typer.run(main)
