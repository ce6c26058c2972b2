r"""Finite convolutional ResNets at initialisation, with explicit weights.

    Y_0 = Conv(a) [+ b_in],    Y_l = Y_{l-1} + L^{-1/2} (Conv(phi(Y_{l-1})) [+ b_l])

for filters of k x k pixels, with weights N(0, 1 / (C k^2)) of C channels and N(0, w / (n k^2)).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from resnet_gp.networks.laws import ResNet
from resnet_gp.networks.samplers import Sampler, normal
from resnet_gp.networks.simulation import Simulation


@dataclass(frozen=True)
class ConvResNet(ResNet):
    """A convolutional ResNet; ``width`` is the number of its channels, n. See ``Network``.

    Args:
        image_shape: channels, height and width of the images.
        filter_size: k, odd.
        circular: whether filters continue at the opposite edge; else images are surrounded by 0.
    """

    image_shape: tuple[int, int, int] = (1, 1, 1)
    filter_size: int = 3
    circular: bool = False


@dataclass(frozen=True)
class ConvSimulation(Simulation):
    """A simulation of ``ConvResNet``; ``inputs`` are flattened images, ``m x features``.

    ``observe`` gets ``N x m x n x height x width``.

    Raises:
        ValueError: as ``Simulation``, or ``sampler`` is not "explicit", the only one for filters.
    """

    network: ConvResNet
    sampler: Sampler = "explicit"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sampler != "explicit":
            raise ValueError(f'sampler must be "explicit" for filters, got {self.sampler!r}')

    @property
    def draws(self) -> int:
        return (self.network.width * self.network.filter_size) ** 2

    @property
    def block(self) -> int:
        return min(self.networks, max(1, 2**22 // self.draws))

    def bytes_of_block(self, dtype: torch.dtype) -> int:
        pixels = math.prod(self.network.image_shape[1:])
        numbers = 5 * len(self.inputs) * self.network.width * pixels + self.draws
        return self.block * numbers * dtype.itemsize

    def sample(
        self, inputs: Tensor, count: int, generator: torch.Generator
    ) -> Iterator[tuple[int, Tensor]]:
        law = self.network
        images = inputs.unflatten(-1, law.image_shape).expand(count, *(-1,) * 4)
        hidden = _convolved(images, law, 1.0, law.input_bias_variance, generator)
        for depth in range(max(self.depths) + 1):
            if depth > 0:
                own = law.weight_variance, law.block_bias_variance, generator
                change = _convolved(law.function(hidden), law, *own)
                hidden = hidden + law.layer_scale**0.5 * change
            if depth in self.depths:
                yield depth, self.observe(depth, hidden)


def _convolved(
    images: Tensor, law: ConvResNet, variance: float, bias: float, generator: torch.Generator
) -> Tensor:
    """Each network's images through a new layer, ``N x m x channels x height x width``."""
    count, channels = images.shape[0], images.shape[2]
    k = law.filter_size
    weights = normal(images, (count * law.width, channels, k, k), generator)
    weights *= (variance / (channels * k * k)) ** 0.5
    grouped = images.transpose(0, 1).flatten(1, 2)  # the networks are groups of channels
    mode = "circular" if law.circular else "constant"
    padded = torch.nn.functional.pad(grouped, (k // 2,) * 4, mode=mode)
    out = torch.nn.functional.conv2d(padded, weights, groups=count)
    out = out.unflatten(1, (count, law.width)).transpose(0, 1)
    if bias:
        out = out + bias**0.5 * normal(images, (count, 1, law.width, 1, 1), generator)
    return out
