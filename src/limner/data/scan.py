"""One scan made ready: axes in one order, cropped to the brain, at one voxel size; and the way back."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Literal, TypeAlias

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from limner import check
from limner.config import Settings
from limner.data.batch import IGNORE
from limner.files.itk import Header
from limner.space import Array, Box, Grid, LabelTable, Volume, led, reoriented, resampled
from limner.space.grid import LETTERS

#: Less than this, or more, in mm3, is no brain.
SMALLEST_BRAIN, LARGEST_BRAIN = 2e4, 2.6e6
#: Share of the voxels that a background of one value fills at least.
EMPTY_SHARE = 0.05
#: A scan whose voxels are this near to the spacing wanted, relative to it, is not resampled.
NEAR = 0.1


Intensity: TypeAlias = Literal["standardised", "bounded", "kept"]


class Preparation(Settings):
    """How scans are made ready.

    Args:
        spacing: size of the voxels in mm; the scan's own without it, or if they differ by at most a tenth.
        margin: voxels of the scan kept around the mask.
        region: what counts where no mask is given: what differs from the background ("found"), or the "whole" image.
        intensity: of mean 0 and sd 1 inside the mask ("standardised"); a fifth of that, within -1 and 1 ("bounded"); or
            as it is stored ("kept").
    """

    spacing: Annotated[float, Field(gt=0)] | None = None
    margin: Annotated[int, Field(ge=0)] = 3
    region: Literal["found", "whole"] = "found"
    intensity: Intensity = "standardised"

    def native(self) -> Preparation:
        """Return the same at a scan's own voxel size."""
        return self.model_copy(update={"spacing": None})

    def spaced(self, grid: Grid) -> Grid:
        """Return the grid that a cropped scan is brought to: its own, or one of the spacing wanted that covers it."""
        if self.spacing is None or (abs(grid.voxel_sizes / self.spacing - 1) <= NEAR).all():
            return grid
        return grid.spaced(self.spacing)


@dataclass(frozen=True, eq=False)
class Scan:
    """A scan made ready. Copies of it that are stored along other axes give the same tensors.

    Args:
        name: of the case.
        image: (C, *S) float32 intensities as they were scanned; after resampling, 0 outside the mask.
        mask: (*S) bool, what is to be segmented.
        labels: (*S) int64 class indices; IGNORE where nobody annotated.
        grid: (*S), its axes as near to RAS as permutation and flips allow.
        upright: all of the source's voxels along these axes.
        box: of the upright voxels, what `grid` covers.
        believed: the source's grid, with its axes as its file, or else its user, says they lead.
        source: the scan as it was opened.
        oriented: whether anybody said where the axes lead.
        intensity: as the preparation has it.
    """

    name: str
    image: Tensor
    mask: Tensor
    labels: Tensor
    grid: Grid
    upright: Grid
    box: Box
    believed: Grid
    source: Volume
    oriented: bool
    intensity: Intensity = "standardised"

    @property
    def native(self) -> Grid:
        """The box in the scan's own voxels, (*N)."""
        return self.upright.cropped(self.box)

    def standardised(self) -> Tensor:
        """Return the image as methods see it, (C, *S): of mean 0 and sd 1 unless told else, and 0 outside the mask."""
        image = torch.zeros_like(self.image)
        image[:, self.mask] = brought(self.image[:, self.mask], self.intensity)
        return image

    def unspaced(self, values: Tensor) -> Tensor:
        """Return maps (..., *S) in the scan's own voxels, (..., *N): linear between voxels, or nearest if integers.

        Maps are taken one at a time, and copied if the scan was not resampled.
        """
        if self.native.matches(self.grid):
            return values.clone()
        back = _weights(self.grid, self.native)
        if not values.is_floating_point():
            for axis, weights in enumerate(back, start=-len(back)):
                values = values.index_select(axis, weights.argmax(1))
            return values
        maps = values.reshape(-1, *self.grid.shape)
        found = maps.new_empty(len(maps), *self.box.shape)
        for one, target in zip(maps, found, strict=True):
            target.copy_(_mixed(one, back))
        return found.reshape(*values.shape[: -self.grid.dimensions], *self.box.shape)

    def pasted(self, values: Array, *, outside: float = 0) -> Array:
        """Return one map in the scan's own voxels (*N) on the grid of the source.

        Args:
            values: numbers or truth values.
            outside: what the voxels outside the box become.
        """
        whole = np.full(self.upright.shape, outside, values.dtype)
        whole[self.box.slices] = values
        return reoriented(Volume(whole, self.upright, "image"), self.believed.orientation).data

    def restored(self, values: Tensor, *, outside: float = 0) -> Array:
        """Return maps (..., *S) on the grid of the source, (..., *source): `unspaced` and `pasted`, one at a time."""
        maps = values.reshape(-1, *self.grid.shape)
        found = [self.pasted(self.unspaced(one).numpy(), outside=outside) for one in maps]
        return np.stack(found).reshape(*values.shape[: -self.grid.dimensions], *self.source.grid.shape)


def standardised(values: Tensor) -> Tensor:
    """Return intensities (C, N) with mean 0 and sd 1 per channel, float32; a constant channel says nothing: 0."""
    exact = values.double()  # so that the unit costs no digits
    spread = exact.std(1, correction=0, keepdim=True).clamp_min(1e-12)
    return ((exact - exact.mean(1, keepdim=True)) / spread).float()


def brought(values: Tensor, intensity: Intensity) -> Tensor:
    """Return intensities (C, N) as a preparation has them, float32.

    Source: "bounded" as Vorontsov et al. 2022, whose five sd are over all channels together.
    """
    if intensity == "kept":
        return values.float()
    found = standardised(values)
    return found if intensity == "standardised" else (found / 5).clamp(-1, 1)


def prepared(
    image: Volume,
    *,
    channels: Sequence[Volume] = (),
    labels: Volume | None = None,
    mask: Volume | None = None,
    orientation: str | None = None,
    table: LabelTable | None = None,
    preparation: Preparation | None = None,
    name: str = "the scan",
) -> Scan:
    """Make a scan ready.

    Args:
        image: stripped: all around the brain has one value, or `mask` says where the brain is.
        channels: further images of the same person in the same place, resampled onto the first one's grid.
        labels: on the image's grid; negative ids are voxels that nobody annotated.
        mask: non-zero where the brain is, on the image's grid.
        orientation: where the image's axes lead, such as "LIA", if its file does not say.
        table: whose structures the labels' ids belong to; without it ids are class indices.
        preparation: margin and voxel size.
        name: of the case, for messages.

    Raises:
        InputError: for an image that has no background and no mask, labels or a mask on another grid, an empty mask,
            labels that the table does not know, or a channel that shows little of what the image shows.
    """
    preparation = preparation or Preparation()
    lost = lost_orientation(image)
    believed = led(image.grid, orientation) if lost and orientation else image.grid
    frame = _Frame(image, believed, name)
    if mask is not None:
        inside = frame.companion(mask, "mask") != 0
    else:
        whole = preparation.region == "whole"
        inside = np.ones(frame.turned.data.shape, bool) if whole else _brain(frame.turned)
    check.mask_not_empty(int(np.count_nonzero(inside)))
    box = Box.around(inside).grown(preparation.margin).clipped(inside.shape)
    images = [frame.turned.data, *(frame.channel(channel) for channel in channels)]
    native = frame.turned.grid.cropped(box)
    scan = Scan(
        name=name,
        image=torch.from_numpy(np.stack([data[box.slices] for data in images], dtype=np.float32)),
        mask=torch.from_numpy(np.ascontiguousarray(inside[box.slices])),
        labels=frame.classes(labels, table, box=box),
        grid=native,
        upright=frame.turned.grid,
        box=box,
        believed=believed,
        source=image,
        oriented=not lost or orientation is not None,
        intensity=preparation.intensity,
    )
    return _spaced(scan, preparation.spaced(native))


def found_axes(scan: Scan, transform: Array) -> tuple[str, Array]:
    """Return where a scan's axes lead as its placement found, and from the world that follows from it to the scan's.

    Prepare the scan again with the orientation found, and its tensors are those of any copy that states its axes.

    Args:
        scan: whose axes nobody knew.
        transform: (D+1, D+1) from the scan's world to the prior's, mm.
    """
    orientation = scan.believed.moved(transform).orientation
    world = led(scan.believed, orientation).affine
    return orientation, np.asarray(scan.believed.affine @ np.linalg.inv(world))


def lost_orientation(image: Volume) -> bool:
    """Tell whether nothing says where an image's axes lead: neither a header nor an affine."""
    if isinstance(image.header, Header):
        return not image.header.placed
    return image.header is None and bool((image.grid.affine == np.eye(image.data.ndim + 1)).all())


def canonical(dimensions: int) -> str:
    """Return the orientation that all scans are brought to: "RAS", or "RA" in 2-D."""
    return "".join(pair[1] for pair in LETTERS[:dimensions])


@dataclass(frozen=True, eq=False)
class _Frame:
    """An image with its axes as they are believed, and what lies on its grid."""

    image: Volume
    believed: Grid
    name: str

    @cached_property
    def turned(self) -> Volume:
        """The image along canonical axes."""
        return self._upright(replace(self.image, grid=self.believed))

    def companion(self, volume: Volume, kind: str) -> Array:
        """Return a mask or labels along canonical axes.

        Raises:
            InputError: if they lie on another grid than the image.
        """
        along = reoriented(volume, self.image.grid.orientation)
        check.same_grid(along.grid, self.image.grid, case=self.name, names=(kind, "image"))
        return self._upright(replace(along, grid=self.believed)).data

    def channel(self, volume: Volume) -> Array:
        """Return another image on the image's grid along canonical axes.

        Raises:
            InputError: if it shows little of what the image shows.
        """
        if volume.grid.matches(self.image.grid):
            volume = replace(volume, grid=self.believed)
        check.channel_covers(self.believed.covered(volume.grid), self.name)
        return resampled(self._upright(volume), self.turned.grid).data

    def classes(self, labels: Volume | None, table: LabelTable | None, *, box: Box) -> Tensor:
        """Return the class of each voxel in a box (*S): IGNORE where the id is negative, or there are no labels.

        Raises:
            InputError: if the labels lie on another grid than the image, or have ids that the table does not know.
        """
        if labels is None:
            return torch.full(box.shape, IGNORE)
        ids = self.companion(labels, "labels")[box.slices]
        return torch.from_numpy(classes(ids, table, name=self.name).astype(np.int64))

    @staticmethod
    def _upright(volume: Volume) -> Volume:
        return reoriented(volume, canonical(volume.data.ndim))


def classes(ids: Array, table: LabelTable | None, *, name: str) -> Array:
    """Return the class index of each id (*S), IGNORE where it is negative; without a table, ids are class indices.

    Raises:
        InputError: for ids that the table does not know.
    """
    ignored = ids < 0
    rows = None if table is None else table.rows(np.where(ignored, 0, ids), f"labels of {name}")
    found = ids if table is None or rows is None else table.structure_of[rows]
    return np.where(ignored, IGNORE, found).astype(np.int16)


def shows_head(image: Volume) -> bool:
    """Tell whether an image shows more than a brain: nothing is empty in it, or what is not is larger than any."""
    if image.data.ndim != 3:
        return False
    inside = _foreground(image)
    volume = np.count_nonzero(inside) * image.grid.voxel_volume
    return bool(1 - inside.mean() < EMPTY_SHARE or volume > LARGEST_BRAIN)


def _brain(image: Volume) -> Array:
    """Return where a stripped image differs from its background, holes filled.

    Raises:
        InputError: for an image without background.
    """
    inside = _foreground(image)
    check.has_background(1 - float(inside.mean()), EMPTY_SHARE)
    volume = np.count_nonzero(inside) * image.grid.voxel_volume
    if image.data.ndim == 3 and volume > LARGEST_BRAIN:
        warnings.warn(check.large_brain(volume / 1e6), stacklevel=3)
    return inside


def _foreground(image: Volume) -> Array:
    """Return where an image differs from the value of most of its border, holes filled."""
    from scipy import ndimage

    faces = [image.data.take(end, axis) for axis in range(image.data.ndim) for end in (0, -1)]
    values, counts = np.unique(np.concatenate([face.ravel() for face in faces]), return_counts=True)
    inside = image.data != values[counts.argmax()]
    box = Box.around(inside).slices
    inside[box] = ndimage.binary_fill_holes(inside[box])
    return np.asarray(inside)


def _spaced(scan: Scan, grid: Grid) -> Scan:
    """Return a scan on another grid of the same axes and centre.

    Every voxel is the mean of what it covers: of the image, inside the mask alone; of mask and labels, what is most.

    Raises:
        InputError: if no voxel lies half in the mask.
    """
    if grid is scan.grid:
        return scan
    weights = _weights(scan.grid, grid)
    share = _mixed(scan.mask.float(), weights)
    mask = share >= 0.5
    check.mask_not_empty(int(mask.sum()))
    image = [_mixed(channel * scan.mask, weights) / share.clamp_min(1e-6) * mask for channel in scan.image]
    return replace(scan, image=torch.stack(image), mask=mask, labels=_most(scan.labels, weights), grid=grid)


def _weights(source: Grid, target: Grid) -> list[Tensor]:
    """Return for each axis the weights (target's voxels, source's voxels) that average, or where finer interpolate.

    Both grids have the same axes and centre.
    """
    # Rounded, because a copy along other axes differs in the last bits.
    ratios = np.round(target.voxel_sizes / source.voxel_sizes, 6).tolist()
    sizes = zip(source.shape, target.shape, ratios, strict=True)
    return [_axis_weights(before, after, ratio=ratio) for before, after, ratio in sizes]


def _axis_weights(source: int, target: int, *, ratio: float) -> Tensor:
    """Return weights (target, source) whose rows sum to 1; `ratio` is the target's voxel size over the source's."""
    voxels = torch.arange(source, dtype=torch.float64)
    centres = (source - 1) / 2 + (torch.arange(target, dtype=torch.float64)[:, None] - (target - 1) / 2) * ratio
    if ratio >= 1:
        overlap = torch.minimum(centres + ratio / 2, voxels + 0.5) - torch.maximum(centres - ratio / 2, voxels - 0.5)
        weights = overlap.clamp_min(0)
    else:
        weights = (1 - (centres.clamp(0, source - 1) - voxels).abs()).clamp_min(0)
    return (weights / weights.sum(1, keepdim=True)).float()


def _mixed(values: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Return float values (*S) after each axis was multiplied by its weights (T, S)."""
    for axis, matrix in enumerate(weights):
        values = torch.tensordot(matrix, values, dims=([1], [axis])).movedim(0, axis)
    return values.contiguous()


def _most(labels: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Return the label that fills most of each voxel, the lowest of equals."""
    shape = [len(matrix) for matrix in weights]
    most, largest = torch.full(shape, IGNORE), torch.zeros(shape)
    for label in np.unique(labels.numpy()).tolist():
        where = labels == label
        box = Box.around(where.numpy()).slices
        inner = [matrix[:, part] for matrix, part in zip(weights, box, strict=True)]
        share = _mixed(where[box].float(), inner)
        larger = share > largest
        most[larger], largest = label, torch.maximum(share, largest)
    return most
