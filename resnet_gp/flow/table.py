"""Chebyshev tables of the correlation flow: one smooth function of one variable per horizon.

With the gap g = 1 - c_0 = 2 sin^2(theta_0 / 2) of a pair, the flow and its first derivatives are

    c_T             = 1 - g p^2,              p = sin(theta_T / 2) / sin(theta_0 / 2)
    d c_T / d c_0   = F(c_T) / F(c_0) = p^3 phi(tau_T) / phi(tau_0)
    d c_T / d T     = F(c_T)          = (g / 2)^{3/2} p^3 phi(tau_T)

where phi = F / sin^3(theta / 2) is one fixed function and p is tabulated for each horizon, in

    s = (1 + kappa) tau / (1 + kappa tau),        tau = sqrt(g) / (sqrt(2) + sqrt(2 - g)).

tau is tan(theta / 4); the Moebius map moves the pole away that a long horizon puts next to 0.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnet_gp.flow.angles import Array, flow_angle, power_series, reduced_speed
from resnet_gp.flow.domain import DomainError

MAX_HORIZON = 1e4

#: Polynomials have 1 + k * GROUP coefficients, so that compiled code can unroll their evaluation.
GROUP = 4

# Rounding noise of a table's values. A series that has fallen to its power 3/4 after 3/4 of the
# nodes is as small as the noise after all of them; this asks for a little more.
_NOISE = {torch.float64: 4e-16, torch.float32: 1.5e-8}
_TAIL = {torch.float64: 1e-13, torch.float32: 2e-7}
_NODES = {torch.float64: (48, 96, 192, 384), torch.float32: (24, 48, 96, 192)}
_WELL_CONDITIONED = 1.5

# Chebyshev polynomials of log T in a cell, and where cells begin: below, series in the angle are
# long, and nothing needs a table for each of many horizons.
_ORDERS = 11
_FIRST_CELL = 2.0**-12


@dataclass(frozen=True, eq=False)
class Polynomial:
    """A batch of polynomials on [-1, 1].

    ``coefficients`` is ``batch_shape x (1 + k * GROUP)``, highest degree first, behind leading
    zeros. ``power_basis``, ``batch_shape``, says which are in the power basis (Horner's rule); the
    others are in the Chebyshev basis (Clenshaw's rule), which is slower and never amplifies
    rounding.
    """

    coefficients: Tensor
    power_basis: Tensor

    @classmethod
    def from_chebyshev(cls, rows: Sequence[Array], dtype: torch.dtype) -> Polynomial:
        """From one row of Chebyshev coefficients, lowest degree first, for each batch element."""
        longest = max(map(len, rows))
        packed = np.zeros((len(rows), 1 + GROUP * math.ceil((longest - 1) / GROUP)))
        power_basis = np.zeros(len(rows), dtype=bool)
        for index, row in enumerate(rows):
            power = row @ _power_coefficients(len(row))
            well_conditioned = np.abs(power).sum() <= _WELL_CONDITIONED * np.abs(row).sum()
            power_basis[index] = well_conditioned
            packed[index, packed.shape[1] - len(row) :] = (power if well_conditioned else row)[::-1]
        return cls(torch.from_numpy(packed).to(dtype), torch.from_numpy(power_basis))

    def __call__(self, x: Tensor) -> Tensor:
        """The values at ``x``, with which the batch shape broadcasts.

        Sums and products only, each rounded by itself: an entry's bits do not depend on its
        neighbours.
        """
        coefficients = self.coefficients.to(x.device).unbind(-1)
        if bool(self.power_basis.all()):
            return _horner(coefficients, x)
        if not bool(self.power_basis.any()):
            return _clenshaw(coefficients, x)
        basis = self.power_basis.to(x.device)
        return torch.where(basis, _horner(coefficients, x), _clenshaw(coefficients, x))

    def unbind(self) -> list[Polynomial]:
        """One batch for each place in the last dimension of the batch."""
        parts = zip(self.coefficients.unbind(-2), self.power_basis.unbind(-1), strict=True)
        return [Polynomial(*part) for part in parts]

    def reshape(self, batch_shape: torch.Size) -> Polynomial:
        return Polynomial(
            self.coefficients.reshape(*batch_shape, -1), self.power_basis.reshape(batch_shape)
        )


@functools.lru_cache(maxsize=256)
def _power_coefficients(count: int) -> Array:
    """Row k holds the power coefficients of T_k, lowest degree first."""
    matrix = np.eye(count)
    for k in range(2, count):
        matrix[k] = -matrix[k - 2]
        matrix[k, 1:] += 2 * matrix[k - 1, :-1]
    return matrix


def _horner(coefficients: tuple[Tensor, ...], x: Tensor) -> Tensor:
    value = torch.zeros_like(x) + coefficients[0]
    for coefficient in coefficients[1:]:
        value = value.mul_(x).add_(coefficient)
    return value


def _clenshaw(coefficients: tuple[Tensor, ...], x: Tensor) -> Tensor:
    twice = 2 * x
    value = torch.zeros_like(x)
    previous = torch.zeros_like(x)
    for coefficient in coefficients[:-1]:
        value, previous = twice * value + (coefficient - previous), value
    return x * value + (coefficients[-1] - previous)


@dataclass(frozen=True, eq=False)
class HorizonTable:
    """Tables of a batch of horizons, on the CPU; ``batch_shape`` is that of the horizons.

    Attributes:
        kappa: of the variable, ``batch_shape``.
        polynomial: p of the module's docstring, ``batch_shape``.
        maps: p, phi(tau_T) / phi(tau_0) and phi(tau_T), ``batch_shape x 3``.
        largest: 1 - c_T of opposite inputs, ``batch_shape``.
        decrease: the speed at which ``largest`` falls with T, ``batch_shape``.
    """

    kappa: Tensor
    polynomial: Polynomial
    maps: Polynomial
    largest: Tensor
    decrease: Tensor

    def __call__(self, gap: Tensor) -> Tensor:
        """p = sin(theta_T / 2) / sin(theta_0 / 2) at gaps g = 1 - c_0 in [0, 2]."""
        return self.polynomial(table_variable(gap, self.kappa))


def table_variable(gap: Tensor, kappa: Tensor) -> Tensor:
    """2 s - 1 at gaps g in [0, 2], with which the shape of ``kappa`` broadcasts."""
    root = gap.sqrt()
    kappa = kappa.to(gap.device)
    denominator = (2 - gap).sqrt_() + math.sqrt(2)
    denominator = denominator + kappa * root
    return (2 + 2 * kappa) * root / denominator - 1


def horizon_table(horizon: Tensor, dtype: torch.dtype) -> HorizonTable:
    """The table of a batch of horizons, ``batch_shape``; the last few are kept.

    Raises:
        DomainError: a horizon is not finite, negative, or beyond ``MAX_HORIZON``.
    """
    values = tuple(horizon.detach().to("cpu", torch.float64).flatten().tolist())
    table, shape = flat_horizon_table(values, dtype), horizon.shape
    return HorizonTable(
        table.kappa.reshape(shape),
        table.polynomial.reshape(shape),
        table.maps.reshape(torch.Size((*shape, 3))),
        table.largest.reshape(shape),
        table.decrease.reshape(shape),
    )


def refuse_horizon(horizon: float) -> None:
    """Raise ``DomainError`` if there are no tables for this horizon."""
    if not 0 <= horizon <= MAX_HORIZON * (1 + 1e-5):  # exp(log(x)) may round up
        raise DomainError(
            f"horizon must lie between 0 and {MAX_HORIZON:g}, got {horizon:g} "
            "(for a kernel it is weight_variance * (1 - negative_slope)^2)"
        )


def moebius_parameter(horizon: Any) -> Any:
    """kappa: how far the table's variable moves the pole away that a long horizon brings near."""
    return horizon / (17 + 1.3 * horizon**0.5)


@functools.lru_cache(maxsize=32)
def flat_horizon_table(horizons: tuple[float, ...], dtype: torch.dtype) -> HorizonTable:
    """``horizon_table`` of some numbers."""
    for horizon in horizons:
        refuse_horizon(horizon)
    cells = [_cell(*cell_edges(T), dtype) for T in horizons]
    maps, ends = zip(*(cell.at(T) for cell, T in zip(cells, horizons, strict=True)), strict=True)
    ratio, speed = np.transpose(ends)
    return HorizonTable(
        torch.tensor([moebius_parameter(T) for T in horizons], dtype=dtype),
        *polynomials(cells, maps, dtype),
        torch.from_numpy(2 * ratio**2).to(dtype),
        torch.from_numpy(ratio**3 * speed).to(dtype),
    )


def polynomials(
    cells: Sequence[Cell], maps: Sequence[Array], dtype: torch.dtype
) -> tuple[Polynomial, Polynomial]:
    """The first map, ``b``, and all three, ``b x 3``, from those of a place in each of b cells."""
    values = [rows[0, len(rows[0]) - cell.terms :] for cell, rows in zip(cells, maps, strict=True)]
    basis = torch.from_numpy(np.array([cell.power_basis for cell in cells]))
    first = Polynomial(_stacked(values, dtype), basis[:, 0].contiguous())
    return first, Polynomial(_stacked(maps, dtype), basis)


def _stacked(rows: Sequence[Array], dtype: torch.dtype) -> Tensor:
    """Coefficients behind as many zeros as the longest series has more of them."""
    longest = max(one.shape[-1] for one in rows)
    out = np.zeros((len(rows), *rows[0].shape[:-1], longest))
    for target, one in zip(out, rows, strict=True):
        target[..., longest - one.shape[-1] :] = one
    return torch.from_numpy(out).to(dtype)


@dataclass(frozen=True, eq=False)
class Cell:
    """Three maps for all horizons, or weight variances, between two: series in the logarithm.

    Attributes:
        low, high: ends of the cell, which may be one number.
        terms: number of coefficients of the first map.
        power_basis: as in ``Polynomial``, of the three maps.
        coefficients: Chebyshev coefficients in the logarithm, of the coefficients of the three
            maps, then of the first and the third at opposite inputs;
            ``orders x (3 (1 + k * GROUP) + 2)``.
    """

    low: float
    high: float
    terms: int
    power_basis: NDArray[np.bool_]
    coefficients: Array

    @classmethod
    def through(cls, low: float, high: float, rows: Sequence[Array]) -> Cell:
        """From the Chebyshev coefficients of the three maps at each of ``cell_nodes`` in turn."""
        lengths = [max(map(len, rows[first::3])) for first in range(3)]
        orders = len(rows) // 3
        nodes = np.zeros((orders, 3, 1 + GROUP * math.ceil((max(lengths) - 1) / GROUP)))
        basis = np.zeros(3, dtype=bool)
        for k, length in enumerate(lengths):
            own = np.stack([np.pad(row, (0, length - len(row))) for row in rows[k::3]])
            power = own @ _power_coefficients(length)
            basis[k] = (np.abs(power).sum(1) <= _WELL_CONDITIONED * np.abs(own).sum(1)).all()
            nodes[:, k, nodes.shape[2] - length :] = (power if basis[k] else own)[:, ::-1]
        ends = np.array([[rows[3 * k].sum(), rows[3 * k + 2].sum()] for k in range(orders)])
        terms = 1 + GROUP * math.ceil((lengths[0] - 1) / GROUP)
        flat = np.concatenate([nodes.reshape(orders, -1), ends], 1)
        return cls(low, high, terms, basis, chebyshev_transform(flat, axis=0))

    def at(self, place: float) -> tuple[Array, Array]:
        """Coefficients of the three maps, ``3 x (1 + k * GROUP)``; the two ends as above."""
        found = self.coefficients[0]
        if self.low < self.high:
            share = math.log(place / self.low) / math.log(self.high / self.low)
            angle = math.acos(max(-1.0, min(2 * share - 1, 1.0)))
            found = np.cos(angle * np.arange(len(self.coefficients))) @ self.coefficients
        return found[:-2].reshape(3, -1), found[-2:]


def cell_edges(place: float) -> tuple[float, float]:
    """The cell of a horizon: powers of the square root of 2, or itself if it is tiny."""
    if place < _FIRST_CELL:
        return place, place
    number = math.floor(2 * math.log2(place))
    return 2 ** (number / 2), 2 ** ((number + 1) / 2)


def cell_nodes(low: float, high: float) -> Array:
    """The horizons at which the maps of a cell are computed."""
    if low == high:
        return np.array([low])
    phase = math.pi * (np.arange(_ORDERS) + 0.5) / _ORDERS
    return np.asarray(low * (high / low) ** (np.cos(phase / 2) ** 2))


@functools.lru_cache(maxsize=256)
def _cell(low: float, high: float, dtype: torch.dtype) -> Cell:
    maps = functools.partial(_maps_at, cell_nodes(low, high))
    return Cell.through(low, high, chebyshev_coefficients(maps, dtype))


def _maps_at(horizons: Array, s: Array) -> Array:
    """The three maps of each horizon in turn, ``3 horizons x n``."""
    kappa = moebius_parameter(horizons)[:, None]
    tau = s / (1 + kappa - kappa * s)
    start = 4 * np.arctan(tau)
    end = flow_angle(start, horizons[:, None])
    speed = _reduced_speed(np.tan(end / 4))
    maps = np.stack([np.sin(end / 2) / np.sin(start / 2), speed / _reduced_speed(tau), speed], 1)
    return maps.reshape(-1, len(s))


def _reduced_speed(tau: Array) -> Array:
    """``reduced_speed`` at tau = tan(theta / 4), from its polynomial."""
    coefficients = speed_polynomial(torch.float64).coefficients.numpy()
    return power_series(coefficients[::-1], 2 * tau - 1)


@functools.cache
def speed_polynomial(dtype: torch.dtype) -> Polynomial:
    """phi = F / sin^3(theta / 2) in the variable 2 tan(theta / 4) - 1, for every horizon."""
    rows = chebyshev_coefficients(lambda s: reduced_speed(4 * np.arctan(s))[None], dtype)
    return Polynomial.from_chebyshev(rows, dtype).reshape(torch.Size())


def chebyshev_transform(values: Array, axis: int = -1) -> Array:
    """Coefficients, lowest degree first, of the series through values at the Chebyshev nodes."""
    from scipy.fft import dct  # slow to import

    series = np.moveaxis(dct(values, type=2, axis=axis) / values.shape[axis], axis, 0)
    series[0] /= 2
    return np.moveaxis(series, 0, axis)


def chebyshev_coefficients(functions: Callable[[Array], Array], dtype: torch.dtype) -> list[Array]:
    """Coefficients in T_k(2 s - 1) of functions of s in [0, 1], to rounding, lowest degree first.

    Args:
        functions: the values of some functions at ``n`` points, ``functions x n``.
        dtype: in which they are to be evaluated.

    Raises:
        DomainError: a series does not converge fast enough.
    """
    for count in _NODES[dtype]:
        phase = math.pi * (np.arange(count) + 0.5) / count
        rows = chebyshev_transform(functions(np.cos(phase / 2) ** 2))
        sizes = np.abs(rows) / np.abs(rows).max(1, keepdims=True)
        if sizes[:, 3 * count // 4 :].max() < _TAIL[dtype]:
            degrees = [np.nonzero(size > _NOISE[dtype])[0][-1] for size in sizes]
            return [row[: degree + 1] for row, degree in zip(rows, degrees, strict=True)]
    raise DomainError("the Chebyshev series did not converge")
