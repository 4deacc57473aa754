"""Translation: images that show something are made to show nothing, and the other way; what differs is segmented."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from limner import check
from limner.config import Settings
from limner.data.batch import Batch
from limner.losses import batch_dice, difference, hinge
from limner.methods.method import Task, Trainable
from limner.methods.presence import labelled, marked, showing, without
from limner.networks.discriminator import Discriminator
from limner.networks.generator import Generator
from limner.networks.information import Information
from limner.networks.spectral import held, normal_weights, normalised
from limner.networks.translator import Code, CodecOptions, Width, with_background
from limner.priors.prior import PlacedPrior

Weight = Annotated[float, Field(ge=0)]
#: The players; the last only watches.
JUDGE, MAKER, WATCHER = "discriminators", "generator", "information"


class Weights(Settings):
    """Weights of the loss terms; all of them are divided by their sum.

    Args:
        adversarial: of being held real.
        reconstruction: of images.
        latent: of the codes of what was made.
        cycle: of an image that was translated and back.
        segmentation: of what labels teach.
    """

    adversarial: Weight = 3.0
    reconstruction: Weight = 50.0
    latent: Weight = 1.0
    cycle: Weight = 50.0
    segmentation: Weight = 0.01

    def shares(self) -> dict[str, float]:
        """Return the weights over their sum."""
        values: dict[str, float] = self.model_dump()
        total = sum(values.values()) or 1.0
        return {name: value / total for name, value in values.items()}


class DiscriminatorOptions(Settings):
    """What a recipe may say about the discriminators.

    Args:
        features: channels of each level.
        scales: each has half the size of the one before.
    """

    features: Annotated[tuple[Width, ...], Field(min_length=1)] = (64, 128, 256, 512)
    scales: Annotated[int, Field(ge=1)] = 3


class TranslationOptions(Settings):
    """What a recipe may say about translation.

    Args:
        codec: encoder and decoders.
        discriminators: one for images without any target, and one for each target.
        directions: "both"; "removal", from presence to absence only; or "none", which reconstructs alone.
        segmenter: "shared" with the residual decoder, or "separate".
        weights: of the loss terms.
        spectral: whether weights are divided by their largest singular value.
        information: whether a third player estimates, for the log alone, how much common and unique code tell of each
            other, nats.
    """

    codec: CodecOptions = CodecOptions()
    discriminators: DiscriminatorOptions = DiscriminatorOptions()
    directions: Literal["both", "removal", "none"] = "both"
    segmenter: Literal["shared", "separate"] = "shared"
    weights: Weights = Weights()
    spectral: bool = True
    information: bool = False


@dataclass(frozen=True, eq=False)
class Made:
    """What the generator makes of a batch: P images that show a target, then A that show none.

    Args:
        image: (P + A, C, *S) what was seen.
        mask: (P + A, *S) the voxels that count.
        marks: (P + A, T) bool, which targets a P image shows, or are put into an A image.
        code: of the images.
        unique: (A, T, U, *s) what was drawn for targets that are put in.
        absent: (P + A, C, *S) the images without any target: translations of P, reconstructions of A.
        residual: (P + A, C, *S) what the marked targets add to them, if any are put into A; else (P, C, *S).
        scores: (P, T, *S) of the targets.
    """

    image: Tensor
    mask: Tensor
    marks: Tensor
    code: Code
    unique: Tensor
    absent: Tensor
    residual: Tensor
    scores: Tensor

    @property
    def showing(self) -> int:
        """How many show a target, P."""
        return len(self.scores)

    @cached_property
    def present(self) -> Tensor:
        """Images with the targets: reconstructions of P (P, C, *S), then translations of A, if any were made."""
        return self.absent[: len(self.residual)] + self.residual


class Translation(Trainable):
    """Segmenter that learns from images known to show a target or not, and from the few with masks.

    An image's code has a common part, from which the common decoder makes the image without any target, and a unique
    part for each target, from which a residual decoder makes what the target adds; the same decoder segments, by
    scales, shifts and a head of its own.

    Source: Vorontsov et al. 2022 (GenSeg), arXiv 1904.01636, sections 3 and 5. Of several targets, each has a
    unique code, a residual decoder and a discriminator, an image without any is given those of an image of the
    batch that shows some, and voxels are shared out by a softmax, which is the sigmoid for one target.
    """

    Options = TranslationOptions
    options: TranslationOptions
    supervised = needs_both = True

    def __init__(self, task: Task, options: Settings) -> None:
        super().__init__(task, options)
        codec, spectral = self.options.codec, self.options.spectral
        self.targets, separate = task.classes - 1, self.options.segmenter == "separate"
        self.generator = Generator(
            task.channels,
            self.targets,
            options=codec,
            spectral=spectral,
            separate=separate,
            dimensions=task.dimensions,
        )
        count = {"both": 1 + self.targets, "removal": 1, "none": 0}[self.options.directions]
        judges = self.options.discriminators
        self.judges = nn.ModuleList(
            Discriminator(task.channels, features=judges.features, scales=judges.scales, dimensions=task.dimensions)
            for _ in range(count)
        )

        width, common = codec.features[-1], self.generator.common_width
        self.watcher = Information((common, width - common)) if self.options.information else None

    @property
    def local(self) -> bool:
        """Codes are normalised over the whole image."""
        return False

    def players(self) -> Mapping[str, nn.Module]:
        """Return the generator, and the discriminators and the watcher if there are any."""
        players: dict[str, nn.Module] = {JUDGE: self.judges} if len(self.judges) else {}
        players[MAKER] = self.generator
        return players if self.watcher is None else players | {WATCHER: self.watcher}

    @property
    def predictor(self) -> str:
        """The generator: discriminators, which come first, predict nothing."""
        return MAKER

    def losses(self, batch: Batch, prior: PlacedPrior | None) -> Iterator[tuple[str, dict[str, Tensor]]]:  # noqa: ARG002 -- it knows none
        """Yield the discriminators' terms, then the generator's, from one forward pass; then minus the information."""
        marks = marked(batch, self.targets)
        presence, absence = (index.nonzero()[:, 0] for index in (showing(marks), without(marks)))
        if not len(presence) or not len(absence):
            raise check.half_batch(len(presence), len(absence), cases=batch.case)
        # Not held while others have their turn: with several batches a step, they are in the middle of theirs.
        weights = normal_weights(self.generator, improve=True)
        with held(weights):
            made = self.made(batch, marks, presence=presence, absence=absence)
        if len(self.judges):
            with normalised(self.judges, improve=True):
                judged = self._judged(made)
            yield JUDGE, {"real and made": judged}
        # The discriminators have stepped, and the generator plays against what they are now.
        with held(weights), frozen(self.judges), normalised(self.judges):
            terms = self._terms(made, batch, presence=presence)
        yield MAKER, terms
        if self.watcher is not None and len(presence) > 1:
            values, width = made.code.values[: len(presence)].detach(), self.generator.common_width
            yield WATCHER, {"information": -self.watcher(values[:, :width], values[:, width:])}

    def made(self, batch: Batch, marks: Tensor, *, presence: Tensor, absence: Tensor) -> Made:
        """Return what the generator makes of the images of a batch.

        Args:
            batch: of which images with indices `presence` (P,) and `absence` (A,) are taken.
            marks: (B, T).
            presence: of those that show a target.
            absence: of those that show none.
        """
        order, count, generator = torch.cat([presence, absence]), len(presence), self.generator
        image = batch.image[order]
        # From presence to absence alone, nothing is made of images without targets.
        code = generator.encoded(image[:count] if self.options.directions == "removal" else image)
        unique = generator.drawn(code.values[count:])
        # Each image without targets is given those of one with some.
        put = marks[presence][torch.arange(len(absence), device=image.device) % count]
        shown = torch.cat([marks[presence], put]) == 1
        seen = Code(torch.cat([code.values[:count], generator.given(code.values[count:], unique)]), code.skips)
        taken = len(image) if self.options.directions == "both" else count
        return Made(
            image=image,
            mask=batch.mask[order],
            marks=shown,
            code=code,
            unique=unique,
            absent=generator.absent(code),
            residual=generator.added(seen.taken(slice(taken)), shown[:taken]),
            scores=generator.scores(code.taken(slice(count))),
        )

    def _judged(self, made: Made) -> Tensor:
        """Return what the discriminators minimise."""
        count = made.showing
        absent = self.judges[0](torch.cat([made.image[count:], made.absent[:count].detach()]))
        total = hinge(absent[: len(made.image) - count], absent[len(made.image) - count :])
        for target, judge in enumerate(self.judges[1:]):
            real, fake = made.marks[:count, target], made.marks[count:, target]
            if real.any() and fake.any():
                seen = judge(torch.cat([made.image[:count][real], made.present[count:][fake].detach()]))
                total = total + hinge(seen[: int(real.sum())], seen[int(real.sum()) :])
        return total

    def _terms(self, made: Made, batch: Batch, *, presence: Tensor) -> dict[str, Tensor]:
        """Return the generator's weighted terms; passes that only terms of weight 0 need are left out."""
        shares = self.options.weights.shares()
        taught = batch_dice(
            with_background(made.scores).float().softmax(1), batch.labels[presence], known=labelled(batch)[presence]
        )
        terms = {"segmentation": taught, "reconstruction": self._reconstruction(made)}
        if shares["latent"] or shares["cycle"]:
            again = self.generator.encoded(self._translations(made))
            terms["latent"] = self._latent(made, again.values)
            if self.options.directions == "both" and shares["cycle"]:
                terms["cycle"] = self._cycle(made, again)
        if len(self.judges):
            terms["adversarial"] = self._fooled(made)
        return {name: shares[name] * term for name, term in terms.items()}

    def _translations(self, made: Made) -> Tensor:
        """Return the images that were made and are encoded again: PP and, if made, AP; then PA and AA, if wanted."""
        wanted = {"both": slice(None), "removal": slice(made.showing), "none": slice(made.showing, None)}
        return torch.cat([made.present, made.absent[wanted[self.options.directions]]])

    def _reconstruction(self, made: Made) -> Tensor:
        """Return how far reconstructions are from their images: PP, and AA unless nothing is known of absence."""
        count = made.showing
        gap = difference(made.present[:count], made.image[:count], mask=made.mask[:count]).mean()
        if self.options.directions == "removal":
            return gap
        return gap + difference(made.absent[count:], made.image[count:], mask=made.mask[count:]).mean()

    def _latent(self, made: Made, again: Tensor) -> Tensor:
        """Return how far the codes (M, N, *s) of what was made are from the codes that it was made of."""
        count, common = made.showing, self.generator.common_width
        values = made.code.values
        total = difference(again[:count], values[:count]).mean()
        if self.options.directions == "both":
            aim = self.generator.given(values[count:], made.unique)
            total = total + difference(again[count : len(values)], aim).mean()
        absent = again[len(made.residual) :, :common]
        if self.options.directions != "none":
            total = total + difference(absent[:count], values[:count, :common]).mean()
            absent = absent[count:]
        if self.options.directions != "removal":
            total = total + difference(absent, values[count:, :common]).mean()
        return total

    def _cycle(self, made: Made, again: Code) -> Tensor:
        """Return how far images without targets are from what they become when some are put in and taken out."""
        count, total = made.showing, len(made.image)
        back = self.generator.absent(again.taken(slice(count, total)))
        return difference(back, made.image[count:], mask=made.mask[count:]).mean()

    def _fooled(self, made: Made) -> Tensor:
        """Return minus how real the discriminators hold translations to be."""
        count = made.showing
        total: Tensor = -self.judges[0](made.absent[:count]).mean()
        for target, judge in enumerate(self.judges[1:]):
            put = made.marks[count:, target]
            if put.any():
                total = total - judge(made.present[count:][put]).mean()
        return total

    def predict(self, image: Tensor, prior: PlacedPrior | None, *, mask: Tensor | None = None) -> Tensor:  # noqa: ARG002 -- it knows none
        """Return (B, K, *S) float32 probabilities; outside the mask all is background."""
        with normalised(self.generator):
            found = with_background(self.generator.scores(self.generator.encoded(image))).float().softmax(1)
        if mask is None:
            return found
        background = torch.eye(found.shape[1], device=found.device)[0].view(1, -1, *[1] * (image.ndim - 2))
        return torch.where(mask[:, None], found, background)

    def removed(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return images (B, C, *S) without any target, and what each target adds to them (B, T, C, *S)."""
        with normalised(self.generator):
            code = self.generator.encoded(image)
            one = torch.eye(self.targets, dtype=torch.bool, device=image.device)
            each = [self.generator.added(code, row.expand(len(image), -1)) for row in one]
            return self.generator.absent(code), torch.stack(each, 1)

    def sample(self, image: Tensor, *, rng: torch.Generator, targets: Tensor | None = None) -> Tensor:
        """Return images (B, C, *S) with targets put in: other draws put in others.

        Args:
            image: (B, C, *S) without any target.
            rng: draws, on the image's device.
            targets: (T,) bool, which are put in; all without it.
        """
        generator = self.generator
        chosen = torch.ones(self.targets, dtype=torch.bool, device=image.device) if targets is None else targets
        with normalised(generator):
            code = generator.encoded(image)
            given = Code(generator.given(code.values, generator.drawn(code.values, rng)), code.skips)
            return generator.absent(code) + generator.added(given, chosen.expand(len(image), -1))


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Keep gradients off a module's parameters in what is computed in the context."""
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)  # noqa: FBT003 -- torch's own form
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)  # noqa: FBT003 -- torch's own form
