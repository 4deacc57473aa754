"""Anatomy: a shape model of whole anatomies, learned from label maps, explains scans that nobody labelled."""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from limner import check
from limner.config import Settings
from limner.data.augmentation import Deformation, deformed
from limner.data.batch import IGNORE, Batch
from limner.losses import RULED_OUT, explanation, log_shares
from limner.methods.appearance import Linear, ScanGaussians, noise_variance, scan_names
from limner.methods.method import Task, Trainable
from limner.methods.scoring import class_balanced, class_probability, per_scan
from limner.networks.autoencoder import drawn
from limner.networks.rows import rows_within, spread
from limner.priors.dense import DensePrior
from limner.priors.neighbours import neighbour_messages
from limner.priors.prior import PlacedPrior
from limner.priors.shape import ShapedPrior, ShapeModel, ShapeOptions, divergence

#: Size of the steps that improve a scan's code.
PACE = 0.05
#: Voxels of each scan that a step looks at, about: all of them change little but the time.
LOOKED_AT = 50_000


class AnatomyOptions(Settings):
    """What a recipe may say about anatomy.

    Args:
        shape: the shape model.
        learns: what a stage learns: the "shape" model from label maps; the encoder of "scans" with the decoder of the
            shape model held fixed; or an auto-encoder of "images", for the encoder of scans to begin with.
        sees: what scans are encoded from: the "posterior" of their classes under the location prior, in any contrast,
            by the shape model's own encoder; or the "image", as published, by another encoder.
        appearance: "gaussian", each scan's own Gaussians in closed form, or "linear", means that all scans share.
        noise: variance about linear means: "estimated" from what they leave, or "immerkaer", the image's noise.
        bound: of a scan's likelihood given its code: "exact", or "jensen" as published.
        labels: whether labels that scans have are "ignored" or "learned".
        balance: share of the terms of voxels, 0 to 1, in which all classes weigh the same, whatever their volume.
        cube: edge, mm, of the cubes whose voxels count as one against the code: neighbours know the same.
        deformation: how label maps are moved and bent while shape is learned.
        rounds: steps that go on from the encoder's code when a scan is segmented.
        samples: segmentations that are drawn of a scan beside the likeliest, to tell what is open.
        answer: "posterior", decoder times likelihood, or "decoder" alone, as published.
        support: classes less likely than this at a place, says the location prior, are ruled out there.
        sweeps: mean-field sweeps of the neighbours when a scan is segmented.
    """

    shape: ShapeOptions = ShapeOptions()
    learns: Literal["shape", "images", "scans"] = "scans"
    sees: Literal["posterior", "image"] = "posterior"
    appearance: Literal["gaussian", "linear"] = "gaussian"
    noise: Literal["estimated", "immerkaer"] = "estimated"
    bound: Literal["exact", "jensen"] = "exact"
    labels: Literal["ignored", "learned"] = "ignored"
    balance: Annotated[float, Field(ge=0, le=1)] = 0.0
    cube: Annotated[float, Field(ge=0)] = 4.0
    deformation: Deformation = Deformation()
    rounds: Annotated[int, Field(ge=0)] = 0
    samples: Annotated[int, Field(ge=0)] = 0
    answer: Literal["posterior", "decoder"] = "posterior"
    support: Annotated[float, Field(ge=0, lt=1)] = 0.0
    sweeps: Annotated[int, Field(ge=0)] = 4


@dataclass(frozen=True, eq=False)
class Look:
    """What is known of a batch of scans before any code, at the N voxels of their masks.

    Args:
        mask: (B, *S).
        world: (B, D+1, D+1) to the atlas's world.
        location: (N, K) nats, log p(class | place).
        evidence: (N, K) nats, log p(class, value | place).
    """

    mask: Tensor
    world: Tensor
    location: Tensor
    evidence: Tensor

    def thinned(self, kept: Tensor) -> Look:
        """Return a look at fewer voxels (B, *S), all of them in the mask."""
        rows = kept[self.mask]
        return Look(kept, self.world, self.location[rows], self.evidence[rows])


class Anatomy(Trainable):
    """Segmenter whose prior is learned from label maps, and whose scans need no labels.

    Source: Dalca et al. 2018. Departures, each an option: a scan's code is read off the posterior of its classes, so
    that any contrast will do; it is a volume's; its likelihood is exact and its Gaussians are its own; neighbouring
    voxels do not count as independent; segmenting may go on from the encoder's code (Kim et al. 2018).
    """

    Options = AnatomyOptions
    local = False
    worldly = True
    options: AnatomyOptions

    def __init__(self, task: Task, options: Settings) -> None:
        super().__init__(task, options)
        chosen = self.options
        made = partial(ShapeModel, dimensions=task.dimensions, options=chosen.shape)
        self.shape = made(task.classes - 1, task.classes)
        if chosen.sees == "image":
            self.seen = made(task.channels, task.channels)
            self.seen.requires_grad_(chosen.learns != "shape")
            self.seen.decoder.requires_grad_(chosen.learns == "images")
        if chosen.appearance == "linear":
            self.linear = Linear(task.classes, task.channels)
            self.linear.requires_grad_(chosen.learns == "scans")
        self.shape.encoder.requires_grad_(chosen.learns == "shape" or (self._reads and chosen.learns == "scans"))
        self.shape.decoder.requires_grad_(chosen.learns == "shape")
        self._gaussians = ScanGaussians()

    @property
    def _reads(self) -> bool:
        """Whether a scan's code is read off the posterior of its classes."""
        return self.options.sees == "posterior"

    def losses(self, batch: Batch, prior: PlacedPrior | None) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Yield the loss terms, nats per voxel.

        Raises:
            InputError: without a prior.
        """
        if prior is None:
            raise check.prior_needed("anatomy")
        if self.options.learns == "images":
            yield "model", self._image_terms(batch)
        elif self.options.learns == "shape":
            yield "model", self._shape_terms(batch, prior)
        else:
            yield "model", self._scan_terms(batch, prior)

    def _shape_terms(self, batch: Batch, prior: PlacedPrior) -> dict[str, Tensor]:
        """Return the terms of label maps: cross-entropy, and the code's divergence."""
        voxel = batch.world[:, :-1, :-1].norm(dim=1)
        labels, mask = deformed(batch.labels, batch.mask, voxel=voxel, by=self.options.deformation)
        every = mask & (labels != IGNORE)
        known = _some(every, LOOKED_AT)
        location = class_probability(prior.parts_within(known), prior.parts)
        mean, log_variance = self.shape.encoded(self.shape.gathered(_one_hot(labels, self.task.classes), batch.world))
        scores = self.shape.interpolated(self.shape.decoded(drawn(mean, log_variance)), mask=known, world=batch.world)
        lost = functional.cross_entropy(scores + location.log(), labels[known], reduction="none")
        fit = (self._weights(location, known) * lost).sum()
        return {"fit": fit, "code": self._code_term(mean, log_variance, mask=every, world=batch.world)}

    def _image_terms(self, batch: Batch) -> dict[str, Tensor]:
        """Return the terms of an auto-encoder of images: half the squared error, and the code's divergence."""
        mean, log_variance = self.seen.encoded(self.seen.gathered(batch.image, batch.world))
        found = self.seen.interpolated(self.seen.decoded(drawn(mean, log_variance)), mask=batch.mask, world=batch.world)
        lost = (found - rows_within(batch.image, batch.mask)).square().sum(1) / 2
        fit = (per_scan(batch.mask) * lost).sum()
        return {"fit": fit, "code": self._code_term(mean, log_variance, mask=batch.mask, world=batch.world)}

    def _scan_terms(self, batch: Batch, prior: PlacedPrior) -> dict[str, Tensor]:
        """Return the terms of scans: how badly their codes explain them, and the codes' divergence."""
        look = self.looked(batch.image, batch.mask, prior=prior, world=batch.world, scans=list(scan_names(batch)))
        mean, log_variance = self._encoded(look, batch.image)
        look = look.thinned(_some(look.mask, LOOKED_AT))
        scores = self.shape.interpolated(
            self.shape.decoded(drawn(mean, log_variance)), mask=look.mask, world=look.world
        )
        labels = batch.labels[look.mask] if self.options.labels == "learned" else None
        exact = self.options.bound == "exact"
        lost = explanation(scores, location=look.location, evidence=look.evidence, exact=exact, labels=labels)
        if self.options.appearance == "linear":
            shares = log_shares(scores.detach() + look.evidence).exp()
            self.linear.look(rows_within(batch.image, look.mask), shares)
        fit = (self._weights(look.location.exp(), look.mask) * lost).sum()
        return {"fit": fit, "code": self._code_term(mean, log_variance, mask=batch.mask, world=look.world)}

    def _weights(self, location: Tensor, mask: Tensor) -> Tensor:
        """Return (N,) weights of the mask's voxels, which sum to 1."""
        weights, share = per_scan(mask), self.options.balance
        return weights.lerp_(class_balanced(location, mask), share) if share > 0 else weights

    def _code_term(self, mean: Tensor, log_variance: Tensor, *, mask: Tensor, world: Tensor) -> Tensor:
        """Return the divergence of codes, nats for each voxel's share of a scan."""
        voxels = mask.flatten(1).sum(1) * self._independent(world)
        return (divergence(mean, log_variance).flatten(1).sum(1) / voxels.clamp_min(1)).mean()

    def _independent(self, world: Tensor) -> Tensor:
        """Return how many independent voxels each voxel of the scans counts as, (B,)."""
        if self.options.cube == 0:
            return torch.ones_like(world[:, 0, 0], dtype=torch.float32)
        volume = torch.linalg.det(world[:, :-1, :-1]).abs()
        share: Tensor = volume / self.options.cube**self.task.dimensions
        return share.clamp_max(1).float()

    def adapting(self) -> AnatomyOptions:
        """Return the options with which it goes on learning from scans without labels."""
        return self.options.model_copy(update={"learns": "scans"})

    def look_over(self, cases: int) -> None:
        """Warn if there are fewer slices than numbers in a code; volumes are few, and are moved and bent for it."""
        slices = cases * self.shape.codes
        if self.options.learns == "shape" and self.shape.axis is not None and self.options.shape.latent > slices:
            warnings.warn(check.latent_exceeds(self.options.shape.latent, slices), check.InputWarning, stacklevel=2)

    def after_step(self) -> None:
        """Learn the variances about linear means, which have no gradient."""
        if self.options.appearance == "linear":
            self.linear.remember()

    def predict(self, image: Tensor, prior: PlacedPrior | None, *, mask: Tensor | None = None) -> Tensor:
        """Return (B, K, *S) float32 probabilities; outside the mask all is background.

        Args:
            image: (B, C, *S), standardised as in a batch.
            prior: on the same voxels, and where they lie in the atlas's world.
            mask: (B, *S) bool, what is to be segmented.

        Raises:
            InputError: without a prior.
        """
        known, look = self._seen(image, prior, mask=mask)
        mean, _ = self.inferred(look, image)
        return self.swept(self.shares(mean, look), look, prior=known)

    def samples(self, image: Tensor, prior: PlacedPrior | None, *, mask: Tensor | None = None) -> Iterator[Tensor]:
        """Yield segmentations (B, K, *S) given samples of the code, the same every time.

        Neighbours have no say, which saves their sweeps.

        Args:
            image: (B, C, *S), standardised as in a batch.
            prior: on the same voxels, and where they lie in the atlas's world.
            mask: (B, *S) bool, what is to be segmented.

        Raises:
            InputError: without a prior.
        """
        _, look = self._seen(image, prior, mask=mask)
        mean, log_variance = self.inferred(look, image)
        noise = torch.Generator(mean.device).manual_seed(0)
        for _ in range(self.options.samples):
            draw = torch.randn(mean.shape, generator=noise, device=mean.device)
            yield spread(self.shares(mean + (log_variance / 2).exp() * draw, look), look.mask)

    def _seen(self, image: Tensor, prior: PlacedPrior | None, *, mask: Tensor | None) -> tuple[DensePrior, Look]:
        """Return the prior and a look at scans that are to be segmented."""
        if not isinstance(prior, DensePrior) or prior.world is None:
            raise check.prior_needed("anatomy")
        inside = torch.ones_like(image[:, 0], dtype=torch.bool) if mask is None else mask
        return prior, self.looked(image, inside, prior=prior, world=prior.world)

    def looked(
        self, image: Tensor, mask: Tensor, *, prior: PlacedPrior, world: Tensor, scans: Sequence[Hashable] = ()
    ) -> Look:
        """Return what is known of scans before any code."""
        parts = prior.parts_within(mask)
        location, classes = class_probability(parts, prior.parts), self.task.classes
        if self.options.appearance == "gaussian":
            evidence = self._gaussians.evidence(image, mask, parts=parts, of=prior.parts, classes=classes, scans=scans)
        else:
            evidence = location.log() + self._linear_density(image, mask)
        return Look(mask, world, location.log(), evidence)

    def _linear_density(self, image: Tensor, mask: Tensor) -> Tensor:
        """Return (N, K) nats: log p(value | class) by means that all scans share."""
        if self.options.noise == "estimated":
            return self.linear.log_density(rows_within(image, mask))
        variances = noise_variance(image, mask).repeat_interleave(mask.flatten(1).sum(1), 0)
        return self.linear.log_density(rows_within(image, mask), variances[:, None])

    def _encoded(self, look: Look, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and log-variances (B, codes, Z) of scans, by an encoder."""
        if not self._reads:
            return self.seen.encoded(self.seen.gathered(image, look.world))
        return self.shape.encoded(
            self.shape.gathered(spread(log_shares(look.evidence.detach()).exp_(), look.mask)[:, 1:], look.world)
        )

    def inferred(self, look: Look, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and log-variances (B, codes, Z) of scans, by the encoder; the means are then improved."""
        with torch.no_grad():
            mean, log_variance = self._encoded(look, image)
        few, mean = look.thinned(_every(look.mask, LOOKED_AT)), mean.requires_grad_()
        optimiser = torch.optim.Adam([mean], PACE)
        for _ in range(self.options.rounds):
            with torch.enable_grad():
                (mean.grad,) = torch.autograd.grad(self._cost(mean, log_variance, look=few, mask=look.mask), [mean])
            optimiser.step()
        return mean.detach(), log_variance

    def _cost(self, mean: Tensor, log_variance: Tensor, *, look: Look, mask: Tensor) -> Tensor:
        """Return how badly codes explain a look at scans, nats per voxel; their divergence counts for all of a mask."""
        scores = self.shape.interpolated(self.shape.decoded(mean), mask=look.mask, world=look.world)
        lost = explanation(scores, location=look.location, evidence=look.evidence)
        return (per_scan(look.mask) * lost).sum() + self._code_term(mean, log_variance, mask=mask, world=look.world)

    def shaped(self, code: Tensor, prior: DensePrior) -> ShapedPrior:
        """Return a prior shaped by codes (B, codes, Z), for any method that takes a batch's prior.

        Raises:
            InputError: for a prior that lies nowhere.
        """
        if prior.world is None:
            raise check.prior_needed("anatomy")
        everywhere = torch.ones_like(prior.probability[:, 0], dtype=torch.bool)
        rows = self.shape.interpolated(self.shape.decoded(code), mask=everywhere, world=prior.world)
        return ShapedPrior(prior, rows.view(*everywhere.shape, -1).movedim(-1, 1), axis=1)

    @torch.no_grad()
    def imagined(self, prior: DensePrior, people: int) -> Iterator[Tensor]:
        """Yield the likeliest classes (1, *S) of people who are not there, the same ones every time."""
        noise = torch.Generator().manual_seed(0)
        for _ in range(people):
            code = torch.randn(1, self.shape.codes, self.options.shape.latent, generator=noise)
            yield self.shaped(code, prior).log_probability().argmax(1)

    def shares(self, code: Tensor, look: Look) -> Tensor:
        """Return (N, K) probabilities of the classes, given codes (B, codes, Z)."""
        scores = self.shape.interpolated(self.shape.decoded(code), mask=look.mask, world=look.world)
        scores += look.evidence if self.options.answer == "posterior" else look.location
        if self.options.support > 0:
            # The likeliest class stays, so that something does.
            least = look.location.amax(1, keepdim=True).clamp_max(math.log(self.options.support))
            scores.masked_fill_(look.location < least, RULED_OUT)
        return log_shares(scores).exp_()

    def swept(self, shares: Tensor, look: Look, *, prior: PlacedPrior) -> Tensor:
        """Return (B, K, *S) probabilities that the neighbours were asked about, given those without them, (N, K)."""
        found, own = spread(shares, look.mask), shares.log()
        if prior.neighbours is None or self.options.answer == "decoder":
            return found
        for _ in range(self.options.sweeps):
            messages = prior.neighbour_weight * rows_within(neighbour_messages(found, prior.neighbours), look.mask)
            found = spread(log_shares(own - messages).exp_(), look.mask)
        return found


def _one_hot(labels: Tensor, classes: int) -> Tensor:
    """Return (B, K-1, *S), the classes but the background of labels (B, *S); nothing where nobody labelled."""
    found = torch.zeros(len(labels), classes, *labels.shape[1:], device=labels.device)
    return found.scatter_(1, labels.clamp_min(0)[:, None], 1.0)[:, 1:]


def _some(mask: Tensor, voxels: int) -> Tensor:
    """Return a mask of about so many voxels of each scan's mask (B, *S), drawn by torch's generator."""
    share = voxels / mask.flatten(1).sum(1).clamp_min(1)
    if (share >= 1).all():
        return mask
    return mask & (torch.rand(mask.shape, device=mask.device) < share.view(-1, *[1] * (mask.ndim - 1)))


def _every(mask: Tensor, voxels: int) -> Tensor:
    """Return a mask of about so many voxels of each scan's mask (B, *S), evenly spread."""
    ranks = mask.flatten(1).cumsum(1).view(mask.shape)
    steps = (mask.flatten(1).sum(1) // voxels).clamp_min(1).view(-1, *[1] * (mask.ndim - 1))
    return mask & (ranks % steps == 0)
