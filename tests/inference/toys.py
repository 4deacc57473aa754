"""Methods that need no training, for what happens around a method."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import tiny
from limner.config import Settings
from limner.data.scan import Preparation, prepared
from limner.methods.method import Task, Trainable
from limner.methods.storage import Model
from limner.priors.atlas import Atlas
from limner.space import LabelTable


class Nothing(Settings):
    """No options."""


class Look(Trainable):
    """Takes the class whose mean is nearest to the average of a voxel and its neighbours, and likely at its place."""

    Options = Nothing
    stride = 4
    context = 1

    def __init__(self, task: Task, options: Settings | None = None) -> None:
        super().__init__(task, options or Nothing())
        self.means = nn.Parameter(torch.zeros(task.classes))
        self.priors: list[Any] = []

    def predict(self, image: Tensor, prior: Any, **_: Any) -> Tensor:
        if any(size % self.stride for size in image.shape[2:]):
            raise ValueError(f"{image.shape} is no whole number of strides")
        self.priors.append(prior)
        average = (nn.functional.avg_pool2d, nn.functional.avg_pool3d)[self.task.dimensions - 2]
        near = 0.9 * image[:, :1] + 0.1 * average(image[:, :1], 3, stride=1, padding=1)
        means = self.means.reshape(1, -1, *[1] * self.task.dimensions)
        scores = -4 * (near - means) ** 2
        return (scores if prior is None else scores + prior.log_probability()).softmax(1)


class Believe(Look):
    """Says what the prior says."""

    context = 0

    def predict(self, _: Tensor, prior: Any, **__: Any) -> Tensor:
        return prior.log_probability().exp()


def means_of(table: LabelTable) -> Tensor:
    """The mean of each class of the tiny head in a standardised scan; that of the background is nowhere near."""
    scan = prepared(tiny.image(), labels=tiny.labels(), table=table)
    image, labels = scan.standardised()[0], scan.labels
    return torch.stack([torch.tensor(9.0), *(image[scan.mask & (labels == k)].mean() for k in (1, 2, 3))])


def model(atlas: Atlas | None, table: LabelTable, *, spacing: float | None = None, channels: int = 1) -> Model:
    """A method that knows the intensities of the tiny head, as a model."""
    method = Look(Task(channels, len(table.structures)))
    method.means.data = means_of(table)
    return Model(method, "look", table, Preparation(spacing=spacing), atlas, {"steps": 0})
