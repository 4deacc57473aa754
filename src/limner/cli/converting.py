"""The command that brings a volume to another format, and to another grid."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from limner import check
from limner.cli.terminal import told


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A file, or the folder of a DICOM series.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The new file; its suffix says the format.")],
    like: Annotated[Path | None, typer.Option(help="Bring it onto the grid of this image.")] = None,
    kind: Annotated[
        Literal["image", "labels", "instances"] | None,
        typer.Option(help="What the voxels are [default: told by their values]."),
    ] = None,
) -> None:
    """Write a volume in another format, voxels and geometry as they are, or on the grid of another image.

    Onto another grid, images are interpolated linearly and labels taken from the nearest voxel; onto a coarser one,
    images are averaged and the most frequent label taken. What the new format cannot keep is said.
    """
    from limner.files.conversion import convert as converted

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise check.unwritable(target, error) from error
    with told():
        volume = converted(source, target, like=like, kind=kind)
    what = "an image" if volume.kind == "image" else volume.kind
    print(f"{target}: {what}, {volume.grid}")
