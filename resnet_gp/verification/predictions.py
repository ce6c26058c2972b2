"""Predictions: covariances according to this package's kernels, in float64 on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import special, stats
from torch import Tensor

from resnet_gp.kernels import ResNetLimitKernel, ResNetTangentKernel
from resnet_gp.networks import MLP, ResNet
from resnet_gp.report.fits import Array


def covariance(network: ResNet, inputs: Tensor, *, time: float = 1.0, limit: bool = False) -> Array:
    """q_t(a, b) of infinitely wide networks (Hayou & Yang 2023, Theorem 2).

    Args:
        network: activation, variances and depth; the width is ignored.
        inputs: ``m x d``.
        time: t in [0, 1], a whole number of blocks at finite depth.
        limit: take infinitely deep networks instead of the depth of the network.

    Returns:
        ``m x m``.
    """
    blocks = round(time * network.depth)
    if time == 0 or (blocks == 0 and not limit):
        x = inputs.double().cpu().numpy()
        return x @ x.T / x.shape[1] + network.input_bias_variance
    if not limit:
        time = blocks / network.depth  # t L of L blocks: a network of t L blocks, variance t w
    return _matrix(ResNetLimitKernel, network, inputs, None if limit else blocks, time)


def tangent(network: ResNet, inputs: Tensor, layers: str = "all") -> Array:
    """Tangent kernel of infinitely wide networks of this depth, ``m x m``."""
    return _matrix(ResNetTangentKernel, network, inputs, network.depth, layers=layers)


def _matrix(
    kind: Any, network: ResNet, inputs: Tensor, depth: int | None, time: float = 1.0, **more: Any
) -> Array:
    kernel = kind(
        network.activation,
        depth,
        negative_slope=network.negative_slope,
        input_bias=network.input_bias_variance > 0,
        block_bias=network.block_bias_variance > 0,
        **more,
    ).double()
    kernel.weight_variance = network.weight_variance * time
    if network.input_bias_variance:
        kernel.input_bias_variance = network.input_bias_variance
    if network.block_bias_variance:
        kernel.block_bias_variance = network.block_bias_variance * time
    with torch.no_grad():
        return kernel(inputs.double().cpu()).to_dense().numpy()


def correlation_of(q: Array) -> Array:
    """Correlations of covariance matrices, ``... x m x m``."""
    scale = np.sqrt(np.diagonal(q, axis1=-2, axis2=-1))
    return q / (scale[..., :, None] * scale[..., None, :])


def mlp_log_norm(network: MLP) -> tuple[float, float]:
    r"""Mean and variance of log(|Y_L|^2 / |Y_0|^2) of a critical ReLU MLP, at any width.

    It is a sum over layers of log(2/n sum_i max(g_i, 0)^2) for standard normal g (Hanin & Nica
    2020). Given that k > 0 of the g_i are positive, their squares add up to chi^2 with k degrees.
    """
    n = network.width
    k = np.arange(1, n + 1)
    weights = stats.binom.pmf(k, n, 0.5)
    mean_given_k = special.digamma(k / 2) + np.log(4 / n)
    mean = weights @ mean_given_k
    variance = weights @ (special.polygamma(1, k / 2) + mean_given_k**2) - mean**2
    return network.depth * float(mean), network.depth * float(variance)
