"""What a covariance of unit vectors is computed from: points, and tables of the maps."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from resnet_gp.flow.depth import DepthMap, DepthTable, depth_table
from resnet_gp.flow.table import GROUP, HorizonTable, Polynomial, flat_horizon_table

# Gaps below this are recomputed from the difference of the unit vectors: the error of 1 - <u, v>,
# a few eps, is too large for the derivatives where the gap itself is small.
NEAR: dict[torch.dtype, Any] = {
    torch.float64: np.float64(2.0**-13),
    torch.float32: np.float32(2.0**-6),
}

Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""In ``unit1``, ``unit2``, ``scale1``, ``scale2`` and ``time`` of ``Points``, of their shapes."""


class Points(NamedTuple):
    """Two sets of points and a map, with one batch dimension.

    Attributes:
        unit1: ``b x C x n x d``, with d a multiple of ``GROUP``.
        unit2: ``b x C x m x d``; None where it is ``unit1``.
        scale1: ``b x C x n``.
        scale2: ``b x C x m``; None where it is ``scale1``.
        time: ``(1 or b) x C``.
        spec: which map.
    """

    unit1: Tensor
    unit2: Tensor | None
    scale1: Tensor
    scale2: Tensor | None
    time: Tensor
    spec: DepthMap

    @property
    def is_symmetric(self) -> bool:
        """Whether both sides are the same."""
        return self.unit2 is None

    @property
    def columns(self) -> int:
        """The number of points of the second side, m."""
        return (self.unit1 if self.unit2 is None else self.unit2).shape[-2]

    def sides(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Units and scales of the first and of the second side."""
        unit2 = self.unit1 if self.unit2 is None else self.unit2
        scale2 = self.scale1 if self.scale2 is None else self.scale2
        return self.unit1, unit2, self.scale1, scale2

    def of_rows(self, rows: slice) -> Points:
        """The same with some of the first side's points."""
        unit1, unit2, scale1, scale2 = self.sides()
        return Points(unit1[:, :, rows], unit2, scale1[:, :, rows], scale2, self.time, self.spec)

    def exchanged(self) -> Points:
        """The same with sides exchanged."""
        if self.is_symmetric:
            return self
        unit1, unit2, scale1, scale2 = self.sides()
        return Points(unit2, unit1, scale2, scale1, self.time, self.spec)


def flat_points(
    unit1: Tensor,
    unit2: Tensor,
    scale1: Tensor,
    scale2: Tensor,
    time: Tensor,
    spec: DepthMap,
    batch: tuple[int, ...] = (),
) -> tuple[Points, tuple[int, ...]]:
    """The arguments of ``unit_covariance_sum`` as points, and the shape of their batch.

    Of sides in two precisions, both get the higher one. ``batch`` is a shape with which it
    broadcasts.
    """
    if unit1.dtype != unit2.dtype:
        dtype = torch.promote_types(unit1.dtype, unit2.dtype)
        unit1, unit2, scale1, scale2 = (x.to(dtype) for x in (unit1, unit2, scale1, scale2))
    sides: list[Tensor | None] = [unit1, unit2, scale1, scale2]
    if unit2 is unit1 and scale2 is scale1:
        sides[1] = sides[3] = None
    trailing = (3, 3, 2, 2)
    shapes = [x.shape[:-k] for x, k in zip(sides, trailing, strict=True) if x is not None]
    batch = np.broadcast_shapes(*shapes, time.shape[:-1], batch)
    components = time.shape[-1]
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
    one, two, three, four = (flat(x, k) for x, k in zip(sides, trailing, strict=True))
    assert one is not None
    assert three is not None
    return Points(one, two, three, four, time, spec), batch


def value_table(time: Tensor, dtype: torch.dtype, spec: DepthMap) -> tuple[Any, ...]:
    """kappa, coefficients and power basis of the map, for the shape of the time."""
    return _value_table(_values(time), tuple(time.shape), dtype, spec)


def gradient_tables(
    time: Tensor, dtype: torch.dtype, spec: DepthMap
) -> tuple[tuple[Any, ...], tuple[Any, ...] | None]:
    """The same of the map and its derivatives; the limit's largest gap with its decrease."""
    return _gradient_tables(_values(time), tuple(time.shape), dtype, spec)


def _values(time: Tensor) -> tuple[float, ...]:
    return tuple(time.detach().flatten().tolist())


@functools.lru_cache(maxsize=32)
def _value_table(
    values: tuple[float, ...], shape: tuple[int, ...], dtype: torch.dtype, spec: DepthMap
) -> tuple[Any, ...]:
    table, value = _tables(values, dtype, spec)
    coefficients = value.coefficients.numpy()
    if isinstance(table, HorizonTable) and spec.contrast:
        coefficients = coefficients / np.sqrt(table.largest.numpy()[:, None])
    return _shaped(shape, table.kappa, coefficients, value.power_basis)


@functools.lru_cache(maxsize=32)
def _gradient_tables(
    values: tuple[float, ...], shape: tuple[int, ...], dtype: torch.dtype, spec: DepthMap
) -> tuple[tuple[Any, ...], tuple[Any, ...] | None]:
    table, _ = _tables(values, dtype, spec)
    maps = _shaped(shape, table.kappa, table.maps.coefficients, table.maps.power_basis)
    if not isinstance(table, HorizonTable):
        return maps, None
    largest, decrease = _shaped(shape, table.largest, table.decrease)
    if not spec.contrast:
        largest, decrease = np.ones_like(largest), np.zeros_like(decrease)
    return maps, (largest, decrease)


def _tables(
    values: tuple[float, ...], dtype: torch.dtype, spec: DepthMap
) -> tuple[HorizonTable | DepthTable, Polynomial]:
    """The tables of some times, and the polynomials of the map itself."""
    if spec.is_limit:
        limit = flat_horizon_table(values, dtype)
        return limit, limit.polynomial
    depth = depth_table(spec, torch.tensor(values, dtype=torch.float64), dtype)
    return depth, depth.value


def _shaped(shape: tuple[int, ...], *parts: Any) -> tuple[Any, ...]:
    """NumPy arrays whose first dimension is split."""
    arrays = (part.numpy() if isinstance(part, Tensor) else part for part in parts)
    return tuple(array.reshape(*shape, *array.shape[1:]) for array in arrays)
