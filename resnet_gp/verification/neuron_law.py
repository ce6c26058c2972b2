"""Theorem 1: the law of one neuron."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import stats

from resnet_gp.networks import MLP, Network, ResNet, Results, Simulation
from resnet_gp.report.checks import Check, Kind, check_of_test, equality_checks
from resnet_gp.report.fits import Array, power_law
from resnet_gp.report.result import COLOURS, Axes, ExperimentResult, guide, points, size_axes
from resnet_gp.verification.neurons import (
    LIMIT_DEVIATION,
    by_size,
    excess_kurtosis,
    pooled_neurons,
    rate_checks,
    single_neuron,
    wasserstein,
)
from resnet_gp.verification.observables import values
from resnet_gp.verification.simulation_lab import SimulationLab

WIDTHS = (8, 16, 32, 64, 128, 256)
DEPTHS = (1, 2, 4, 8, 16)
RATE_DEPTH = 16  # depth of the networks that differ in width
CONTRAST = MLP(100, 50)  # which is not normal
WIDE = 4096  # width of the networks that differ in depth


def deviation(depth: int) -> float:
    """Standard deviation of a neuron at |a|^2 / d = 1; exact at any width."""
    return math.sqrt((1 + 1 / (2 * depth)) ** depth)


def counts(lab: SimulationLab) -> tuple[int, int]:
    """Pooled neurons for the rates, and networks of which single neurons are kept."""
    return lab.size((8_000_000, 8000), (500_000, 4000))


def largest(lab: SimulationLab) -> ResNet:
    """The ResNet whose neurons are tested against the limit."""
    return ResNet(500, lab.size(500, 100))


def grid(lab: SimulationLab) -> tuple[Network, ...]:
    """The networks whose single neurons are shown."""
    resnets = (ResNet(5, 5), ResNet(20, 50), ResNet(100, 50), largest(lab))
    return (*resnets, MLP(20, 50), CONTRAST)


def label(network: Network) -> str:
    return f"{type(network).__name__} n = {network.width}, L = {network.depth}"


def key(network: Network) -> str:
    return f"law-{type(network).__name__}-n{network.width}-L{network.depth}"


def plan(lab: SimulationLab) -> list[Simulation]:
    neurons, networks = counts(lab)
    single = [single_neuron(key(n), n, networks) for n in grid(lab)]
    by_depth = [
        pooled_neurons(f"law-depth{L}", ResNet(WIDE, L), neurons, LIMIT_DEVIATION) for L in DEPTHS
    ]
    return [*single, *by_width("law", neurons), *by_depth]


def by_width(name: str, neurons: int) -> list[Simulation]:
    """Simulations of networks of every width, in units of a neuron's standard deviation."""
    unit = deviation(RATE_DEPTH)
    return [
        pooled_neurons(f"{name}-width{n}", ResNet(n, RATE_DEPTH), neurons, unit) for n in WIDTHS
    ]


@dataclass(frozen=True)
class NeuronLawResult(ExperimentResult):
    """Samples, and distances by width and depth, ``2 x k``: values and standard errors."""

    samples: dict[str, Array]  # one neuron of each network, over its predicted deviation
    kurtosis: Array
    distance_by_width: Array
    distance_by_depth: Array

    name = "neuron-law"
    title = "The law of one neuron"
    theorem = "Theorem 1"
    summary = (
        "A neuron converges to a normal variable of variance q_1(a, a) as width and depth grow. "
        "Top: one neuron from each of many networks, in units of the limit's standard deviation. "
        "Bottom: the excess kurtosis falls like 1/n. The Wasserstein-1 distance falls faster than "
        "the paper's bounds of 1/√n and 1/√L: like 1/n to the normal law of the same depth, and "
        "like 1/L to the limit, by the Euler bias of the variance."
    )
    panels = (3, 3)
    panel_height = 3.0

    def draw(self, axes: Axes) -> None:
        grid = np.linspace(-5, 5, 301)
        bins = np.linspace(-5, 5, 71)
        for axis, (name, sample) in zip(axes, self.samples.items(), strict=False):
            axis.hist(sample, bins, density=True, color=COLOURS[0], alpha=0.5)
            axis.plot(grid, stats.norm.pdf(grid), color="black", linewidth=1)
            test = stats.kstest(sample, "norm")
            distance = f"KS {test.statistic:.3f}, p {test.pvalue:.2g}"
            text = f"{distance}\nkurtosis {stats.kurtosis(sample):.2f}"
            axis.set_title(name, fontsize=9)
            axis.text(0.02, 0.97, text, transform=axis.transAxes, va="top", fontsize=8)
        for axis, x, found, name in (
            (axes[6], WIDTHS, self.kurtosis, "excess kurtosis"),
            (axes[7], WIDTHS, self.distance_by_width, "W1, normal law of the same depth"),
            (axes[8], DEPTHS, self.distance_by_depth, "W1, limit"),
        ):
            points(axis, x, *found)
            guide(axis, x, found[0][0])
            size_axes(axis, x, "L" if x is DEPTHS else "n", title=name)
            axis.legend(frameon=False, fontsize=8)


def run(lab: SimulationLab) -> NeuronLawResult:
    found = lab.run(plan(lab))
    samples = {label(network): _neurons(network, found) for network in grid(lab)}
    kurtosis = by_size(WIDTHS, "law-width{}", found, excess_kurtosis)
    same_depth = partial(wasserstein, deviation=deviation(RATE_DEPTH))
    near = by_size(WIDTHS, "law-width{}", found, same_depth)
    limit = partial(wasserstein, deviation=LIMIT_DEVIATION)
    far = by_size(DEPTHS, "law-depth{}", found, limit)
    checks = (
        _normality_check("one neuron is normal", label(largest(lab)), samples),
        _normality_check("contrast", label(CONTRAST), samples, "differs"),
        *rate_checks("excess kurtosis", np.array(WIDTHS, float), *kurtosis),
        _slope_check("n", WIDTHS, near),
        _slope_check("L", DEPTHS, far),
        *_euler_checks(far),
    )
    return NeuronLawResult(checks, samples, kurtosis, near, far)


def _neurons(network: Network, found: dict[str, Results]) -> Array:
    spread = LIMIT_DEVIATION if isinstance(network, ResNet) else 1.0
    return values(found[key(network)][network.depth])[:, 0] / spread


def _normality_check(
    what: str, where: str, samples: dict[str, Array], kind: Kind = "equals"
) -> Check:
    test = stats.kstest(samples[where], "norm")
    return check_of_test(f"{what}, {where}: Kolmogorov-Smirnov", test, kind)


def _slope_check(size: str, x: Sequence[int], distance: Array) -> Check:
    slope = power_law(np.array(x, float), *distance).estimate(1)
    return Check(f"slope of log W1 in log {size}, bounded by -1/2", *slope, -0.5, "at most")


def _euler_checks(distance: Array) -> list[Check]:
    """Check W1 at small depths: normal laws are |difference of deviations| sqrt(2 / pi) apart."""
    depths = DEPTHS[:3]
    gaps = [abs(deviation(depth) - LIMIT_DEVIATION) * math.sqrt(2 / math.pi) for depth in depths]
    estimates, errors = distance[:, :3]
    names = [f"W1 to the limit, L = {depth}" for depth in depths]
    return equality_checks(names, estimates, errors, gaps, group="W1 to the limit at small depths")
