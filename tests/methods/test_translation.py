"""Translation, against the step as it was published, and what it is for."""

from __future__ import annotations

from dataclasses import replace
from math import log
from typing import Any

import pytest
import torch
from torch import Tensor

from contracts.weak import scene, square
from limner.check import InputError
from limner.data.batch import IGNORE, Batch
from limner.methods.method import Task
from limner.methods.translation import Translation, TranslationOptions
from limner.networks.information import Information
from limner.networks.spectral import convolutions, improved
from methods.published_step import slow_turns, with_norm_at_each_call

SMALL: dict[str, Any] = {
    "codec": {"features": (4, 8, 16)},
    "discriminators": {"features": (6, 8), "scales": 2},
}


def made(*, dimensions: int = 2, targets: int = 1, seed: int = 0, **options: Any) -> Translation:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Translation(Task(1, 1 + targets, dimensions), TranslationOptions(**(SMALL | options)))


def turns(method: Translation, batch: Batch, *, seed: int = 0) -> list[dict[str, Tensor]]:
    """The gradients that each player's turn leaves, by parameter, with no steps in between."""
    found = []
    torch.manual_seed(seed)
    for _, terms in method.losses(batch, None):
        torch.stack(list(terms.values())).sum().backward()
        found.append(_taken(method))
    return found


def _taken(method: Translation) -> dict[str, Tensor]:
    gradients = {name: one.grad for name, one in method.named_parameters() if one.grad is not None}
    method.zero_grad()
    return gradients


def test_a_step_has_the_gradients_of_the_published_one() -> None:
    """Where the singular vectors are found, so that looking for them at each call changes nothing."""
    batch = scene()
    batch = replace(batch, labels=torch.where(batch.labels == IGNORE, 0, batch.labels), image=batch.image.double())
    method = made().double()
    for _ in range(400):
        improved(convolutions([method]))
    found = turns(method, batch)
    with_norm_at_each_call(method)
    torch.manual_seed(0)
    expected = []
    images = batch.image[:3], batch.image[3:]
    for loss in slow_turns(method, images, batch.labels[:3], known=torch.ones_like(batch.labels[:3], dtype=bool)):
        loss.backward()
        expected.append(_taken(method))
    judges = [name for name in expected[0] if name.startswith("judges")]
    assert set(found[0]) == set(judges) == set(expected[0])
    # The generator's turn leaves nothing on the discriminators here; where it does, the loop throws it away.
    assert set(found[1]) == {name for name in expected[1] if name.startswith("generator")}
    for mine, theirs in zip(found, expected, strict=True):
        for name, gradient in mine.items():
            torch.testing.assert_close(
                gradient, theirs[name], rtol=1e-5, atol=1e-12 + 1e-5 * float(theirs[name].abs().max())
            )


def test_losses_are_in_32_bits_where_networks_are_in_16() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        terms = {name: term for _, turn in made().losses(scene(), None) for name, term in turn.items()}
    assert {name: term.dtype for name, term in terms.items()} == dict.fromkeys(terms, torch.float32)


def test_weights_are_normalised_once_a_step() -> None:
    method, calls = made(), []
    for one in convolutions([method]):
        one.register_forward_pre_hook(lambda layer, _: calls.append(layer.held is not None))
    before = [one.left.clone() for one in convolutions([method.generator])]
    list(method.losses(scene(), None))
    assert calls
    assert all(calls)
    assert all(one.held is None for one in convolutions([method]))
    assert any(
        not torch.equal(one.left, old) for one, old in zip(convolutions([method.generator]), before, strict=True)
    )


def test_two_batches_may_be_in_the_middle_of_a_step() -> None:
    """As where batches are averaged into one step: the loop takes the players of all of them in turn."""
    method, batches = made(), (scene(seed=1), scene(seed=2))
    parts = [method.losses(batch, None) for batch in batches]
    for taken in zip(*parts, strict=True):
        for _, terms in taken:
            torch.stack(list(terms.values())).sum().backward()
    assert all(one.grad is not None for one in method.generator.parameters())


def test_the_residual_decoder_segments_in_a_mode_of_its_own() -> None:
    method = made()
    (decoder,) = method.generator.residual
    with torch.no_grad():
        code = method.generator.encoded(scene().image)
        residual, scores = method.generator.added(code, torch.ones(6, 1)), method.generator.scores(code)
    assert residual.shape == scores.shape
    assert not torch.allclose(residual, scores.tanh())
    own = [block.norm.scale for block in decoder.blocks]
    assert all(len(modes) == 2 and not torch.equal(*modes) for modes in own)
    gradients = turns(method, scene())[1]
    learned = [name for name in gradients if ".segmenter." in name or name.endswith("norm.scale.1")]
    assert len(learned) > 3
    assert all(gradients[name].any() for name in learned)


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize("size", [16, 19])
def test_images_of_any_size_axes_and_targets(dimensions: int, targets: int, size: int) -> None:
    method, batch = (
        made(dimensions=dimensions, targets=targets),
        scene(size=size, dimensions=dimensions, targets=targets),
    )
    found = turns(method, batch)
    silent = [name for name, one in method.named_parameters() if not any(name in turn for turn in found)]
    assert not silent
    with torch.no_grad():
        shares = method.predict(batch.image, None)
        absent, added = method.removed(batch.image)
        rng = torch.Generator().manual_seed(0)
        first, second = (method.sample(batch.image, rng=rng) for _ in range(2))
    assert shares.shape == (6, 1 + targets, *[size] * dimensions)
    torch.testing.assert_close(shares.sum(1), torch.ones_like(shares[:, 0]))
    assert absent.shape == batch.image.shape == first.shape
    assert added.shape == (6, targets, *batch.image.shape[1:])
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("options", "terms"),
    [
        ({"directions": "removal"}, {"segmentation", "reconstruction", "latent", "adversarial"}),
        ({"directions": "none"}, {"segmentation", "reconstruction", "latent"}),
        ({"segmenter": "separate"}, {"segmentation", "reconstruction", "latent", "cycle", "adversarial"}),
        ({"weights": {"cycle": 0}}, {"segmentation", "reconstruction", "latent", "adversarial"}),
    ],
)
def test_ablations_learn_what_is_left(options: dict[str, Any], terms: set[str]) -> None:
    method = made(**options)
    assert set(dict(method.losses(scene(), None))["generator"]) == terms
    found = turns(method, scene())
    assert not [name for name, _ in method.named_parameters() if not any(name in turn for turn in found)]


@pytest.mark.parametrize("skips", ["compressed", "concatenated", "summed", "none"])
@pytest.mark.parametrize(("encoder", "decoder"), [("instance", "instance"), ("layer", "layer"), ("batch", "batch")])
def test_skips_and_normalisations(skips: str, encoder: str, decoder: str) -> None:
    method = made(codec=SMALL["codec"] | {"skips": skips, "encoder": encoder, "decoder": decoder})
    found = turns(method, scene())
    assert all(torch.isfinite(gradient).all() for turn in found for gradient in turn.values())
    assert not [name for name, _ in method.named_parameters() if not any(name in turn for turn in found)]


def test_information_is_watched_and_teaches_nobody() -> None:
    method, plain = made(information=True), made()
    found, expected = turns(method, scene()), turns(plain, scene())
    assert [set(turn) for turn in found[:2]] == [set(turn) for turn in expected]
    assert set(found[2]) == {name for name, _ in method.named_parameters() if name.startswith("watcher")}


@pytest.mark.parametrize("count", [5, 32])
@pytest.mark.parametrize("copied", [True, False])
def test_information_is_found_where_there_is_some(count: int, copied: bool) -> None:
    """Ten bits that hardly differ, of which the second part has a copy or has not; learned as recipes say."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        watcher = Information((10, 10), hidden=64)
        settings = {"lr": 1e-3, "betas": (0.5, 0.999), "weight_decay": 1e-4, "amsgrad": True}
        learning, found = torch.optim.Adam(watcher.parameters(), **settings), []
        for _ in range(400):
            first, other = 0.4 + 0.03 * torch.randint(0, 2, (2, count, 10, 1, 1))
            estimate = watcher(first, first if copied else other)
            learning.zero_grad()
            (-estimate).backward()
            learning.step()
            found.append(estimate.item())
    late = sum(found[300:]) / 100
    assert (0.5 * log(count) < late <= log(count)) if copied else (abs(late) < 0.1 * log(count))


def test_without_labels_the_rest_is_learned() -> None:
    batch = scene()
    unlabelled = replace(batch, labels=torch.full_like(batch.labels, IGNORE))
    terms = dict(made().losses(unlabelled, None))["generator"]
    assert terms["segmentation"] == 0
    assert terms["reconstruction"] > 0


def test_a_batch_of_one_kind_is_refused() -> None:
    batch = scene()
    with pytest.raises(InputError, match=r"a batch has 6 scans with and 0 without the target \('0', '1', .*apart"):
        list(made().losses(replace(batch, present=torch.ones_like(batch.present)), None))


def test_images_smaller_than_the_network_is_deep_are_refused() -> None:
    batch = scene(size=16)
    small = replace(
        batch, image=batch.image[..., :4, :4], labels=batch.labels[..., :4, :4], mask=batch.mask[..., :4, :4]
    )
    with pytest.raises(
        InputError, match="images of 4 x 4 voxels are halved 2 times by the network; expected more than 4"
    ):
        list(made().losses(small, None))


def test_the_published_networks_have_the_published_sizes() -> None:
    """Trainable parameters of the public code's layout at 48x48, less what it never uses (2,652)."""
    codec = {"features": (32, 64, 128, 256, 512), "head": 7, "refined": True}
    method = made(codec=codec, discriminators={"features": (128, 256, 512)})
    parts = method.generator.encoder, method.generator.common, method.generator.residual, method.judges[0]
    counts = [sum(one.numel() for one in part.parameters()) for part in parts]
    assert counts == [1_743_040, 1_333_382 - 2_652, 4_391_128, 7_879_299]


def test_it_learns_to_remove_what_is_there() -> None:
    batch, method = scene(8), made(weights={"segmentation": 1.0})
    learning = {name: torch.optim.Adam(player.parameters(), 5e-3) for name, player in method.players().items()}
    for _ in range(60):
        for name, terms in method.losses(batch, None):
            torch.stack(list(terms.values())).sum().backward()
            learning[name].step()
            method.zero_grad()
    with torch.no_grad():
        absent, _ = method.removed(batch.image[:4])
    truth = torch.zeros(4, 16, 16, dtype=torch.bool)
    for number in range(4):
        truth[number][square(number)] = True
    change = (absent - batch.image[:4]).abs()[:, 0]
    assert change[truth].mean() > 1.5 * change[~truth].mean()
