"""The covariance matrix of unit vectors and scales as a linear operator on KeOps.

Gradients are the closed forms of ``resnet_gp.flow.table``: KeOps's own fail on sqrt(g) at g = 0.
"""

from __future__ import annotations

from typing import Any

import torch
from gpytorch.kernels.keops.keops_kernel import _lazify_and_expand_inputs, _use_keops
from linear_operator.operators import KernelLinearOperator
from torch import Tensor

from resnet_gp.flow.blocks import log_slope_blocks, ratio_blocks
from resnet_gp.flow.unit_covariance import unit_covariance


def covar_func(x1: Tensor, x2: Tensor, horizon: Tensor) -> Any:
    """The covariance matrix, ``batch_shape x n x m``: a ``LazyTensor``, or dense if it is small.

    Args:
        x1: unit vectors with their scale as last entry, ``batch_shape x n x (d + 1)``.
        x2: the same, ``batch_shape x m x (d + 1)``.
        horizon: T, ``batch_shape x 1 x 1``.
    """
    if not _use_keops(x1, x2):
        return _dense(x1, x2, horizon)
    # Detached: the derivatives are those of the operator, not of this formula.
    rows, columns = _lazify_and_expand_inputs(x1.detach(), x2.detach())
    d = x1.shape[-1] - 1
    kappa, coefficients = ratio_blocks(horizon[..., 0, 0], horizon.dtype)
    value, basis = _horner(rows[:d], columns[:d], kappa, coefficients)
    return rows[d] * columns[d] * (1 - _gap(rows[:d], columns[:d]) * (value | basis).square())


def _dense(x1: Tensor, x2: Tensor, horizon: Tensor) -> Tensor:
    return unit_covariance(x1[..., :-1], x2[..., :-1], x1[..., -1], x2[..., -1], horizon[..., 0, 0])


def _gap(u: Any, v: Any) -> Any:
    return (u - v).sqnorm2() / 2


def _horner(u: Any, v: Any, kappa: Tensor, coefficients: Tensor) -> tuple[Any, Any]:
    """All Q_i(z) of the maps of ``resnet_gp.flow.blocks`` for each pair, and b(x)."""
    from pykeops.torch import LazyTensor

    steps, width = coefficients.shape[-2:]
    table = LazyTensor(coefficients.flatten(-2)[..., None, None, :].contiguous())
    kappa = kappa[..., None, None, None].contiguous()
    kappa, one = LazyTensor(kappa), LazyTensor(torch.ones_like(kappa))
    # 1 / tau. It is infinite at a gap of 0, and x = -1. As |u + v|, sqrt(2 - g) is never NaN.
    cotangent = ((u + v).norm2() + 2) / (u - v).norm2()
    x = (2 + 2 * kappa) / (cotangent + kappa) - 1
    double = 2 * x.square() - 1
    z = 2 * double.square() - 1
    value = table[:width]
    for k in range(1, steps):
        value = value * z + table[k * width : (k + 1) * width]
    return value, one.concat(double).tensorprod(one.concat(x))


class UnitCovarianceOperator(KernelLinearOperator):
    """``covar_func`` as a matrix, with its own gradients where it is not dense."""

    def to_dense(self) -> Tensor:
        return _dense(self.x1, self.x2, self.tensor_params["horizon"])

    def _bilinear_derivative(
        self, left_vecs: Tensor, right_vecs: Tensor
    ) -> tuple[Tensor | None, ...]:
        if not _use_keops(self.x1, self.x2):
            return super()._bilinear_derivative(left_vecs, right_vecs)
        if left_vecs.dim() == 1:
            left_vecs, right_vecs = left_vecs[:, None], right_vecs[:, None]
        x1, x2 = self.x1.detach(), self.x2.detach()
        horizon = self.tensor_params["horizon"].detach()
        grad1, grad_horizon = _row_gradient(x1, x2, horizon, left_vecs, right_vecs)
        grad2 = _row_gradient(x2, x1, horizon, right_vecs, left_vecs)[0]
        return (
            grad1.sum_to_size(x1.shape),
            grad2.sum_to_size(x2.shape),
            grad_horizon.sum_to_size(horizon.shape),
        )


def _row_gradient(
    x1: Tensor, x2: Tensor, horizon: Tensor, left: Tensor, right: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradient of sum_ij <left_i, right_j> k_ij in x1 and the horizon."""
    from pykeops.torch import LazyTensor

    rows, columns = _lazify_and_expand_inputs(x1, x2)
    left_rows, right_columns = _lazify_and_expand_inputs(left.contiguous(), right.contiguous())
    d = x1.shape[-1] - 1
    u, v = rows[:d], columns[:d]
    value, basis = _horner(u, v, *log_slope_blocks(horizon[..., 0, 0], horizon.dtype))
    maps = value.matvecmult(basis).exp()
    gap = _gap(u, v)
    one = LazyTensor(torch.ones_like(horizon[..., None]))
    maps = maps * one.concat(gap).concat((gap / 2) * (gap / 2).sqrt())
    # One product of vectors for all sums, of which few entries are used: see flow.blocks.
    terms = maps.tensorprod(v.concat(one)) * ((left_rows | right_columns) * columns[d])
    sums = terms.sum(dim=rows.dim() - 2).unflatten(-1, (3, d + 1))
    scale1, scale2 = x1[..., d:], x2[..., d:]
    in_unit, in_speed = scale1 * sums[..., 0, :d], sums[..., 2, d:]
    in_scale = (left * (scale2 * right).sum(-2, keepdim=True)).sum(-1, keepdim=True)
    gradient = torch.cat([in_unit, in_scale - sums[..., 1, d:]], dim=-1)
    return gradient, (scale1 * in_speed).sum((-2, -1), keepdim=True)
