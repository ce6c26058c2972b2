"""Products with a covariance of unit vectors, whose matrix is never stored."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor
from torch.autograd.function import once_differentiable

from resnet_gp.flow import paths
from resnet_gp.flow.autograd import FlowFunction
from resnet_gp.flow.depth import LIMIT, DepthMap
from resnet_gp.flow.unit_points import Points, flat_points


def unit_covariance_product(
    unit1: Tensor,
    unit2: Tensor,
    scale1: Tensor,
    scale2: Tensor,
    time: Tensor,
    right: Tensor,
    spec: DepthMap = LIMIT,
) -> Tensor:
    """K V with the matrix K of ``unit_covariance_sum``, differentiable once in all tensors.

    The backward pass stores no matrix either; it computes K twice. On devices without Triton's
    kernels there are blocks of rows of K, up to 2^22 entries on the CPU and 2^26 elsewhere.

    Args:
        unit1, unit2, scale1, scale2, time, spec: as for ``unit_covariance_sum``.
        right: V, ``batch_shape x m x k``.

    Returns:
        ``batch_shape x n x k``.
    """
    k = right.shape[-1]
    points, batch = flat_points(unit1, unit2, scale1, scale2, time, spec, right.shape[:-2])
    right = right.expand(*batch, *right.shape[-2:]).reshape(math.prod(batch), -1, k)
    out: Tensor = _Product.apply(*points, right)
    return out.reshape(*batch, *out.shape[1:])


class _Product(FlowFunction):
    """``unit_covariance_product`` for ``Points`` and V, ``b x m x k``."""

    @staticmethod
    def forward(*inputs: Any) -> Tensor:
        points, right = Points._make(inputs[:-1]), inputs[-1]
        out: Tensor = paths.path_of(right).product(points, right)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        *tensors, ctx.spec, right = inputs
        ctx.save_for_backward(*tensors, right)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, right = ctx.saved_tensors
        points, needs = Points._make((*tensors, ctx.spec)), ctx.needs_input_grad
        path = paths.path_of(right)
        by_right = path.product(points.exchanged(), grad) if needs[-1] else None
        if not any(needs[:-1]):
            return *(None for _ in points), by_right
        found = path.product_gradient(points, grad, right, needs[0] or needs[1])
        if not points.is_symmetric:
            return *found, None, by_right
        unit1, unit2, scale1, scale2, time = found
        return unit1 + unit2, None, scale1 + scale2, None, time, None, by_right
