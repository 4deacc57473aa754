"""Layers in neuroglancer: its server on this machine, its client from the installed package, nothing from outside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from limner import check
from limner.files.nanometres import nanometres
from limner.space import Array, Grid
from limner.space.grid import oriented_axes
from limner.view.errors import Slices
from limner.view.layers import Layer

HOST = "127.0.0.1"
#: Voxels of the largest volume of which surfaces can be asked for: all of it must be looked at for the first one.
SURFACES = 2**27
#: Names of the axes of an array, after that of its channels, which come all at once.
AXES, CHANNEL = ("i", "j", "k"), "c^"
WORLD = ("x", "y", "z")
#: How neuroglancer calls the sections through x, y and z.
PLANES = ("yz", "xz", "xy")
#: How opaque each role's colours are.
OPACITY = {"image": 1.0, "affinities": 0.5, "labels": 0.4, "truth": 0.4, "errors": 0.7}
#: Screen pixels that the longest side of the image takes in a section, and how much larger the view in 3-D is.
SECTION, AROUND = 280, 1.3
#: Coordinates that are seen at first, at most: of more, too many chunks would be read for one look.
FARTHEST = 1024
#: How scans are turned (quaternion x, y, z, w), so that sections are as in radiology: right to the left, feet down.
UPRIGHT = (0.0, 0.5**0.5, -(0.5**0.5), 0.0)


@contextmanager
def viewer(layers: Sequence[Layer], *, port: int = 0) -> Iterator[Any]:
    """Yield a neuroglancer viewer of layers, of which the first is the image; it ends with the context.

    Its address, `get_viewer_url()`, holds a random token without which the server tells nothing.

    Args:
        layers: to show.
        port: of this machine; any that is free if 0.

    Raises:
        InputError: without neuroglancer, or if the port is taken.
    """
    neuroglancer = library()
    space = Space.of(layers[0].grid)
    neuroglancer.set_server_bind_address(HOST, port)
    try:
        shown = neuroglancer.Viewer()
    except OSError as error:
        raise check.port_taken(port, error) from error
    try:
        names = _tell_names(neuroglancer.server.global_server, [layer.names for layer in layers], token=shown.token)
        with shown.txn() as state:
            _look_at(state, layers[0].grid, space=space)
            for index, layer in enumerate(layers):
                drawn = _drawn(layer, space, names=f"{names}/{index}")
                state.layers.append(name=layer.name, layer=drawn, visible=layer.visible)
        yield shown
    finally:
        neuroglancer.stop()


def library() -> Any:
    """Return neuroglancer.

    Raises:
        InputError: if it is not installed.
    """
    try:
        import neuroglancer
    except ImportError as error:
        raise check.without_neuroglancer() from error
    return neuroglancer


@dataclass(frozen=True, eq=False)
class Space:
    """The viewer's coordinates, x to the right, y to the front, z up.

    Args:
        unit: of the scales, "mm" or "nm".
        scales: (3,) of one coordinate along x, y and z.
        first: (3,) coordinate of the world's origin.
    """

    unit: str
    scales: NDArray[np.float64]
    first: float

    @classmethod
    def of(cls, grid: Grid) -> Space:
        """Return mm for scans; voxels, counted from the middle of that at the world's origin, where they are small."""
        unit, _ = grid.unit
        if unit == "mm":
            return cls(unit, np.ones(3), 0.0)
        axes, _ = oriented_axes(grid.affine)
        sizes = np.empty(3)
        sizes[list(axes)] = nanometres(grid.voxel_sizes)
        # The viewer says that a voxel is where it begins.
        return cls(unit, sizes, 0.5)

    @property
    def scaling(self) -> NDArray[np.float64]:
        """Coordinates of one mm along x, y and z, (3,)."""
        return {"mm": 1.0, "nm": 1e6}[self.unit] / self.scales

    def matrix(self, grid: Grid) -> NDArray[np.float64]:
        """Return the map (3, 4) from a grid's voxels to coordinates; the viewer counts from a voxel's corner."""
        axes = grid.affine[:-1, :-1] * self.scaling[:, np.newaxis]
        place = grid.world(np.full(3, -0.5)) * self.scaling + self.first
        return np.column_stack([axes, place])

    def dimensions(self, *channels: str) -> Any:
        """Return the coordinates as neuroglancer takes them, after those of channels."""
        scales = [1.0] * len(channels) + self.scales.tolist()
        units = [""] * len(channels) + [self.unit] * 3
        return library().CoordinateSpace(names=[*channels, *WORLD], units=units, scales=scales)


class Served:
    """A layer's array as neuroglancer's server takes it."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.shape, self.dtype = layer.shape, layer.dtype

    def __getitem__(self, slices: Slices) -> Array:
        """Return a part."""
        return self.layer.read(slices)

    def transpose(self) -> Array:
        """Return all of it, last axis first, for the surfaces of what was selected."""
        return self[tuple(slice(0, size) for size in self.shape)].transpose()


def _no_surface(_: int) -> NoReturn:
    """Refuse a surface of a volume that is too large.

    Raises:
        MeshesNotSupportedForVolume: always.
    """
    raise library().local_volume.MeshesNotSupportedForVolume


def _look_at(state: Any, grid: Grid, *, space: Space) -> None:
    """Look at the middle of a grid, from where all of it is seen unless it is large."""
    corners = space.matrix(grid) @ np.append(grid.indices(grid.corners()).T + 0.5, np.ones((1, 8)), axis=0)
    low, high = corners.min(axis=1), corners.max(axis=1)
    extent = min(float(((high - low) * space.scales).max() / space.scales.min()), FARTHEST)
    state.dimensions = space.dimensions()
    state.position = (low + high) / 2
    state.cross_section_scale, state.projection_scale = extent / SECTION, extent * AROUND
    state.cross_section_background_color = "#000000"
    state.show_default_annotations = False
    if min(grid.shape) == 1:
        # What is flat is looked at from the side that there is, with the whole window to itself.
        state.cross_section_scale /= 2
        state.layout = PLANES[oriented_axes(grid.affine)[0][int(np.argmin(grid.shape))]]
    elif space.unit == "mm":
        state.cross_section_orientation = state.projection_orientation = UPRIGHT


def _drawn(layer: Layer, space: Space, *, names: str) -> Any:
    """Return a layer as neuroglancer takes it; `names` is where it finds those of ids."""
    neuroglancer = library()
    source, opacity = _source(layer, space), OPACITY[layer.role]
    if layer.role == "image":
        controls = {"normalized": {"range": list(layer.window or (0, 1))}}
        return neuroglancer.ImageLayer(source=source, shader_controls=controls, opacity=opacity)
    if layer.role == "affinities":
        return neuroglancer.ImageLayer(source=source, shader=_shader(layer.channels), opacity=opacity)
    return neuroglancer.SegmentationLayer(
        source=[source, f"precomputed://{names}"] if layer.names else [source],
        segment_colors={label: _code(colour) for label, colour in layer.colours.items()},
        selected_alpha=opacity,
    )


def _source(layer: Layer, space: Space) -> Any:
    """Return a layer's array with its place in the world."""
    neuroglancer = library()
    channels = [CHANNEL] if layer.channels else []
    sizes = [1.0] * len(channels) + (layer.grid.voxel_sizes * layer.grid.unit[1]).tolist()
    units = [""] * len(channels) + [layer.grid.unit[0]] * 3
    own = neuroglancer.CoordinateSpace(names=[*channels, *AXES], units=units, scales=sizes)
    matrix = np.eye(len(sizes), len(sizes) + 1)
    matrix[-3:, -4:] = space.matrix(layer.grid)
    kind = "image" if layer.role in ("image", "affinities") else "segmentation"
    volume = neuroglancer.LocalVolume(Served(layer), dimensions=own, volume_type=kind)
    if np.prod(layer.shape) > SURFACES:
        volume.get_object_mesh = _no_surface
    placed = neuroglancer.CoordinateSpaceTransform(output_dimensions=space.dimensions(*channels), matrix=matrix)
    return neuroglancer.LayerDataSource(url=volume, transform=placed)


def _shader(channels: int) -> str:
    """Return the program that shows up to three channels as red, green and blue."""
    values = [f"toNormalized(getDataValue({min(index, channels - 1)}))" for index in range(3)]
    return f"void main() {{ emitRGB(vec3({', '.join(values)})); }}"


def _code(colour: tuple[int, int, int]) -> str:
    """Return a colour as pages write it."""
    red, green, blue = colour
    return f"#{red:02x}{green:02x}{blue:02x}"


def _tell_names(server: Any, tables: Sequence[Mapping[int, str]], *, token: str) -> str:
    """Let a server tell the names of ids, and return where: table by table, ADDRESS/0, ADDRESS/1, and so on."""
    from tornado.web import RequestHandler

    class Names(RequestHandler):
        def get(self, table: str) -> None:
            """Answer with a table."""
            self.finish(_properties(tables[int(table)]))

    server.app.add_handlers(".*", [(rf"/names/{token}/(\d+)/info", Names)])
    return f"{server.server_url}/names/{token}"


def _properties(names: Mapping[int, str]) -> dict[str, Any]:
    """Return names of ids as neuroglancer reads them."""
    values = {"id": "label", "type": "label", "values": list(names.values())}
    inline = {"ids": [str(label) for label in names], "properties": [values]}
    return {"@type": "neuroglancer_segment_properties", "inline": inline}
