"""The command that brings a volume to another format, and to another grid."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from limner import check
from limner.cli.terminal import counting, told

if TYPE_CHECKING:
    from limner.files.sources import Source
    from limner.space import Volume


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A file, or the folder of a DICOM series.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The new file; its suffix says the format.")],
    like: Annotated[Path | None, typer.Option(help="Bring it onto the grid of this image.")] = None,
    kind: Annotated[
        Literal["image", "labels", "instances"] | None,
        typer.Option(help="What the voxels are; told by their values unless given, and of an image and ids the image."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Labels to write beside the image, in .ome.zarr and .webknossos."),
    ] = None,
    ome: Annotated[Literal["0.4", "0.5"] | None, typer.Option(help="Version of .ome.zarr; 0.5 unless given.")] = None,
    align_sections: Annotated[
        bool, typer.Option("--align-sections", help="Lay the sections of a stack upon one another, by whole voxels.")
    ] = False,
    drift: Annotated[
        float, typer.Option(min=1, help="Sections over which what runs aslant is not set upright by --align-sections.")
    ] = 50,
) -> None:
    """Write a volume in another format, voxels and geometry as they are, or on the grid of another image.

    .ome.zarr, .precomputed (neuroglancer) and .webknossos get coarser scales too. From .zarr, .n5 and HDF5 to these and
    to .zarr, volumes larger than memory are written part by part.

    Onto another grid, images are interpolated linearly and labels taken from the nearest voxel; onto a coarser one,
    images are averaged and the most frequent label taken. What the new format cannot keep is said. --align-sections
    tells by how much each section was moved, and how much it is like the next one, before and after.
    """
    from limner.files.conversion import convert as converted

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise check.unwritable(target, error) from error
    volume: Volume | Source
    with counting("converting") as watch, told():
        if align_sections:
            volume = _aligned(source, target, drift=drift)
        else:
            volume = converted(source, target, like=like, kind=kind, labels=labels, version=ome, watch=watch)
    what = "an image" if volume.kind == "image" else volume.kind
    print(f"{target}: {what}, {volume.grid}")


def _aligned(source: Path, target: Path, *, drift: float) -> Volume:
    """Align the sections of a stack, write it, and tell what was done to each."""
    from limner.files import save_volume, stored_volume
    from limner.preparation.sections import aligned

    volume, done = aligned(stored_volume(source), drift=drift)
    save_volume(volume, target, as_stored=True)
    print("section  moved y x  correlation with the next, before and after")
    for section, (shift, before, after) in enumerate(zip(done.shifts, done.before, done.after, strict=False)):
        print(f"{section:7d}  {shift[0]:+4d} {shift[1]:+4d}  {before:.3f} {after:.3f}")
    return volume
