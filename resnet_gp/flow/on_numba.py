"""Covariances of unit vectors by the loops of ``compiled.py``, for tensors on the CPU."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnet_gp.flow import compiled, row_blocks
from resnet_gp.flow.unit_points import NEAR, Gradients, Points, gradient_tables, value_table
from resnet_gp.threads import in_threads, row_ranges


def covariance(points: Points) -> Tensor:
    """See ``Path``."""
    unit1, unit2, *_ = points.sides()
    spec, symmetric = points.spec, points.is_symmetric
    batch, n, m = len(unit1), unit1.shape[-2], unit2.shape[-2]
    out = new_matrix(unit1.dtype, batch, n, m)
    table = value_table(points.time, unit1.dtype, spec)
    arguments = (_arrays(points), table, spec.is_tangent, out.numpy(), symmetric)
    ranges = row_ranges(batch * n, m, symmetric and batch == 1)
    in_threads([functools.partial(compiled.covariance, *arguments, *rows) for rows in ranges])
    return out


def gradient(points: Points, grad: Tensor, units: bool) -> Gradients:
    """See ``Path``."""
    time, spec, symmetric = points.time, points.spec, points.is_symmetric
    batch, n, m = grad.shape
    ranges = row_ranges(batch * n, m, symmetric and batch == 1)
    table, ends = gradient_tables(time, grad.dtype, spec)
    arrays = _arrays(points)
    u, v, scale_u, scale_v, _ = arrays
    # A row belongs to one thread; sums over rows are added up at the end.
    shared = grad.contiguous().numpy(), np.zeros_like(u), np.zeros_like(scale_u)
    shapes = v.shape, scale_v.shape, u.shape[:2]
    sums = [np.zeros((len(ranges), *shape), u.dtype) for shape in shapes]
    chain = functools.partial(compiled.gradient, arrays, table, ends, spec.is_tangent)
    in_threads(
        [
            functools.partial(chain, (*shared, *own), units, symmetric, *rows)
            for *own, rows in zip(*sums, ranges, strict=True)
        ]
    )
    by_v, by_scale_v, by_time = (torch.from_numpy(one.sum(0)) for one in sums)
    by_u, by_scale_u = map(torch.from_numpy, shared[1:])
    return by_u, by_v.mT, by_scale_u, by_scale_v, by_time.sum_to_size(time.shape)


product = functools.partial(row_blocks.product, covariance)
product_gradient = functools.partial(row_blocks.product_gradient, gradient)


def new_matrix(dtype: torch.dtype, *shape: int) -> Tensor:
    """Uninitialised values in memory of NumPy.

    It asks Linux for huge pages, and the C library to keep what was freed for the next matrix of a
    few MiB: a page fault for each 4 KiB of torch's memory costs as much as all arithmetic.
    """
    return torch.from_numpy(np.empty(shape, torch.zeros((), dtype=dtype).numpy().dtype))


def _arrays(points: Points) -> tuple[Any, ...]:
    """``points`` of the compiled loops."""
    unit1, unit2, scale1, scale2 = points.sides()
    tensors = (unit1, unit2.mT, scale1, scale2)
    arrays = (tensor.detach().contiguous().numpy() for tensor in tensors)
    return *arrays, NEAR[unit1.dtype]
