"""Theorem 1: different neurons become independent."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from resnet_gp.networks import ResNet, Simulation
from resnet_gp.report.checks import Check
from resnet_gp.report.fits import Array, jackknife
from resnet_gp.report.result import COLOURS, Result, new_figure, size_axis
from resnet_gp.verification.lab import Lab
from resnet_gp.verification.neuron_law import WIDTHS, deviation
from resnet_gp.verification.neurons import (
    LIMIT_DEVIATION,
    correlation_of_squares,
    pooled_neurons,
    rate_checks,
    single_neuron,
)
from resnet_gp.verification.observables import values

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATE_DEPTH = 16


def joint_network(lab: Lab) -> ResNet:
    return ResNet(500, lab.size(500, 100))


def plan(lab: Lab) -> list[Simulation]:
    neurons, networks = lab.size((8_000_000, 8000), (500_000, 4000))
    return [
        single_neuron("independence-joint", joint_network(lab), networks, neurons=2),
        *(
            pooled_neurons(
                f"independence-width{n}", ResNet(n, RATE_DEPTH), neurons, deviation(RATE_DEPTH)
            )
            for n in WIDTHS
        ),
    ]


@dataclass(frozen=True)
class IndependenceResult(Result):
    """Pairs of neurons, ``N x 2``, and the correlation of their squares by width, ``2 x k``."""

    pairs: Array
    correlation: Array

    name = "independence"
    title = "Two neurons of one network"
    theorem = "Theorem 1"
    summary = (
        "Neurons of one network share its random norm, so they are uncorrelated but not "
        "independent: their squares are correlated. That correlation falls like 1/n, and the joint "
        "law of two neurons becomes the isotropic normal law: its angle is uniform, its squared "
        "radius exponential."
    )

    def plot(self) -> Figure:
        figure, (joint, squares) = new_figure(2)
        joint.scatter(*self.pairs[:4000].T, s=2, alpha=0.4, color=COLOURS[0], linewidths=0)
        circle = np.linspace(0, 2 * np.pi, 200)
        for level in (0.5, 0.9, 0.99):
            radius = np.sqrt(-2 * np.log(1 - level))
            joint.plot(
                radius * np.cos(circle), radius * np.sin(circle), color="black", linewidth=0.8
            )
        joint.set(xlabel="neuron 1", ylabel="neuron 2", aspect="equal", xlim=(-4.5, 4.5))
        joint.set_ylim(-4.5, 4.5)
        joint.set_title("pairs, with predicted 50, 90, 99 %", fontsize=10)
        squares.errorbar(
            WIDTHS, self.correlation[0], 2 * self.correlation[1], fmt="o", color=COLOURS[0]
        )
        line = self.correlation[0][-1] * WIDTHS[-1] / np.array(WIDTHS)
        squares.plot(WIDTHS, line, color="black", linewidth=0.8, label="slope -1")
        squares.set(yscale="log", title="correlation of squares")
        size_axis(squares, WIDTHS, "n")
        squares.legend(frameon=False)
        return figure


def run(lab: Lab) -> IndependenceResult:
    """Experiment b."""
    found = lab.run(plan(lab))
    network = joint_network(lab)
    pairs = values(found["independence-joint"][network.depth]) / LIMIT_DEVIATION
    columns = []
    for n in WIDTHS:
        rows = values(found[f"independence-width{n}"][RATE_DEPTH])
        estimate, error = jackknife(rows, partial(correlation_of_squares, width=n))
        columns.append((estimate[0], error[0]))
    correlation = np.array(columns).T
    checks = _joint_checks(pairs, f"n = {network.width}, L = {network.depth}")
    checks += rate_checks("correlation of squares", np.array(WIDTHS, float), *correlation)[0]
    return IndependenceResult(tuple(checks), pairs, correlation)


def _joint_checks(pairs: Array, where: str) -> list[Check]:
    angle = np.arctan2(pairs[:, 1], pairs[:, 0]) / (2 * np.pi) + 0.5
    radius = np.square(pairs).sum(1) / 2
    linear = stats.pearsonr(*pairs.T)
    tests = (
        ("angle is uniform: Kolmogorov-Smirnov", stats.kstest(angle, "uniform")),
        ("squared radius is exponential: Kolmogorov-Smirnov", stats.kstest(radius, "expon")),
        ("correlation of two neurons", linear),
    )
    return [
        Check(f"{name}, {where}", float(test.statistic), None, 0.0, p_value=float(test.pvalue))
        for name, test in tests
    ]
