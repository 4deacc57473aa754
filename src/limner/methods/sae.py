"""SAE: an auto-encoder whose code is the segmentation, learned from scans without labels under a prior."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from limner import check
from limner.config import Settings
from limner.data.batch import Batch
from limner.losses import free_energy, log_shares
from limner.methods.appearance import ScanGaussians, scan_names
from limner.methods.method import Task
from limner.methods.scoring import Scoring, ScoringOptions, class_balanced, class_probability, per_scan
from limner.networks.layers import CONVOLUTION, LAYOUT
from limner.networks.rows import rows_within, spread
from limner.priors.neighbours import neighbour_energy_within, neighbour_messages
from limner.priors.prior import Parts, PlacedPrior

#: Temperature of the relaxed samples.
TEMPERATURE = 2 / 3
#: Errors that the variance is a mean of, and how the public code rounds and bounds the weight that follows from it.
REMEMBERED, LARGEST_WEIGHT = 16, 500.0


class SAEOptions(ScoringOptions):
    """What a recipe may say about SAE.

    Args:
        likelihood: "gaussian", each scan's own Gaussians in closed form, or "decoder", a convolution that reconstructs
            the scan from a sample of its segmentation.
        data_weight: of the scan's likelihood; 0 learns the prior alone, to begin with.
        balance: share of the data's and the location prior's terms, 0 to 1, in which all classes weigh the same,
            whatever their volume. A voxel's best label does not depend on its weight; without any, noise in the
            gradients of large structures hides what small ones say.
        neighbour_weight: of the neighbours' energy, beta; without it what the prior holds for right, 0 for none.
        variance: of the decoder's error: "fixed" takes `precision`; "estimated" the mean over the last 16 steps, and no
            likelihood before there are as many; "rounded" the same to a power of ten, with the weight at most 500.
        precision: weight of the decoder's squared error, if the variance is fixed.
        sweeps: mean-field sweeps that go on from the encoder's answer when a scan is segmented, towards the least loss
            for this scan; 0 takes the encoder's word. Without neighbours nothing of the encoder's answer would
            be left, and with the decoder there is no closed form: then there are none.
    """

    likelihood: Literal["gaussian", "decoder"] = "gaussian"
    data_weight: Annotated[float, Field(ge=0)] = 1.0
    balance: Annotated[float, Field(ge=0, le=1)] = 0.0
    neighbour_weight: Annotated[float, Field(ge=0)] | None = None
    variance: Literal["estimated", "rounded", "fixed"] = "estimated"
    precision: Annotated[float, Field(gt=0)] = 1.0
    sweeps: Annotated[int, Field(ge=0)] = 2


class SAE(Scoring):
    """Segmenter that learns to encode scans as segmentations that explain them.

    Its loss, in nats per voxel, is the KL divergence of the encoder's q from the location prior, minus the expected
    log-likelihood of the scan, plus the expected energy of the neighbours.

    Source: Yu et al. 2020 (SAE), eqs. 4 to 9. Departures: losses are means over voxels, not sums, and may weigh small
    structures more; voxels outside the brain do not count; with Gaussians, fitted to each scan under the prior as the
    mixture's are, the expectation is exact and there is nothing to sample; and segmenting a scan goes on from where the
    encoder leaves it (semi-amortised inference, Kim et al. 2018).
    """

    Options = SAEOptions
    options: SAEOptions

    def __init__(self, task: Task, options: Settings) -> None:
        super().__init__(task, options)
        self._gaussians = ScanGaussians()
        if self.options.likelihood == "decoder":
            self.decoder = _Decoder(task)

    def losses(self, batch: Batch, prior: PlacedPrior | None) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Yield the loss terms, nats per voxel.

        Raises:
            InputError: without a prior.
        """
        if prior is None:
            raise check.prior_needed("sae")
        scores = rows_within(self.network(batch.image), batch.mask)
        with torch.autocast(scores.device.type, enabled=False):  # likelihoods and divergences need all their digits
            terms = self._terms(scores, batch, prior=prior)
        yield "model", terms

    def predict(self, image: Tensor, prior: PlacedPrior | None, *, mask: Tensor | None = None) -> Tensor:
        """Return (B, K, *S) float32 probabilities, as every method does."""
        inside = torch.ones_like(image[:, 0], dtype=torch.bool) if mask is None else mask
        found = super().predict(image, prior, mask=inside)
        if prior is None or prior.neighbours is None or not self._swept(prior):
            return found
        parts = prior.parts_within(inside)
        evidence = self._evidence(image, inside, parts=parts, of=prior.parts)
        evidence = self.ruled(evidence, class_probability(parts, prior.parts))
        for _ in range(self.options.sweeps):
            messages = self._beta(prior) * rows_within(neighbour_messages(found, prior.neighbours), inside)
            found = spread(log_shares(evidence - messages).exp_(), inside)
        return found

    def _terms(self, scores: Tensor, batch: Batch, *, prior: PlacedPrior) -> dict[str, Tensor]:
        """Return the loss terms, given scores (N, K) at the mask's voxels."""
        parts = prior.parts_within(batch.mask)
        location = class_probability(parts, prior.parts)
        scores, weights = self.informed(scores, location), self._weights(location, batch.mask)
        closed = self.options.likelihood == "gaussian" and self.options.data_weight > 0
        evidence = location.log()
        if closed:
            evidence = self._evidence(
                batch.image, batch.mask, parts=parts, of=prior.parts, scans=list(scan_names(batch))
            )
        if closed and self.options.data_weight != 1:
            evidence = location.log().lerp_(evidence, self.options.data_weight)
        del parts, location
        energy, q = free_energy(scores, evidence)
        del evidence
        terms = {"fit" if closed else "prior": (weights * energy).sum()}
        if self.options.data_weight == 0:
            return terms
        beta = self._beta(prior)
        if beta > 0 and prior.neighbours is not None:
            voxels = batch.mask.flatten(1).sum(1).clamp_min(1)
            between = neighbour_energy_within(q, batch.mask, table=prior.neighbours)
            terms["neighbours"] = beta * (between / voxels).mean()
        if self.options.likelihood == "decoder":
            terms["reconstruction"] = self._reconstruction(batch, scores, weights=weights)
        return terms

    def _weights(self, location: Tensor, mask: Tensor) -> Tensor:
        """Return (N,) weights of the mask's voxels, which sum to 1."""
        weights, share = per_scan(mask), self.options.balance
        return weights.lerp_(class_balanced(location, mask), share) if share > 0 else weights

    def _swept(self, prior: PlacedPrior) -> bool:
        """Tell whether segmenting goes on from the encoder's answer."""
        return self.options.sweeps > 0 and self.options.likelihood == "gaussian" and self._beta(prior) > 0

    def _beta(self, prior: PlacedPrior) -> float:
        """Return the weight of the neighbours' energy."""
        own = self.options.neighbour_weight
        return prior.neighbour_weight if own is None else own

    def _evidence(
        self, image: Tensor, mask: Tensor, *, parts: Tensor, of: Parts, scans: Sequence[Hashable] = ()
    ) -> Tensor:
        """Return (N, K) nats: log p(class, value | place) under each scan's Gaussians."""
        classes = self.task.classes
        return self._gaussians.evidence(image, mask, parts=parts, of=of, classes=classes, scans=scans)

    def _reconstruction(self, batch: Batch, scores: Tensor, *, weights: Tensor) -> Tensor:
        """Return minus the expected log-likelihood of the decoder's reconstruction, nats per voxel, by one sample."""
        sample = nn.functional.gumbel_softmax(scores, tau=TEMPERATURE, hard=True)
        drawn = self.decoder(spread(sample, batch.mask))
        residual = (rows_within(drawn, batch.mask) - rows_within(unit_range(batch.image), batch.mask)).square().sum(1)
        error = (weights * residual).sum()
        weight = self.options.precision
        if self.options.variance != "fixed":
            weight = self.decoder.weight(error.detach() / self.task.channels)
        if self.options.variance == "rounded" and weight > 0:
            weight = rounded(weight)
        return self.options.data_weight * weight * error


class _Decoder(nn.Module):
    """One convolution from a segmentation to an image in 0 to 1, and the errors it made of late."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.convolution = CONVOLUTION[task.dimensions](task.classes, task.channels, 3, padding=1)
        self.to(memory_format=LAYOUT[task.dimensions])  # type: ignore[call-overload]
        self.register_buffer("errors", torch.full((REMEMBERED,), -1.0))
        self.errors: Tensor

    def forward(self, segmentation: Tensor) -> Tensor:
        """Return images (B, C, *S) of segmentations (B, K, *S)."""
        image: Tensor = self.convolution(segmentation).sigmoid()
        return image

    def weight(self, error: Tensor) -> float:
        """Return 1 / (2 variance) by the mean squares remembered, 0 until they are enough, and remember one more."""
        known = self.errors.clone()
        self.errors.copy_(torch.cat([known[1:], error.reshape(1).to(known)]))
        return 0.0 if (known < 0).any() else float(0.5 / known.mean().clamp_min(1e-12))


def unit_range(image: Tensor) -> Tensor:
    """Return standardised intensities brought from -3 to 3 into 0 to 1, as the decoder's sigmoid gives them."""
    return ((image + 3) / 6).clamp(0, 1)


def rounded(weight: float) -> float:
    """Return a weight whose variance is rounded to a power of ten, at most LARGEST_WEIGHT, as in the public code."""
    exponent = round(float(torch.tensor(0.5 / weight).log10()))
    return min(0.5 / 10.0**exponent, LARGEST_WEIGHT)
