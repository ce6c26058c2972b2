"""Covariances of unit vectors by the loops of ``compiled.py``, for tensors on the CPU."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnet_gp.flow import compiled, row_blocks
from resnet_gp.flow.compilation import Call, compile_together
from resnet_gp.flow.unit_points import NEAR, Gradients, Points, gradient_tables, value_table
from resnet_gp.threads import PIECES, in_threads, row_ranges

_LINE = 64  # bytes
_NUMPY = {torch.float64: np.float64, torch.float32: np.float32}


def covariance(points: Points) -> Tensor:
    """See ``Path``."""
    return _covariance(points, _arrays(points))


def gradient(points: Points, grad: Tensor, units: bool) -> Gradients:
    """See ``Path``."""
    return _gradient(points, _arrays(points), grad, units, mirrored=False)


def with_gradient(points: Points) -> tuple[Tensor, Callable[[Tensor], Gradients]]:
    """See ``Path``."""
    arrays = _arrays(points)
    _compile(points, arrays)
    gradient = functools.partial(_gradient, points, arrays, units=True, mirrored=True)
    return _covariance(points, arrays), gradient


def _compile(points: Points, arrays: tuple[Any, ...]) -> None:
    """Compile what computes a covariance and its gradient, when a process first needs both."""
    if not compiled.gradient.overloads:
        out = _new_covariance(points, arrays)
        chains, _, _ = _chaining(points, arrays, out, True, True)
        compile_together(_filling(points, arrays, out)[0], chains[0])


def _covariance(points: Points, arrays: tuple[Any, ...]) -> Tensor:
    out = _new_covariance(points, arrays)
    in_threads(_filling(points, arrays, out))
    return out


def _new_covariance(points: Points, arrays: tuple[Any, ...]) -> Tensor:
    batch, _, n, _ = arrays[0].shape
    return new_matrix(points.unit1.dtype, batch, n, points.columns)


def _filling(points: Points, arrays: tuple[Any, ...], out: Tensor) -> list[Call]:
    """Calls for the threads."""
    spec, symmetric = points.spec, points.is_symmetric
    batch, n, m = out.shape
    ranges = row_ranges(batch * n, m, symmetric and batch == 1, PIECES)
    table = value_table(points.time, out.dtype, spec)
    fill = functools.partial(
        compiled.covariance, arrays, table, spec.is_tangent, out.numpy(), symmetric
    )
    return [functools.partial(fill, *rows, _workspace(out.dtype)) for rows in ranges]


def _gradient(
    points: Points, arrays: tuple[Any, ...], grad: Tensor, units: bool, mirrored: bool
) -> Gradients:
    calls, (by_u, by_scale_u), sums = _chaining(points, arrays, grad, units, mirrored)
    in_threads(calls)
    by_v, by_scale_v, by_time = (
        torch.from_numpy(functools.reduce(operator.add, parts)) for parts in zip(*sums, strict=True)
    )
    m = points.columns
    by_time = by_time.sum_to_size(points.time.shape)
    return by_u, by_v[..., :m].mT, by_scale_u, by_scale_v[..., :m], by_time


def _chaining(
    points: Points, arrays: tuple[Any, ...], grad: Tensor, units: bool, mirrored: bool
) -> tuple[list[Call], tuple[Tensor, Tensor], list[tuple[Any, ...]]]:
    """Calls for the threads, the gradient in the first side's points, and the others in parts."""
    spec, symmetric = points.spec, points.is_symmetric
    batch, n, m = grad.shape
    table, ends = gradient_tables(points.time, grad.dtype, spec)
    u, v, scale_u, scale_v, _ = arrays
    pieces = PIECES if 16 * v.size < grad.numel() else 1  # the sums are smaller than the matrix
    ranges = row_ranges(batch * n, m, symmetric and batch == 1, pieces)
    # A row belongs to one thread; sums over rows are added up at the end.
    shared = grad.contiguous().numpy(), np.zeros_like(u), np.zeros_like(scale_u)
    sums = [
        (np.zeros_like(v), np.zeros_like(scale_v), np.zeros(u.shape[:2], u.dtype)) for _ in ranges
    ]
    mirror = shared[0] if symmetric and not mirrored else None
    tangent = None if spec.is_limit else spec.is_tangent
    chain = functools.partial(compiled.gradient, arrays, table, ends, tangent)
    calls = [
        functools.partial(
            chain, (*shared, *own), mirror, units, symmetric, *rows, _workspace(grad.dtype)
        )
        for own, rows in zip(sums, ranges, strict=True)
    ]
    return calls, (torch.from_numpy(shared[1]), torch.from_numpy(shared[2])), sums


product = functools.partial(row_blocks.product, covariance)
product_gradient = functools.partial(row_blocks.product_gradient, gradient)


def new_matrix(dtype: torch.dtype, *shape: int) -> Tensor:
    """Uninitialised values in memory of NumPy, from the beginning of a cache line on.

    It asks Linux for huge pages, and the C library to keep what was freed for the next matrix of a
    few MiB: a page fault for each 4 KiB of torch's memory costs as much as all arithmetic.
    """
    return torch.from_numpy(_aligned(dtype, *shape))


def _aligned(dtype: torch.dtype, *shape: int) -> Any:
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + _LINE, np.uint8)
    first = -memory.ctypes.data % _LINE
    return memory[first : first + size].view(_NUMPY[dtype]).reshape(shape)


def _workspace(dtype: torch.dtype) -> Any:
    return _aligned(dtype, compiled.BUFFERS, compiled.STRIDE)


def _arrays(points: Points) -> tuple[Any, ...]:
    """``points`` of the compiled loops."""
    unit1, unit2, scale1, scale2 = (side.detach() for side in points.sides())
    m = points.columns
    shape = (*unit2.shape[:2], unit2.shape[-1], -(-m // compiled.COLUMNS) * compiled.COLUMNS)
    dtype = _NUMPY[unit2.dtype]
    columns, scales = np.zeros(shape, dtype), np.zeros((*shape[:2], shape[-1]), dtype)
    columns[..., :m], scales[..., :m] = unit2.mT.numpy(), scale2.numpy()
    units, own = unit1.contiguous().numpy(), scale1.contiguous().numpy()
    return units, columns, own, scales, NEAR[unit1.dtype]
