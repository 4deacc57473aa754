"""One step of translation, written the slow way it was published: every image is passed through every network alone,
weights are normalised at each call, and each network has an optimiser of its own. Also what benchmarks time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss
from torch.optim import Adam

from limner.losses import batch_dice
from limner.methods.translation import Translation
from limner.networks.spectral import Convolution, convolutions, improved
from limner.networks.translator import SEGMENT


def with_norm_at_each_call(method: Translation) -> None:
    """Have every convolution look for its largest singular value whenever it is called, and autograd find its way."""

    def look(layer: Convolution, _: object) -> None:
        improved([layer])
        layer.held = layer.weight / torch.dot(layer.left, layer.weight.flatten(1).mv(layer.right))

    for one in convolutions([method]):
        one.register_forward_pre_hook(look)


def optimisers(method: Translation) -> dict[str, Adam]:
    """One for each network."""
    networks: dict[str, nn.Module] = {
        "encoder": method.generator.encoder,
        "common": method.generator.common,
        "residual": method.generator.residual,
        "absence": method.judges[0],
        "presence": method.judges[1],
    }
    settings = {"lr": 1e-3, "betas": (0.5, 0.999), "weight_decay": 1e-4, "amsgrad": True}
    return {name: Adam(network.parameters(), **settings) for name, network in networks.items()}


def slow_turns(method: Translation, images: tuple[Tensor, Tensor], labels: Tensor, *, known: Tensor):
    """Yield each player's loss: of images P and A, (B, C, *S) each, and labels (B, *S) of P where they are known."""
    presence, absence = images
    weights = method.options.weights.shares()
    net, judge_a, judge_p = method.generator, *method.judges
    split = net.common_width
    decoder = net.residual[0]

    code_p, code_a = net.encoder(presence), net.encoder(absence)
    drawn = net.drawn(code_a.values)[:, 0]
    x_pa = net.common(code_p.values[:, :split], code_p.skips).tanh()
    x_pp = x_pa + decoder(code_p.values, code_p.skips).tanh()
    x_aa = net.common(code_a.values[:, :split], code_a.skips).tanh()
    aim = torch.cat([code_a.values[:, :split], drawn], 1)
    x_ap = x_aa + decoder(aim, code_a.skips).tanh()
    shares = decoder(code_p.values, code_p.skips, mode=SEGMENT).sigmoid()

    def hinge(judge: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        return (1 - judge(real)).relu().mean() + (1 + judge(fake.detach())).relu().mean()

    yield hinge(judge_a, absence, x_pa) + hinge(judge_p, presence, x_ap)

    again_ap, again_pa = net.encoder(x_ap), net.encoder(x_pa)
    again_pp, again_aa = net.encoder(x_pp), net.encoder(x_aa)
    x_apa = net.common(again_ap.values[:, :split], again_ap.skips).tanh()
    loss = weights["segmentation"] * batch_dice(torch.cat([1 - shares, shares], 1), labels, known=known)
    loss = loss + weights["reconstruction"] * (l1_loss(x_pp, presence) + l1_loss(x_aa, absence))
    latent = l1_loss(again_ap.values, aim) + l1_loss(again_pa.values[:, :split], code_p.values[:, :split])
    latent = latent + l1_loss(again_pp.values, code_p.values)
    latent = latent + l1_loss(again_aa.values[:, :split], code_a.values[:, :split])
    loss = loss + weights["latent"] * latent + weights["cycle"] * l1_loss(x_apa, absence)
    yield loss - weights["adversarial"] * (judge_a(x_pa).mean() + judge_p(x_ap).mean())


def slow_step(method: Translation, steps: dict[str, Adam], images: tuple[Tensor, Tensor], labels: Tensor) -> None:
    """Take a whole step, every pixel being labelled."""
    turns = slow_turns(method, images, labels, known=torch.ones_like(labels, dtype=torch.bool))
    for mine in (("absence", "presence"), ("encoder", "common", "residual")):
        loss = next(turns)
        method.zero_grad()
        loss.backward()
        for name in mine:
            steps[name].step()
