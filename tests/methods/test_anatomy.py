"""The terms of anatomy against slow twins in float64, and what its options do."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from contracts.heads import ANATOMY, PUBLISHED, SHAPE, VARIANTS, Variant, agreement, lost, made, seen, stepped
from limner.check import InputError, InputWarning
from limner.data.augmentation import Deformation
from limner.data.batch import IGNORE, Batch
from limner.methods.anatomy import Anatomy
from limner.methods.appearance import EAGERNESS, Linear, noise_variance
from limner.methods.gaussians import GaussianSettings, class_evidence, fit_to_parts
from limner.priors.dense import DensePrior

STILL = Deformation(shift=0, rotation=0, scaling=0, elastic=0)


def anatomy(**options: Any) -> Anatomy:
    """A method on the heads."""
    return made(Variant("anatomy", ANATOMY), **options)


def certain(method: Anatomy) -> Anatomy:
    """The same, its codes' variance next to nothing, so that nothing is drawn."""
    for part in (method.shape, getattr(method, "seen", None)):
        if part is not None:
            torch.nn.init.zeros_(part.encoder.log_variance.weight)
            torch.nn.init.constant_(part.encoder.log_variance.bias, -1e15)
    return method


def scores_of(method: Anatomy, maps: Tensor, batch: Batch, number: int) -> Tensor:
    """What the shape model says at each voxel of one scan's mask, (N, K) float64, from maps on the lattice."""
    mean, _ = method.shape.encoded(maps)
    decoded = method.shape.decoded(mean)[number]
    rows = method.shape.interpolated(decoded[None], mask=batch.mask[number][None], world=batch.world[number][None])
    return rows.detach().double()


def evidence_of(batch: Batch, prior: DensePrior, number: int) -> tuple[Tensor, Tensor]:
    """Log p(class | place) and log p(class, value | place) of one scan, (N, K) float64."""
    where = batch.mask[number]
    parts = prior.part_probability()[number][:, where].T.contiguous()
    values, classes = batch.image[number][:, where], prior.classes
    gaussians = fit_to_parts(values, parts, of=prior.parts, settings=GaussianSettings(), voxels=60_000)
    evidence = class_evidence(gaussians, values, parts=parts, of=prior.parts, classes=classes)
    return prior.log_probability()[number][:, where].T.double(), evidence.double()


def codes_of(mean: Tensor, log_variance: Tensor, batch: Batch, *, voxels: float) -> Tensor:
    """The mean over scans of the codes' divergence over `voxels` of each voxel of the mask."""
    expected = []
    for number, where in enumerate(batch.mask):
        there = Normal(mean[number].double(), (log_variance[number].double() / 2).exp())
        expected.append(kl_divergence(there, Normal(0.0, 1.0)).sum() / (voxels * where.sum()))
    return torch.stack(expected).mean()


def assert_near(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found.double(), expected.double(), rtol=1e-5, atol=1e-5)


class TestShape:
    """What is learned from label maps."""

    def test_the_fit_is_the_cross_entropy_of_the_labels(self) -> None:
        batch, prior = seen(1, 4)
        method = certain(anatomy(learns="shape", deformation=STILL))
        maps = torch.nn.functional.one_hot(batch.labels, method.task.classes)[..., 1:].movedim(-1, 1).float()
        on_lattice = method.shape.gathered(maps, batch.world)
        expected = []
        for number, where in enumerate(batch.mask):
            location = prior.log_probability()[number][:, where].T.double()
            shares = (scores_of(method, on_lattice, batch, number) + location).softmax(1)
            voxels = zip(shares, batch.labels[number][where].tolist(), strict=True)
            expected.append(-sum(math.log(share[label]) for share, label in voxels) / int(where.sum()))
        assert_near(lost(method, batch, prior)["fit"], torch.tensor(expected).mean())

    @pytest.mark.parametrize(("cube", "share"), [(0.0, 1.0), (13.0, 1 / 8), (2.0, 1.0)])
    def test_the_code_counts_against_independent_voxels(self, cube: float, share: float) -> None:
        batch, prior = seen(1, 4)
        method = anatomy(learns="shape", deformation=STILL, cube=cube)
        maps = torch.nn.functional.one_hot(batch.labels, method.task.classes)[..., 1:].movedim(-1, 1).float()
        mean, log_variance = method.shape.encoded(method.shape.gathered(maps, batch.world))
        expected = codes_of(mean, log_variance, batch, voxels=share)
        assert_near(lost(method, batch, prior)["code"], expected)

    def test_maps_are_moved_while_they_are_learned(self) -> None:
        batch, prior = seen(1)
        method = anatomy(learns="shape")
        first, second = (lost(method, batch, prior, seed=seed)["fit"] for seed in (0, 1))
        assert abs(float(first - second)) > 1e-3

    def test_what_it_learned_is_in_its_codes(self) -> None:
        """Another person's code explains a map worse."""
        batch, prior = seen(1, 4)
        method = made(Variant("anatomy", ANATOMY), learns="shape", deformation=STILL)
        stepped(method, batch, prior, steps=60, rate=3e-3)
        maps = torch.nn.functional.one_hot(batch.labels, method.task.classes)[..., 1:].movedim(-1, 1).float()
        mean, _ = method.shape.encoded(method.shape.gathered(maps, batch.world))
        right = []
        for codes in (mean, mean.flip(0)):
            scores = method.shape.interpolated(method.shape.decoded(codes), mask=batch.mask, world=batch.world)
            location = prior.log_probability().movedim(1, -1)[batch.mask]
            right.append(float(((scores + location).argmax(1) == batch.labels[batch.mask]).float().mean()))
        assert right[0] > right[1] + 0.03

    def test_slices_with_nothing_in_them_do_no_harm(self) -> None:
        """The lattice reaches eight slices beyond the head on either side."""
        batch, prior = seen(1)
        sliced = SHAPE | {"slices": "coronal", "shape": (16, 32, 16)}
        method = made(Variant("anatomy", ANATOMY | {"shape": sliced}), learns="shape", deformation=STILL)
        maps = torch.nn.functional.one_hot(batch.labels, method.task.classes)[..., 1:].movedim(-1, 1).float()
        seldom = method.shape.gathered(maps, batch.world).sum((0, 1, 2, 4)) == 0
        assert seldom.sum() >= 16
        terms = lost(method, batch, prior)
        sum(terms.values()).backward()
        assert all(bool(torch.isfinite(part.grad).all()) for part in method.parameters() if part.grad is not None)
        shares = method.predict(batch.image, prior, mask=batch.mask)
        torch.testing.assert_close(shares.sum(1), torch.ones_like(shares[:, 0]))

    def test_fewer_slices_than_numbers_in_a_code_are_told(self) -> None:
        sliced = {"shape": SHAPE | {"slices": "coronal", "latent": 40}}
        with pytest.warns(InputWarning, match="40 numbers in a code but 32 slices"):
            anatomy(learns="shape", **sliced).look_over(2)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            anatomy(learns="shape", **sliced).look_over(3)
            anatomy(learns="scans", **sliced).look_over(1)
            anatomy(learns="shape").look_over(1)


class TestScans:
    """What is learned from scans, the decoder being held fixed."""

    @pytest.mark.parametrize("bound", ["exact", "jensen"])
    def test_the_fit_is_how_badly_the_code_explains_the_scan(self, bound: str) -> None:
        batch, prior = seen(1, 4)
        method = certain(anatomy(bound=bound))
        posterior = torch.zeros(2, method.task.classes, *batch.mask.shape[1:])
        known = [evidence_of(batch, prior, number) for number in range(2)]
        for one, where, (_, evidence) in zip(posterior, batch.mask, known, strict=True):
            one[:, where] = evidence.softmax(1).float().T
        on_lattice = method.shape.gathered(posterior[:, 1:], batch.world)
        expected = []
        for number, (location, evidence) in enumerate(known):
            scores = scores_of(method, on_lattice, batch, number)
            shares, likelihood = (scores + location).softmax(1), (evidence - location).exp()
            if bound == "exact":
                value = -(shares * likelihood).sum(1).log().mean()
            else:
                value = -(shares * likelihood.log()).sum(1).mean()
            expected.append(value)
        found = lost(method, batch, prior)
        assert_near(found["fit"], torch.stack(expected).mean())
        mean, log_variance = method.shape.encoded(on_lattice)
        assert_near(found["code"], codes_of(mean, log_variance, batch, voxels=1.0))

    def test_means_may_be_those_of_all_scans_as_published(self) -> None:
        """Eq. 14 with its square: sum_l f_l ((x - mu_l)^2 / (2 sigma_l^2) + ln sigma_l), and the constant."""
        batch, prior = seen(1, 4)
        method = certain(anatomy(**(PUBLISHED | {"shape": ANATOMY["shape"]})))
        torch.nn.init.normal_(method.linear.means, std=0.1)
        method.linear.variances.uniform_(0.2, 2.0)
        mean, _ = method.seen.encoded(method.seen.gathered(batch.image, batch.world))
        scores = method.shape.interpolated(method.shape.decoded(mean), mask=batch.mask, world=batch.world).detach()
        location = prior.log_probability().movedim(1, -1)[batch.mask]
        shares = (scores + location).double().softmax(1)
        values, means = batch.image[:, 0][batch.mask].double(), EAGERNESS * method.linear.means[:, 0].double()
        sds = method.linear.variances[:, 0].double().sqrt()
        each = [
            sum(
                share[k] * ((value - means[k]) ** 2 / (2 * sds[k] ** 2) + sds[k].log() + 0.5 * math.log(2 * math.pi))
                for k in range(method.task.classes)
            )
            for value, share in zip(values, shares, strict=True)
        ]
        first = int(batch.mask[0].sum())
        expected = (sum(each[:first]) / first + sum(each[first:]) / (len(each) - first)) / 2
        assert_near(lost(method, batch, prior)["fit"], expected)

    def test_labels_teach_where_they_are_wanted_and_known(self) -> None:
        batch, prior = seen(1, 4)
        generator = torch.Generator().manual_seed(0)
        some = replace(
            batch, labels=torch.where(torch.rand(batch.labels.shape, generator=generator) < 0.9, IGNORE, batch.labels)
        )
        none = replace(batch, labels=torch.full_like(batch.labels, IGNORE))
        ignoring, learning = certain(anatomy()), certain(anatomy(labels="learned"))
        assert torch.equal(lost(ignoring, some, prior)["fit"], lost(ignoring, none, prior)["fit"])
        assert torch.equal(lost(learning, none, prior)["fit"], lost(ignoring, none, prior)["fit"])
        assert float(lost(learning, some, prior)["fit"]) > float(lost(learning, none, prior)["fit"])

    def test_the_decoder_does_not_move(self) -> None:
        batch, prior = seen(1)
        method = anatomy()
        before = {name: one.clone() for name, one in method.shape.decoder.state_dict().items()}
        stepped(method, batch, prior, steps=3)
        assert all(torch.equal(one, before[name]) for name, one in method.shape.decoder.state_dict().items())


class TestSegmenting:
    """On a head whose shape was learned."""

    @pytest.fixture(scope="class")
    def learned(self) -> dict[str, Tensor]:
        batch, prior = seen(2, 4)
        method = made(Variant("anatomy", ANATOMY), learns="shape")
        stepped(method, batch, prior, steps=80, rate=3e-3)
        return method.state_dict()

    @staticmethod
    def method(learned: dict[str, Tensor], **options: Any) -> Anatomy:
        method = made(Variant("anatomy", ANATOMY), **options).eval()
        method.load_state_dict(learned)
        return method

    def test_the_likelihood_adds_to_what_the_decoder_says(self, learned: dict[str, Tensor]) -> None:
        batch, prior = seen(4)
        before = float((prior.log_probability().argmax(1) == batch.labels)[batch.mask].float().mean())
        decoder, posterior = (
            agreement(self.method(learned, answer=answer), batch, prior) for answer in ("decoder", "posterior")
        )
        assert before + 0.05 < decoder < posterior

    def test_going_on_from_the_encoder_explains_the_scan_better(self, learned: dict[str, Tensor]) -> None:
        batch, prior = seen(4)
        values = []
        for rounds in (0, 30):
            method = self.method(learned, rounds=rounds)
            look = method.looked(batch.image, batch.mask, prior=prior, world=batch.world)
            mean, log_variance = method.inferred(look, batch.image)
            values.append(float(method._cost(mean, log_variance, look=look, mask=look.mask)))
        assert values[1] < values[0] - 1e-3

    def test_other_methods_may_take_the_shaped_prior(self, learned: dict[str, Tensor]) -> None:
        batch, prior = seen(2, 4)
        method = self.method(learned, answer="decoder")
        look = method.looked(batch.image, batch.mask, prior=prior, world=batch.world)
        mean, _ = method.inferred(look, batch.image)
        shaped = method.shaped(mean, prior)
        found = shaped.log_probability().movedim(1, -1)[batch.mask].exp()
        torch.testing.assert_close(found, method.shares(mean, look), atol=1e-5, rtol=1e-4)
        sae = made(VARIANTS["sae"])
        assert all(torch.isfinite(term) for term in lost(sae, batch, shaped).values())
        assert sae.predict(batch.image, shaped, mask=batch.mask).shape == shaped.log_probability().shape

    def test_a_prior_that_lies_nowhere_is_refused(self, learned: dict[str, Tensor]) -> None:
        batch, prior = seen(4)
        for nowhere in (None, replace(prior, world=None)):
            with pytest.raises(InputError, match="anatomy"):
                self.method(learned).predict(batch.image, nowhere, mask=batch.mask)


def test_an_image_encoder_begins_with_what_images_taught() -> None:
    """As published: an auto-encoder of images, whose encoder is then that of scans."""
    batch, prior = seen(1, 4)
    images = made(Variant("anatomy", ANATOMY), sees="image", learns="images")
    found = stepped(images, batch, prior, steps=60, rate=3e-3)
    assert found[-1] < found[0] - 0.1
    scans = made(Variant("anatomy", ANATOMY), sees="image")
    scans.load_state_dict(images.state_dict())
    before = {name: one.clone() for name, one in scans.seen.state_dict().items()}
    stepped(scans, batch, prior, steps=2)
    moved = {name.split(".")[0] for name, one in scans.seen.state_dict().items() if not torch.equal(one, before[name])}
    assert moved == {"encoder"}


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_noise_of_an_image_is_estimated_whatever_lies_under_it(dimensions: int) -> None:
    shape = (200, 210) if dimensions == 2 else (40, 44, 36)
    generator = torch.Generator().manual_seed(0)
    slope = torch.linspace(0, 30, shape[0]).view(-1, *[1] * (dimensions - 1))
    image = torch.stack([slope + sd * torch.randn(shape, generator=generator) for sd in (0.5, 2.0)])[None]
    found = noise_variance(image, torch.ones(1, *shape, dtype=torch.bool))
    np.testing.assert_allclose(found.sqrt()[0], [0.5, 2.0], rtol=0.03)


def test_variances_come_to_be_those_of_the_classes() -> None:
    linear, generator = Linear(2, 1), torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (20_000,), generator=generator)
    values = torch.randn(20_000, 1, generator=generator) * torch.tensor([0.5, 2.0])[labels, None]
    for _ in range(60):
        linear.look(values, torch.nn.functional.one_hot(labels).float())
        linear.remember()
    np.testing.assert_allclose(linear.variances.sqrt()[:, 0], [0.5, 2.0], rtol=0.03)
    expected = Normal(0.0, linear.variances[:, 0].sqrt()).log_prob(values[:5])
    torch.testing.assert_close(linear.log_density(values[:5]), expected)
