"""Theorem 1: the law of one neuron."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from resnet_gp.networks import MLP, Network, ResNet, Results, Simulation
from resnet_gp.report.checks import Check
from resnet_gp.report.fits import Array, jackknife, power_law
from resnet_gp.report.result import COLOURS, Result, new_figure, size_axis
from resnet_gp.verification.lab import Lab
from resnet_gp.verification.neurons import (
    LIMIT_DEVIATION,
    excess_kurtosis,
    pooled_neurons,
    rate_checks,
    single_neuron,
    wasserstein,
)
from resnet_gp.verification.observables import values

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTHS = (8, 16, 32, 64, 128, 256)
DEPTHS = (1, 2, 4, 8, 16)
RATE_DEPTH = 16  # of the networks that differ in width
WIDE = 4096  # width of the networks that differ in depth


def deviation(depth: int) -> float:
    """Of a neuron, at |a|^2 / d = 1: exact at any width."""
    return math.sqrt((1 + 1 / (2 * depth)) ** depth)


def grid(lab: Lab) -> tuple[Network, ...]:
    """Networks whose single neurons are shown; the last ResNet is tested against the limit."""
    last = ResNet(500, lab.size(500, 100))
    return (ResNet(5, 5), ResNet(20, 50), ResNet(100, 50), last, MLP(20, 50), MLP(100, 50))


def label(network: Network) -> str:
    return f"{type(network).__name__} n = {network.width}, L = {network.depth}"


def key(network: Network) -> str:
    return f"law-{type(network).__name__}-n{network.width}-L{network.depth}"


def plan(lab: Lab) -> list[Simulation]:
    neurons, networks = lab.size((8_000_000, 8000), (500_000, 4000))
    single = [single_neuron(key(n), n, networks) for n in grid(lab)]
    by_width = [
        pooled_neurons(f"law-width{n}", ResNet(n, RATE_DEPTH), neurons, deviation(RATE_DEPTH))
        for n in WIDTHS
    ]
    by_depth = [
        pooled_neurons(f"law-depth{L}", ResNet(WIDE, L), neurons, LIMIT_DEVIATION) for L in DEPTHS
    ]
    return single + by_width + by_depth


@dataclass(frozen=True)
class Sample:
    """One neuron of each network, with its distance from the limit law."""

    label: str
    values: Array
    ks: float
    p_value: float
    excess_kurtosis: float


@dataclass(frozen=True)
class NeuronLawResult(Result):
    """Samples, and how distances fall with width and depth; ``2 x k``: values and errors."""

    samples: tuple[Sample, ...]
    kurtosis: Array
    distance_by_width: Array
    distance_by_depth: Array

    name = "neuron-law"
    title = "The law of one neuron"
    theorem = "Theorem 1"
    summary = (
        "A neuron converges to a normal variable of variance q_1(a, a) as width and depth grow. "
        "Top: one neuron of each of many networks, in units of the limit's standard deviation. "
        "Bottom: the excess kurtosis falls like 1/n; the Wasserstein-1 distance falls in both "
        "directions faster than the bound of the paper, 1/√n and 1/√L: like 1/n against the "
        "normal law of the same depth, like 1/L by the Euler bias of the variance."
    )

    def plot(self) -> Figure:
        figure, axes = new_figure(3, 3, height=3.0)
        grid = np.linspace(-5, 5, 301)
        for axis, sample in zip(axes, self.samples, strict=False):
            axis.hist(
                sample.values, np.linspace(-5, 5, 71), density=True, color=COLOURS[0], alpha=0.5
            )
            axis.plot(grid, stats.norm.pdf(grid), color="black", linewidth=1)
            text = (
                f"KS {sample.ks:.3f}, p {sample.p_value:.2g}\nkurtosis {sample.excess_kurtosis:.2f}"
            )
            axis.set_title(sample.label, fontsize=9)
            axis.text(0.02, 0.97, text, transform=axis.transAxes, va="top", fontsize=8)
        for axis, x, found, name in (
            (axes[6], WIDTHS, self.kurtosis, "excess kurtosis"),
            (axes[7], WIDTHS, self.distance_by_width, "W1, normal law of the same depth"),
            (axes[8], DEPTHS, self.distance_by_depth, "W1, limit"),
        ):
            axis.errorbar(x, found[0], 2 * found[1], fmt="o", ms=4, color=COLOURS[0])
            axis.plot(
                x, found[0][0] * x[0] / np.array(x), color="black", linewidth=0.8, label="slope -1"
            )
            axis.set(yscale="log", title=name)
            size_axis(axis, x, "L" if x is DEPTHS else "n")
            axis.legend(frameon=False, fontsize=8)
        return figure


def run(lab: Lab) -> NeuronLawResult:
    """Experiment a."""
    found = lab.run(plan(lab))
    samples = tuple(_sample(network, found) for network in grid(lab))
    kurtosis = _by(WIDTHS, "law-width{}", found, excess_kurtosis)
    near = _by(WIDTHS, "law-width{}", found, partial(wasserstein, deviation=deviation(RATE_DEPTH)))
    far = _by(DEPTHS, "law-depth{}", found, partial(wasserstein, deviation=LIMIT_DEVIATION))
    checks = [_normality_check(samples[3]), _not_normal_check(samples[5])]
    checks += rate_checks("excess kurtosis", np.array(WIDTHS, float), *kurtosis)[0]
    for name, x, distance in (("n", WIDTHS, near), ("L", DEPTHS, far)):
        slope = power_law(np.array(x, float), *distance)
        checks.append(
            Check(
                f"slope of log W1 in log {name}, bounded by -1/2",
                float(slope.parameters[1]), float(slope.standard_errors[1]), -0.5, "at most",
            )
        )  # fmt: skip
    checks += _euler_checks(far)
    return NeuronLawResult(tuple(checks), samples, kurtosis, near, far)


def _sample(network: Network, found: dict[str, Results]) -> Sample:
    """In units of the predicted standard deviation."""
    spread = LIMIT_DEVIATION if isinstance(network, ResNet) else 1.0
    kept = values(found[key(network)][network.depth])[:, 0] / spread
    test = stats.kstest(kept, "norm")
    return Sample(
        label(network), kept, float(test.statistic), float(test.pvalue), float(stats.kurtosis(kept))
    )


def _by(sizes: tuple[int, ...], name: str, found: dict[str, Results], statistic: object) -> Array:
    """A statistic and its standard error for each size, ``2 x sizes``."""
    columns = []
    for size in sizes:
        (rows,) = found[name.format(size)].values()
        estimate, error = jackknife(values(rows), statistic)  # type: ignore[arg-type]
        columns.append((estimate[0], error[0]))
    return np.array(columns).T


def _normality_check(sample: Sample) -> Check:
    name = f"one neuron is normal, {sample.label}: Kolmogorov-Smirnov"
    return Check(name, sample.ks, None, 0.0, p_value=sample.p_value)


def _not_normal_check(sample: Sample) -> Check:
    name = f"contrast, {sample.label}: Kolmogorov-Smirnov"
    return Check(name, sample.ks, None, 0.0, "differs", p_value=sample.p_value)


def _euler_checks(distance: Array) -> list[Check]:
    """Two normal laws are |difference of their deviations| sqrt(2 / pi) apart."""
    return [
        Check(
            f"W1 to the limit, L = {depth}", float(estimate), float(error),
            abs(deviation(depth) - LIMIT_DEVIATION) * math.sqrt(2 / math.pi),
            group="W1 to the limit at small depths",
        )
        for depth, estimate, error in zip(DEPTHS[:3], *distance[:, :3], strict=True)
    ]  # fmt: skip
