"""Single neurons: simulations and statistics that the laws of one and of two neurons share."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import integrate, stats
from torch import Tensor

from resnet_gp.networks import Network, Simulation
from resnet_gp.report.checks import Check
from resnet_gp.report.fits import Array, Fit, corrected_power_law, extrapolate
from resnet_gp.verification.observables import Observe, inputs_at

EDGES = np.linspace(-6.0, 6.0, 241)  # in standard deviations of the prediction
LIMIT_DEVIATION = math.exp(0.25)  # of a neuron of the limit, for |a|^2 / d = 1
_ROWS = 4  # of a block, where it has as many networks
_LEAST_BLOCKS = 4  # so that a jackknife has 16 rows


def pooled_neurons(name: str, network: Network, neurons: int, deviation: float) -> Simulation:
    """At least so many neurons of networks with one input, in rows that are means over networks.

    Of y^2, of y^4, of the square of a network's mean y^2, and the distribution function at
    ``EDGES``, for neurons y in units of ``deviation``.
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
    """The first neurons of each network, all kept."""

    def observe(depth: int, hidden: Tensor) -> Tensor:
        return hidden[:, 0, :neurons]

    return Simulation(name, network, inputs_at(0.0), networks, observe, keep=True)


def excess_kurtosis(row: Array) -> Array:
    """Of one neuron."""
    return np.array([row[1] / row[0] ** 2 - 3])


def correlation_of_squares(row: Array, width: int) -> Array:
    """Between two neurons of a network, over all pairs."""
    product = (width * row[2] - row[1]) / (width - 1)
    return np.array([(product - row[0] ** 2) / (row[1] - row[0] ** 2)])


def wasserstein(row: Array, deviation: float) -> Array:
    """Wasserstein-1 distance from the normal law with this deviation, the unit of the row."""
    gap = np.abs(row[3:] - stats.norm.cdf(EDGES))
    return np.array([deviation * integrate.trapezoid(gap, EDGES)])


def rate_checks(what: str, n: Array, found: Array, errors: Array) -> tuple[list[Check], Fit]:
    """What decays like 1/n: the exponent, and the value at infinite width."""
    fit = corrected_power_law(n, found, errors)
    at_infinity = extrapolate(1 / n, found, errors, order=2)
    return [
        Check(
            f"{what}: exponent in n", float(fit.parameters[1]), float(fit.standard_errors[1]), -1.0
        ),
        Check(f"{what}: extrapolated to n = ∞", *at_infinity, 0.0),
    ], fit
