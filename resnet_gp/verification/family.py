"""Every kernel of the package: activations, bias settings, finite depths, tangent kernels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from resnet_gp.activations import ACTIVATIONS
from resnet_gp.networks import ResNet, SampleMoments, Simulation, TangentSimulation
from resnet_gp.report.checks import Check, equality_checks
from resnet_gp.report.fits import Array
from resnet_gp.report.result import COLOURS, Axes, ExperimentResult
from resnet_gp.verification.observables import at_pairs, covariances, moments, precision_check
from resnet_gp.verification.predictions import covariance, tangent
from resnet_gp.verification.simulation_lab import SimulationLab

INPUTS = torch.tensor([[1.0, 0.6, -0.3], [0.8, 0.9, 0.4], [0.9, -0.3, 0.6]], dtype=torch.float64)
PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2))
WEIGHT_VARIANCE = 1.3
BIASES = ((0.0, 0.0), (0.4, 0.0), (0.0, 0.3), (0.4, 0.3))  # of the input layer, of the blocks
TANGENT_ACTIVATIONS = ("relu", "leaky_relu", "abs")
SLOPE = 0.2  # of leaky_relu; 0.01 would be hard to tell from ReLU
WIDTH = 4096


def configurations(lab: SimulationLab) -> list[tuple[str, ResNet]]:
    """Kinds of kernel, with the networks whose means are tested against them."""
    kinds = {"covariance": (ACTIVATIONS, BIASES), "tangent": (TANGENT_ACTIVATIONS, BIASES[:2])}
    return [
        (kind, ResNet(WIDTH, depth, activation, WEIGHT_VARIANCE, *biases, negative_slope=SLOPE))
        for kind, (activations, settings) in kinds.items()
        for activation in activations
        for biases in settings
        for depth in lab.size((3, 8), (3,))
    ]


def describe(network: ResNet) -> str:
    biases = {"input": network.input_bias_variance, "block": network.block_bias_variance}
    present = " and ".join(name for name, variance in biases.items() if variance) or "no"
    return f"{network.activation}, L = {network.depth}, {present} bias"


def plan(lab: SimulationLab) -> list[Simulation]:
    networks, tangents = lab.size((640, 200), (320, 150))
    return [
        Simulation(_key(kind, one), one, INPUTS, networks, covariances(PAIRS))
        if kind == "covariance"
        else TangentSimulation(_key(kind, one), one, INPUTS, tangents, _tangent_parts)
        for kind, one in configurations(lab)
    ]


def _key(kind: str, network: ResNet) -> str:
    biases = f"{network.input_bias_variance}-{network.block_bias_variance}"
    return f"family-{kind}-{network.activation}-L{network.depth}-{biases}"


def _tangent_parts(depth: int, parts: Tensor) -> Tensor:
    """Observe the tangent kernel of all layers and that of the blocks, ``N x 2 pairs``."""
    rows, columns = (list(indices) for indices in zip(*PAIRS, strict=True))
    return torch.cat([parts.sum(0)[:, rows, columns], parts[1][:, rows, columns]], 1)


@dataclass(frozen=True)
class FamilyResult(ExperimentResult):
    """z-scores by configuration, ``configurations x numbers``."""

    labels: tuple[str, ...]
    z: tuple[Array, ...]

    name = "family"
    title = "Every kernel of the package"
    theorem = "Theorem 2; tangent kernels"
    summary = (
        "Means over finite networks of <Y(a), Y(b)>/n and of the empirical tangent kernel are "
        "tested against the kernels of the same depth, for every activation and bias setting, at "
        "five pairs of three inputs. The figure shows the z-scores, which should look like "
        "standard normal numbers."
    )

    def draw(self, axes: Axes) -> None:
        (axis,) = axes
        axis.figure.set_size_inches(8.5, 0.6 + 0.19 * len(self.labels))
        for row, scores in enumerate(self.z):
            axis.plot(scores, np.full(len(scores), row), "o", ms=3.5, color=COLOURS[row // 4 % 2])
        axis.axvspan(-1.96, 1.96, color="0.5", alpha=0.12, linewidth=0)
        axis.set_yticks(range(len(self.labels)), self.labels, fontsize=7)
        axis.set(xlabel="z (band: 95 %)", ylim=(len(self.labels) - 0.5, -0.5))


def run(lab: SimulationLab) -> FamilyResult:
    found = lab.run(plan(lab))
    labels, z = [], []
    checks: list[Check] = []
    for kind, network in configurations(lab):
        own = (_covariance_checks if kind == "covariance" else _tangent_checks)(
            network, moments(found[_key(kind, network)][network.depth])
        )
        checks += own
        labels.append(("tangent: " if kind == "tangent" else "") + describe(network))
        z.append(np.array([check.z or 0.0 for check in own]))
    checks.append(precision_check("covariances of the family", checks))
    return FamilyResult(tuple(checks), tuple(labels), tuple(z))


def _covariance_checks(network: ResNet, found: SampleMoments) -> list[Check]:
    names = [f"k(x{i}, x{j}), {describe(network)}" for i, j in PAIRS]
    predicted = at_pairs(covariance(network, INPUTS), PAIRS)
    group = f"kernel, {network.activation}"
    return equality_checks(names, found.mean, found.standard_error, predicted, group=group)


def _tangent_checks(network: ResNet, found: SampleMoments) -> list[Check]:
    names = [
        f"Θ(x{i}, x{j}), {layers} layers, {describe(network)}"
        for layers in ("all", "block")
        for i, j in PAIRS
    ]
    predicted = [at_pairs(tangent(network, INPUTS, layers), PAIRS) for layers in ("all", "blocks")]
    group = f"tangent kernel, {network.activation}"
    return equality_checks(names, found.mean, found.standard_error, predicted, group=group)
