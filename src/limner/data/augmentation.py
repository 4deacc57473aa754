"""Label maps of people who are not there: a few maps, moved and bent a little."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from limner.config import Settings
from limner.data.batch import IGNORE

Amount = Annotated[float, Field(ge=0)]
MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


class Deformation(Settings):
    """How far label maps are moved and bent, at random.

    Args:
        shift: sd of each component, mm.
        rotation: sd about each axis, degrees.
        scaling: sd of the log of the scale along each axis.
        elastic: sd of each component of a smooth displacement, mm.
        smooth: distance over which the displacement changes, mm.
    """

    shift: Amount = 1.0
    rotation: Amount = 1.0
    scaling: Amount = 0.02
    elastic: Amount = 1.5
    smooth: Annotated[float, Field(gt=0)] = 16.0


def deformed(labels: Tensor, mask: Tensor, *, voxel: Tensor, by: Deformation) -> tuple[Tensor, Tensor]:
    """Return labels and mask, (B, *S) both, each scan moved and bent by what torch's generator draws.

    Every voxel takes the label of the nearest voxel to where it comes from, so that labels stay whole; what comes from
    beyond the map is unknown, and outside the mask.

    Args:
        labels: class indices, or IGNORE.
        mask: what is looked at.
        voxel: (B, D) sizes of the voxels, mm.
        by: how far.

    Source: affine and elastic deformation as in Simard et al. 2003; monai has the same, but its draws are not functions
    of a run's seed and step, and it works on one map at a time, on the CPU.
    """
    shape = labels.shape[1:]
    axes = [torch.arange(size, dtype=torch.float32, device=labels.device) - (size - 1) / 2 for size in shape]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    with torch.autocast(labels.device.type, enabled=False):  # products in bfloat16 would be millimetres off
        moved = torch.stack([_moved(places * size, by=by) / size for size in voxel.to(places)])
    halves = places.new_tensor([max((size - 1) / 2, 0.5) for size in shape])
    points = (moved / halves).flip(-1)
    # Shifted by what IGNORE lies below 0, so that the zeros beyond the map mean it.
    both = torch.stack([(labels - IGNORE).float(), mask.float()], 1)
    found = functional.grid_sample(both, points, mode="nearest", align_corners=True)
    return found[:, 0].round().long() + IGNORE, found[:, 1] > 0.5


def _moved(places: Tensor, *, by: Deformation) -> Tensor:
    """Return where places (*S, D) in mm from the middle come from."""
    dimensions = places.shape[-1]
    turn = torch.randn(dimensions, dimensions, device=places.device) * math.radians(by.rotation) / math.sqrt(2)
    scale = (by.scaling * torch.randn(dimensions, device=places.device)).exp()
    linear = torch.linalg.matrix_exp(turn - turn.T) * scale
    shift = by.shift * torch.randn(dimensions, device=places.device)
    moved: Tensor = places @ linear + shift
    return moved + by.elastic * _smooth(places, by.smooth)


def _smooth(places: Tensor, distance: float) -> Tensor:
    """Return a smooth random field (*S, D) of sd 1 or less, from normal draws that lie `distance` mm apart."""
    *shape, dimensions = places.shape
    extents = places.flatten(0, -2).amax(0) - places.flatten(0, -2).amin(0)
    nodes = [2 + math.ceil(extent / distance) for extent in extents.tolist()]
    drawn = torch.randn(1, dimensions, *nodes, device=places.device)
    field = functional.interpolate(drawn, size=tuple(shape), mode=MODES[dimensions], align_corners=True)
    return field[0].movedim(0, -1)
