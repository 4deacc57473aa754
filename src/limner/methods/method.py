"""What a method is: a segmenter labels images; a trainable one also turns a batch into loss terms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor, nn

from limner.config import Settings
from limner.data.batch import Batch
from limner.priors.prior import PlacedPrior
from limner.space import Array


class Segmenter(Protocol):
    """Everything that labels an image, trained or not."""

    def predict(self, image: Tensor, prior: PlacedPrior | None, *, mask: Tensor | None = None) -> Tensor:
        """Return (B, K, *S) probabilities of an image (B, C, *S) whose `mask` (B, *S) is to be segmented."""

    def segment(self, prediction: Tensor) -> Array:
        """Return the class of each voxel, (B, *S) int64."""


@dataclass(frozen=True)
class Task:
    """What a method is built for.

    Args:
        channels: of the images, C.
        classes: to tell apart, K, the background first.
        dimensions: of the images, 2 or 3.
    """

    channels: int
    classes: int
    dimensions: int = 3


class Trainable(nn.Module):
    """A segmenter that learns. A method is one file: a subclass of this, and a line in METHODS.

    Args:
        task: what it is built for.
        options: of the method, an instance of its `Options`.

    Source: our own; each method names its paper.
    """

    #: What a recipe may say about the method.
    Options: ClassVar[type[Settings]]
    #: Whether labels teach it: only then may scores on labels choose a checkpoint or stop a run.
    supervised: ClassVar[bool] = False
    #: Whether it learns nothing of use without any labels.
    needs_labels: ClassVar[bool] = False
    #: Whether it learns from images that show a target and images that show none.
    needs_both: ClassVar[bool] = False
    #: Whether what it learned lies in the world of its prior, so that no other prior can take that one's place.
    worldly: ClassVar[bool] = False
    #: Whether it tells objects apart that have no names: labels are ids of instances, and predictions are affinities.
    instances: ClassVar[bool] = False

    def __init__(self, task: Task, options: Settings) -> None:
        super().__init__()
        self.task, self.options = task, options

    @property
    def local(self) -> bool:
        """Whether a voxel's prediction depends on what lies within `context` alone: a scan may be seen in pieces."""
        return True

    @property
    def stride(self) -> int:
        """Image sizes are padded to multiples of this, in voxels."""
        return 1

    @property
    def context(self) -> int:
        """Voxels around a voxel, on each side, that its prediction depends on."""
        return 0

    def players(self) -> Mapping[str, nn.Module]:
        """Return the modules that have an optimiser of their own, by name."""
        return {"model": self}

    @property
    def predictor(self) -> str:
        """Name of the player whose parameters predict: the first, unless a method says otherwise."""
        return next(iter(self.players()))

    def losses(self, batch: Batch, prior: PlacedPrior | None) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Yield each player's name and its weighted loss terms, whose sum it minimises.

        Terms are means over the scans of the batch of means over a scan's voxels, so that neither the size of a volume
        nor how a batch is spread over processes changes a gradient. No backward in here. After each yield, the loop
        steps the player and takes up the generator again.

        Args:
            batch: on the method's device.
            prior: placed on the batch: its maps are (B, K, *S).
        """
        raise NotImplementedError

    def adapting(self) -> Settings:
        """Return the options with which it goes on learning from scans without labels."""
        return self.options

    def views(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return images (B, C, *S) as a teacher is to see them, and as its student; voxels stay where they are."""
        return image, image

    def look_over(self, cases: int) -> None:
        """Warn, before anything is learned, if so many cases are too few."""

    def after_step(self) -> None:
        """Do what follows a step of all players, such as a teacher's moving average."""

    def predict(self, image: Tensor, prior: PlacedPrior | None, *, mask: Tensor | None = None) -> Tensor:
        """Return (B, K, *S) float32 probabilities; S is a multiple of the stride."""
        raise NotImplementedError

    def samples(self, image: Tensor, prior: PlacedPrior | None, *, mask: Tensor | None = None) -> Iterator[Tensor]:  # noqa: ARG002 -- most have none
        """Yield segmentations that are all likely, (B, K, *S) probabilities each; none where a method draws none."""
        return iter(())

    def segment(self, prediction: Tensor) -> Array:
        """Return the likeliest class of each voxel, (B, *S) int64."""
        return prediction.argmax(1).cpu().numpy()
