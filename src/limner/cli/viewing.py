"""The command that shows volumes in a browser."""

from __future__ import annotations

import webbrowser
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Annotated

import typer

from limner.cli.arguments import table_of
from limner.cli.terminal import progress, told


def view(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A scan or a volume, in any format.")],
    labels: Annotated[
        list[Path] | None, typer.Option("--labels", metavar="FILE", help="Labels or instances; repeat for more.")
    ] = None,
    affinities: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A .zarr or HDF5 with the attribute offsets.")
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Reference: shows where --labels differ from it.")
    ] = None,
    names: Annotated[
        Path | None,
        typer.Option("--names", metavar="TABLE", help="CSV or TSV: id, name[, red, green, blue]; else FreeSurfer's."),
    ] = None,
    instances: Annotated[
        bool | None,
        typer.Option(
            "--instances/--structures", help="What ids mean; by default instances in .hdf, .tif, .zarr and .n5."
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of this machine; 0 takes a free one.")] = 0,
    browser: Annotated[bool, typer.Option("--open/--no-open", help="Open it in the browser.")] = True,
) -> None:
    """Look at a volume, its labels, affinities and errors in a browser, by neuroglancer, without the network.

    Large Zarr, N5 and HDF5 volumes are read as they are looked at. The address works on this machine, until Ctrl-C.
    """
    from limner.view import layers_of, library, viewer

    library()
    table = table_of(names)
    with progress(1, "reading") as (tell, advance), told():
        tell(image.name)
        shown = layers_of(
            image, labels=labels or (), affinities=affinities, truth=truth, table=table, instances=instances
        )
        advance()
    with viewer(shown, port=port) as server, suppress(KeyboardInterrupt):
        print(f"viewer: {server.get_viewer_url()} (Ctrl-C ends it)", flush=True)
        if browser:
            webbrowser.open(server.get_viewer_url())
        Event().wait()
