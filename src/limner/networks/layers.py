"""The layers that differ between two and three dimensions, by the number of dimensions."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
MAXIMUM = {2: functional.max_pool2d, 3: functional.max_pool3d}
MEAN = {2: functional.avg_pool2d, 3: functional.avg_pool3d}
LINEAR = {2: "bilinear", 3: "trilinear"}
#: A voxel's channels side by side: convolutions of few channels are two to three times as fast.
LAYOUT = {2: torch.channels_last, 3: torch.channels_last_3d}
APPLIED = {2: functional.conv2d, 3: functional.conv3d}
POOL = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
