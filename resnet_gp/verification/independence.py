"""Theorem 1: different neurons become independent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from resnet_gp.networks import Simulation
from resnet_gp.report.checks import Check, check_of_test
from resnet_gp.report.fits import Array
from resnet_gp.report.result import COLOURS, Axes, ExperimentResult, guide, points, size_axes
from resnet_gp.verification.neuron_law import WIDTHS, by_width, counts, largest
from resnet_gp.verification.neurons import (
    LIMIT_DEVIATION,
    by_size,
    correlation_of_squares,
    rate_checks,
    single_neuron,
)
from resnet_gp.verification.observables import values
from resnet_gp.verification.simulation_lab import SimulationLab


def plan(lab: SimulationLab) -> list[Simulation]:
    neurons, networks = counts(lab)
    joint = single_neuron("independence-joint", largest(lab), networks, neurons=2)
    return [joint, *by_width("independence", neurons)]


@dataclass(frozen=True)
class IndependenceResult(ExperimentResult):
    """Pairs of neurons, ``N x 2``, and the correlation of their squares by width, ``2 x k``."""

    pairs: Array
    correlation: Array

    name = "independence"
    title = "Two neurons of one network"
    theorem = "Theorem 1"
    summary = (
        "Neurons of one network share its random norm, so they are uncorrelated but not "
        "independent: their squares are correlated. This correlation falls like 1/n, and the joint "
        "law of two neurons becomes the isotropic normal law: its angle is uniform, its squared "
        "radius exponential."
    )
    panels = (1, 2)

    def draw(self, axes: Axes) -> None:
        joint, squares = axes
        joint.scatter(*self.pairs[:4000].T, s=2, alpha=0.4, color=COLOURS[0], linewidths=0)
        circle = np.linspace(0, 2 * np.pi, 200)
        for level in (0.5, 0.9, 0.99):
            radius = np.sqrt(-2 * np.log(1 - level))
            joint.plot(radius * np.cos(circle), radius * np.sin(circle), color="black", lw=0.8)
        joint.set(xlabel="neuron 1", ylabel="neuron 2", aspect="equal", xlim=(-4.5, 4.5))
        joint.set(title="pairs, with predicted 50, 90, 99 %", ylim=(-4.5, 4.5))
        points(squares, WIDTHS, *self.correlation)
        guide(squares, WIDTHS, self.correlation[0][-1] * WIDTHS[-1] / WIDTHS[0])
        size_axes(squares, WIDTHS, "n", title="correlation of squares")
        squares.legend(frameon=False)


def run(lab: SimulationLab) -> IndependenceResult:
    found = lab.run(plan(lab))
    network = largest(lab)
    pairs = values(found["independence-joint"][network.depth]) / LIMIT_DEVIATION
    correlation = by_size(WIDTHS, "independence-width{}", found, correlation_of_squares)
    checks = _joint_checks(pairs, f"n = {network.width}, L = {network.depth}")
    checks += rate_checks("correlation of squares", np.array(WIDTHS, float), *correlation)
    return IndependenceResult(tuple(checks), pairs, correlation)


def _joint_checks(pairs: Array, where: str) -> list[Check]:
    angle = np.arctan2(pairs[:, 1], pairs[:, 0]) / (2 * np.pi) + 0.5
    radius = np.square(pairs).sum(1) / 2
    tests = (
        ("angle is uniform: Kolmogorov-Smirnov", stats.kstest(angle, "uniform")),
        ("squared radius is exponential: Kolmogorov-Smirnov", stats.kstest(radius, "expon")),
        ("correlation of two neurons", stats.pearsonr(*pairs.T)),
    )
    return [check_of_test(f"{name}, {where}", test) for name, test in tests]
