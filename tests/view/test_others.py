"""What is written for neuroglancer, and OME-Zarr, in neuroglancer's own readers, from any server of files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from limner.files import save_volume
from limner.files.conversion import convert
from limner.files.nanometres import placed
from limner.space import Grid, Volume
from limner.view import library
from view import chromium

#: Id of the object, and pixels along each side of a voxel.
OBJECT, PIXELS = 2**40 + 1, 2
SOURCES = [
    ("precomputed://HOST/raw.precomputed", "precomputed://HOST/ids.precomputed"),
    ("zarr2://HOST/old.ome.zarr/", "zarr2://HOST/old.ome.zarr/labels/labels/"),
    ("zarr3://HOST/new.ome.zarr/", "zarr3://HOST/new.ome.zarr/labels/labels/"),
]


class Shared(SimpleHTTPRequestHandler):
    """Any server of files that gives parts of them, which shards need, and lets other origins read."""

    def do_GET(self) -> None:
        """Give a file, or a part of it."""
        path = Path(self.translate_path(self.path))
        wanted = self.headers.get("Range")
        if not wanted or not path.is_file():
            return super().do_GET()
        content = path.read_bytes()
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start = int(first) if first else max(0, len(content) - int(last))
        stop = min(len(content), int(last) + 1) if first and last else len(content)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        self.wfile.write(content[start:stop])
        return None

    def do_OPTIONS(self) -> None:
        """Allow to ask for parts."""
        self.send_response(204)
        self.send_header("Access-Control-Allow-Headers", "Range")
        self.end_headers()

    def end_headers(self) -> None:
        """Allow other origins to read, and to see which part it is."""
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Access-Control-Expose-Headers", "Content-Range")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a folder, and yield where."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Shared, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def written(folder: Path) -> None:
    """An image of two grey values, and an object, in all formats."""
    raw = np.full((8, 80, 80), 60, np.float32)
    raw[..., 40:] = 200
    raw[0, 0, 0] = 0
    ids = np.zeros(raw.shape, np.uint64)
    ids[:, 20:60, 50:70] = OBJECT
    grid = Grid(raw.shape, placed([40, 4, 4], [80, 20, 40]))
    save_volume(Volume(raw, grid, "image"), folder / "raw.zarr")
    save_volume(Volume(ids, grid, "instances"), folder / "ids.zarr")
    convert(folder / "raw.zarr", folder / "raw.precomputed", kind="image")
    convert(folder / "ids.zarr", folder / "ids.precomputed", kind="instances")
    for name, version in (("old", "0.4"), ("new", "0.5")):
        labels = folder / "ids.zarr"
        convert(folder / "raw.zarr", folder / f"{name}.ome.zarr", labels=labels, kind="instances", version=version)


@chromium.needed
@pytest.mark.parametrize(("image", "labels"), SOURCES, ids=["precomputed", "0.4", "0.5"])
def test_neuroglancer_reads_by_itself_what_is_written_for_it(tmp_path: Path, image: str, labels: str) -> None:
    """To the left of the middle all is dark, to the right bright, with an object of 20 x 40 voxels in it."""
    neuroglancer = library()
    written(tmp_path)
    neuroglancer.set_server_bind_address("127.0.0.1")
    with serving(tmp_path) as host:
        server = neuroglancer.Viewer()
        with server.txn() as state:
            sources = [each.replace("HOST", host) for each in (image, labels)]
            state.layers["image"] = neuroglancer.ImageLayer(source=sources[0])
            state.layers["labels"] = neuroglancer.SegmentationLayer(
                source=sources[1], segments=[OBJECT], segment_colors={OBJECT: "#ff0000"}
            )
            state.dimensions = neuroglancer.CoordinateSpace(names=["x", "y", "z"], units="nm", scales=[4, 4, 40])
            # The middle, in voxels from the origin on.
            state.position = [10 + 40, 5 + 40, 2 + 4]
            state.cross_section_scale = 1 / PIXELS
            state.layout = "xy"
            state.show_axis_lines = False
        with chromium.browsing(server.get_viewer_url(), tmp_path / "profile"):
            pixels = chromium.photographed(server).screenshot.image_pixels[..., :3].astype(int)
        neuroglancer.stop()
    red = (pixels[..., 0] > 180) & (pixels[..., 1] < 140)
    rows, columns = (np.flatnonzero(red.any(axis)) for axis in (1, 0))
    assert (len(rows), len(columns), red.sum()) == (40 * PIXELS, 20 * PIXELS, 40 * 20 * PIXELS**2)
    middle = pixels[rows.min(), :, 1]
    # The object begins 10 voxels to the right of the middle, and the volume ends 40 voxels to either side of it.
    assert columns.min() - np.flatnonzero(middle == 60).max() == 10 * PIXELS + 1
    assert np.count_nonzero(middle == 60) == pytest.approx(40 * PIXELS, abs=2)  # but for the line around it
    assert np.count_nonzero(middle == 200) == pytest.approx(20 * PIXELS, abs=2)
