"""The marginal likelihood of exact inference under a network's kernel, and at once its gradient.

By autograd, the covariance and its derivatives take turns with matrices that are copied, cleared
and allocated again. Here one matrix is covariance, factor, inverse and gradient in turn: the
gradient of the likelihood in a covariance K is (a a' - K^{-1}) / 2 with a = K^{-1} y (Rasmussen &
Williams 2006, eq. 5.9), and the flow's loops apply the chain rule to it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from gpytorch.kernels import Kernel, ScaleKernel
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from resnet_gp.flow.covariance import Networks
from resnet_gp.flow.input_layer import InputLayer
from resnet_gp.flow.paths import path_of
from resnet_gp.flow.unit_points import Points
from resnet_gp.kernels.resnet_kernel import ResNetKernel
from resnet_gp.kernels.resnet_sum_kernel import ResNetSumKernel


def networks_of(kernel: Kernel) -> Networks | None:
    """The networks without a batch whose covariance is a scaled kernel, or None."""
    if not is_scaled_network(kernel):
        return None
    networks: Networks = kernel.base_kernel.networks(kernel.outputscale)
    return networks if networks.weight_variance.dim() == 3 else None


def is_scaled_network(kernel: Kernel) -> bool:
    """Whether it is one of our kernels of the ReLU family, of all inputs, times a scale."""
    own = kernel.base_kernel if isinstance(kernel, ScaleKernel) else None
    if not isinstance(own, ResNetKernel | ResNetSumKernel) or not own.is_homogeneous:
        return False
    return kernel.active_dims is None and own.active_dims is None


def network_log_likelihood(networks: Networks, x: Tensor, y: Tensor, noise: Tensor) -> Tensor:
    """log N(y; 0, K + diag(noise)) in nats, K being the networks' covariance of ``x``.

    Differentiable once in the hyperparameters and the noise.

    Args:
        networks: with an output scale, and without a batch.
        x: ``n x d``.
        y: ``n``, or ``n x p`` for the sum over p vectors.
        noise: ``n``.

    Raises:
        torch.linalg.LinAlgError: the sum is not positive definite in this precision.
    """
    value: Tensor = _LogLikelihood.apply(
        networks.lengthscale, networks.input_bias_variance, networks.factor(), networks.time,
        noise, (networks, x, y.reshape(len(y), -1), torch.is_grad_enabled()),
    )  # fmt: skip
    return value


class _LogLikelihood(Function):
    """The likelihood and, at the same time, its gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        lengthscale: Tensor,
        input_bias_variance: Tensor | None,
        factor: Tensor,
        time: Tensor,
        noise: Tensor,
        settings: tuple[Networks, Tensor, Tensor, bool],
    ) -> Tensor:
        networks, x, y, differentiate = settings
        layer = InputLayer.of(x, lengthscale, input_bias_variance, factor, networks.variance)
        unit, scale = layer.unit[None], layer.scale[None]
        points = Points(unit, None, scale, None, time[None], networks.map)
        covariance, gradient = path_of(x).with_gradient(points)
        matrix = covariance[0]
        matrix.diagonal().add_(noise)
        root = matrix.mT  # in LAPACK's order
        torch.linalg.cholesky(root, out=root)
        white = torch.linalg.solve_triangular(root, y, upper=False)
        constant = 2 * root.diagonal().log().sum() + len(y) * math.log(2 * math.pi)
        if differentiate:
            weights = torch.linalg.solve_triangular(root.mT, white, upper=True)
            torch.cholesky_inverse(root, out=root)
            matrix.addmm_(weights, weights.mT, beta=-0.5 * y.shape[1], alpha=0.5)
            unit1, unit2, scale1, scale2, by_time = gradient(covariance)
            of_layer = layer.gradient(unit1[0] + unit2[0], scale1[0] + scale2[0])
            ctx.save_for_backward(*of_layer, by_time[0], matrix.diagonal().clone())
        return -0.5 * (white.square().sum() + y.shape[1] * constant)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *(None if x is None else grad * x for x in ctx.saved_tensors), None
