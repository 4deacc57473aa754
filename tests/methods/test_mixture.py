"""The mixture on heads whose labels are known, and where it must not go astray."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

import phantoms
from limner.check import InputError
from limner.methods import gaussians, mixture
from limner.methods.gaussians import GaussianSettings
from limner.methods.mixture import Mixture
from limner.priors.atlas import PlacedAtlas
from limner.priors.neighbours import neighbour_messages
from limner.priors.prior import Parts
from limner.space import Array

GRID = phantoms.grid(2.0)
#: Each structure on its own, tied down by nothing.
NAIVE = Mixture(GaussianSettings(components={}, mean_strength=0, variance_strength=0), sweeps=0)


@dataclass(frozen=True)
class Given:
    """A prior that is written out: parts' probabilities (P, *S), and no neighbours."""

    parts: Parts
    probability: Tensor

    def part_probability(self) -> Tensor:
        return self.probability

    def parts_within(self, mask: Tensor) -> Tensor:
        return self.probability[:, mask].T

    def log_probability(self) -> Tensor:
        classes = torch.zeros(int(self.parts.class_of.max()) + 1, *self.probability.shape[1:])
        return classes.index_add_(0, self.parts.class_of, self.probability).log()

    def energy(self, q: Tensor) -> Tensor:
        return -(q * self.log_probability()).flatten(1).sum(1)

    def messages(self, q: Tensor) -> Tensor:
        return -self.log_probability().expand_as(q)

    def identified(self, classes: Array) -> Array:
        return classes


@pytest.fixture(scope="module")
def prior() -> PlacedAtlas:
    """A blurred head, as a prior for one that is a little turned and moved against it."""
    return phantoms.atlas(GRID, blur=4.0).place(GRID)


@pytest.fixture(scope="module")
def truth() -> Array:
    """Ids of the head that the image shows."""
    return phantoms.labels(GRID, phantoms.turned((2, -3, 4), (1, -1, 1))).data


def shown(truth: Array, **settings: float) -> tuple[Tensor, Tensor]:
    """The image (1, 1, *S) of labels, and where its head is (1, *S)."""
    volume = replace(phantoms.labels(GRID), data=truth)
    return torch.from_numpy(phantoms.image(volume, **settings))[None, None], torch.from_numpy(truth > 0)[None]


def scores(found: Array, truth: Array, prior: PlacedAtlas) -> dict[str, float]:
    """Dice of each structure, given classes and ids."""
    table = prior.atlas.table
    expected = table.structure_of[table.rows(truth)]
    return {name: phantoms.dice(found == k, expected == k) for k, name in enumerate(table.structures)}


def test_structures_are_found(prior: PlacedAtlas, truth: Array) -> None:
    image, mask = shown(truth)
    segmenter = Mixture()
    prediction = segmenter.predict(image, prior, mask=mask)
    found = scores(segmenter.segment(prediction)[0], truth, prior)
    before = scores(prior.log_probability().argmax(0).numpy(), truth, prior)
    inner = [name for name in found if name not in ("background", "rest")]
    assert np.mean([before[name] for name in inner]) < 0.7
    assert min(found[name] for name in inner) > 0.95


def test_all_outside_the_mask_is_background(prior: PlacedAtlas, truth: Array) -> None:
    image, mask = shown(truth)
    posterior = Mixture().predict(image, prior, mask=mask)[0]
    assert (posterior[0][~mask[0]] == 1).all()
    assert (posterior[1:, ~mask[0]] == 0).all()


def test_what_lies_outside_the_mask_does_not_matter(prior: PlacedAtlas, truth: Array) -> None:
    image, mask = shown(truth)
    other = torch.where(mask[:, None], image, torch.tensor(1e6))
    torch.testing.assert_close(Mixture().predict(image, prior, mask=mask), Mixture().predict(other, prior, mask=mask))


def test_no_mask_is_one_of_the_whole_image(prior: PlacedAtlas, truth: Array) -> None:
    image, mask = shown(truth)
    torch.testing.assert_close(
        Mixture(sweeps=1).predict(image, prior), Mixture(sweeps=1).predict(image, prior, mask=torch.ones_like(mask))
    )


def test_the_unit_of_the_image_does_not_matter(prior: PlacedAtlas, truth: Array) -> None:
    image, mask = shown(truth)
    segmenter = Mixture()
    labels = [segmenter.segment(segmenter.predict(one, prior, mask=mask)) for one in (image, image * 1000 + 7)]
    assert (labels[0] == labels[1]).mean() > 0.9999


def test_the_contrast_of_the_image_does_not_matter(prior: PlacedAtlas, truth: Array) -> None:
    image, mask = shown(truth)
    segmenter = Mixture()
    labels = [segmenter.segment(segmenter.predict(one, prior, mask=mask)) for one in (image, -image)]
    assert (labels[0] == labels[1]).mean() > 0.999


def test_two_channels_tell_more_than_either(prior: PlacedAtlas, truth: Array) -> None:
    """Each channel is too noisy alone; their noises are correlated, which only a full covariance can make use of."""
    (first, mask), (second, _) = shown(truth, noise=18), shown(truth, noise=18, seed=1)
    shared, _ = shown(np.zeros_like(truth), noise=40, seed=2)
    channels = torch.cat([first + shared, second * 0.2 - shared], 1)
    segmenter = Mixture()
    found = [
        np.mean(list(scores(segmenter.segment(segmenter.predict(image, prior, mask=mask))[0], truth, prior).values()))
        for image in (channels[:, :1], channels[:, 1:], channels)
    ]
    assert found[2] > max(found[:2]) + 0.05


@pytest.mark.parametrize("outliers", [0.0, 0.02])
def test_a_sweep_asks_the_neighbours_once_and_the_place_no_more(
    prior: PlacedAtlas, truth: Array, outliers: float
) -> None:
    image, mask = shown(truth, noise=14)
    before, after = (Mixture(sweeps=sweeps, outliers=outliers).predict(image, prior, mask=mask) for sweeps in (0, 1))
    table, classes = prior.atlas.neighbours, len(prior.atlas.table.structures)
    assert table is not None
    asked = torch.zeros_like(before)
    asked[:, :classes] = prior.neighbour_weight * neighbour_messages(before[:, :classes], table)
    expected = (before.log() - asked).softmax(1)
    torch.testing.assert_close(after[0][:, mask[0]], expected[0][:, mask[0]], atol=1e-4, rtol=0)
    assert abs(after - before).max() > 0.1


def test_fitting_on_a_part_of_the_voxels_changes_little(
    prior: PlacedAtlas, truth: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, mask = shown(truth)
    segmenter = Mixture()
    whole = segmenter.segment(segmenter.predict(image, prior, mask=mask))
    monkeypatch.setattr(mixture, "FITTED_ON", 10_000)
    monkeypatch.setattr(gaussians, "CHUNK", 1000)
    assert (segmenter.segment(segmenter.predict(image, prior, mask=mask)) == whole).mean() > 0.995


def test_a_lesion_is_an_outlier_and_pulls_at_nothing(prior: PlacedAtlas, truth: Array) -> None:
    image, mask = shown(truth)
    points = GRID.world(np.moveaxis(np.indices(GRID.shape), 0, -1))
    lesion = (((points - np.array([16, -24, 12])) / 6) ** 2).sum(-1) <= 1
    image[0, 0][torch.from_numpy(lesion)] += 300
    segmenter = Mixture(outliers=0.02)
    prediction = segmenter.predict(image, prior, mask=mask)
    labels = segmenter.segment(prediction)[0]
    classes = len(prior.atlas.table.structures)
    assert prediction.shape[1] == classes + 1
    assert (labels[lesion] == classes).all()
    assert (labels[~lesion] == classes).mean() < 0.001
    rest = np.where(lesion, 0, labels), np.where(lesion, 0, truth)
    assert scores(*rest, prior)["cerebral white matter"] > 0.99


def collapsing() -> tuple[Tensor, Given, Given, Array]:
    """A scan in which a small structure is much smaller than its prior says, amid the darker of two whites.

    Returns:
        The image (1, 1, *S); the prior with cortex and the small structure tied by their tissue, and with all apart;
        and the true classes (*S): 0 background, 1 white, 2 cortex, 3 the small structure.
    """
    rng, shape = np.random.default_rng(0), (30, 30, 30)
    truth, means = np.ones(shape, int), np.full(shape, 112.0)
    truth[:, :, :8], means[:, :, :8] = 2, 70
    means[8:22, 8:22, 12:26] = 98
    truth[12:18, 12:18, 16:22], means[12:18, 12:18, 16:22] = 3, 70
    image = torch.tensor(rng.normal(means, 4)).float()[None, None]
    probability = np.full((4, *shape), 1e-3)
    probability[2, :, :, :8] = probability[1, :, :, 8:] = 1
    probability[1, 8:22, 8:22, 12:26] = probability[3, 8:22, 8:22, 12:26] = 0.5
    shares = torch.tensor(probability / probability.sum(0)).float()
    parts = [
        Parts(torch.arange(4), torch.tensor(tissue_of), tissues)
        for tissue_of, tissues in (
            ([0, 1, 2, 2], ("background", "white", "grey")),
            ([0, 1, 2, 3], ("background", "white", "cortex", "small")),
        )
    ]
    return image, Given(parts[0], shares), Given(parts[1], shares), truth


def test_the_naive_collapse_does_not_happen() -> None:
    """Alone, a structure's Gaussian drifts to the matter around it; tied to the cortex, it stays."""
    image, tied, apart, truth = collapsing()
    found = [
        phantoms.dice(segmenter.segment(segmenter.predict(image, prior))[0] == 3, truth == 3)
        for segmenter, prior in ((NAIVE, apart), (Mixture(), tied))
    ]
    assert found[0] < 0.2
    assert found[1] > 0.9


def test_an_empty_mask_is_refused(prior: PlacedAtlas, truth: Array) -> None:
    image, mask = shown(truth)
    with pytest.raises(InputError, match="the mask is empty; expected at least one voxel of the brain"):
        Mixture().predict(image, prior, mask=torch.zeros_like(mask))


def test_a_missing_prior_is_refused(truth: Array) -> None:
    image, mask = shown(truth)
    with pytest.raises(
        InputError, match="method 'mixture' got no prior; expected one: pass a placed prior, or --prior"
    ):
        Mixture().predict(image, None, mask=mask)
