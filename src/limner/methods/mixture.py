"""The classical method: a mixture of Gaussians under a spatial prior and its neighbours, fitted to one scan."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from limner import check
from limner.methods.gaussians import CHUNK, GaussianSettings, fit_gaussians, uniform_log_density
from limner.priors.prior import PlacedPrior
from limner.space import Array

#: Voxels that the Gaussians are fitted on; more change nothing but the time.
FITTED_ON = 250_000


@dataclass(frozen=True)
class Mixture:
    """Segmenter that trains nothing: every scan has its own Gaussians.

    Args:
        gaussians: how the tissues' intensities are tied down.
        sweeps: mean-field sweeps with the prior's neighbour table; 0 leaves it out.
        outliers: share of the voxels expected to look like no tissue, as lesions do; 0 expects none. Such voxels do
            not pull at the Gaussians, and have a class of their own, after the prior's.

    Source: Van Leemput et al. 1999 and 2001 (outliers), with tissues tied as in Puonti et al. 2016 (SAMSEG), and the
    neighbour prior of Yu et al. 2020 (SAE), eq. 9. Our departures: the neighbours act after EM, not inside.
    """

    gaussians: GaussianSettings = field(default_factory=GaussianSettings)
    sweeps: int = 4
    outliers: float = 0.0

    def predict(self, image: Tensor, prior: PlacedPrior | None, *, mask: Tensor | None = None) -> Tensor:
        """Return (B, K, *S) probabilities of the prior's classes (and of outliers, if expected).

        Args:
            image: (B, C, *S) intensities; the unit does not matter.
            prior: on the same grid S.
            mask: (B, *S) bool, where the image shows what is to be segmented; elsewhere is background.

        Raises:
            InputError: without a prior, or for a mask that is empty.
        """
        if prior is None:
            raise check.prior_needed("mixture")
        inside = torch.ones_like(image[:, 0], dtype=torch.bool) if mask is None else mask
        return torch.stack([self._posterior(one, prior, mask=where) for one, where in zip(image, inside, strict=True)])

    def segment(self, prediction: Tensor) -> Array:
        """Return the likeliest class of each voxel, (B, *S) int64."""
        return prediction.argmax(1).numpy()

    def _posterior(self, image: Tensor, prior: PlacedPrior, *, mask: Tensor) -> Tensor:
        """Return (K, *S) probabilities for one image (C, *S)."""
        check.mask_not_empty(int(mask.sum()))
        values = image[:, mask].float()
        classes = len(prior.log_probability())
        evidence = self._class_evidence(values, prior, parts=prior.part_probability()[:, mask], classes=classes)
        posterior = torch.zeros(len(evidence), *mask.shape)
        posterior[0] = 1
        posterior[:, mask] = evidence.softmax(0)
        for _ in range(self.sweeps):
            messages = prior.messages(posterior[None, :classes])[0][:, mask] + prior.log_probability()[:, mask]
            posterior[:, mask] = torch.cat([evidence[:classes] - messages, evidence[classes:]]).softmax(0)
        return posterior

    def _class_evidence(self, values: Tensor, prior: PlacedPrior, *, parts: Tensor, classes: int) -> Tensor:
        """Return (K, N) nats: log p(class, value | place), up to a constant at each voxel."""
        of = prior.parts
        tissue_prior = torch.zeros(len(of.tissues), parts.shape[1]).index_add_(0, of.tissue_of, parts)
        every = max(1, values.shape[1] // FITTED_ON)
        gaussians, _ = fit_gaussians(
            values[:, ::every],
            tissue_prior[:, ::every],
            tissues=of.tissues,
            settings=self.gaussians,
            outliers=self.outliers,
        )
        joint = torch.empty(classes + (self.outliers > 0), values.shape[1])
        anywhere = uniform_log_density(values)
        for begin in range(0, values.shape[1], CHUNK):
            place = slice(begin, begin + CHUNK)
            density = gaussians.log_density(values[:, place])
            highest = density.amax(0)
            share = (density - highest).exp()[of.tissue_of] * parts[:, place]
            summed = torch.zeros(classes, share.shape[1]).index_add_(0, of.class_of, share)
            joint[:classes, place] = summed.clamp_min(1e-30).log()
            if self.outliers > 0:
                joint[classes, place] = anywhere - highest + math.log(self.outliers / (1 - self.outliers))
        return joint
