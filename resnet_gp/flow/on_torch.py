"""Covariances of unit vectors in plain torch, a few rows at a time: the reference."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from resnet_gp.flow import row_blocks
from resnet_gp.flow.correlation import contrast as flow_contrast
from resnet_gp.flow.correlation import flow, flow_and_slopes
from resnet_gp.flow.depth import DepthMap, depth_map, depth_table
from resnet_gp.flow.table import horizon_table
from resnet_gp.flow.unit_points import NEAR, Gradients, Points

_NEAR_PAIRS = 2**18
_TILE = {"cpu": 2**16, "cuda": 2**24}


def covariance(points: Points) -> Tensor:
    """See ``Path``."""
    unit1, unit2, scale1, scale2 = points.sides()
    out = unit1.new_empty(len(unit1), unit1.shape[-2], unit2.shape[-2])
    for rows in _tiles(out, unit1.shape[1]):
        gap = unit_gap(unit1[:, :, rows], unit2)
        end = map_of_gaps(gap, points.time[..., None, None], points.spec)
        out[:, rows] = (scale1[:, :, rows, None] * scale2[:, :, None] * end).sum(1)
    return out


def gradient(points: Points, grad: Tensor, units: bool) -> Gradients:
    """See ``Path``."""
    (unit1, unit2, scale1, scale2), time, spec = points.sides(), points.time, points.spec
    times = time[..., None, None]
    grad_unit1, grad_scale1 = torch.empty_like(unit1), torch.empty_like(scale1)
    grad_unit2, grad_scale2 = torch.zeros_like(unit2), torch.zeros_like(scale2)
    grad_time = scale1.new_zeros(scale1.shape[:2])
    for rows in _tiles(grad, unit1.shape[1]):
        unit, scale, seen = unit1[:, :, rows], scale1[:, :, rows, None], grad[:, None, rows]
        end, slope, speed = _maps(unit_gap(unit, unit2), times, spec)
        scaled = seen * scale * scale2[:, :, None]
        weight = scaled * slope
        end = end * seen
        grad_unit1[:, :, rows] = weight @ unit2
        grad_unit2 += weight.mT @ unit
        grad_scale1[:, :, rows] = (end @ scale2[..., None])[..., 0]
        grad_scale2 += (end.mT @ scale)[..., 0]
        grad_time += (scaled * speed).sum((-2, -1))
    return grad_unit1, grad_unit2, grad_scale1, grad_scale2, grad_time.sum_to_size(time.shape)


def with_gradient(points: Points) -> tuple[Tensor, Callable[[Tensor], Gradients]]:
    """See ``Path``."""
    return covariance(points), functools.partial(gradient, points, units=True)


product = functools.partial(row_blocks.product, covariance)
product_gradient = functools.partial(row_blocks.product_gradient, gradient)


def map_of_gaps(gap: Tensor, time: Tensor, spec: DepthMap) -> Tensor:
    """f of ``unit_covariance_sum`` at gaps 1 - c_0; a differentiable function."""
    if not spec.is_limit:
        return depth_map(gap, time, spec)
    return flow_contrast(gap, time) if spec.contrast else flow(gap, time)


def _maps(gap: Tensor, time: Tensor, spec: DepthMap) -> tuple[Tensor, Tensor, Tensor]:
    """``map_of_gaps`` and its derivatives in c_0 and in the time, without building a graph."""
    if not spec.is_limit:
        return depth_table(spec, time, gap.dtype).derivatives(gap)
    gap_end, slope, speed = flow_and_slopes(gap, time)
    if not spec.contrast:
        return 1 - gap_end, slope, speed
    table = horizon_table(time, gap.dtype)
    largest, decrease = table.largest.to(gap.device), table.decrease.to(gap.device)
    relative = gap_end / largest
    return 1 - relative, slope / largest, (speed - relative * decrease) / largest


def _tiles(matrix: Tensor, components: int) -> Iterator[slice]:
    batch, n, m = matrix.shape
    entries = _TILE.get(matrix.device.type, _TILE["cuda"])
    rows = max(1, entries // max(1, batch * components * m))
    return (slice(first, first + rows) for first in range(0, n, rows))


def unit_gap(unit1: Tensor, unit2: Tensor) -> Tensor:
    """1 - <u_i, v_j>, ``b x n x m``; never negative, exactly 0 for equal vectors."""
    gap = (1 - unit1 @ unit2.mT).clamp_(max=2)
    near = (gap < float(NEAR[gap.dtype])).nonzero(as_tuple=True)
    batch = gap.shape[:-2]
    unit1, unit2 = unit1.expand(*batch, -1, -1), unit2.expand(*batch, -1, -1)
    for first in range(0, len(near[0]), _NEAR_PAIRS):
        *where, i, j = (index[first : first + _NEAR_PAIRS] for index in near)
        gap[(*where, i, j)] = (unit1[(*where, i)] - unit2[(*where, j)]).square().sum(-1) / 2
    return gap
