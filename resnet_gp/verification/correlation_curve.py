"""Theorem 3: the correlation curve c_t as a function of c_0."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from resnet_gp.functions import correlation
from resnet_gp.networks import ResNet, Simulation
from resnet_gp.report.checks import equality_checks
from resnet_gp.report.fits import Array, jackknife
from resnet_gp.report.result import COLOURS, Axes, ExperimentResult, points
from resnet_gp.verification.observables import (
    at_pairs,
    covariances,
    inputs_at,
    precision_check,
    values,
)
from resnet_gp.verification.predictions import correlation_of, covariance
from resnet_gp.verification.simulation_lab import SimulationLab

ANGLES = (0.0, 25.0, 45.0, 65.0, 85.0, 125.0, 145.0, 160.0, 180.0)
TIMES = (0.25, 0.5, 1.0)
PAIRS = (*((0, j) for j in range(1, len(ANGLES))), *((j, j) for j in range(len(ANGLES))))


def design(lab: SimulationLab) -> ResNet:
    return ResNet(8192, lab.size(100, 8))


def plan(lab: SimulationLab) -> list[Simulation]:
    network = design(lab)
    depths = tuple(round(t * network.depth) for t in TIMES)
    return [
        Simulation(
            "correlation", network, inputs_at(*ANGLES), lab.size(640, 400),
            covariances(PAIRS), depths, keep=True,
        )
    ]  # fmt: skip


@dataclass(frozen=True)
class CorrelationResult(ExperimentResult):
    """c_t at several c_0, ``times x pairs``."""

    c0: Array
    estimate: Array
    standard_error: Array
    prediction: Array

    name = "correlation"
    title = "The correlation curve"
    theorem = "Theorem 3"
    summary = (
        "c_t is a function of c_0 and t alone. Points: ratios of mean covariances of wide "
        "networks, with two standard errors; lines: the predicted curves of the limit. The tests "
        "use the curve of the same depth. At c_0 = -1 the hidden vectors are collinear."
    )
    panels = (1, 2)

    def draw(self, axes: Axes) -> None:
        curve, residual = axes
        grid = np.linspace(-1, 1, 201)
        for k, time in enumerate(TIMES):
            curve.plot(grid, correlation(grid, time), color=COLOURS[k], label=f"t = {time}")
            points(curve, self.c0, self.estimate[k], self.standard_error[k], k, ms=3.5)
            shifted, error = self.c0 + 0.012 * (k - 1), self.estimate[k] - self.prediction[k]
            points(residual, shifted, error, self.standard_error[k], k, ms=3.5)
        curve.plot(grid, grid, color="0.7", linewidth=0.8, label="t = 0")
        curve.set(xlabel="$c_0$", ylabel="$c_t$", title="correlation")
        curve.legend(frameon=False)
        residual.axhline(0, color="0.3", linewidth=0.8)
        residual.set(xlabel="$c_0$", title="estimate - prediction at the same depth")


def run(lab: SimulationLab) -> CorrelationResult:
    network, count = design(lab), len(ANGLES) - 1
    found = lab.run(plan(lab))["correlation"]
    rows = []
    for time in TIMES:
        samples = values(found[round(time * network.depth)])
        estimate, error = jackknife(samples, _correlations)
        predicted = correlation_of(covariance(network, inputs_at(*ANGLES), time=time))
        rows.append((estimate, error, at_pairs(predicted, PAIRS[:count])))
    estimates, errors, predictions = (np.array(column) for column in zip(*rows, strict=True))
    names = [
        f"c_t, angle {angle:.0f}°, L = {network.depth}, t = {time}"
        for time in TIMES
        for angle in ANGLES[1:]
    ]
    group = f"c_t at eight c_0, L = {network.depth}"
    checks = equality_checks(names, estimates, errors, predictions, group=group)
    checks.append(precision_check("correlations", checks))
    c0 = np.cos(np.deg2rad(ANGLES[1:]))
    return CorrelationResult(tuple(checks), c0, estimates, errors, predictions)


def _correlations(q: Array) -> Array:
    count = len(ANGLES) - 1
    diagonal = q[count:]
    return q[:count] / np.sqrt(diagonal[0] * diagonal[1:])
