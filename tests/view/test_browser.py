"""The viewer: what neuroglancer is told, what its server gives over HTTP, and what a browser shows of it."""

from __future__ import annotations

import io
import json
import sys
import zlib
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import pytest

from limner.check import InputError
from limner.files import open_volume, save_volume, zarrays
from limner.files.nanometres import attributes
from limner.space import Array, Grid, LabelTable, Volume
from limner.view import Layer, browser, layers_of, library, viewer
from view import chromium
from view.volumes import LARGE, SHAPE, grid, head, stack

TABLE = LabelTable.freesurfer()


def neurons(folder: Path) -> list[Layer]:
    stack(folder)
    files = {name: folder / f"{name}.zarr" for name in ("raw", "found", "near", "truth")}
    return layers_of(files["raw"], labels=[files["found"]], affinities=files["near"], truth=files["truth"], table=TABLE)


def answer(server: Any, layer: int, part: str) -> Any:
    """What the server gives of a layer: JSON, or voxels where `part` is a scale and a box."""
    key = server.state.layers[layer].layer.source[0].url.removeprefix("python://volume/")
    base = server.get_viewer_url().partition("/v/")[0]
    place = f"npz/{key}/{part}" if part != "info" else f"info/{key}"
    with urlopen(f"{base}/neuroglancer/{place}") as reply:
        content = reply.read()
    return json.loads(content) if part == "info" else np.load(io.BytesIO(zlib.decompress(content)))


def test_the_server_gives_what_the_files_hold(tmp_path: Path) -> None:
    layers = neurons(tmp_path)
    with viewer(layers) as server:
        assert [layer.name for layer in server.state.layers] == ["raw", "near", "found", "truth", "errors of found"]
        assert [layer.visible for layer in server.state.layers] == [True, False, False, False, True]
        raw = open_volume(tmp_path / "raw.zarr").data
        np.testing.assert_array_equal(answer(server, 0, "1,1,1/1,2,3/6,20,24"), raw[1:6, 2:20, 3:24])
        found = answer(server, 2, "1,1,1/0,0,0/6,20,24")
        np.testing.assert_array_equal(found, open_volume(tmp_path / "found.zarr", kind="instances").data)
        assert found.max() == LARGE + 1
        np.testing.assert_array_equal(answer(server, 2, "1,2,2/0,0,0/6,10,12"), found[:, ::2, ::2])
        assert answer(server, 1, "1,1,1,1/0,0,0,0/3,6,20,24").shape == (3, *SHAPE)
        told = answer(server, 0, "info")
        assert (told["dataType"], told["shape"], told["volumeType"]) == ("uint8", list(SHAPE), "image")
        assert answer(server, 2, "info")["dataType"] == "uint64"


def test_a_volume_that_no_memory_holds(tmp_path: Path) -> None:
    large = grid((8000, 8000, 8000))
    zarrays.allocate(tmp_path / "raw.zarr", large.shape, dtype=np.uint8, told=attributes(large))
    with viewer(layers_of(tmp_path / "raw.zarr", table=TABLE)) as server:
        assert answer(server, 0, "info")["shape"] == [8000] * 3
        assert answer(server, 0, "1,2,2/7990,0,0/8000,4,4").shape == (10, 4, 4)
        assert server.state.cross_section_scale == pytest.approx(browser.FARTHEST / browser.SECTION)


def test_nothing_is_told_without_the_token(tmp_path: Path) -> None:
    with viewer(neurons(tmp_path)) as server:
        address, _, token = server.get_viewer_url().rstrip("/").rpartition("/")
        assert address.startswith("http://127.0.0.1:")
        assert len(token) >= 32
        for place in (f"v/{token[:-1]}x/", f"names/{token[:-1]}x/4/info", f"neuroglancer/info/{token}.x"):
            with pytest.raises(HTTPError, match="404"):
                urlopen(f"{address.removesuffix('/v')}/{place}")


def test_names_of_ids(tmp_path: Path) -> None:
    head(tmp_path)
    table = LabelTable.read(tmp_path / "table.tsv")
    layers = layers_of(tmp_path / "T1.nii.gz", labels=[tmp_path / "T1_labels.nii.gz"], table=table)
    with viewer(layers) as server:
        found = server.state.layers[1].layer
        assert found.to_json()["segmentColors"] == {"1": "#c80000", "2": "#00c800"}
        place = found.source[1].url.removeprefix("precomputed://")
        with urlopen(f"{place}/info") as reply:
            told = json.loads(reply.read())
    assert told["@type"] == "neuroglancer_segment_properties"
    assert told["inline"]["ids"] == ["1", "2"]
    assert told["inline"]["properties"][0]["values"] == ["rind", "pulp"]


def placed(server: Any, layer: int) -> tuple[Array, Array]:
    """The map (3, 4) from a layer's voxels to coordinates, and the length of each of these in metres."""
    transform = server.state.layers[layer].layer.source[0].transform
    return np.array(transform.matrix)[-3:, -4:], np.array(server.state.dimensions.scales)


def test_scans_lie_in_millimetres(tmp_path: Path) -> None:
    askew = head(tmp_path)
    with viewer(layers_of(tmp_path / "T1.nii.gz", table=TABLE)) as server:
        matrix, metres = placed(server, 0)
        assert list(server.state.dimensions.names) == ["x", "y", "z"]
    np.testing.assert_allclose(metres, 1e-3)
    voxels = np.array([[0, 0, 0], [4, 9, 13]])
    # Neuroglancer counts from a voxel's corner: its middle is half a voxel further.
    np.testing.assert_allclose((voxels + 0.5) @ matrix[:, :3].T + matrix[:, 3], askew.world(voxels), atol=1e-4)


def test_sections_lie_in_voxels_of_nanometres(tmp_path: Path) -> None:
    with viewer(neurons(tmp_path)) as server:
        matrix, metres = placed(server, 0)
        inner, _ = placed(server, 3)
    np.testing.assert_allclose(metres, [8e-9, 4e-9, 40e-9])
    # x, y, z of the first voxel's corner, which is where the viewer says that it is: at 7, 5, 2 from the origin.
    np.testing.assert_allclose(matrix @ [0, 0, 0, 1], [7, 5, 2], atol=1e-5)
    np.testing.assert_allclose(matrix @ [1, 2, 3, 1], [10, 7, 3], atol=1e-5)
    np.testing.assert_allclose(inner @ [0, 0, 0, 1], [7, 5, 3], atol=1e-5)


def test_a_section_has_the_window_to_itself(tmp_path: Path) -> None:
    flat = Grid((7, 9), np.array([[0, 4e-6, 0], [4e-6, 0, 0], [0, 0, 1]]))
    save_volume(Volume(np.arange(63, dtype=np.float32).reshape(7, 9), flat, "image"), tmp_path / "page.tif")
    with viewer(layers_of(tmp_path / "page.tif", table=TABLE)) as server:
        assert server.state.layout.type == "xy"
        np.testing.assert_allclose(server.state.position, [4.5, 3.5, 0.5], atol=1e-5)


@pytest.mark.parametrize("most", [100, 10**6])
def test_surfaces_are_made_of_what_is_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(browser, "SURFACES", most)
    with viewer(neurons(tmp_path)) as server:
        key = server.state.layers[2].layer.source[0].url.removeprefix("python://volume/")
        place = f"{server.get_viewer_url().partition('/v/')[0]}/neuroglancer/mesh/{key}/1"
        if most == 100:
            with pytest.raises(HTTPError, match="405"):
                urlopen(place, timeout=60)
        else:
            with urlopen(place, timeout=60) as reply:
                assert len(reply.read()) > 100


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    import socket

    layers = neurons(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with (
            pytest.raises(InputError, match=rf"--port {port} cannot be used \(.*\); expected a free one"),
            viewer(layers, port=port),
        ):
            pass
    with viewer(layers, port=port) as server:
        assert f":{port}/" in server.get_viewer_url()


def test_without_neuroglancer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "neuroglancer", None)
    with pytest.raises(InputError, match=r"not installed; expected it: run `pip install 'limner\[view\]'`"):
        library()


# --- in a browser


@chromium.needed
def test_a_browser_shows_the_layers(tmp_path: Path) -> None:
    with viewer(neurons(tmp_path)) as server, chromium.browsing(server.get_viewer_url(), tmp_path / "profile"):
        reply = chromium.photographed(server)
        assert [layer.name for layer in reply.viewer_state.layers] == [layer.name for layer in server.state.layers]
        pixels = reply.screenshot.image_pixels[..., :3].astype(int)
    red = (pixels[..., 0] > 150) & (pixels[..., 1:].max(-1) < 120)
    violet = (pixels[..., 0] > 120) & (pixels[..., 2] > 120) & (pixels[..., 1] < 100)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100  # grey values and segments
    assert min(red.mean(), violet.mean()) > 0.005  # merged, and missed
