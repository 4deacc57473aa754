"""SAE's training step as it was published, written anew and slow on purpose: what limner's step is timed against.

Dense float32 volumes in the order of Python's arrays, a sample of the segmentation, a convolution as decoder, a dense
depthwise convolution for the neighbours, sums over all voxels (Yu et al. 2020, and what its public code does).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.networks.unet import UNet
from limner.priors.neighbours import NeighbourTable

TEMPERATURE = 2 / 3
SUPPORT = 1e-8
FORBIDDEN = -1e12


@dataclass(frozen=True, eq=False)
class Scene:
    """What a step needs: one scan and the prior on it.

    Args:
        image: (1, 1, *S) that is encoded.
        target: (1, 1, *S) that is reconstructed, in 0 to 1.
        prior: (1, K, *S) probabilities.
        table: of the neighbours.
        weight: of the neighbours' energy.
    """

    image: Tensor
    target: Tensor
    prior: Tensor
    table: NeighbourTable
    weight: float


def encoded(network: UNet, image: Tensor) -> Tensor:
    """Return the scores of a network (1, K, *S), computed in the order of Python's arrays."""
    values, skips = image.contiguous(), []
    for depth, convolution in enumerate(network.down):
        values = convolution(functional.max_pool3d(values, 2) if depth else values).relu()
        skips.append(values)
    for convolution, skip in zip(reversed(network.up), reversed(skips[:-1]), strict=True):
        values = torch.cat([functional.interpolate(values, scale_factor=2.0, mode="nearest"), skip], 1)
        values = convolution(values).relu()
    return network.head(values)


def terms(network: UNet, decoder: nn.Module, scene: Scene) -> dict[str, Tensor]:
    """Return the loss terms, nats summed over all voxels."""
    log_prior = (scene.prior / scene.prior.sum(1, keepdim=True)).clamp_min(1e-12).log()
    scores = encoded(network, scene.image) + FORBIDDEN * (scene.prior < SUPPORT)
    q = scores.softmax(1)
    divergence = (q * (scores.log_softmax(1).clamp_min(-100) - log_prior)).sum()
    noise = -torch.log(-torch.log(torch.rand_like(scores) + 1e-20) + 1e-20)
    soft = ((scores + noise) / TEMPERATURE).softmax(1)
    hard = torch.zeros_like(soft).scatter_(1, soft.argmax(1, keepdim=True), 1.0)
    drawn = decoder(hard + soft - soft.detach()).sigmoid()
    return {
        "prior": divergence,
        "reconstruction": (drawn - scene.target).square().sum(),
        "neighbours": scene.weight * neighbours(q, scene.table),
    }


def neighbours(q: Tensor, table: NeighbourTable) -> Tensor:
    """Return the neighbours' energy by a dense depthwise convolution, nats."""
    classes, size = q.shape[1], table.size
    kernel = torch.ones(classes, 1, size, size, size, device=q.device)
    kernel[..., size // 2, size // 2, size // 2] = 0
    around = functional.conv3d(q, kernel, padding=size // 2, groups=classes)
    costs = torch.as_tensor(-table.potential, dtype=q.dtype, device=q.device) @ around.flatten(2)
    return (q.flatten(2) * costs).sum()
