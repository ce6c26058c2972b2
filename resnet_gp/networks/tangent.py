r"""The tangent kernel of finite ResNets, by backpropagation.

In the parametrisation that trains standard normal weights, with a readout v^T Y_L / sqrt(n) and
delta_l = d readout / d Y_l,

    Theta(a, b) = <Y_L(a), Y_L(b)> / n                                               readout
                + (w / L) sum_l <phi_{l-1}(a), phi_{l-1}(b)> / n <delta_l(a), delta_l(b)>   blocks
                + q_0(a, b) <delta_0(a), delta_0(b)>                             input layer.

Backpropagation uses each W_l again. The exact sampler draws W_l^T delta given Z = W_l phi
(Bolthausen 2014): W_l = Z phi^+ + W' (1 - P), with a copy W' and the projection P on span(phi).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

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

_Drawn: TypeAlias = tuple[Tensor, Callable[[Tensor], Tensor]]  # W phi, and W' as a function


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
    """Sample empirical tangent kernels of independent networks; arguments as in ``layers``.

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
    draw = _explicit if sampler == "explicit" else _exact
    layers = []
    for _ in range(network.depth):
        phi, slope = _value_and_slope(network.function, hidden)
        change, backwards = draw(phi, step, generator)
        layers.append((phi, slope, backwards))
        hidden = hidden + change
    readout = hidden @ hidden.mT / network.width
    delta = normal(hidden, (networks, 1, network.width), generator) / network.width**0.5
    delta = delta.expand_as(hidden)
    blocks = torch.zeros_like(readout)
    while layers:
        phi, slope, backwards = layers.pop()  # which frees its memory
        blocks += step * (phi @ phi.mT) * (delta @ delta.mT)
        delta = delta + slope * backwards(delta)
    return TangentKernels(readout, blocks, (vectors @ vectors.mT) * (delta @ delta.mT))


def _value_and_slope(phi: Function, hidden: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        leaf = hidden.detach().requires_grad_()
        value = phi(leaf)
        (slope,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), slope


def _explicit(phi: Tensor, step: float, generator: torch.Generator) -> _Drawn:
    weights = normal(phi, (len(phi), phi.shape[-1], phi.shape[-1]), generator) * step**0.5
    return phi @ weights, lambda delta: delta @ weights.mT


def _exact(phi: Tensor, step: float, generator: torch.Generator) -> _Drawn:
    """Draw the product with phi only; W' delta is drawn conditional on it."""
    change = semidefinite_root(step * (phi @ phi.mT)) @ normal(phi, phi.shape, generator)

    def backwards(delta: Tensor) -> Tensor:
        root = semidefinite_root(step * (delta @ delta.mT))
        fresh = root @ normal(delta, delta.shape, generator)
        gram = (phi @ phi.mT).double()
        tolerance = gram.shape[-1] * torch.finfo(delta.dtype).eps
        inverse = torch.linalg.pinv(gram, rtol=tolerance, hermitian=True).to(delta)
        known = delta @ change.mT - fresh @ phi.mT
        return fresh + (known @ inverse) @ phi

    return change, backwards
