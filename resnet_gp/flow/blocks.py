"""The scalar maps of the correlation flow as Horner schemes of vectors, for KeOps.

KeOps evaluates expression trees and recomputes repeated parts, so Clenshaw's rule would grow
exponentially. With the variable x = 2 s - 1 of ``table``,

    f(x) = sum_i b_i(x) Q_i(z),    z = T_4(x),    b(x) = (1, x, T_2(x), x T_2(x)),

where the Q_i have a quarter of the degree, so that powers of z are well conditioned.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.polynomial.chebyshev import cheb2poly
from torch import Tensor

from resnet_gp.flow.angles import Array, flow_angle, reduced_speed
from resnet_gp.flow.table import chebyshev_transform, horizon_table

#: Number of Q_i of a map.
BLOCK = 4

# Numbers of Horner steps; only a few, because KeOps compiles a formula for each.
_LENGTHS = (8, 16, 32)
_NODES = 192
_NOISE = {torch.float64: 4e-16, torch.float32: 1.5e-8}


def ratio_blocks(horizon: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """p = sin(theta_T / 2) / sin(theta_0 / 2) for a batch of horizons, ``batch_shape``.

    Returns:
        kappa of the variable s, ``batch_shape``, and the coefficients of the Q_i, ``batch_shape x
        steps x BLOCK``, highest power first.

    Raises:
        ValueError: as ``horizon_table``.
    """
    return _blocks(_ratio_rows, horizon, dtype)


def log_slope_blocks(horizon: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Logarithms of dc_T/dc_0, of p^2 and of dc_T/dT / (g / 2)^{3/2}.

    Logarithms keep their digits where the maps are small, at long horizons. Returns as
    ``ratio_blocks``, with ``3 BLOCK`` columns. Accurate to rounding for horizons from 10^-4 to
    10^3, to 10^-10 beyond (128 coefficients).
    """
    return _blocks(_log_slope_rows, horizon, dtype)


def _blocks(
    rows: Callable[[float, float, torch.dtype], list[Array]], horizon: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    kappa = horizon_table(horizon, dtype).kappa
    tables = [
        _packed(rows, *pair, dtype)
        for pair in zip(
            horizon.detach().to("cpu", torch.float64).flatten().tolist(),
            kappa.double().flatten().tolist(),
            strict=True,
        )
    ]
    longest = max(map(len, tables))
    steps = next(length for length in _LENGTHS if length >= longest)
    stacked = np.stack([np.pad(table, ((steps - len(table), 0), (0, 0))) for table in tables])
    coefficients = torch.from_numpy(stacked).to(horizon.device, dtype)
    return kappa.to(horizon.device), coefficients.reshape(*horizon.shape, steps, -1)


@functools.lru_cache(maxsize=256)
def _packed(
    rows: Callable[[float, float, torch.dtype], list[Array]],
    horizon: float,
    kappa: float,
    dtype: torch.dtype,
) -> Array:
    """``steps x (maps BLOCK)``, highest power of z first."""
    found = rows(horizon, kappa, dtype)
    longest = max(map(len, found))
    return np.hstack([_split(np.pad(row, (0, longest - len(row)))) for row in found])


def _ratio_rows(horizon: float, kappa: float, dtype: torch.dtype) -> list[Array]:
    return [_series(lambda s: _ratio(*_angles(s, horizon, kappa)), dtype)]


def _log_slope_rows(horizon: float, kappa: float, dtype: torch.dtype) -> list[Array]:
    def log_ratio(s: Array) -> Array:
        return np.log(_ratio(*_angles(s, horizon, kappa)))

    def log_end(s: Array) -> Array:
        return np.log(reduced_speed(_angles(s, horizon, kappa)[1]))

    def log_quotient(s: Array) -> Array:
        return log_end(s) - np.log(reduced_speed(_angles(s, horizon, kappa)[0]))

    ratio, end, quotient = (_series(f, dtype) for f in (log_ratio, log_end, log_quotient))
    return [_add(3 * ratio, quotient), 2 * ratio, _add(3 * ratio, end)]


def _angles(s: Array, horizon: float, kappa: float) -> tuple[Array, Array]:
    start = 4 * np.arctan(s / (1 + kappa - kappa * s))
    return start, flow_angle(start, horizon)


def _ratio(start: Array, end: Array) -> Array:
    return np.sin(end / 2) / np.sin(start / 2)


def _series(function: Callable[[Array], Array], dtype: torch.dtype) -> Array:
    """Chebyshev coefficients in x, lowest degree first, to an absolute error of rounding at 1."""
    s = np.cos(math.pi * (np.arange(_NODES) + 0.5) / (2 * _NODES)) ** 2
    row = chebyshev_transform(function(s))[: BLOCK * _LENGTHS[-1]]
    kept = np.nonzero(np.abs(row) > _NOISE[dtype])[0]
    return row[: 1 + int(kept.max(initial=0))]


def _add(row: Array, other: Array) -> Array:
    longest = max(len(row), len(other))
    return np.pad(row, (0, longest - len(row))) + np.pad(other, (0, longest - len(other)))


def _split(row: Array) -> Array:
    """Power coefficients of the Q_i, ``steps x BLOCK``, of a series in T_k, lowest degree first."""
    steps = math.ceil(len(row) / BLOCK)
    series = np.pad(row, (0, steps * BLOCK - len(row)))
    products = np.zeros((steps, BLOCK))  # of T_j(z) T_i(x)
    for k in reversed(range(len(series))):
        j, i = divmod(k, BLOCK)
        if i == 0 or j == 0:
            products[j, i] += series[k]
        else:  # T_{4j+i} = 2 T_i T_{4j} - T_{4j-i}
            products[j, i] += 2 * series[k]
            series[k - 2 * i] -= series[k]
    products[:, 1] -= products[:, 3]  # T_3 = 2 x T_2 - x
    products[:, 3] *= 2
    powers = np.zeros_like(products)
    for i in range(BLOCK):
        column = cheb2poly(products[:, i])
        powers[: len(column), i] = column
    return powers[::-1]
