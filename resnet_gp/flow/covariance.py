"""Covariance matrices of the limit network from its input layer: one fused, differentiable call.

For the (leaky) ReLU family without block bias (Hayou & Yang 2023, Theorems 2 and 3),

    k(a, b) = sqrt(q_0(a, a) q_0(b, b)) exp(w (1 + alpha^2) / 2) c_T(c_0),    T = w (1 - alpha)^2.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from resnet_gp.flow.autograd import FlowFunction, compiled_loops, widens_half
from resnet_gp.flow.correlation import contrast as flow_contrast
from resnet_gp.flow.correlation import flow, flow_and_slopes, flow_slopes, gap_flow
from resnet_gp.flow.depth import LIMIT, DepthMap, Layers, depth_map, depth_slopes, depth_table
from resnet_gp.flow.domain import DomainError
from resnet_gp.flow.table import GROUP, horizon_table, speed_polynomial
from resnet_gp.threads import in_threads, row_ranges

# Gaps below this are recomputed from the difference of the unit vectors: the error of 1 - <u, v>,
# a few eps, is too large for the derivatives where the gap itself is small.
_NEAR: dict[torch.dtype, Any] = {
    torch.float64: np.float64(2.0**-13),
    torch.float32: np.float32(2.0**-6),
}
_NEAR_PAIRS = 2**18
_TILE = {"cpu": 2**16, "cuda": 2**24}

Variance = Literal["full", "no_growth", "unit"]


@widens_half
def resnet_covariance(
    x1: Tensor,
    x2: Tensor,
    weight_variance: Tensor,
    *,
    negative_slope: float = 0.0,
    lengthscale: Tensor | None = None,
    input_bias_variance: Tensor | None = None,
    depth: int | None = None,
    layers: Layers = "readout",
    variance: Variance = "full",
    contrast: bool = False,
    diag: bool = False,
) -> Tensor:
    """Covariance of the infinitely wide ResNet between two sets of inputs, or its tangent kernel.

    Args:
        x1: ``batch_shape x n x d``.
        x2: ``batch_shape x m x d``.
        weight_variance: w >= 0, ``batch_shape x 1 x 1`` or a scalar.
        negative_slope: alpha of phi(u) = max(u, 0) + alpha min(u, 0).
        lengthscale: l, ``batch_shape x 1 x d`` or broadcastable; the inputs are divided by it.
        input_bias_variance: sigma_in^2, ``batch_shape x 1 x 1`` or a scalar.
        depth: number of residual blocks; None for the limit.
        layers: which layers are trained. "readout" gives the covariance of the outputs, "all" and
            "blocks" the tangent kernel of all layers or of the residual blocks.
        variance: "full"; "no_growth", without the factor exp(w (1 + alpha^2) / 2) by which the
            variance grows with depth, at finite depth (1 + w (1 + alpha^2) / (2 L))^L; or "unit",
            k(a, b) / sqrt(k(a, a) k(b, b)), for the readout.
        contrast: replace c_T by (c_T - c_T(pi)) / (1 - c_T(pi)), for the readout of the limit. As
            T grows, all c_T approach 1; the contrast keeps them apart.
        diag: return k(x1_i, x2_i), ``batch_shape x n``, without building a matrix.

    Returns:
        ``batch_shape x n x m`` (or ``batch_shape x n``). Rows of zeros without an input bias have
        covariance 0, and gradient 0 where the kernel has a kink.

    Raises:
        ValueError: the horizon is outside the table's range, the growth factor overflows, or
            options that exclude each other.
    """
    check_options(variance, contrast, depth, layers)
    unit1, scale1 = unit_and_scale(x1, lengthscale, input_bias_variance, variance)
    unit2, scale2 = unit_and_scale(x2, lengthscale, input_bias_variance, variance)
    spec = DepthMap(negative_slope, depth, layers, contrast)
    time = weight_variance * (1 - negative_slope) ** 2 if spec.is_limit else weight_variance
    if variance == "full":
        factor = growth_factor(weight_variance, negative_slope, depth)
        factor = factor[..., 0] if factor.dim() else factor
        scale1, scale2 = scale1 * factor, scale2 * factor
    if diag:
        gap = _UnitGap.apply(unit1[..., None, :], unit2[..., None, :])[..., 0, 0]
        return scale1 * scale2 * _map(gap, time[..., 0] if time.dim() else time, spec)
    time = time[..., 0, 0] if time.dim() else time
    return unit_covariance(unit1, unit2, scale1, scale2, time, spec)


def check_options(variance: Variance, contrast: bool, depth: int | None, layers: Layers) -> None:
    """Check that the options of ``resnet_covariance`` go together.

    Raises:
        ValueError: names the option that is wrong.
    """
    if variance not in get_args(Variance):
        raise ValueError(
            f"variance must be one of {', '.join(get_args(Variance))}; got {variance!r}"
        )
    if variance == "unit" and layers != "readout":
        raise ValueError('variance="unit" needs layers="readout"; use variance="no_growth"')
    if contrast and (depth is not None or layers != "readout"):
        raise ValueError('contrast=True needs depth=None and layers="readout"')


def growth_factor(
    weight_variance: Tensor, negative_slope: float, depth: int | None = None
) -> Tensor:
    """exp(w (1 + alpha^2) / 4), by which depth multiplies the standard deviation.

    For L blocks, (1 + w (1 + alpha^2) / (2 L))^{L / 2}.

    Raises:
        DomainError: its square, the growth of the variance, overflows.
    """
    exponent = weight_variance * ((1 + negative_slope**2) / 2)
    if depth is not None:
        exponent = depth * torch.log1p(exponent / depth)
    largest = exponent.detach().max().item()
    if largest > math.log(torch.finfo(exponent.dtype).max):
        raise DomainError(
            f"weight_variance is so large that the variance exp({largest:.4g}) overflows "
            f'{exponent.dtype}; use variance="no_growth" with an output scale'
        )
    return torch.exp(exponent / 2)


def input_vectors(
    x: Tensor, lengthscale: Tensor | None, input_bias_variance: Tensor | None
) -> Tensor:
    """The vectors whose inner product is q_0, with the input bias as a coordinate."""
    x = x / math.sqrt(x.shape[-1])
    if lengthscale is not None:
        x = x / lengthscale
    if input_bias_variance is not None:
        bias = input_bias_variance.sqrt()
        shape = torch.broadcast_shapes(x.shape[:-1], bias.shape[:-1] if bias.dim() else ())
        x = torch.cat([x.expand(*shape, x.shape[-1]), bias.expand(*shape, 1)], dim=-1)
    return x


def unit_and_scale(
    x: Tensor,
    lengthscale: Tensor | None,
    input_bias_variance: Tensor | None,
    variance: Variance = "full",
) -> tuple[Tensor, Tensor]:
    """Unit vectors and lengths of ``input_vectors``; lengths of 1 if the variance is "unit"."""
    x = input_vectors(x, lengthscale, input_bias_variance)
    null = torch.linalg.vector_norm(x.detach(), dim=-1) == 0
    # Null rows are replaced before taking lengths, so that neither value nor gradient is 0 / 0.
    length = torch.linalg.vector_norm(torch.where(null[..., None], 1, x), dim=-1)
    scale = torch.ones_like(length) if variance == "unit" else length
    return x / length[..., None], torch.where(null, 0, scale)


def _map(gap: Tensor, time: Tensor, spec: DepthMap) -> Tensor:
    if not spec.is_limit:
        return depth_map(gap, time, spec)
    return flow_contrast(gap, time) if spec.contrast else flow(gap, time)


def _largest_gap(horizon: Tensor, spec: DepthMap) -> tuple[Tensor, Tensor]:
    """Divisor of 1 - c_T in a map of the limit, and its rate of decrease with T."""
    if not spec.contrast:
        return torch.ones_like(horizon), torch.zeros_like(horizon)
    gap_end, _, speed = flow_and_slopes(torch.full_like(horizon, 2), horizon)
    return gap_end, speed


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
        ``batch_shape x n x m``. The backward pass recomputes all matrices and keeps none.
    """
    padding = -unit1.shape[-1] % GROUP
    if padding:
        unit1 = torch.nn.functional.pad(unit1, (0, padding))
        unit2 = torch.nn.functional.pad(unit2, (0, padding))
    batch = torch.broadcast_shapes(
        unit1.shape[:-2], unit2.shape[:-2], scale1.shape[:-1], scale2.shape[:-1], time.shape
    )
    count = math.prod(batch)
    flat = [
        tensor.expand(*batch, *tensor.shape[-dims:]).reshape(count, *tensor.shape[-dims:])
        for tensor, dims in ((unit1, 2), (unit2, 2), (scale1, 1), (scale2, 1))
    ]
    flat.append(time.reshape(1) if time.numel() == 1 else time.expand(batch).reshape(count))
    return _UnitCovariance.apply(*flat, spec).reshape(*batch, unit1.shape[-2], unit2.shape[-2])


class _UnitCovariance(FlowFunction):
    """``unit_covariance`` for one batch dimension; the time is of length 1 or b."""

    @staticmethod
    def forward(
        unit1: Tensor,
        unit2: Tensor,
        scale1: Tensor,
        scale2: Tensor,
        time: Tensor,
        spec: DepthMap,
    ) -> Tensor:
        compiled = compiled_loops("compiled", unit1)
        if compiled is not None:
            return _compiled_forward(compiled, unit1, unit2, scale1, scale2, time, spec)
        out = unit1.new_empty(unit1.shape[0], unit1.shape[1], unit2.shape[1])
        for rows in _tiles(out):
            end = _map(_unit_gap(unit1[:, rows], unit2), time[:, None, None], spec)
            out[:, rows] = scale1[:, rows, None] * scale2[:, None] * end
        return out

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:
        *tensors, time, spec = inputs
        unit1, unit2, scale1, scale2 = _batched(info.batch_size, in_dims[:4], tensors)
        if in_dims[4] is not None:  # else the members share a table
            time = time.movedim(in_dims[4], 0)
        return unit_covariance(unit1, unit2, scale1, scale2, time, spec), 0

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved, (spec,), needs = ctx.saved_tensors, ctx.settings, ctx.needs_input_grad
        # Tensors under torch.func transforms have no memory that compiled loops could read.
        if torch.is_grad_enabled() or torch._C._are_functorch_transforms_active():
            return (*_differentiable_gradient(saved, grad, needs[:5], spec), None)
        unit1, unit2, scale1, scale2, time = saved
        compiled = compiled_loops("compiled", unit1)
        if compiled is not None:
            sums = _compiled_gradient(compiled, unit1, unit2, scale1, scale2, time, grad, spec)
        else:
            sums = _tiled_gradient(unit1, unit2, scale1, scale2, time, grad, spec)
        weight, grad_scale1, grad_scale2, grad_time = sums
        return (
            weight @ unit2 if needs[0] else None,
            weight.mT @ unit1 if needs[1] else None,
            grad_scale1,
            grad_scale2,
            grad_time.sum_to_size(time.shape),
            None,
        )


def _differentiable_gradient(
    inputs: tuple[Tensor, ...], grad: Tensor, needs: tuple[bool, ...], spec: DepthMap
) -> tuple[Tensor | None, ...]:
    """The same gradient in differentiable operations on whole matrices."""
    unit1, unit2, scale1, scale2, time = inputs
    rows, columns, times = scale1[..., None], scale2[..., None, :], time[:, None, None]
    gap = _UnitGap.apply(unit1, unit2)
    slope, speed = _slopes(gap, times, spec)
    scaled = grad * (rows * columns)
    weight, end = scaled * slope, grad * _map(gap, times, spec)
    return (
        weight @ unit2 if needs[0] else None,
        weight.mT @ unit1 if needs[1] else None,
        (end * columns).sum(-1) if needs[2] else None,
        (end * rows).sum(-2) if needs[3] else None,
        (scaled * speed).sum_to_size(times.shape)[:, 0, 0] if needs[4] else None,
    )


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


def _tiled_gradient(
    unit1: Tensor,
    unit2: Tensor,
    scale1: Tensor,
    scale2: Tensor,
    time: Tensor,
    grad: Tensor,
    spec: DepthMap,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients in <u, v>, in both scales and, ``b``, in the time."""
    weight, grad_scale1 = torch.empty_like(grad), torch.empty_like(scale1)
    grad_scale2, grad_time = torch.zeros_like(scale2), scale1.new_zeros(len(scale1))
    for rows in _tiles(grad):
        gap, times = _unit_gap(unit1[:, rows], unit2), time[:, None, None]
        if spec.is_limit:
            gap_end, slope, speed = flow_and_slopes(gap, times)
            largest, decrease = _largest_gap(times, spec)
            relative = gap_end / largest
            end, slope = 1 - relative, slope / largest
            speed = (speed - relative * decrease) / largest
        else:
            end, slope, speed = depth_table(spec, times, gap.dtype).derivatives(gap)
        seen, scale = grad[:, rows], scale1[:, rows, None]
        scaled = seen * scale * scale2[:, None]
        weight[:, rows] = scaled * slope
        end = end * seen
        grad_scale1[:, rows] = (end @ scale2[..., None])[..., 0]
        grad_scale2 += (end.mT @ scale)[..., 0]
        grad_time += (scaled * speed).sum((-2, -1))
    return weight, grad_scale1, grad_scale2, grad_time


def _tiles(matrix: Tensor) -> Iterator[slice]:
    batch, n, m = matrix.shape
    rows = max(1, _TILE.get(matrix.device.type, _TILE["cuda"]) // max(1, batch * m))
    return (slice(first, first + rows) for first in range(0, n, rows))


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


def _batched(size: int, dims: Sequence[int | None], tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors that all have the dimension of vmap, at the front."""
    return [
        x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)
        for x, dim in zip(tensors, dims, strict=True)
    ]


def _unit_gap(unit1: Tensor, unit2: Tensor) -> Tensor:
    gap = (1 - unit1 @ unit2.mT).clamp_(max=2)
    near = (gap < float(_NEAR[gap.dtype])).nonzero(as_tuple=True)
    batch = gap.shape[:-2]
    unit1, unit2 = unit1.expand(*batch, -1, -1), unit2.expand(*batch, -1, -1)
    for first in range(0, len(near[0]), _NEAR_PAIRS):
        *where, i, j = (index[first : first + _NEAR_PAIRS] for index in near)
        gap[(*where, i, j)] = (unit1[(*where, i)] - unit2[(*where, j)]).square().sum(-1) / 2
    return gap


def _points(*inputs: Tensor) -> tuple[Any, ...]:
    """``points`` of the compiled loops."""
    unit1, unit2, scale1, scale2 = inputs
    tensors = (unit1, unit2.mT, scale1, scale2)
    return *_arrays(*(tensor.detach().contiguous() for tensor in tensors)), _NEAR[unit1.dtype]


def _is_symmetric(unit1: Tensor, unit2: Tensor, scale1: Tensor, scale2: Tensor) -> bool:
    return torch.equal(unit1, unit2) and torch.equal(scale1, scale2)


def _arrays(*tensors: Tensor) -> tuple[Any, ...]:
    return tuple(tensor.numpy() for tensor in tensors)


def _compiled_forward(compiled: ModuleType, *inputs: Any) -> Tensor:
    unit1, unit2, *_, time, spec = inputs
    batch, n, m = len(unit1), unit1.shape[1], unit2.shape[1]
    out = unit1.new_empty(batch, n, m)
    symmetric = _is_symmetric(*inputs[:4])
    if spec.is_limit:
        limit = horizon_table(time, unit1.dtype)
        if spec.contrast:
            limit = limit.scaled(_largest_gap(time, spec)[0].rsqrt())
        kappa, value = limit.kappa, limit.polynomial
    else:
        depth = depth_table(spec, time, unit1.dtype)
        kappa, value = depth.kappa, depth.value
    table = _arrays(kappa, value.coefficients, value.power_basis)
    ranges = row_ranges(batch * n, m, symmetric and batch == 1)
    arguments = (_points(*inputs[:4]), table, spec.is_tangent, out.numpy(), symmetric)
    in_threads([functools.partial(compiled.covariance, *arguments, *rows) for rows in ranges])
    return out


def _compiled_gradient(compiled: ModuleType, *inputs: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    unit1, _, scale1, scale2, time, grad, spec = inputs
    weight = torch.empty_like(grad, memory_format=torch.contiguous_format)
    symmetric = _is_symmetric(*inputs[:4])
    batch, n, m = grad.shape
    ranges = row_ranges(batch * n, m, symmetric and batch == 1)
    if spec.is_limit:
        limit = horizon_table(time, unit1.dtype)
        ratio = limit.polynomial
        table = _arrays(limit.kappa, ratio.coefficients[:, None], ratio.power_basis[:, None])
        speeds = _arrays(speed_polynomial(unit1.dtype).coefficients, *_largest_gap(time, spec))
    else:
        depth = depth_table(spec, time, unit1.dtype)
        three = (depth.value, depth.slope, depth.speed)
        coefficients = torch.stack([one.coefficients for one in three], dim=1)
        power_basis = torch.stack([one.power_basis for one in three], dim=1)
        table = _arrays(depth.kappa, coefficients, power_basis)
        speeds = (unit1.new_empty(0).numpy(),) * 3
    points, shared = _points(*inputs[:4]), _arrays(grad.contiguous(), weight)
    shapes = (scale1.shape, scale2.shape, (batch,))
    sums = [scale1.new_zeros(len(ranges), *shape) for shape in shapes]
    gradient = functools.partial(compiled.gradient, points, table, speeds, spec.is_tangent)
    parts = zip(*_arrays(*sums), ranges, strict=True)
    in_threads(
        [functools.partial(gradient, (*shared, *own), symmetric, *rows) for *own, rows in parts]
    )
    return weight, *(one.sum(0) for one in sums)
