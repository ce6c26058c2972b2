"""The Neural Mean ODE in training, with the error of what is computed.

The law of the units at all depths is represented by particles, spread evenly over it and over
depth (``even_units``). The same particles make networks of three depths at equal LM: neighbouring
layers are merged. Their outputs are extrapolated to infinite depth, which removes 1/L and 1/L^2
and, as the particles are the same, adds hardly any noise. Independent scramblings give the
standard error; what the second order changed bounds the error that is left in depth.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from resnet_gp.mean_ode.lab import Array, Lab, Measured
from resnet_gp.mean_ode.training import Networks, train
from resnet_gp.mean_ode.units import even_units, merge_layers

SECOND_ORDER = (8 / 3, -2.0, 1 / 3)  # weights of depths L, L/2 and L/4
FIRST_ORDER = (2.0, -1.0, 0.0)


@dataclass(frozen=True)
class Limit:
    """Outputs of the limit after training, on one data draw.

    Args:
        replicates: independent estimates, ``R x N x D``.
        lower_order: the same without the second order, ``R x N x D``.
    """

    replicates: Array
    lower_order: Array

    @property
    def mean(self) -> Array:
        """``N x D``."""
        return self.replicates.mean(0)

    @property
    def sampling_variance(self) -> float:
        """Mean square, over entries, of the standard error of ``mean``."""
        return float(self.replicates.var(0, ddof=1).mean()) / len(self.replicates)

    @property
    def depth_error(self) -> float:
        """Root-mean-square change by the second order: more than what is left."""
        return float(np.sqrt(np.mean((self.mean - self.lower_order.mean(0)) ** 2)))

    @property
    def error(self) -> float:
        """Estimated root-mean-square error of ``mean``."""
        return math.hypot(math.sqrt(self.sampling_variance), self.depth_error)


def kept_limits(lab: Lab, draws: int, D: int, steps: int) -> list[Limit]:
    """The limit at alpha = 1 on each data draw, computed once for all experiments."""
    parts = {f"limit-{draw}": (draw, D, steps) for draw in range(draws)}
    kept = lab.keep_all(_measure, parts)
    return [Limit(one["replicates"], one["lower_order"]) for one in kept]


def _measure(lab: Lab, draw: int, D: int, steps: int) -> Measured:
    found = limit(lab, f"limit-{draw}", lab.data(draw, D), steps)
    return {"replicates": found.replicates, "lower_order": found.lower_order}


def limit(lab: Lab, name: str, data: tuple[Array, Array], steps: int) -> Limit:
    """The limit at alpha = 1 after that many steps on ``data`` (X and Y, each ``N x D``)."""
    replicates, side = lab.size((48, 64), (12, 32))
    D = data[0].shape[1]
    units = [even_units(lab.rng(name, r), D, side, side) for r in range(replicates)]
    networks = lab.networks(units, [data] * replicates, np.ones(replicates))
    outputs = np.stack([_output(networks, steps, merged) for merged in (1, 2, 4)])
    return Limit(*(np.tensordot(weights, outputs, 1) for weights in (SECOND_ORDER, FIRST_ORDER)))


def _output(networks: Networks, steps: int, merged: int) -> Array:
    """Outputs of the networks with that many layers merged into one, ``R x N x D``."""
    U, V = (merge_layers(stack, merged) for stack in (networks.U, networks.V))
    trained = train(dataclasses.replace(networks, U=U, V=V), steps)
    return trained.output.double().cpu().numpy()
