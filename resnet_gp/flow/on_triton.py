"""Covariances of unit vectors by the kernels of ``triton_covariance.py``, for CUDA devices.

A table is sent to the device at each call, a few hundred numbers at once; tables are made and kept
on the CPU. Otherwise nothing waits for the device.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from resnet_gp.flow import triton_covariance as device
from resnet_gp.flow.table import GROUP
from resnet_gp.flow.unit_points import NEAR, Gradients, Points, gradient_tables, value_table

#: The most columns of the right-hand side for which one pass over K is made.
MAX_WIDTH = 64
_NARROW = 16  # the fewest of a block in a matrix product

_SIDE = 32  # of a tile whose rows a program keeps
_PROGRAMS = 1024  # some for each of a device's processors, below which rows of tiles are shared
_FLOW, _DEPTH, _TANGENT = (form.value for form in (device.FLOW, device.DEPTH, device.TANGENT))
_MATRIX, _MIRRORED, _VECTORS = (
    source.value for source in (device.MATRIX, device.MIRRORED, device.VECTORS)
)


class Variant(NamedTuple):
    """A kernel with its compile-time constants.

    ``registers`` is the most that a thread may have. Without a bound the assembler aims at more
    threads at a time, and spills.
    """

    kernel: Any
    constants: dict[str, Any]
    warps: int
    registers: int = 128

    def launch(self, programs: int, *arguments: Any) -> None:
        self.kernel[(programs,)](*arguments, **self.constants, **self.options)

    @property
    def options(self) -> dict[str, Any]:
        """Options of Triton's compiler."""
        return {
            "num_warps": self.warps,
            "num_stages": 1,
            "maxnreg": self.registers,
            "enable_fp_fusion": True,
        }


def _tile(dtype: torch.dtype, rows: int = _SIDE, columns: int = _SIDE) -> dict[str, Any]:
    return {"NEAR": float(NEAR[dtype]), "ROWS": rows, "COLUMNS": columns}


def covariance_variant(dtype: torch.dtype, plain: bool, symmetric: bool) -> Variant:
    """``plain`` tables hold the map itself. Tiles are as large as registers allow."""
    constants = {"PLAIN": plain, "SYMMETRIC": symmetric}
    if dtype == torch.float64:
        return Variant(device.covariance, constants | _tile(dtype), warps=4, registers=168)
    if symmetric:
        return Variant(device.covariance, constants | _tile(dtype, 64, 64), warps=8)
    return Variant(device.covariance, constants | _tile(dtype, 32, 128), warps=4, registers=232)


def product_variant(dtype: torch.dtype, plain: bool, width: int) -> Variant:
    """For up to ``width`` columns of the right-hand side."""
    constants = {"PLAIN": plain, "WIDTH": _padded(width) if width > 1 else 1}
    wide = dtype == torch.float32 and width <= _NARROW  # wider tiles of more columns would spill
    tile = _tile(dtype, columns=64 if wide else _SIDE)
    return Variant(device.product, constants | tile, warps=4, registers=232)


def gradient_variant(
    dtype: torch.dtype, form: int, source: int, units: bool, features: int
) -> Variant:
    """``form`` and ``source`` as in ``triton_covariance``; for up to ``features`` dimensions."""
    constants = {"FORM": form, "SOURCE": source, "UNITS": units, "FEATURES": _padded(features)}
    narrow = dtype == torch.float32 or features <= _NARROW  # else more columns would spill
    tile = _tile(dtype, columns=_SIDE if narrow else _SIDE // 2)
    return Variant(device.gradient, constants | tile, warps=8, registers=255)


def variants(dtype: torch.dtype) -> Iterator[Variant]:
    """All that may be launched."""
    for plain in (False, True):
        for symmetric in (False, True):
            yield covariance_variant(dtype, plain, symmetric)
        for width in (1, _NARROW, MAX_WIDTH):
            yield product_variant(dtype, plain, width)
    for form, source in itertools.product(
        (_FLOW, _DEPTH, _TANGENT), (_MATRIX, _MIRRORED, _VECTORS)
    ):
        for features in (_NARROW, MAX_WIDTH):
            yield gradient_variant(dtype, form, source, True, features)
        yield gradient_variant(dtype, form, source, False, 1)


def _padded(size: int) -> int:
    """The number of columns of a block of a matrix product."""
    return _NARROW if size <= _NARROW else MAX_WIDTH


def covariance(points: Points) -> Tensor:
    """See ``Path``. Where both sides are the same, half of the tiles are computed."""
    sides = _Sides.of(points)
    b, components, d, _ = sides.u.shape
    n, m = _sizes(points)
    out = sides.u.new_empty(b, n, m)
    if out.numel() == 0:
        return out
    table = _value_table(points)
    variant = covariance_variant(out.dtype, points.spec.is_tangent, points.is_symmetric)
    across = math.ceil(m / variant.constants["COLUMNS"])
    down = math.ceil(n / variant.constants["ROWS"])
    tiles = math.ceil(down / 2) * (across + 1) if points.is_symmetric else down * across
    with torch.cuda.device_of(out):
        variant.launch(
            tiles * b, *sides, table.packed, out, table.stride, n, m, d, components, table.groups,
            tiles,
        )  # fmt: skip
    return out


def with_gradient(points: Points) -> tuple[Tensor, Callable[[Tensor], Gradients]]:
    """See ``Path``."""
    return covariance(points), functools.partial(gradient, points, units=True)


def product(points: Points, right: Tensor) -> Tensor:
    """See ``Path``. One pass over K, which is never stored, for ``MAX_WIDTH`` columns."""
    if right.shape[-1] > MAX_WIDTH:
        return torch.cat([product(points, part) for part in right.split(MAX_WIDTH, -1)], -1)
    sides = _Sides.of(points)
    b, components, d, _ = sides.u.shape
    (n, m), width = _sizes(points), right.shape[-1]
    if b * n * m * width == 0:
        return right.new_zeros(b, n, width)
    table, right = _value_table(points), right.contiguous()
    variant = product_variant(right.dtype, points.spec.is_tangent, width)
    shares, share = _shares(b * _blocks(n), m, variant)
    out = right.new_empty(shares, b, n, width)
    with torch.cuda.device_of(out):
        variant.launch(
            shares * b * _blocks(n), *sides, table.packed, right, out,
            table.stride, n, m, d, components, table.groups, b, width, share,
        )  # fmt: skip
    return out.sum(0)


def gradient(points: Points, grad: Tensor, units: bool) -> Gradients:
    """See ``Path``. One pass over grad if both sides are the same, else one for each side."""
    grad = grad.contiguous()
    m = grad.shape[-1]
    if points.is_symmetric:
        unit, scale, time = _one_side(points, _MIRRORED, grad, grad, (m, 1), units)
        # G + G' has each pair twice.
        return unit, torch.zeros_like(unit), scale, torch.zeros_like(scale), time / 2
    unit1, scale1, time = _one_side(points, _MATRIX, grad, grad, (m, 1), units)
    unit2, scale2, _ = _one_side(points.exchanged(), _MATRIX, grad, grad, (1, m), units)
    return unit1, unit2, scale1, scale2, time


def product_gradient(points: Points, left: Tensor, right: Tensor, units: bool) -> Gradients:
    """See ``Path``. Two passes over K, one for each side."""
    left, right = left.contiguous(), right.contiguous()
    unit1, scale1, time = _one_side(points, _VECTORS, left, right, (0, 0), units)
    unit2, scale2, _ = _one_side(points.exchanged(), _VECTORS, right, left, (0, 0), units)
    return unit1, unit2, scale1, scale2, time


def _one_side(
    points: Points,
    source: int,
    left: Tensor,
    right: Tensor,
    strides: tuple[int, int],
    units: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient in the first side's units and scales, and in the time."""
    sides = _Sides.of(points)
    b, components, d, _ = sides.u.shape
    (n, m), width = _sizes(points), left.shape[-1]
    if b * n * m * width == 0:
        unit, scale = points.unit1, points.scale1
        return torch.zeros_like(unit), torch.zeros_like(scale), torch.zeros_like(points.time)
    table, form = _gradient_table(points)
    variant = gradient_variant(left.dtype, form, source, units, d if units else 1)
    blocks = math.ceil(d / variant.constants["FEATURES"]) if units else 1
    shares, share = _shares(b * components * _blocks(n), m, variant)
    by_unit = left.new_zeros(shares, b, components, n, d) if units else left.new_empty(0)
    by_scale = left.new_empty(shares, b, components, n)
    by_time = left.new_empty(shares, b, components, _blocks(n))
    with torch.cuda.device_of(left):
        variant.launch(
            shares * b * components * blocks * _blocks(n), *sides, table.packed, left, right,
            by_unit, by_scale, by_time, table.stride, n, m, d, components, table.groups,
            *strides, b, width, share,
        )  # fmt: skip
    return (
        by_unit.sum(0) if units else torch.zeros_like(points.unit1),
        by_scale.sum(0),
        by_time.sum((0, -1)).sum_to_size(points.time.shape),
    )


def _sizes(points: Points) -> tuple[int, int]:
    """n and m."""
    unit1, unit2, *_ = points.sides()
    return unit1.shape[-2], unit2.shape[-2]


class _Sides(NamedTuple):
    """Units, transposed, and scales of both sides, with points padded."""

    u: Tensor
    v: Tensor
    scale_u: Tensor
    scale_v: Tensor

    @classmethod
    def of(cls, points: Points) -> _Sides:
        unit1, unit2, scale1, scale2 = points.sides()
        u, scale_u = _padded_points(unit1.mT), _padded_points(scale1)
        if points.is_symmetric:
            return cls(u, u, scale_u, scale_u)
        return cls(u, _padded_points(unit2.mT), scale_u, _padded_points(scale2))


def _padded_points(x: Tensor) -> Tensor:
    padding = -x.shape[-1] % device.PADDING.value
    return torch.nn.functional.pad(x, (0, padding)).contiguous()


class _Table(NamedTuple):
    """``table`` of the kernels, its stride between batch elements, and its groups."""

    packed: Tensor
    stride: int
    groups: int


def _value_table(points: Points) -> _Table:
    kappa, coefficients, power_basis = value_table(points.time, points.unit1.dtype, points.spec)
    head = (kappa, np.ones_like(kappa), np.zeros_like(kappa))
    return _packed(head, coefficients[..., None, :], power_basis[..., None], points.unit1.device)


def _gradient_table(points: Points) -> tuple[_Table, int]:
    """The table and its form."""
    spec = points.spec
    table, ends = gradient_tables(points.time, points.unit1.dtype, spec)
    kappa, coefficients, power_basis = table
    head = (kappa, *(ends or (np.ones_like(kappa), np.zeros_like(kappa))))
    form = _FLOW if spec.is_limit else _TANGENT if spec.is_tangent else _DEPTH
    return _packed(head, coefficients, power_basis, points.unit1.device), form


def _packed(
    head: tuple[Any, ...], coefficients: Any, power_basis: Any, device: torch.device
) -> _Table:
    """Coefficients are ``t x C x polynomials x (1 + GROUP groups)``, t the number of times."""
    t, components, count, length = coefficients.shape
    groups = length // GROUP
    used = coefficients[..., :-1].reshape(t, components, count, groups, GROUP).any(-1)
    leading = (
        np.where(used.any(-1), used.argmax(-1), groups) if groups else np.zeros(used.shape[:3])
    )
    heads = np.stack([power_basis, leading], -1).astype(coefficients.dtype)
    polynomials = np.concatenate([heads, coefficients], -1).reshape(t, components, -1)
    packed = np.concatenate([np.stack(head, -1), polynomials], -1)
    stride = packed[0].size if t > 1 else 0
    return _Table(torch.from_numpy(packed).to(device), stride, groups)


def _blocks(points: int) -> int:
    return math.ceil(points / _SIDE)


def _shares(programs: int, columns: int, variant: Variant) -> tuple[int, int]:
    """In how many parts to split columns so that all processors are busy, and columns of a part.

    It depends on sizes alone, and so does the order of a sum.
    """
    side = variant.constants["COLUMNS"]
    blocks = math.ceil(columns / side)
    share = math.ceil(blocks / min(blocks, math.ceil(_PROGRAMS / programs)))
    return math.ceil(blocks / share), share * side
