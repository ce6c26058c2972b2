"""``ResNetLimitKernel`` on KeOps."""

from __future__ import annotations

from typing import Any

import torch
from gpytorch.kernels.keops import KeOpsKernel
from torch import Tensor

from resnet_gp.flow.covariance import growth_factor
from resnet_gp.flow.input_layer import unit_and_scale
from resnet_gp.kernels.keops.operator import UnitCovarianceOperator, covar_func
from resnet_gp.kernels.resnet_limit_kernel import ResNetLimitKernel as DenseResNetLimitKernel


class ResNetLimitKernel(KeOpsKernel, DenseResNetLimitKernel):
    """:class:`resnet_gp.ResNetLimitKernel` with KeOps behind products with its matrix.

    Same arguments, except that ``depth`` must be None; same hyperparameters, values and first
    derivatives to rounding. From ``gpytorch.settings.max_cholesky_size`` rows and columns on (800
    by default), a product with the matrix takes memory proportional to its rows; smaller matrices,
    diagonals and ``to_dense`` are computed by the plain kernel.

    On a CPU this saves memory and not time: a product with the matrix of 20,000 points takes eight
    times as long as with the plain kernel in blocks of rows (``benchmarks/kernels.py``).

    The first product of a new shape (dimensions, columns of the right-hand side, dtype) compiles a
    formula, which KeOps keeps on disk. Second derivatives are not implemented on KeOps.

    Without pykeops it warns and behaves as the plain kernel.

    Example:
        >>> from resnet_gp.kernels.keops import ResNetLimitKernel
        >>> kernel = ScaleKernel(ResNetLimitKernel(input_bias=True, ard_num_dims=8))
        >>> (kernel(torch.randn(20_000, 8)) @ torch.randn(20_000)).shape
        torch.Size([20000])
    """

    def __init__(self, activation: str = "relu", depth: None = None, **arguments: Any) -> None:
        if depth is not None:
            raise ValueError(
                f"depth must be None on KeOps, got {depth!r}; use resnet_gp.ResNetLimitKernel"
            )
        super().__init__(activation, **arguments)
        if self.contrast:
            raise ValueError("contrast must be False on KeOps; use resnet_gp.ResNetLimitKernel")
        if not self.is_homogeneous:
            raise ValueError(
                "activation must be of the (leaky) ReLU family on KeOps, without block_bias; "
                "use resnet_gp.ResNetLimitKernel"
            )

    def forward(
        self,
        x1: Tensor,
        x2: Tensor,
        diag: bool = False,
        last_dim_is_batch: bool = False,
        **params: Any,
    ) -> Tensor | UnitCovarianceOperator:
        if diag or last_dim_is_batch:
            return super().forward(x1, x2, diag, last_dim_is_batch, **params)
        bias = self.input_bias_variance if self.input_bias else None
        points = []
        for x in (x1, x2):
            unit, scale = unit_and_scale(x, self.lengthscale, bias, self.variance)
            if self.variance == "full":
                factor = growth_factor(self.weight_variance, self.negative_slope)
                scale = scale * factor[..., 0]
            points.append(torch.cat([unit.expand(*scale.shape, -1), scale[..., None]], dim=-1))
        return UnitCovarianceOperator(*points, covar_func=covar_func, horizon=self.horizon)
