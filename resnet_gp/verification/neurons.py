"""Simulations and statistics of single neurons, for the laws of one and of two neurons."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import torch
from scipy import integrate, stats
from torch import Tensor

from resnet_gp.networks import Network, Results, Simulation
from resnet_gp.report.checks import Check
from resnet_gp.report.fits import Array, corrected_power_law, extrapolate, jackknife
from resnet_gp.verification.observables import Observe, inputs_at, values

EDGES = np.linspace(-6.0, 6.0, 241)  # in standard deviations of the prediction
LIMIT_DEVIATION = math.exp(0.25)  # standard deviation of a neuron in the limit, at |a|^2 / d = 1
_ROWS = 4  # rows of a block, if it has enough networks
_LEAST_BLOCKS = 4  # so that the jackknife has 16 rows

Statistic: TypeAlias = Callable[[Array, int], Array]  # of a row of ``pooled_neurons`` and a size


def pooled_neurons(name: str, network: Network, neurons: int, deviation: float) -> Simulation:
    """Simulate at least `neurons` neurons y with one input, in units of `deviation`.

    Each row averages over networks y^2, y^4, the squared mean of y^2 within a network, and the
    distribution function of y at ``EDGES``.
    """
    observe = _means(deviation)
    draft = Simulation(name, network, inputs_at(0.0), neurons, observe)
    blocks = max(_LEAST_BLOCKS, -(-neurons // (draft.block * network.width)))
    return Simulation(name, network, inputs_at(0.0), blocks * draft.block, observe, keep=True)


def _means(deviation: float) -> Observe:
    edges = torch.from_numpy(EDGES)

    def observe(depth: int, hidden: Tensor) -> Tensor:
        return torch.stack([row_of(y) for y in (hidden[:, 0] / deviation).double().chunk(_ROWS)])

    def row_of(y: Tensor) -> Tensor:
        square = y.square()
        of_network = [square.mean(1), square.square().mean(1), square.mean(1).square()]
        below = torch.searchsorted(y.flatten().sort().values, edges.to(y.device)) / y.numel()
        return torch.cat([torch.stack(of_network).mean(1), below])

    return observe


def single_neuron(name: str, network: Network, networks: int, neurons: int = 1) -> Simulation:
    """Simulate the first neurons of each network and keep them all."""

    def observe(depth: int, hidden: Tensor) -> Tensor:
        return hidden[:, 0, :neurons]

    return Simulation(name, network, inputs_at(0.0), networks, observe, keep=True)


def excess_kurtosis(row: Array, width: int) -> Array:
    """Excess kurtosis of one neuron."""
    return np.array([row[1] / row[0] ** 2 - 3])


def correlation_of_squares(row: Array, width: int) -> Array:
    """Correlation of the squares of two neurons of a network, over all pairs."""
    product = (width * row[2] - row[1]) / (width - 1)
    return np.array([(product - row[0] ** 2) / (row[1] - row[0] ** 2)])


def wasserstein(row: Array, size: int, deviation: float) -> Array:
    """Wasserstein-1 distance to the normal law whose standard deviation is the unit of the row."""
    gap = np.abs(row[3:] - stats.norm.cdf(EDGES))
    return np.array([deviation * integrate.trapezoid(gap, EDGES)])


def by_size(
    sizes: Sequence[int], name: str, found: dict[str, Results], statistic: Statistic
) -> Array:
    """A statistic and its standard error for each width or depth, ``2 x sizes``."""

    def column(size: int) -> tuple[float, float]:
        (rows,) = found[name.format(size)].values()
        estimate, error = jackknife(values(rows), lambda row: statistic(row, size))
        return estimate[0], error[0]

    return np.array([column(size) for size in sizes]).T


def rate_checks(what: str, n: Array, found: Array, errors: Array) -> list[Check]:
    """Check that a quantity decays like 1/n: its exponent, and its value at infinite width."""
    exponent = corrected_power_law(n, found, errors).estimate(1)
    at_infinity = extrapolate(1 / n, found, errors, order=2)
    return [
        Check(f"{what}: exponent in n", *exponent, -1.0),
        Check(f"{what}: extrapolated to n = ∞", *at_infinity, 0.0),
    ]
