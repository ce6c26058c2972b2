"""Sums of maps of unit vectors' inner products, times two scales: one pass over the matrix.

    K_ij = sum_c scale1_ci scale2_cj f_c(<unit1_ci, unit2_cj>),

where f_c is c_T or another ``DepthMap`` with a time of its own. A single network is a sum of one
component. The backward pass recomputes all matrices and keeps none. ``paths.py`` chooses what
computes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from resnet_gp.flow import paths
from resnet_gp.flow.autograd import FlowFunction
from resnet_gp.flow.correlation import flow_slopes, gap_flow
from resnet_gp.flow.depth import LIMIT, DepthMap, depth_slopes
from resnet_gp.flow.on_torch import map_of_gaps, unit_gap
from resnet_gp.flow.unit_points import Gradients, Points, flat_points


def unit_covariance_sum(
    unit1: Tensor,
    unit2: Tensor,
    scale1: Tensor,
    scale2: Tensor,
    time: Tensor,
    spec: DepthMap = LIMIT,
) -> Tensor:
    """The sum over C components of scale1_i scale2_j c_T(<unit1_i, unit2_j>).

    Without a matrix for each component. Differentiable twice in all tensors; other maps of the
    correlations are differentiable once.

    Args:
        unit1: unit vectors, ``batch_shape x C x n x d``.
        unit2: unit vectors, ``batch_shape x C x m x d``.
        scale1: ``batch_shape x C x n``.
        scale2: ``batch_shape x C x m``.
        time: the horizon T of the limit, else the weight variance w; ``batch_shape x C``. One table
            is made for each element.
        spec: which map.

    Returns:
        ``batch_shape x n x m``. Half of it is computed where ``unit2`` is ``unit1`` and ``scale2``
        is ``scale1``.
    """
    points, batch = flat_points(unit1, unit2, scale1, scale2, time, spec)
    # Without a graph, autograd's call would take a third of the time of a small matrix.
    plain = not (torch.is_grad_enabled() or torch._C._are_functorch_transforms_active())
    out: Tensor = (_UnitCovariance.forward if plain else _UnitCovariance.apply)(*points)
    return out.reshape(*batch, *out.shape[1:])


class _UnitCovariance(FlowFunction):
    """``unit_covariance_sum`` for one batch dimension; the time is ``(1 or b) x C``.

    The second side is None where it is the first.
    """

    @staticmethod
    def forward(*inputs: Any) -> Tensor:
        points = Points._make(inputs)
        return paths.path_of(points.unit1).covariance(points)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        *tensors, ctx.spec = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:
        *tensors, time, spec = inputs
        unit1, unit2, scale1, scale2 = _batched(info.batch_size, in_dims[:4], tensors)
        if in_dims[4] is not None:  # else the members share a table
            time = time.movedim(in_dims[4], 0)
        sides = Points(unit1, unit2, scale1, scale2, time, spec).sides()
        return unit_covariance_sum(*sides, time, spec), 0

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        points = Points._make((*ctx.saved_tensors, ctx.spec))
        needs = ctx.needs_input_grad
        # Tensors under torch.func transforms have no memory that compiled loops could read.
        if torch.is_grad_enabled() or torch._C._are_functorch_transforms_active():
            found = _differentiable_gradient(points, grad)
        else:
            found = paths.path_of(grad).gradient(points, grad, needs[0] or needs[1])
        if not points.is_symmetric:
            return *found, None
        unit1, unit2, scale1, scale2, time = found
        return unit1 + unit2, None, scale1 + scale2, None, time, None


def _batched(size: int, dims: Sequence[int | None], tensors: Sequence[Any]) -> list[Any]:
    """Tensors that all have the dimension of vmap, at the front."""
    return [
        x if x is None else x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)
        for x, dim in zip(tensors, dims, strict=True)
    ]


def _slopes(gap: Tensor, time: Tensor, spec: DepthMap) -> tuple[Tensor, Tensor]:
    """The derivatives of ``map_of_gaps`` in c_0 and in the time, themselves differentiable."""
    if not spec.is_limit:
        return depth_slopes(gap, time, spec)
    slope, speed = flow_slopes(gap, time)
    if not spec.contrast:
        return slope, speed
    opposite = torch.full_like(time, 2)
    largest, decrease = gap_flow(opposite, time), flow_slopes(opposite, time)[1]
    return slope / largest, (speed - gap_flow(gap, time) / largest * decrease) / largest


def _differentiable_gradient(points: Points, grad: Tensor) -> Gradients:
    """The gradient in differentiable operations on whole matrices."""
    (unit1, unit2, scale1, scale2), time, spec = points.sides(), points.time, points.spec
    rows, columns, times = scale1[..., None], scale2[..., None, :], time[..., None, None]
    seen = grad[:, None]
    gap = _UnitGap.apply(unit1, unit2)
    slope, speed = _slopes(gap, times, spec)
    scaled = seen * (rows * columns)
    weight, end = scaled * slope, seen * map_of_gaps(gap, times, spec)
    return (
        weight @ unit2,
        weight.mT @ unit1,
        (end * columns).sum(-1),
        (end * rows).sum(-2),
        (scaled * speed).sum_to_size(times.shape)[..., 0, 0],
    )


def single_pairs(unit1: Tensor, unit2: Tensor, time: Tensor, spec: DepthMap) -> Tensor:
    """f(<unit1_i, unit2_i>), ``batch_shape x n``, with which the shape of the time broadcasts."""
    gap = _UnitGap.apply(unit1[..., None, :], unit2[..., None, :])[..., 0, 0]
    return map_of_gaps(gap, time, spec)


class _UnitGap(FlowFunction):
    """1 - <u_i, v_j>, ``b x n x m``; never negative, exactly 0 for equal vectors."""

    @staticmethod
    def forward(unit1: Tensor, unit2: Tensor) -> Tensor:
        return unit_gap(unit1, unit2)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Tensor) -> tuple[Tensor, int]:
        return _UnitGap.apply(*_batched(info.batch_size, in_dims, inputs)), 0

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        unit1, unit2 = ctx.saved_tensors
        return -(grad @ unit2), -(grad.mT @ unit1)
