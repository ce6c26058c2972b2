"""Do the limits of width and depth commute? In ResNets they do, in MLPs they do not.

Richardson's extrapolation removes the error of first order in 1/n and 1/L.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from resnet_gp.networks import ResNet, Results, Simulation
from resnet_gp.report.checks import Check, equality_checks
from resnet_gp.report.fits import Array
from resnet_gp.report.result import COLOURS, Axes, ExperimentResult, size_axes
from resnet_gp.verification import mlps
from resnet_gp.verification.observables import (
    at_pairs,
    covariances,
    inputs_at,
    moments,
    precision_check,
)
from resnet_gp.verification.predictions import covariance
from resnet_gp.verification.simulation_lab import SimulationLab

INPUTS = inputs_at(0.0, 45.0)
PAIRS = ((0, 0), (0, 1))
WIDE = 8192  # as good as infinite at this precision
RATIO = 4  # of the sizes of the two networks on a way to infinity


@dataclass(frozen=True)
class Way:
    """Two networks on a way to infinity."""

    label: str
    small: ResNet
    large: ResNet
    at_depth: bool = False  # the limit is that of infinite width at the depth of both


def ways(lab: SimulationLab) -> list[Way]:
    deep, joint = lab.size((512, 256), (64, 64))
    short = joint // RATIO
    together = [
        Way(f"n = {r:g} L", ResNet(round(r * short), short), ResNet(round(r * joint), joint))
        for r in lab.size((0.5, 1.0, 4.0), (1.0, 4.0))
    ]
    return [
        Way("width, then depth", ResNet(WIDE, 8), ResNet(WIDE, 8 * RATIO)),
        Way("depth, then width", ResNet(128, deep), ResNet(128 * RATIO, deep), at_depth=True),
        *together,
    ]


def plan(lab: SimulationLab) -> list[Simulation]:
    neurons = lab.size(2_500_000, 620_000)
    return [
        Simulation(_key(one), one, INPUTS, share // one.width, covariances(PAIRS))
        for way in ways(lab)
        for one, share in ((way.small, neurons // 2), (way.large, neurons))
    ] + mlps.plan(lab)


def _key(network: ResNet) -> str:
    return f"commutation-n{network.width}-L{network.depth}"


@dataclass(frozen=True)
class CommutationResult(ExperimentResult):
    """Extrapolated covariances, and log-norms and correlations of networks with n = L."""

    labels: tuple[str, ...]
    estimates: Array  # ways x pairs
    standard_errors: Array
    limit: Array
    norm_variance: Array  # MLP, ResNet x sizes
    gap: Array  # 1 - mean correlation, MLP, ResNet x sizes
    mlp_norms: Array  # log-norms of the largest MLP

    name = "commutation"
    title = "Do width and depth commute?"
    theorem = "Theorems 1 and 2"
    summary = (
        "ResNets reach the same covariance whether the width grows first, the depth first, or both "
        "together as n = rL; estimates are Richardson extrapolations from two sizes. Critical ReLU "
        "MLPs do not. With width first, their norm does not fluctuate; with n = L, it is "
        "log-normal, its logarithm keeps a variance near 5, and single neurons have heavy tails. "
        "Their correlation tends to 1. The predictions of the kurtosis, and of mean and variance "
        "of the log-norm, are exact."
    )
    panels = (2, 2)

    def draw(self, axes: Axes) -> None:
        place = np.arange(len(self.labels))
        percent = 100 / self.limit
        for k, name in enumerate(("q(a, a)", "q(a, b)")):
            off = percent[k] * (self.estimates[:, k] - self.limit[k])
            bars = 2 * percent[k] * self.standard_errors[:, k]
            style = {"fmt": "o", "ms": 4, "color": COLOURS[k]}
            axes[0].errorbar(off, place + 0.15 * k, xerr=bars, label=name, **style)
        axes[0].axvline(0, color="black", linewidth=0.8)
        axes[0].set_yticks(place, self.labels)
        axes[0].set(title="ResNet: ways to infinity", xlabel="deviation from the limit, %")
        for k, name in enumerate(mlps.KINDS):
            colour = COLOURS[1 - k]
            axes[1].plot(mlps.SIZES, self.norm_variance[k], "o-", color=colour, label=name)
            axes[2].plot(mlps.SIZES, self.gap[k], "o-", color=colour, label=name)
        size_axes(axes[1], mlps.SIZES, "n = L", title="variance of log |Y|²")
        size_axes(axes[2], mlps.SIZES, "n = L", title="1 - mean correlation")
        for axis in axes[:3]:
            axis.legend(frameon=False, fontsize=8)
        mean, variance = mlps.log_norm(mlps.SIZES[-1])
        grid = np.linspace(self.mlp_norms.min(), self.mlp_norms.max(), 200)
        law = stats.norm.pdf(grid, mean, math.sqrt(variance))
        axes[3].hist(self.mlp_norms, 50, density=True, color=COLOURS[1], alpha=0.5)
        axes[3].plot(grid, law, color="black", linewidth=1)
        axes[3].set(title=f"MLP, n = L = {mlps.SIZES[-1]}: law of the norm", xlabel="log |Y|²/n")


def run(lab: SimulationLab) -> CommutationResult:
    found = lab.run(plan(lab))
    chosen = ways(lab)
    rows = [_extrapolated(way, found) for way in chosen]
    estimates, errors = (np.array(column) for column in zip(*rows, strict=True))
    checks = [
        check
        for way, row in zip(chosen, rows, strict=True)
        for check in _covariance_checks(way, *row)
    ]
    checks.append(precision_check("extrapolated covariances", checks))
    norms = mlps.norms(found)
    by_size = np.array([[norms[kind, n] for n in mlps.SIZES] for kind in mlps.KINDS])
    return CommutationResult(
        (*checks, *mlps.checks(norms, found)),
        tuple(way.label for way in chosen),
        estimates,
        errors,
        at_pairs(covariance(chosen[0].large, INPUTS, limit=True), PAIRS),
        by_size[..., 0].var(-1),
        1 - by_size[..., 1].mean(-1),
        norms["MLP", mlps.SIZES[-1]][:, 0],
    )


def _extrapolated(way: Way, found: dict[str, Results]) -> tuple[Array, Array]:
    """Means and standard errors without the term of first order in 1/size."""
    small, large = (moments(found[_key(one)][one.depth]) for one in (way.small, way.large))
    weight = 1 / (RATIO - 1)
    estimate = (1 + weight) * large.mean - weight * small.mean
    error = np.hypot((1 + weight) * large.standard_error, weight * small.standard_error)
    return estimate, error


def _covariance_checks(way: Way, estimates: Array, errors: Array) -> list[Check]:
    limit = at_pairs(covariance(way.large, INPUTS, limit=not way.at_depth), PAIRS)
    group = "covariance along several ways to infinity"
    names = [f"{name}, {way.label}" for name in ("q_1(a, a)", "q_1(a, b)")]
    return equality_checks(names, estimates, errors, limit, group=group)
