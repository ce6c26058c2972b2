"""Theorem 2: the covariance q_t(a, b) along the depth, and its L2 error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from resnet_gp.networks import ResNet, Results, SampleMoments, Simulation
from resnet_gp.report.checks import Check, equality_checks
from resnet_gp.report.fits import Array, power_law
from resnet_gp.report.result import COLOURS, Axes, ExperimentResult
from resnet_gp.verification.observables import (
    at_pairs,
    covariances,
    inputs_at,
    moments,
    precision_check,
    squared_errors,
)
from resnet_gp.verification.predictions import covariance
from resnet_gp.verification.simulation_lab import SimulationLab

ANGLES = (0.0, 30.0, 60.0, 75.0, 120.0, 150.0)
PAIRS = tuple((0, j) for j in range(len(ANGLES)))
NAMES = ("q(a, a)", *(f"q(a, b), {angle:.0f}°" for angle in ANGLES[1:]))
SHORT = (0, 2, 5)  # the angles of the L2 errors
SHORT_PAIRS = ((0, 0), (0, 1), (0, 2))
DEEP = 50  # from here on the Euler bias is far below the fluctuations at these widths


def times(depth: int) -> tuple[int, ...]:
    """The depths at tenths of the network, or all depths if it has at most ten layers."""
    return tuple(sorted({round(t * depth / 10) for t in range(11)}))


def mean_design(lab: SimulationLab) -> tuple[int, int, tuple[int, int]]:
    """Width, number of networks and depths of the simulations for the means."""
    return lab.size((8192, 1024, (5, 50)), (8192, 320, (5, 10)))


def error_design(lab: SimulationLab) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Widths, depths and number of networks of the simulations for the errors."""
    return lab.size(((50, 500, 5000), (5, 50, 500, 5000), 100), ((50, 500, 5000), (5, 50), 100))


def plan(lab: SimulationLab) -> list[Simulation]:
    width, networks, depths = mean_design(lab)
    inputs = inputs_at(*ANGLES)
    simulations = [
        Simulation(
            f"covariance-mean-L{depth}", ResNet(width, depth), inputs, networks,
            covariances(PAIRS), times(depth)[1:],
        )
        for depth in depths
    ]  # fmt: skip
    widths, depths_, networks = error_design(lab)
    return simulations + [
        _error_simulation(width, depth, networks) for width in widths for depth in depths_
    ]


def _error_simulation(width: int, depth: int, networks: int) -> Simulation:
    network = ResNet(width, depth)
    inputs = inputs_at(*(ANGLES[j] for j in SHORT))
    limits = {
        level: at_pairs(covariance(network, inputs, time=level / depth, limit=True), SHORT_PAIRS)
        for level in times(depth)
    }
    observe = squared_errors(SHORT_PAIRS, limits)
    name = f"covariance-error-n{width}-L{depth}"
    return Simulation(name, network, inputs, networks, observe, times(depth))


@dataclass(frozen=True)
class Curve:
    """Root mean squared errors of q_t against the limit, for one width and depth."""

    width: int
    depth: int
    t: Array
    error: Array  # times x pairs
    standard_error: Array


@dataclass(frozen=True)
class CovarianceResult(ExperimentResult):
    """L2 errors along the depth, and means at the same depth as their prediction."""

    curves: tuple[Curve, ...]

    name = "covariance"
    title = "The covariance along the depth"
    theorem = "Theorem 2"
    summary = (
        "q_t(a, b) = <Y_tL(a), Y_tL(b)>/n converges in L2 to the solution of an ODE. Means are "
        "tested against kernels of the same depth, for ‖a‖²/d = ‖b‖²/d = 1 and six angles; their "
        "bias of about 1.1/n is below a third of the standard error at this width. The Euler bias "
        "against the limit has tests of its own. The figure shows the root mean squared error "
        "against the limit: it falls like 1/√n until only the Euler bias of the depth remains."
    )
    panels = (1, 3)

    def draw(self, axes: Axes) -> None:
        widths = sorted({curve.width for curve in self.curves})
        depths = sorted({curve.depth for curve in self.curves})
        for pair, axis in enumerate(axes):
            for curve in self.curves:
                colour = COLOURS[widths.index(curve.width)]
                alpha = 0.35 + 0.65 * depths.index(curve.depth) / max(1, len(depths) - 1)
                label = f"n = {curve.width}" if curve.depth == depths[-1] else None
                error, bars = curve.error[:, pair], 2 * curve.standard_error[:, pair]
                axis.errorbar(curve.t, error, bars, color=colour, alpha=alpha, lw=1.2, label=label)
            axis.set(yscale="log", xlabel="t", title=NAMES[SHORT[pair]].replace("q(", "q_t("))
        axes[0].set_ylabel("L2 error against the limit")
        axes[0].figure.legend(
            *axes[0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=len(widths),
            frameon=False,
            title=f"from L = {depths[0]} (pale) to L = {depths[-1]}",
        )


def run(lab: SimulationLab) -> CovarianceResult:
    found = lab.run(plan(lab))
    width, _, depths = mean_design(lab)
    checks: list[Check] = []
    for depth in depths:
        means = found[f"covariance-mean-L{depth}"]
        for level in times(depth)[1:]:
            checks += _mean_checks(moments(means[level]), ResNet(width, depth), level)
    checks.append(precision_check("means of q_t", checks))
    checks += _euler_bias_checks(
        moments(found[f"covariance-mean-L{depths[0]}"][depths[0]]), depths[0]
    )
    widths, depths_, networks = error_design(lab)
    curves = tuple(
        _curve(width, depth, found[f"covariance-error-n{width}-L{depth}"])
        for width in widths
        for depth in depths_
    )
    checks.append(_slope_check(curves, networks))
    return CovarianceResult(tuple(checks), curves)


def _mean_checks(found: SampleMoments, network: ResNet, level: int) -> list[Check]:
    predicted = covariance(network, inputs_at(*ANGLES), time=level / network.depth)
    names = [f"{name}, L = {network.depth}, t = {level / network.depth:.1f}" for name in NAMES]
    group = f"means of q_t, six angles, L = {network.depth}"
    return equality_checks(
        names, found.mean, found.standard_error, at_pairs(predicted, PAIRS), group=group
    )


def _euler_bias_checks(found: SampleMoments, depth: int) -> list[Check]:
    """Check q_1(a, a) less its limit: (1 + 1/2L)^L - e^(1/2), about -e^(1/2) / 8L."""
    limit = np.exp(0.5)
    bias, error = float(found.mean[0] - limit), float(found.standard_error[0])
    predicted = (1 + 1 / (2 * depth)) ** depth - limit
    name = f"Euler bias of q_1(a, a), L = {depth}"
    return [
        Check(name, bias, error, float(predicted)),
        Check(f"{name}, is not 0", bias, error, 0.0, "differs"),
    ]


def _curve(width: int, depth: int, found: Results) -> Curve:
    levels = sorted(found)
    root = np.sqrt([moments(found[level]).mean for level in levels])
    noise = np.array([moments(found[level]).standard_error for level in levels])
    return Curve(width, depth, np.array(levels) / depth, root, noise / (2 * root))


def _slope_check(curves: tuple[Curve, ...], networks: int) -> Check:
    """Check the slope of the error in the width at t = 1, at depths where the width dominates."""
    chosen = [curve for curve in curves if curve.depth >= DEEP]
    n = np.array([curve.width for curve in chosen], dtype=float)
    error = np.array([curve.error[-1, 1] for curve in chosen])
    name = f"slope of log L2 error of q_1(a, b) in log n, L from {DEEP}"
    # Theoretical, as estimated standard errors would give too much weight to small estimates.
    return Check(name, *power_law(n, error, error / np.sqrt(2 * networks)).estimate(1), -0.5)
