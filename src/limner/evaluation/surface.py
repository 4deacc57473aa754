"""How far apart the surfaces of two objects are, in mm.

The surface of an object is its voxels with a face neighbour outside it; beyond the array is outside. Distances run
between voxel centres, along the grid's own axes, so anisotropic and sheared voxels are right.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, spatial

from limner.space import Box


class Distances(NamedTuple):
    """Distance in mm from each surface voxel of one object to the nearest surface voxel of the other.

    An object that does not exist has no entries, and leaves those of the other infinite.

    Args:
        from_prediction: (N,) mm.
        from_reference: (M,) mm.
    """

    from_prediction: NDArray[np.float64]
    from_reference: NDArray[np.float64]


def surface(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the voxels of an object that have a face neighbour outside it, (*S) to (*S)."""
    inside: NDArray[np.bool_] = ndimage.binary_erosion(mask)
    return mask & ~inside


def surface_distances(prediction: NDArray[np.bool_], reference: NDArray[np.bool_], *, spacing: ArrayLike) -> Distances:
    """Measure both directed distances between the surfaces of two objects.

    Only the box around the two objects is looked at, and only surface voxels that are not shared are searched for,
    so that time goes with the size of the disagreement.

    Args:
        prediction: (*S), true inside the object.
        reference: (*S), true inside the object.
        spacing: voxel sizes in mm (D,), or the (D, D) columns of an affine in mm per voxel.
    """
    box = Box.around(prediction | reference).slices
    predicted, true = surface(prediction[box]), surface(reference[box])
    axes = np.asarray(spacing, dtype=np.float64)
    axes = np.diag(axes) if axes.ndim == 1 else axes
    return Distances(_nearest(predicted, true, axes=axes), _nearest(true, predicted, axes=axes))


def hausdorff(distances: Distances, percentile: float = 95) -> float:
    """Return the Hausdorff distance at a percentile, in mm: the larger of the two directed percentiles.

    Returns:
        mm; infinite if one object does not exist, which no distance describes, and nan if neither does.

    Source: Huttenlocher et al., IEEE PAMI 15 (1993), the partial distance by rank, with the percentile
    interpolated between ranks. As in monai; tools that pool both directions before the percentile give other values.
    """
    if not all(map(np.size, distances)):
        return _undefined(distances)
    return float(max(np.percentile(directed, percentile) for directed in distances))


def average_distance(distances: Distances) -> float:
    """Return the average symmetric surface distance in mm: the mean over the voxels of both surfaces.

    Returns:
        mm; infinite if one object does not exist, and nan if neither does.

    Source: Heimann et al., IEEE TMI 28 (2009), "average symmetric surface distance".
    """
    if not all(map(np.size, distances)):
        return _undefined(distances)
    return float(np.concatenate(distances).mean())


def _undefined(distances: Distances) -> float:
    """Return the distance where at least one object does not exist."""
    return np.inf if any(map(np.size, distances)) else np.nan


def _nearest(source: NDArray[np.bool_], target: NDArray[np.bool_], *, axes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance in mm from each voxel of `source` to the nearest of `target`, (N,) in their stored order."""
    apart = ~target[source]
    distances = np.zeros(apart.shape)
    if not target.any():
        distances[:] = np.inf
    elif apart.any():
        # A tree beats the distance transform here: it looks at surfaces only, and takes sheared axes as they are.
        tree = spatial.KDTree(np.argwhere(target) @ axes.T, leafsize=32, balanced_tree=False)
        distances[apart] = tree.query(np.argwhere(source & ~target) @ axes.T)[0]
    return distances
