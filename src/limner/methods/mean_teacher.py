"""Mean teacher: a network learns to agree with the moving average of itself on images that nobody labelled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from limner.config import Settings, checked
from limner.data.batch import Batch
from limner.methods import method_class
from limner.methods.method import Task, Trainable
from limner.methods.presence import labelled, marked, without
from limner.priors.prior import PlacedPrior


class MeanTeacherOptions(Settings):
    """What a recipe may say about a mean teacher.

    Args:
        student: the method that learns; who predicts in it is who agrees.
        options: of the student.
        consistency: weight of the agreement.
        decay: of the teacher's moving average.
        confidence: how far from one half, 0 to 1 of the way, what a teacher says must be for its student to agree.
        balanced: whether what it says is below one half counts as much, all together, as what is above.
    """

    student: str = "supervised"
    options: dict[str, Any] = Field(
        default_factory=lambda: {"network": {"kind": "codec"}, "objective": "batch dice"},
    )
    consistency: Annotated[float, Field(ge=0)] = 0.01
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    confidence: Annotated[float, Field(ge=0, lt=1)] = 0.0
    balanced: bool = False


class MeanTeacher(Trainable):
    """Any trainable method as the student of a teacher that is the moving average of its weights.

    Its three published variants differ in the student's codec: normalisation, dropout, or both.

    Source: Tarvainen and Valpola 2017, as in Vorontsov et al. 2022: a teacher that begins apart, a decay that never
    changes, the squared difference on unlabelled images that show a target; unlike the public code, the teacher follows
    in training alone, and scores of normalisation in batches are averaged too. Two views of an image, where a method
    has them, and a teacher who is followed only where it is sure are those of French et al. 2018 (arXiv 1706.05208).
    """

    Options = MeanTeacherOptions
    options: MeanTeacherOptions
    supervised = needs_labels = True

    def __init__(self, task: Task, options: Settings) -> None:
        super().__init__(task, options)
        kind = method_class(self.options.student)
        chosen = checked(self.options.options, kind.Options, source="recipe", under="method.options.options")
        self.student: Trainable = kind(task, chosen)
        self.teacher: Trainable = kind(task, chosen).requires_grad_(False)  # noqa: FBT003 -- torch's own form

    @property
    def local(self) -> bool:
        """Whether a scan may be seen in pieces."""
        return self.student.local

    @property
    def stride(self) -> int:
        """Image sizes are padded to multiples of this, in voxels."""
        return self.student.stride

    @property
    def context(self) -> int:
        """Voxels around a voxel, on each side, that its prediction depends on."""
        return self.student.context

    def players(self) -> Mapping[str, nn.Module]:
        """Return the student's."""
        return self.student.players()

    def losses(self, batch: Batch, prior: PlacedPrior | None) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Yield the student's own losses, those of who predicts with how far it is from its teacher."""
        for player, terms in self.student.losses(batch, prior):
            teaches = player == self.student.predictor
            more = {"consistency": self.options.consistency * self._apart(batch, prior)} if teaches else {}
            yield player, terms | more

    def _apart(self, batch: Batch, prior: PlacedPrior | None) -> Tensor:
        """Return the mean squared difference of student and teacher where it is sure, over images without labels.

        Images that are marked to be without a target are left out.
        """
        weak, strong = self.student.views(batch.image)
        found = self.student.predict(strong, prior, mask=batch.mask)
        with torch.no_grad():
            expected = self.teacher.predict(weak, prior, mask=batch.mask)
        sure = confident(expected, self.options.confidence) & batch.mask[:, None]
        parts = [sure & (expected > 0.5), sure & (expected <= 0.5)] if self.options.balanced else [sure]
        gaps = (found - expected).square()
        each = torch.stack([_mean(gaps, where) for where in parts]).mean(0)
        unlabelled = ~labelled(batch).flatten(1).any(1) & ~without(marked(batch, self.task.classes - 1))
        return (each * unlabelled).sum() / unlabelled.sum().clamp_min(1)

    @torch.no_grad()
    def after_step(self) -> None:
        """Let the teacher follow."""
        self.student.after_step()
        pairs = zip(self.teacher.state_dict().values(), self.student.state_dict().values(), strict=True)
        for old, new in pairs:
            if old.is_floating_point():
                old.lerp_(new, 1 - self.options.decay)
            else:
                old.copy_(new)

    def predict(self, image: Tensor, prior: PlacedPrior | None, *, mask: Tensor | None = None) -> Tensor:
        """Return (B, K, *S) float32 probabilities by the student."""
        return self.student.predict(image, prior, mask=mask)


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """Return the mean of values (B, ...) where they count, (B,); 0 where none does."""
    return (values * where).flatten(1).sum(1) / where.flatten(1).sum(1).clamp_min(1)


def confident(prediction: Tensor, confidence: float) -> Tensor:
    """Return what of a prediction, from 0 to 1, is at least so far from one half, as a share of the way; bool."""
    return (2 * prediction - 1).abs() >= confidence
