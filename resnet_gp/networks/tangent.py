r"""The tangent kernel of finite ResNets, by backpropagation.

In the parametrisation that trains standard normal weights, with a readout v^T Y_L / sqrt(n) and
delta_l = d readout / d Y_l,

    Theta(a, b) = <Y_L(a), Y_L(b)> / n                                               readout
                + (w / L) sum_l <phi_{l-1}(a), phi_{l-1}(b)> / n <delta_l(a), delta_l(b)>   blocks
                + q_0(a, b) <delta_0(a), delta_0(b)>                             input layer.

Backpropagation uses each W_l a second time, transposed. The exact sampler draws W_l^T delta
conditional on the forward pass, Z = W_l phi (Bolthausen 2014): W_l = Z phi^+ + W' (1 - P) for an
independent copy W' of W_l and the projection P on the span of the hidden vectors phi.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from resnet_gp.networks.laws import Function, ResNet
from resnet_gp.networks.samplers import (
    Sampler,
    check_sampler,
    network_inputs,
    normal,
    semidefinite_root,
)


class TangentKernels(NamedTuple):
    """Parts of the empirical tangent kernel, each ``N x m x m``."""

    readout: Tensor
    blocks: Tensor
    input: Tensor


def tangent_kernels(
    network: ResNet,
    inputs: Tensor,
    networks: int,
    generator: torch.Generator,
    sampler: Sampler = "exact",
) -> TangentKernels:
    """Sample empirical tangent kernels of independent networks.

    Args:
        network: the law, without block bias.
        inputs: ``m x d``.
        networks: N.
        generator: random numbers, on the device of the inputs.
        sampler: "exact" or "explicit".

    Returns:
        Parts of the readout, of the residual blocks and of the input layer, whose bias counts as
        one more input. Memory: L layers of N m n numbers, or of N n^2 with explicit weights.

    Raises:
        ValueError: the sampler is unknown, or the network has block biases.
    """
    check_sampler(sampler)
    if network.block_bias_variance:
        raise ValueError("block_bias_variance must be 0: a tangent kernel has no block bias")
    vectors = network_inputs(network, inputs)
    step = network.layer_scale * network.weight_variance / network.width
    hidden = vectors @ normal(vectors, (networks, vectors.shape[1], network.width), generator)
    matrices: list[_Weights | _Conditioned] = []
    slopes = []
    kind = _Weights if sampler == "explicit" else _Conditioned
    for _ in range(network.depth):
        phi, slope = _value_and_slope(network.function, hidden)
        matrices.append(kind.draw(phi, step, generator))
        slopes.append(slope)
        hidden = hidden + matrices[-1].change
    readout = hidden @ hidden.mT / network.width
    delta = normal(hidden, (networks, 1, network.width), generator) / network.width**0.5
    delta = delta.expand_as(hidden)
    blocks = torch.zeros_like(readout)
    while matrices:
        matrix = matrices.pop()
        blocks += step * (matrix.phi @ matrix.phi.mT) * (delta @ delta.mT)
        delta = delta + slopes.pop() * matrix.backwards(delta, generator)
    return TangentKernels(readout, blocks, (vectors @ vectors.mT) * (delta @ delta.mT))


def _value_and_slope(phi: Function, hidden: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        leaf = hidden.detach().requires_grad_()
        value = phi(leaf)
        (slope,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), slope


@dataclass
class _Weights:
    """An explicit matrix W, ``N x n x n``."""

    phi: Tensor
    change: Tensor  # W phi, ``N x m x n``
    weights: Tensor

    @classmethod
    def draw(cls, phi: Tensor, step: float, generator: torch.Generator) -> _Weights:
        weights = normal(phi, (len(phi), phi.shape[-1], phi.shape[-1]), generator) * step**0.5
        return cls(phi, phi @ weights, weights)

    def backwards(self, delta: Tensor, generator: torch.Generator) -> Tensor:
        return delta @ self.weights.mT


@dataclass
class _Conditioned:
    """A matrix W of which only the product with phi has been drawn."""

    phi: Tensor
    change: Tensor
    step: float

    @classmethod
    def draw(cls, phi: Tensor, step: float, generator: torch.Generator) -> _Conditioned:
        root = semidefinite_root(step * (phi @ phi.mT))
        return cls(phi, root @ normal(phi, phi.shape, generator), step)

    def backwards(self, delta: Tensor, generator: torch.Generator) -> Tensor:
        root = semidefinite_root(self.step * (delta @ delta.mT))
        fresh = root @ normal(delta, delta.shape, generator)
        gram = (self.phi @ self.phi.mT).double()
        tolerance = gram.shape[-1] * torch.finfo(delta.dtype).eps
        inverse = torch.linalg.pinv(gram, rtol=tolerance, hermitian=True).to(delta)
        known = delta @ self.change.mT - fresh @ self.phi.mT
        return fresh + (known @ inverse) @ self.phi
