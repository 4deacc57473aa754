"""How scans are to be segmented: by a mixture or a trained model, with which prior, made ready how."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from limner import check
from limner.data.scan import Preparation, Scan
from limner.inference.prediction import predicted, sampled
from limner.methods.method import Segmenter
from limner.methods.mixture import Mixture
from limner.methods.storage import Model
from limner.priors.atlas import Atlas, PlacedAtlas
from limner.priors.storage import SHIPPED, load_prior
from limner.space import Array, Label, LabelTable, Volume

#: Name of the class of voxels that look like no tissue.
OUTLIERS = "outliers"


@dataclass(frozen=True, eq=False)
class Approach:
    """How scans are to be segmented.

    Args:
        segmenter: the method.
        atlas: that scans are aligned to, and that tells left from right; without one, labels are structures.
        known: the labels whose structures are the method's classes.
        preparation: of the scans.
        draw: yields further probabilities of a scan's classes that are as likely, given the same, if it draws any.
        channels: images of a scan, if the method was made for a certain number.
        dimensions: of the images.
        predict: returns the probabilities (K, *S) of a scan's classes, given the atlas where it lies, if there is one.
        outliers: whether there is a class for them, after the table's.
    """

    segmenter: Segmenter
    atlas: Atlas | None
    known: LabelTable
    preparation: Preparation
    predict: Callable[[Scan, PlacedAtlas | None], Tensor]
    draw: Callable[[Scan, PlacedAtlas | None], Iterator[Tensor]] = lambda *_: iter(())
    channels: int | None = None
    dimensions: int = 3
    outliers: bool = False

    @property
    def table(self) -> LabelTable:
        """The labels that scans get."""
        table = self.atlas.table if self.atlas else self.known.merged()
        return with_outliers(table) if self.outliers else table

    def check(self, image: Volume, channels: Sequence[Volume]) -> None:
        """Refuse a scan that this cannot segment.

        Raises:
            InputError: for another number of images, or of axes, than the method is for.
        """
        if self.channels is not None:
            check.model_channels(1 + len(channels), self.channels)
        if self.atlas:
            check.solid(image.data.shape)
        check.model_dimensions(image.data.shape, self.dimensions)

    def identified(self, classes: Array, placed: PlacedAtlas | None) -> Array:
        """Return the id of each voxel, given its class: (*S) to (*S) int32.

        Args:
            classes: (*S); the one after the table's last is that of outliers.
            placed: the atlas on their grid, if there is one.
        """
        known = np.where(classes < len(self.known.structures), classes, 0)
        if placed:
            ids = placed.identified(known)
        else:
            ids = np.array([self.known.structure_id(name) for name in self.known.structures], np.int32)[known]
        return np.where(known == classes, ids, outlier_label(self.known).id).astype(np.int32)


def approach(method: Mixture | Model | None, prior: Atlas | None) -> Approach:
    """Return how to segment with a method and a prior: without any, with a mixture and the prior that ships.

    A prior that is given for a trained model takes the place of the model's own.

    Raises:
        InputError: for a prior with other structures than the model, or for a model that goes with its own alone.
    """
    if isinstance(method, Model):
        return _trained(method, prior)
    mixture, atlas = method or Mixture(), prior or load_prior(SHIPPED)

    def predict(scan: Scan, placed: PlacedAtlas | None) -> Tensor:
        return mixture.predict(scan.standardised()[None], placed, mask=scan.mask[None])[0]

    return Approach(mixture, atlas, atlas.table, Preparation(), predict, outliers=mixture.outliers > 0)


def _trained(model: Model, prior: Atlas | None) -> Approach:
    """Return how to segment with a trained model."""
    atlas = prior or model.prior
    if prior and model.method.worldly:
        raise check.prior_of_another_world(model.name)
    if atlas:
        check.same_structures(atlas.table.structures, model.table.structures)

    def predict(scan: Scan, placed: PlacedAtlas | None) -> Tensor:
        # A method that was trained without a prior knows nothing of one; then it only tells left from right.
        return predicted(model.method, scan, placed=placed if model.prior else None)

    def draw(scan: Scan, placed: PlacedAtlas | None) -> Iterator[Tensor]:
        return sampled(model.method, scan, placed=placed if model.prior else None)

    channels, dimensions = model.task.channels, model.task.dimensions
    return Approach(model.method, atlas, model.table, model.preparation, predict, draw, channels, dimensions)


def outlier_label(table: LabelTable) -> Label:
    """Return the label of voxels that look like no tissue: FreeSurfer's 99, or the next free id."""
    number = 99 if 99 not in table else int(table.ids[-1]) + 1
    return Label(number, OUTLIERS, (255, 165, 0), OUTLIERS, OUTLIERS)


def with_outliers(table: LabelTable) -> LabelTable:
    """Return the table with a label for outliers."""
    return LabelTable((*table.labels, outlier_label(table)), table.structures)
