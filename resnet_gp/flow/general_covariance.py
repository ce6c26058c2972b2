"""Covariance matrices for any activation and biases; ``covariance`` is faster where it applies."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from resnet_gp.activations import Activation, AnyActivation, LeakyReLU, any_activation
from resnet_gp.flow.autograd import same_values, widens_half
from resnet_gp.flow.domain import DomainError, check_variances
from resnet_gp.flow.general import direct_covariance
from resnet_gp.flow.general_table import table_covariance
from resnet_gp.flow.input_layer import input_vectors
from resnet_gp.flow.kinked import kinked_covariance


@widens_half
def general_covariance(
    x1: Tensor,
    x2: Tensor,
    weight_variance: Tensor,
    *,
    activation: str | AnyActivation,
    block_bias_variance: Tensor | None = None,
    depth: int | None = None,
    lengthscale: Tensor | None = None,
    input_bias_variance: Tensor | None = None,
    diag: bool = False,
    path: str = "table",
) -> Tensor:
    """Covariance of the infinitely wide ResNet between two sets of inputs (Theorem 2).

    Arguments as for ``resnet_covariance``, and

    Args:
        activation: a name of ``resnet_gp.activations.ACTIVATIONS`` or an activation.
        block_bias_variance: sigma_b^2, ``batch_shape x 1 x 1`` or a scalar.
        path: "table", or "direct" to integrate each pair: for ReLU, whose series converge slowly,
            and for few blocks; not for an ``Activation`` without closed moments.

    Returns:
        ``batch_shape x n x m`` (or ``batch_shape x n``), differentiable once in all tensors; the
        second order raises RuntimeError.

    Raises:
        ValueError: an argument is unknown.
        DomainError: hyperparameters or inputs are out of range, or the moments of an ``Activation``
            are not known at the variances of the inputs.
    """
    activation = any_activation(activation)
    if path not in ("table", "direct"):
        raise ValueError(f"path must be one of table, direct; got {path!r}")
    matrix: Callable[..., Tensor] = functools.partial(table_covariance, activation)
    if path == "direct":
        if isinstance(activation, Activation):
            raise ValueError(
                f"activation {activation.name!r} has no closed moments: use path='table'"
            )
        if isinstance(activation, LeakyReLU):
            matrix = functools.partial(kinked_covariance, activation)
        else:
            matrix = functools.partial(direct_covariance, activation)
    weight_variance = torch.as_tensor(weight_variance, dtype=x1.dtype, device=x1.device)
    if block_bias_variance is None:
        block_bias_variance = torch.zeros_like(weight_variance)
    check_variances(weight_variance=weight_variance, block_bias_variance=block_bias_variance)
    same = same_values(x1, x2)
    vectors1 = input_vectors(x1, lengthscale, input_bias_variance)
    vectors2 = vectors1 if same else input_vectors(x2, lengthscale, input_bias_variance)
    variance1, variance2 = vectors1.square().sum(-1), vectors2.square().sum(-1)
    if not bool(variance1.isfinite().all() & variance2.isfinite().all()):
        raise DomainError("the inputs must be finite, and so must be their squares")
    covariance = (vectors1 * vectors2).sum(-1) if diag else vectors1 @ vectors2.mT
    entry = covariance.shape[-1:] if diag else covariance.shape[-2:]
    w, bias = (
        value[..., 0, 0] if value.dim() else value
        for value in (weight_variance, block_bias_variance)
    )
    batch = torch.broadcast_shapes(covariance.shape[: -len(entry)], w.shape, bias.shape)
    count = math.prod(batch)
    if 0 in (count, *entry):
        return covariance.expand((*batch, *entry)) * w.sum()  # with a gradient, if anything has one
    flat = [
        tensor.expand((*batch, *own)).reshape((count, *own))
        for tensor, own in (
            (w, ()),
            (bias, ()),
            (variance1, variance1.shape[-1:]),
            (variance2, variance2.shape[-1:]),
            (covariance, entry),
        )
    ]
    w, bias, variance1, variance2, covariance = flat
    out = matrix(w, bias, depth, variance1, variance2, covariance, same)
    if not bool(out.detach().isfinite().all()):
        raise DomainError(
            f"the covariance overflows {out.dtype}: weight_variance is too large, or inputs are"
        )
    return out.reshape((*batch, *entry))
