"""What every segmenter promises, on a phantom of sixteen voxels a side.

Priors are maps of a three-dimensional world, so an image of two dimensions is a volume of one slice here.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import phantoms
from limner.methods.mixture import Mixture
from limner.priors.atlas import PlacedAtlas
from limner.space import Grid

SEGMENTERS = {
    "mixture": Mixture(),
    "mixture without neighbours": Mixture(sweeps=0),
    "mixture with outliers": Mixture(outliers=0.02),
}
SHAPES = {"volume": (16, 16, 16), "slice": (16, 16, 1)}

pytestmark = [
    pytest.mark.parametrize("segmenter", SEGMENTERS.values(), ids=SEGMENTERS.keys()),
    pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys()),
]


@pytest.fixture(scope="module")
def placed() -> dict[tuple[int, ...], PlacedAtlas]:
    """The head's prior on each shape, 6.5 mm voxels about its centre."""
    atlas = phantoms.atlas(phantoms.grid(4.0))
    grids = []
    for shape in SHAPES.values():
        affine = np.diag([6.5] * 3 + [1.0])
        affine[:3, 3] = [-6.5 * (size - 1) / 2 for size in shape]
        grids.append(Grid(shape, affine))
    return {grid.shape: atlas.place(grid) for grid in grids}


@pytest.fixture
def prior(placed: dict[tuple[int, ...], PlacedAtlas], shape: tuple[int, ...]) -> PlacedAtlas:
    return placed[shape]


def images(prior: PlacedAtlas, *, batch: int = 1, channels: int = 1) -> Tensor:
    """Images (B, C, *S) of the head; channels differ in noise and contrast."""
    truth = phantoms.labels(prior.grid)
    drawn = [phantoms.image(truth, seed=seed) for seed in range(batch * channels)]
    signs = torch.tensor([1.0, -0.4])[:channels].reshape(1, -1, 1, 1, 1)
    return torch.from_numpy(np.stack(drawn)).reshape(batch, channels, *prior.grid.shape) * signs


def mask_of(prior: PlacedAtlas, *, batch: int = 1) -> Tensor:
    """Where the head is, (B, *S)."""
    return torch.from_numpy(phantoms.labels(prior.grid).data > 0).expand(batch, *prior.grid.shape)


def classes_of(segmenter: Mixture, prior: PlacedAtlas) -> int:
    """K, with a class for outliers if they are expected."""
    return len(prior.log_probability()) + (segmenter.outliers > 0)


def assert_probabilities(prediction: Tensor) -> None:
    assert torch.isfinite(prediction).all()
    assert (prediction >= 0).all()
    torch.testing.assert_close(prediction.sum(1), torch.ones_like(prediction[:, 0]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("channels", [1, 2])
def test_predictions_have_the_promised_shape_and_sum_to_one(
    segmenter: Mixture, prior: PlacedAtlas, batch: int, channels: int
) -> None:
    image = images(prior, batch=batch, channels=channels)
    prediction = segmenter.predict(image, prior, mask=mask_of(prior, batch=batch))
    assert prediction.shape == (batch, classes_of(segmenter, prior), *prior.grid.shape)
    assert prediction.dtype == torch.float32
    assert_probabilities(prediction)
    labels = segmenter.segment(prediction)
    assert labels.shape == (batch, *prior.grid.shape)
    assert np.issubdtype(labels.dtype, np.integer)
    np.testing.assert_array_equal(labels, prediction.argmax(1))


def test_the_same_image_gives_the_same_prediction(segmenter: Mixture, prior: PlacedAtlas) -> None:
    image, before = images(prior), images(prior)
    first, second = (segmenter.predict(image, prior, mask=mask_of(prior)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(image, before)


def test_images_of_a_batch_do_not_meet(segmenter: Mixture, prior: PlacedAtlas) -> None:
    image, mask = images(prior, batch=2), mask_of(prior, batch=2)
    together = segmenter.predict(image, prior, mask=mask)
    for number in range(2):
        alone = segmenter.predict(image[number : number + 1], prior, mask=mask[number : number + 1])
        assert torch.equal(together[number : number + 1], alone)


@pytest.mark.parametrize("value", [0.0, 250.0])
def test_a_constant_image_stays_finite(segmenter: Mixture, prior: PlacedAtlas, value: float) -> None:
    image = torch.full((1, 2, *prior.grid.shape), value)
    assert_probabilities(segmenter.predict(image, prior, mask=mask_of(prior)))


def test_one_constant_channel_is_ignored(segmenter: Mixture, prior: PlacedAtlas) -> None:
    image = images(prior)
    silent = torch.cat([image, torch.full_like(image, 7.0)], 1)
    mask = mask_of(prior)
    alone, both = (segmenter.segment(segmenter.predict(one, prior, mask=mask)) for one in (image, silent))
    assert (alone == both).mean() > 0.99


def test_few_voxels_are_enough(segmenter: Mixture, prior: PlacedAtlas) -> None:
    mask = torch.zeros(1, *prior.grid.shape, dtype=torch.bool)
    for voxel in range(2):
        mask[0, 8, 8 + voxel, 0] = True
        assert_probabilities(segmenter.predict(images(prior), prior, mask=mask))


def test_channels_that_say_the_same_leave_the_covariance_regular(segmenter: Mixture, prior: PlacedAtlas) -> None:
    image = images(prior)
    assert_probabilities(segmenter.predict(torch.cat([image, 3 * image], 1), prior, mask=mask_of(prior)))


def test_whole_numbers_are_an_image_too(segmenter: Mixture, prior: PlacedAtlas) -> None:
    image, mask = images(prior).round(), mask_of(prior)
    assert torch.equal(
        segmenter.predict(image, prior, mask=mask), segmenter.predict(image.to(torch.int16), prior, mask=mask)
    )
