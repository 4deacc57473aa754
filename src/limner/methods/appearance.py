"""How classes look in a scan: each scan's own Gaussians in closed form, or means that are the same in all scans."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from itertools import zip_longest

import torch
from torch import Tensor, nn

from limner.data.batch import Batch
from limner.methods.gaussians import Gaussians, GaussianSettings, class_evidence, fit_to_parts
from limner.networks.rows import rows_within
from limner.priors.prior import Parts

#: Voxels of a scan that its Gaussians are fitted on; more change nothing but the time.
FITTED_ON = 60_000
#: Scans and crops whose Gaussians are kept.
KEPT = 10_000
#: How many times as fast as other weights the means are learned: they are of the order of 1, not of 0.1.
EAGERNESS = 10.0
#: Share of the last variance that the next one keeps.
MEMORY = 0.9
#: Smallest sd of a class, in the scan's.
SMALLEST_SD = 1e-2


class ScanGaussians:
    """The Gaussians of scans, fitted to each when it is first seen and then kept, by name."""

    def __init__(self) -> None:
        self.kept: dict[Hashable, Gaussians] = {}

    @torch.no_grad()
    def evidence(
        self, image: Tensor, mask: Tensor, *, parts: Tensor, of: Parts, classes: int, scans: Sequence[Hashable] = ()
    ) -> Tensor:
        """Return (N, K) nats: log p(class, value | place) under each scan's Gaussians.

        Args:
            image: (B, C, *S).
            mask: (B, *S), whose N voxels are asked for.
            parts: (N, P) prior probabilities of the parts there.
            of: what the parts belong to.
            classes: K.
            scans: names; the Gaussians of scans that have none are not kept.
        """
        values = rows_within(image, mask).T.contiguous()
        found = parts.new_empty(len(parts), classes)
        begin = 0
        for scan, voxels in zip_longest(scans, mask.flatten(1).sum(1).tolist()):
            place = slice(begin, begin + voxels)
            begin += voxels
            if voxels:
                seen, shares = values[:, place], parts[place]
                with torch.autocast(image.device.type, enabled=False):  # likelihoods need all their digits
                    gaussians = self._fitted(scan, seen, parts=shares, of=of)
                    found[place] = class_evidence(gaussians, seen, parts=shares, of=of, classes=classes)
        return found

    def _fitted(self, scan: Hashable | None, values: Tensor, *, parts: Tensor, of: Parts) -> Gaussians:
        """Return the Gaussians of a scan or crop, which are kept if it has a name."""
        if scan in self.kept:
            return self.kept[scan]
        fitted = fit_to_parts(values, parts, of=of, settings=GaussianSettings(), voxels=FITTED_ON)
        if scan is not None:
            if len(self.kept) == KEPT:
                self.kept.clear()
            self.kept[scan] = fitted
        return fitted


def scan_names(batch: Batch) -> Iterator[Hashable]:
    """Yield what tells each scan or crop of a batch from others."""
    for case, world in zip(batch.case, batch.world, strict=True):
        yield case, world.cpu().numpy().tobytes()


class Linear(nn.Module):
    """One mean for each class in all scans, as the weights of a linear layer from a segmentation to an image.

    Args:
        classes: K.
        channels: C.

    Source: Dalca et al. 2018, section 4.2; the variances are theirs by Immerkaer's estimator, or those of an M-step.
    """

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.zeros(classes, channels))
        self.register_buffer("variances", torch.ones(classes, channels))
        self.variances: Tensor
        self._seen: Tensor | None = None

    def log_density(self, values: Tensor, variances: Tensor | None = None) -> Tensor:
        """Return (N, K) nats, log p(value | class) of values (N, C); variances are (N, K, C) or (K, C), or its own."""
        variances = self.variances if variances is None else variances
        squares = (values[:, None] - EAGERNESS * self.means).square() / variances
        return -0.5 * (squares + variances.log() + math.log(2 * math.pi)).sum(-1)

    @torch.no_grad()
    def look(self, values: Tensor, shares: Tensor) -> None:
        """Look at values (N, C) and the classes' shares of each, (N, K), for the variances that follow from them."""
        squares = (values[:, None] - EAGERNESS * self.means).square()
        mass = shares.sum(0)[:, None]
        # A class that is hardly there keeps what it had: it counts as a hundred voxels.
        seen = ((shares[:, :, None] * squares).sum(0) + 100 * self.variances) / (mass + 100)
        self._seen = seen.clamp_min(SMALLEST_SD**2)

    def remember(self) -> None:
        """Bring the variances nearer to those that were last looked at."""
        if self._seen is not None:
            self.variances.lerp_(self._seen, 1 - MEMORY)


def noise_variance(image: Tensor, mask: Tensor) -> Tensor:
    """Return the variance of the noise in each channel of images (B, C, *S) inside a mask (B, *S): (B, C).

    It is what is left of an image by a filter that takes away whatever is linear, so blurred noise is underestimated.

    Source: Immerkaer 1996, outer product of (1, -2, 1) along the axes; the divisor is 6 to half the number of axes.
    """
    dimensions = mask.ndim - 1
    left, inner = image, mask
    for axis in range(-dimensions, 0):
        width = left.shape[axis] - 2
        first, middle, last = (left.narrow(axis, begin, width) for begin in range(3))
        left = first - 2 * middle + last
        inner = inner.narrow(axis, 0, width) & inner.narrow(axis, 1, width) & inner.narrow(axis, 2, width)
    mean = (left.abs() * inner[:, None]).flatten(2).sum(2) / inner.flatten(1).sum(1, keepdim=True).clamp_min(1)
    sd: Tensor = math.sqrt(math.pi / 2) / 6 ** (dimensions / 2) * mean
    return sd.clamp_min(1e-4).square()
