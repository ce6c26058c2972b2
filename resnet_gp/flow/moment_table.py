"""Tabulated Gaussian moments of an ``Activation`` without closed forms, for all hyperparameters.

E[phi(u) phi(v)] and its derivatives are series with the coefficients A_n of ``resnet_gp.hermite``:

    d/dq   = sum_n n c^{n-1} A_n(q_a) A_n(q_b) / sqrt(q_a q_b)
    d/dq_a = sum_n sqrt((n+1)(n+2)) c^n A_{n+2}(q_a) A_n(q_b) / (2 q_a).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from resnet_gp.activations import Activation, Moments, Partials
from resnet_gp.flow.autograd import compiled_loops
from resnet_gp.flow.cells import (
    TINY,
    Array,
    Pair,
    TableGrid,
    add_mirrored,
    fit_tables,
    present_cells,
)
from resnet_gp.flow.domain import DomainError
from resnet_gp.hermite import HermiteSeries, hermite_series, inaccuracy

_TOLERANCE = 1e-11
_CHUNK = 2048  # orders of the series at a time
_LARGEST = 1e9  # variance


@dataclass(frozen=True)
class TabulatedMoments(Moments):
    """The moments of an activation, from tables made on demand.

    The arguments are either ``p x n x 1 x 1``, ``p x 1 x m x 1`` and ``p x n x m x k``, or all of
    one shape.
    """

    activation: Activation

    def moment(self, variance1: Tensor, variance2: Tensor, covariance: Tensor) -> Tensor:
        return self._fields(variance1, variance2, covariance, slopes=False)[0]

    def partials(self, variance1: Tensor, variance2: Tensor, covariance: Tensor) -> Partials:
        slope1, slope2, slope = self._fields(variance1, variance2, covariance, slopes=True)
        return slope1, slope2, slope

    def _fields(
        self, variance1: Tensor, variance2: Tensor, covariance: Tensor, slopes: bool
    ) -> Tensor:
        cells1, cells2 = present_cells(variance1), present_cells(variance2)
        grid = _grid(self.activation, cells1, cells2, slopes)
        shape = covariance.shape
        if variance1.shape == shape:  # single pairs are matrices of one entry
            own = [part.reshape(-1, 1, 1, 1) for part in (variance1, variance2, covariance)]
        else:
            own = [variance1, variance2, covariance]
        return _node_fields(grid, own[0][:, :, 0, 0], own[1][:, 0, :, 0], own[2]).reshape(
            grid.fields, *shape
        )


def _node_fields(
    grid: TableGrid, variance1: Tensor, variance2: Tensor, covariance: Tensor
) -> Tensor:
    """``fields x p x n x m x k`` at variances ``p x n`` and ``p x m``."""
    compiled = compiled_loops("flow.compiled_cells", covariance)
    if compiled is None:
        each = zip(variance1, variance2, covariance, strict=True)
        return torch.stack([grid.matrix(*own) for own in each], dim=1)
    out = covariance.new_empty(grid.fields, *covariance.shape)
    roots = (variance.clamp(min=TINY).sqrt() for variance in (variance1, variance2))
    tensors = (grid.coefficients, grid.lengths, *grid.bases(variance1, variance2), *roots)
    compiled.nodes(*(tensor.contiguous().numpy() for tensor in (*tensors, covariance, out)))
    return out


@functools.lru_cache(maxsize=256)
def _grid(
    activation: Activation, cells1: tuple[int, ...], cells2: tuple[int, ...], slopes: bool
) -> TableGrid:
    tables = _tables(activation, slopes)
    wanted = {(min(one, two), max(one, two)) for one in cells1 for two in cells2}
    values = functools.partial(_values, activation, slopes)
    tolerance = 100 * _TOLERANCE if slopes else _TOLERANCE
    what = f"{'the slopes' if slopes else 'E[phi phi]'} of activation {activation.name!r}"
    found = fit_tables(sorted(wanted - tables.keys()), values, tolerance, what)
    add_mirrored(tables, found, [1, 0, 2] if slopes else [0])
    return TableGrid.of(cells1, cells2, tables, torch.float64)


@functools.lru_cache(maxsize=32)
def _tables(activation: Activation, slopes: bool) -> dict[Pair, Array]:
    """All tables of an activation made so far."""
    return {}


def _values(
    activation: Activation, slopes: bool, nodes1: Array, nodes2: Array, angle: Array
) -> tuple[Array, Array]:
    """The moment or its derivatives at all combinations of nodes, and their scales."""
    found, scales = [], []
    for variance1, variance2 in zip(nodes1, nodes2, strict=True):
        series1, series2 = _series(activation, *variance1), _series(activation, *variance2)
        pair = (series1.coefficients, series2.coefficients, np.cos(angle))
        scale = _scale(series1, variance1) * _scale(series2, variance2)
        if not slopes:
            found.append(_mehler(*pair)[None])
            scales.append(np.array([scale]))
            continue
        fields = _slope_fields(*pair)
        fields[0] /= 2 * variance1[:, None, None]
        fields[1] /= 2 * variance2[:, None]
        fields[2] /= np.sqrt(variance1[:, None, None] * variance2[:, None])
        found.append(fields)
        steepness = activation.steepness
        usual = [min(steepness, scale / own.min()) for own in (variance1, variance2)]
        scales.append(np.maximum([*usual, steepness], np.abs(fields).max((1, 2, 3))))
    return np.stack(found, axis=1), np.array(scales).T


def _slope_fields(a: Array, b: Array, cosine: Array) -> Array:
    """The sums of the module's docstring, before the division by variances."""
    count = min(len(a), len(b))
    orders = np.arange(count)[:, None]
    twice = np.sqrt((orders[:-2] + 1.0) * (orders[:-2] + 2.0))
    return np.stack(
        [
            _mehler(twice * a[2:count], b[: count - 2], cosine),
            _mehler(a[: count - 2], twice * b[2:count], cosine),
            _mehler((orders * a[:count])[1:], b[1:count], cosine),
        ]
    )


@functools.lru_cache(maxsize=1024)
def _series(activation: Activation, *variances: float) -> HermiteSeries:
    if max(variances) > _LARGEST:  # beyond, nodes would fill the memory
        raise DomainError(
            f"the Gaussian moments of activation {activation.name!r} are not known at variances "
            f"above {_LARGEST:g}: rescale the inputs"
        )
    series = hermite_series(activation.function, np.array(variances))
    if message := inaccuracy(series, np.array(variances), activation.name):
        raise DomainError(message)
    return series


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
