"""The classical method: a mixture of Gaussians under a spatial prior and its neighbours, fitted to one scan."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from limner import check
from limner.data.scan import standardised
from limner.losses import log_shares
from limner.methods.gaussians import GaussianSettings, class_evidence, fit_to_parts, uniform_log_density
from limner.priors.prior import Parts, PlacedPrior
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
        location = prior.log_probability().movedim(0, -1)[mask]
        classes = location.shape[1]
        values = standardised(image[:, mask])
        evidence = self._evidence(values, prior.parts_within(mask), of=prior.parts, classes=classes)
        posterior = torch.zeros(evidence.shape[1], *mask.shape)
        posterior[0] = 1
        voxels = posterior.movedim(0, -1)
        voxels[mask] = log_shares(evidence).exp_()
        for _ in range(self.sweeps):
            messages = prior.messages(posterior[None, :classes])[0].movedim(0, -1)[mask] + location
            asked = torch.cat([evidence[:, :classes] - messages, evidence[:, classes:]], 1)
            voxels[mask] = log_shares(asked).exp_()
        return posterior

    def _evidence(self, values: Tensor, parts: Tensor, *, of: Parts, classes: int) -> Tensor:
        """Return (N, K) nats: log p(class, value | place), the class of outliers, if expected, after the prior's."""
        gaussians = fit_to_parts(
            values, parts, of=of, settings=self.gaussians, voxels=FITTED_ON, outliers=self.outliers
        )
        evidence = class_evidence(gaussians, values, parts=parts, of=of, classes=classes)
        if self.outliers == 0:
            return evidence
        anywhere = uniform_log_density(values) + math.log(self.outliers / (1 - self.outliers))
        return torch.cat([evidence, anywhere.expand(len(evidence), 1)], 1)
