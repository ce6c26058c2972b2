r"""Tabulated Gaussian moments of an ``Activation`` without closed forms.

From the Hermite series of ``resnet_gp.hermite``, on the cells of ``cells``: E[phi(u) phi(v)] and
its derivatives, which are series of the same kind,

    d/dq   = sum_n n c^{n-1} A_n(q_a) A_n(q_b) / sqrt(q_a q_b)
    d/dq_a = sum_n sqrt((n+1)(n+2)) c^n A_{n+2}(q_a) A_n(q_b) / (2 q_a).

They know nothing of the network: one set of tables serves all hyperparameters and depths.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from resnet_gp.activations import Activation, Partials
from resnet_gp.flow.cells import (
    Array,
    CellTable,
    angle_between,
    cell_groups,
    cell_nodes,
    cell_pairs,
    fit_table,
)
from resnet_gp.hermite import HermiteSeries, hermite_series, require_accuracy

_TOLERANCE = 1e-11
_CHUNK = 2048  # orders of the series at a time


@dataclass(frozen=True)
class TabulatedMoments:
    """The moments of an activation, from tables that are made when they are needed.

    The arguments are either ``n x 1 x 1``, ``1 x m x 1`` and ``n x m x k``, or all of one shape.
    """

    activation: Activation

    def moment(self, variance1: Tensor, variance2: Tensor, covariance: Tensor) -> Tensor:
        """E[phi(u) phi(v)]."""
        return self._fields(variance1, variance2, covariance, 0, 1)[0]

    def partials(self, variance1: Tensor, variance2: Tensor, covariance: Tensor) -> Partials:
        """The derivatives of ``moment`` in its three arguments, in their order."""
        slope1, slope2, slope = self._fields(variance1, variance2, covariance, 1, 4)
        return slope1, slope2, slope

    def _fields(
        self, variance1: Tensor, variance2: Tensor, covariance: Tensor, first: int, last: int
    ) -> Tensor:
        angle = angle_between(variance1, variance2, covariance)
        out = covariance.new_empty(last - first, *covariance.shape)
        if variance1.shape == covariance.shape:
            flat1, flat2, angles = variance1.flatten(), variance2.flatten(), angle.flatten()
            out = out.reshape(last - first, -1)
            for cells, where in cell_pairs(flat1, flat2):
                table = self._table(*cells, first)
                out[:, where] = table.pairs(flat1[where], flat2[where], angles[where])
            return out.reshape(last - first, *covariance.shape)
        flat1, flat2 = variance1.flatten(), variance2.flatten()
        for cell1, rows in cell_groups(flat1):
            for cell2, columns in cell_groups(flat2):
                table = self._table(cell1, cell2, first)
                block = angle[rows[:, None], columns]
                out[:, rows[:, None], columns] = table.matrix(flat1[rows], flat2[columns], block)
        return out

    def _table(self, cell1: int, cell2: int, first: int) -> CellTable:
        if first == 0:
            return _moment_table(self.activation, cell1, cell2)
        return _slope_table(self.activation, cell1, cell2)


@functools.lru_cache(maxsize=1024)
def _series(activation: Activation, cell: int, count: int) -> HermiteSeries:
    variances = cell_nodes(cell, count)
    series = hermite_series(activation.function, variances)
    require_accuracy(series, variances, activation.name)
    return series


@functools.lru_cache(maxsize=4096)
def _moment_table(activation: Activation, cell1: int, cell2: int) -> CellTable:
    def values(variance1: Array, variance2: Array, angle: Array) -> tuple[Array, list[float]]:
        series1 = _series(activation, cell1, len(variance1))
        series2 = _series(activation, cell2, len(variance2))
        found = _mehler(series1.coefficients, series2.coefficients, np.cos(angle))
        return found[None], [_scale(series1, variance1) * _scale(series2, variance2)]

    return fit_table(
        (cell1, cell2), values, _TOLERANCE, f"E[phi phi] of activation {activation.name!r}"
    )


@functools.lru_cache(maxsize=4096)
def _slope_table(activation: Activation, cell1: int, cell2: int) -> CellTable:
    def values(variance1: Array, variance2: Array, angle: Array) -> tuple[Array, list[float]]:
        series1 = _series(activation, cell1, len(variance1))
        series2 = _series(activation, cell2, len(variance2))
        a, b = series1.coefficients, series2.coefficients
        count = min(len(a), len(b))
        orders = np.arange(count)[:, None]
        twice = np.sqrt((orders[:-2] + 1.0) * (orders[:-2] + 2.0))
        cosine = np.cos(angle)
        found = np.stack(
            [
                _mehler(twice * a[2:count], b[: count - 2], cosine)
                / (2 * variance1[:, None, None]),
                _mehler(a[: count - 2], twice * b[2:count], cosine) / (2 * variance2[:, None]),
                _mehler((orders * a[:count])[1:], b[1:count], cosine)
                / np.sqrt(variance1[:, None, None] * variance2[:, None]),
            ]
        )
        scale = _scale(series1, variance1) * _scale(series2, variance2)
        steepness = max(activation.steepness, float(np.abs(found[2]).max()))
        return found, [scale / variance1.min(), scale / variance2.min(), steepness]

    return fit_table(
        (cell1, cell2), values, 100 * _TOLERANCE, f"the slopes of activation {activation.name!r}"
    )


def _scale(series: HermiteSeries, variance: Array) -> float:
    return float(np.sqrt(np.maximum(variance, series.second_moment)).max())


def _mehler(a: Array, b: Array, cosine: Array) -> Array:
    """sum_n c^n a_n b_n for all combinations, ``n x m x k``."""
    total = np.zeros((a.shape[1] * b.shape[1], len(cosine)))
    count = min(len(a), len(b))
    power = np.ones_like(cosine)
    for first in range(0, count, _CHUNK):
        last = min(first + _CHUNK, count)
        powers = cosine ** np.arange(last - first)[:, None] * power
        power = power * cosine ** (last - first)
        products = (a[first:last, :, None] * b[first:last, None, :]).reshape(last - first, -1)
        total += products.T @ powers
    return total.reshape(a.shape[1], b.shape[1], len(cosine))
