"""The Neural Mean ODE in training, from networks of even units extrapolated to infinite depth.

Merging neighbouring layers gives networks of three depths with the same units and equal LM, so that
extrapolation removes the terms 1/L and 1/L^2 and adds little noise.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from resnet_gp.mean_ode.training import Networks, train
from resnet_gp.mean_ode.training_lab import TrainingLab
from resnet_gp.mean_ode.units import even_units, merge_layers
from resnet_gp.report.fits import Array

SECOND_ORDER = (8 / 3, -2.0, 1 / 3)  # weights of depths L, L/2 and L/4
FIRST_ORDER = (2.0, -1.0, 0.0)


@dataclass(frozen=True)
class Limit:
    """Outputs of the limit after training on one data draw.

    Args:
        replicates: estimates from independent scramblings of the units, ``R x N x D``.
        lower_order: the same estimates by the first order only, ``R x N x D``.
    """

    replicates: Array
    lower_order: Array

    @property
    def mean(self) -> Array:
        """Mean of the replicates, ``N x D``."""
        return self.replicates.mean(0)

    @property
    def sampling_variance(self) -> float:
        """Mean square, over entries, of the standard error of ``mean``."""
        return float(self.replicates.var(0, ddof=1).mean()) / len(self.replicates)

    @property
    def depth_error(self) -> float:
        """Root mean square change by the second order, which bounds the remaining error."""
        return float(np.sqrt(np.mean((self.mean - self.lower_order.mean(0)) ** 2)))

    @property
    def error(self) -> float:
        """Estimated root mean square error of ``mean``."""
        return math.hypot(math.sqrt(self.sampling_variance), self.depth_error)


def limit(lab: TrainingLab, name: str, data: tuple[Array, Array], steps: int) -> Limit:
    """Compute the limit at alpha = 1 after training on ``data`` (X and Y, each ``N x D``)."""
    replicates, side = lab.size((48, 64), (12, 32))
    D = data[0].shape[1]
    units = [even_units(lab.rng(name, r), D, side, side) for r in range(replicates)]
    networks = lab.networks(units, [data] * replicates)
    outputs = np.stack([_output(networks, steps, merged) for merged in (1, 2, 4)])
    return Limit(*(np.tensordot(weights, outputs, 1) for weights in (SECOND_ORDER, FIRST_ORDER)))


def _output(networks: Networks, steps: int, merged: int) -> Array:
    """Train with every `merged` layers merged into one; returns the outputs, ``R x N x D``."""
    U, V = (merge_layers(stack, merged) for stack in (networks.U, networks.V))
    trained = train(dataclasses.replace(networks, U=U, V=V), steps)
    return trained.output.double().cpu().numpy()
