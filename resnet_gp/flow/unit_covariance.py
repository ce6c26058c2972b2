"""Sums of maps of unit vectors' inner products, times two scales: one pass over the matrix.

    K_ij = sum_c scale1_ci scale2_cj f_c(<unit1_ci, unit2_cj>),

where f_c is c_T or another ``DepthMap`` with a time of its own. A single network is a sum of one
component. The backward pass recomputes all matrices and keeps none.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnet_gp.flow.autograd import FlowFunction, compiled_loops
from resnet_gp.flow.correlation import contrast as flow_contrast
from resnet_gp.flow.correlation import flow, flow_and_slopes, flow_slopes, gap_flow
from resnet_gp.flow.depth import LIMIT, DepthMap, depth_map, depth_slopes, depth_table
from resnet_gp.flow.table import GROUP, horizon_table
from resnet_gp.threads import in_threads, row_ranges

# Gaps below this are recomputed from the difference of the unit vectors: the error of 1 - <u, v>,
# a few eps, is too large for the derivatives where the gap itself is small.
NEAR: dict[torch.dtype, Any] = {
    torch.float64: np.float64(2.0**-13),
    torch.float32: np.float32(2.0**-6),
}
_NEAR_PAIRS = 2**18
_TILE = {"cpu": 2**16, "cuda": 2**24}

_Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def unit_covariance(
    unit1: Tensor,
    unit2: Tensor,
    scale1: Tensor,
    scale2: Tensor,
    time: Tensor,
    spec: DepthMap = LIMIT,
) -> Tensor:
    """scale1_i scale2_j c_T(<unit1_i, unit2_j>), differentiable twice in all tensors.

    Other maps of the correlations are differentiable once.

    Args:
        unit1: unit vectors, ``batch_shape x n x d``.
        unit2: unit vectors, ``batch_shape x m x d``.
        scale1: ``batch_shape x n``.
        scale2: ``batch_shape x m``.
        time: the horizon T of the limit, else the weight variance w; ``batch_shape``. One table is
            made for each element.
        spec: which map.

    Returns:
        ``batch_shape x n x m``. Half of it is computed where both sides are the same tensors.
    """
    unit, scale = unit1[..., None, :, :], scale1[..., None, :]
    same = same_values(unit1, unit2) and same_values(scale1, scale2)
    other = (unit, scale) if same else (unit2[..., None, :, :], scale2[..., None, :])
    return unit_covariance_sum(unit, other[0], scale, other[1], time[..., None], spec)


def unit_covariance_sum(
    unit1: Tensor,
    unit2: Tensor,
    scale1: Tensor,
    scale2: Tensor,
    time: Tensor,
    spec: DepthMap = LIMIT,
) -> Tensor:
    """The sum over C components of ``unit_covariance``, without a matrix for each.

    Args:
        unit1: ``batch_shape x C x n x d``.
        unit2: ``batch_shape x C x m x d``.
        scale1: ``batch_shape x C x n``.
        scale2: ``batch_shape x C x m``.
        time: ``batch_shape x C``.
        spec: which map.

    Returns:
        ``batch_shape x n x m``. Half of it is computed where ``unit2`` is ``unit1`` and ``scale2``
        is ``scale1``.
    """
    sides: list[Tensor | None] = [unit1, unit2, scale1, scale2]
    if unit2 is unit1 and scale2 is scale1:
        sides[1] = sides[3] = None
    trailing = (3, 3, 2, 2)
    shapes = [x.shape[:-k] for x, k in zip(sides, trailing, strict=True) if x is not None]
    batch, components = np.broadcast_shapes(*shapes, time.shape[:-1]), time.shape[-1]
    count, padding = math.prod(batch), -unit1.shape[-1] % GROUP

    def flat(x: Tensor | None, trailing: int) -> Tensor | None:
        if x is None:
            return None
        if trailing == 3 and padding:
            x = torch.nn.functional.pad(x, (0, padding))
        own = components, *x.shape[1 - trailing :]
        if x.numel() != count * math.prod(own):
            x = x.expand(*batch, *own)
        return x.reshape(count, *own)

    if time.numel() == components:
        time = time.reshape(1, components)
    else:
        time = time.expand(*batch, components).reshape(count, components)
    sides = [flat(x, k) for x, k in zip(sides, trailing, strict=True)]
    out = _UnitCovariance.apply(*sides, time, spec)
    return out.reshape(*batch, *out.shape[1:])


def same_values(x1: Tensor, x2: Tensor) -> bool:
    """Whether two tensors are one object, or constants on the CPU that are equal to the bit."""
    if x1 is x2:
        return True
    if x1.requires_grad or x2.requires_grad or torch._C._are_functorch_transforms_active():
        return False
    on_cpu = x1.device.type == x2.device.type == "cpu"  # elsewhere it would wait for the device
    return on_cpu and x1.shape == x2.shape and torch.equal(x1, x2)


class _UnitCovariance(FlowFunction):
    """``unit_covariance_sum`` for one batch dimension; the time is ``(1 or b) x C``.

    The second side is None where it is the first.
    """

    @staticmethod
    def forward(
        unit1: Tensor,
        unit2: Tensor | None,
        scale1: Tensor,
        scale2: Tensor | None,
        time: Tensor,
        spec: DepthMap,
    ) -> Tensor:
        compiled = compiled_loops("flow.compiled", unit1)
        if compiled is not None:
            return _compiled_forward(compiled, unit1, unit2, scale1, scale2, time, spec)
        unit2, scale2 = _other(unit1, unit2), _other(scale1, scale2)
        out = unit1.new_empty(len(unit1), unit1.shape[-2], unit2.shape[-2])
        for rows in _tiles(out, unit1.shape[1]):
            end = _map(_unit_gap(unit1[:, :, rows], unit2), time[..., None, None], spec)
            out[:, rows] = (scale1[:, :, rows, None] * scale2[:, :, None] * end).sum(1)
        return out

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
        unit2, scale2 = _other(unit1, unit2), _other(scale1, scale2)
        return unit_covariance_sum(unit1, unit2, scale1, scale2, time, spec), 0

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved, spec, needs = ctx.saved_tensors, ctx.spec, ctx.needs_input_grad
        compiled = compiled_loops("flow.compiled", saved[0])
        # Tensors under torch.func transforms have no memory that compiled loops could read.
        if torch.is_grad_enabled() or torch._C._are_functorch_transforms_active():
            found = _differentiable_gradient(saved, grad, spec)
        elif compiled is not None:
            found = _compiled_gradient(compiled, saved, grad, spec, needs[0] or needs[1])
        else:
            found = _tiled_gradient(saved, grad, spec)
        unit1, unit2, scale1, scale2, time = found
        if saved[1] is None:
            return unit1 + unit2, None, scale1 + scale2, None, time, None
        return *found, None


def _other(first: Tensor, second: Tensor | None) -> Tensor:
    return first if second is None else second


def _batched(size: int, dims: Sequence[int | None], tensors: Sequence[Any]) -> list[Any]:
    """Tensors that all have the dimension of vmap, at the front."""
    return [
        x if x is None else x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)
        for x, dim in zip(tensors, dims, strict=True)
    ]


def _map(gap: Tensor, time: Tensor, spec: DepthMap) -> Tensor:
    if not spec.is_limit:
        return depth_map(gap, time, spec)
    return flow_contrast(gap, time) if spec.contrast else flow(gap, time)


def _slopes(gap: Tensor, time: Tensor, spec: DepthMap) -> tuple[Tensor, Tensor]:
    """The derivatives of ``_map`` in c_0 and in the time, themselves differentiable."""
    if not spec.is_limit:
        return depth_slopes(gap, time, spec)
    slope, speed = flow_slopes(gap, time)
    if not spec.contrast:
        return slope, speed
    opposite = torch.full_like(time, 2)
    largest, decrease = gap_flow(opposite, time), flow_slopes(opposite, time)[1]
    return slope / largest, (speed - gap_flow(gap, time) / largest * decrease) / largest


def _differentiable_gradient(saved: Sequence[Any], grad: Tensor, spec: DepthMap) -> _Gradients:
    """The gradient in differentiable operations on whole matrices."""
    unit1, unit2, scale1, scale2, time = saved
    unit2, scale2 = _other(unit1, unit2), _other(scale1, scale2)
    rows, columns, times = scale1[..., None], scale2[..., None, :], time[..., None, None]
    seen = grad[:, None]
    gap = _UnitGap.apply(unit1, unit2)
    slope, speed = _slopes(gap, times, spec)
    scaled = seen * (rows * columns)
    weight, end = scaled * slope, seen * _map(gap, times, spec)
    return (
        weight @ unit2,
        weight.mT @ unit1,
        (end * columns).sum(-1),
        (end * rows).sum(-2),
        (scaled * speed).sum_to_size(times.shape)[..., 0, 0],
    )


def _tiled_gradient(saved: Sequence[Any], grad: Tensor, spec: DepthMap) -> _Gradients:
    """The gradient, a few rows at a time."""
    unit1, unit2, scale1, scale2, time = saved
    unit2, scale2 = _other(unit1, unit2), _other(scale1, scale2)
    times = time[..., None, None]
    grad_unit1, grad_scale1 = torch.empty_like(unit1), torch.empty_like(scale1)
    grad_unit2, grad_scale2 = torch.zeros_like(unit2), torch.zeros_like(scale2)
    grad_time = scale1.new_zeros(scale1.shape[:2])
    for rows in _tiles(grad, unit1.shape[1]):
        unit, scale, seen = unit1[:, :, rows], scale1[:, :, rows, None], grad[:, None, rows]
        end, slope, speed = _maps(_unit_gap(unit, unit2), times, spec)
        scaled = seen * scale * scale2[:, :, None]
        weight = scaled * slope
        end = end * seen
        grad_unit1[:, :, rows] = weight @ unit2
        grad_unit2 += weight.mT @ unit
        grad_scale1[:, :, rows] = (end @ scale2[..., None])[..., 0]
        grad_scale2 += (end.mT @ scale)[..., 0]
        grad_time += (scaled * speed).sum((-2, -1))
    return grad_unit1, grad_unit2, grad_scale1, grad_scale2, grad_time.sum_to_size(time.shape)


def _maps(gap: Tensor, time: Tensor, spec: DepthMap) -> tuple[Tensor, Tensor, Tensor]:
    """``_map`` and its derivatives in c_0 and in the time, without building a graph."""
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


def single_pairs(unit1: Tensor, unit2: Tensor, time: Tensor, spec: DepthMap) -> Tensor:
    """f(<unit1_i, unit2_i>), ``batch_shape x n``, with which the shape of the time broadcasts."""
    gap = _UnitGap.apply(unit1[..., None, :], unit2[..., None, :])[..., 0, 0]
    return _map(gap, time, spec)


class _UnitGap(FlowFunction):
    """1 - <u_i, v_j>, ``b x n x m``; never negative, exactly 0 for equal vectors."""

    @staticmethod
    def forward(unit1: Tensor, unit2: Tensor) -> Tensor:
        return _unit_gap(unit1, unit2)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Tensor) -> tuple[Tensor, int]:
        return _UnitGap.apply(*_batched(info.batch_size, in_dims, inputs)), 0

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        unit1, unit2 = ctx.saved_tensors
        return -(grad @ unit2), -(grad.mT @ unit1)


def _unit_gap(unit1: Tensor, unit2: Tensor) -> Tensor:
    gap = (1 - unit1 @ unit2.mT).clamp_(max=2)
    near = (gap < float(NEAR[gap.dtype])).nonzero(as_tuple=True)
    batch = gap.shape[:-2]
    unit1, unit2 = unit1.expand(*batch, -1, -1), unit2.expand(*batch, -1, -1)
    for first in range(0, len(near[0]), _NEAR_PAIRS):
        *where, i, j = (index[first : first + _NEAR_PAIRS] for index in near)
        gap[(*where, i, j)] = (unit1[(*where, i)] - unit2[(*where, j)]).square().sum(-1) / 2
    return gap


def _compiled_forward(
    compiled: ModuleType,
    unit1: Tensor,
    unit2: Tensor | None,
    scale1: Tensor,
    scale2: Tensor | None,
    time: Tensor,
    spec: DepthMap,
) -> Tensor:
    batch, _, n, _ = unit1.shape
    m = _other(unit1, unit2).shape[-2]
    out = new_matrix(unit1.dtype, batch, n, m)
    table = value_table(time, unit1.dtype, spec)
    symmetric = unit2 is None
    points = _points(unit1, unit2, scale1, scale2)
    arguments = (points, table, spec.is_tangent, out.numpy(), symmetric)
    ranges = row_ranges(batch * n, m, symmetric and batch == 1)
    in_threads([functools.partial(compiled.covariance, *arguments, *rows) for rows in ranges])
    return out


def _compiled_gradient(
    compiled: ModuleType, saved: Sequence[Any], grad: Tensor, spec: DepthMap, units: bool
) -> _Gradients:
    """The gradient by compiled loops; without ``units``, those in the unit vectors are left out."""
    unit1, unit2, scale1, scale2, time = saved
    symmetric = unit2 is None
    batch, n, m = grad.shape
    ranges = row_ranges(batch * n, m, symmetric and batch == 1)
    table, ends = gradient_tables(time, unit1.dtype, spec)
    points = _points(unit1, unit2, scale1, scale2)
    u, v, scale_u, scale_v, _ = points
    # A row belongs to one thread; sums over rows are added up at the end.
    shared = grad.contiguous().numpy(), np.zeros_like(u), np.zeros_like(scale_u)
    shapes = v.shape, scale_v.shape, u.shape[:2]
    sums = [np.zeros((len(ranges), *shape), u.dtype) for shape in shapes]
    gradient = functools.partial(compiled.gradient, points, table, ends, spec.is_tangent)
    in_threads(
        [
            functools.partial(gradient, (*shared, *own), units, symmetric, *rows)
            for *own, rows in zip(*sums, ranges, strict=True)
        ]
    )
    by_v, by_scale_v, by_time = (torch.from_numpy(one.sum(0)) for one in sums)
    by_u, by_scale_u = map(torch.from_numpy, shared[1:])
    return by_u, by_v.mT, by_scale_u, by_scale_v, by_time.sum_to_size(time.shape)


def value_table(time: Tensor, dtype: torch.dtype, spec: DepthMap) -> tuple[Any, ...]:
    """``table`` of the compiled covariance, for the shape of the time."""
    if spec.is_limit:
        limit = horizon_table(time, dtype)
        kappa, value = limit.kappa, limit.polynomial
        coefficients = value.coefficients
        if spec.contrast:
            coefficients = coefficients * limit.largest[..., None].rsqrt()
    else:
        depth = depth_table(spec, time, dtype)
        kappa, value = depth.kappa, depth.value
        coefficients = value.coefficients
    return _arrays(kappa, coefficients, value.power_basis)


def gradient_tables(
    time: Tensor, dtype: torch.dtype, spec: DepthMap
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """``table`` and ``limit`` of the compiled gradient, for the shape of the time."""
    if spec.is_limit:
        limit = horizon_table(time, dtype)
        table = _arrays(limit.kappa, limit.maps.coefficients, limit.maps.power_basis)
        if spec.contrast:
            return table, _arrays(limit.largest, limit.decrease)
        return table, _arrays(torch.ones_like(limit.largest), torch.zeros_like(limit.decrease))
    depth = depth_table(spec, time, dtype)
    three = (depth.value, depth.slope, depth.speed)
    coefficients = torch.stack([one.coefficients for one in three], dim=-2)
    power_basis = torch.stack([one.power_basis for one in three], dim=-1)
    nothing = depth.kappa.new_empty(*(0,) * time.dim())
    return _arrays(depth.kappa, coefficients, power_basis), _arrays(nothing, nothing)


def _points(
    unit1: Tensor, unit2: Tensor | None, scale1: Tensor, scale2: Tensor | None
) -> tuple[Any, ...]:
    """``points`` of the compiled loops."""
    tensors = (unit1, _other(unit1, unit2).mT, scale1, _other(scale1, scale2))
    return *_arrays(*(tensor.detach().contiguous() for tensor in tensors)), NEAR[unit1.dtype]


def _arrays(*tensors: Tensor) -> tuple[Any, ...]:
    return tuple(tensor.numpy() for tensor in tensors)


def new_matrix(dtype: torch.dtype, *shape: int) -> Tensor:
    """Uninitialised values on the CPU, in memory of NumPy.

    It asks Linux for huge pages, and the C library to keep what was freed for the next matrix of a
    few MiB: a page fault for each 4 KiB of torch's memory costs as much as all arithmetic.
    """
    return torch.from_numpy(np.empty(shape, torch.zeros((), dtype=dtype).numpy().dtype))
