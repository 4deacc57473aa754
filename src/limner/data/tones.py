"""What volumes look like to a network, and the curve that makes another volume look so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from limner import check
from limner.config import Settings
from limner.space import Array

#: Shares of the voxels below the quantiles that are kept. Few, so that the curve is smooth; the darkest and the
#: brightest voxels say nothing of the rest.
SHARES = np.array([0.005, 0.02, 0.05, *np.arange(0.1, 0.95, 0.1).round(1), 0.95, 0.98, 0.995])
NANOMETRES = 1e6
#: By how much quantiles may differ, in sds of the image: pieces of one volume differ by so much in what they show, and
#: a curve would only make them worse.
CONTENT = 0.3
#: Voxels of a volume that quantiles are taken of, at most.
SAMPLE = 2_000_000

Values = tuple[float, ...]


class Look(Settings):
    """What volumes that a model learned from look like.

    Args:
        quantiles: of their intensities of mean 0 and sd 1, at `SHARES`.
        voxels: their edges, nm, along each axis that the model looks at.
    """

    quantiles: Annotated[Values, Field(min_length=len(SHARES), max_length=len(SHARES))]
    voxels: Values


class Tones(Settings):
    """A curve by which intensities become those of another volume; it goes on straight beyond its ends.

    Args:
        given: intensities of mean 0 and sd 1, ascending.
        wanted: what each becomes.
    """

    given: Annotated[Values, Field(min_length=2)]
    wanted: Annotated[Values, Field(min_length=2)]

    @model_validator(mode="after")
    def _is_a_curve(self) -> Tones:
        """Refuse what is no curve."""
        check.curve(self.given, self.wanted)
        return self

    def __call__(self, image: Tensor) -> Tensor:
        """Return images, of any shape, after the curve."""
        given, wanted = (torch.tensor(values, device=image.device) for values in (self.given, self.wanted))
        image = image.float().contiguous()
        with torch.autocast(image.device.type, enabled=False):
            places = torch.bucketize(image, given[1:-1])
            slopes = wanted.diff() / given.diff()
            # The steps at the ends are of few voxels: what lies beyond them goes on as the whole curve does.
            mean = (wanted[-1] - wanted[0]) / (given[-1] - given[0])
            found = wanted[places] + slopes[places] * (image - given[places])
            low, high = (image - given[end] for end in (0, -1))
            found = torch.where(low < 0, wanted[0] + mean * low, found)
            return torch.where(high > 0, wanted[-1] + mean * high, found)


def quantiles(images: Sequence[Array]) -> NDArray[np.float64]:
    """Return quantiles at `SHARES` of images of any shape, as many voxels of each as it has of all.

    Whole numbers are taken for the middle of what was rounded to them: or else the steps between quantiles would be
    those of the numbers, and a curve through them would have steps too.
    """
    total = sum(image.size for image in images)
    step = max(1, total // SAMPLE)
    some = np.concatenate([np.asarray(image).reshape(-1)[::step] for image in images])
    values, counts = np.unique(some, return_counts=True)
    return np.asarray(np.interp(SHARES, (np.cumsum(counts) - counts / 2) / some.size, values), np.float64)


def looks(images: Sequence[Array], voxels: NDArray[np.float64]) -> Look:
    """Return what images, of mean 0 and sd 1, of voxels of these edges, (D,) mm, look like."""
    sizes = (voxels * NANOMETRES).round(6)
    return Look(quantiles=tuple(quantiles(images).tolist()), voxels=tuple(sizes.tolist()))


def matching(image: Array, look: Look) -> Tones | None:
    """Return the curve by which an image, of mean 0 and sd 1, has the quantiles of a look; None if it nearly has them.

    Source: histogram matching, as in Gonzalez and Woods, by quantiles; values that many voxels share become the mean of
    what their quantiles should be.
    """
    found = quantiles([image])
    if np.abs(found - look.quantiles).max() <= CONTENT:
        return None
    given, which = np.unique(found, return_inverse=True)
    wanted = np.bincount(which, look.quantiles) / np.bincount(which)
    return Tones(given=tuple(given.tolist()), wanted=tuple(wanted.tolist()))
