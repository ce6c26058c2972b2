"""The roles of width and depth: is the squared error C_1^2/n + C_2^2/L^2 or C_1^2/n + C_2^2/L?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from resnet_gp.networks import ResNet, Simulation
from resnet_gp.report.checks import Check, equality_checks
from resnet_gp.report.fits import Array, Fit, curve_fit
from resnet_gp.report.result import COLOURS, Axes, ExperimentResult, points
from resnet_gp.verification.fluctuations import scaled_variance
from resnet_gp.verification.observables import at_pairs, inputs_at, moments, squared_errors
from resnet_gp.verification.predictions import covariance
from resnet_gp.verification.simulation_lab import SimulationLab

PAIRS = ((0, 0), (0, 1))
ANGLE = 75.0


def widths(lab: SimulationLab) -> tuple[int, ...]:
    return lab.size((256, 1024, 4096, 16384, 65536), (1024, 8192, 65536))


def depths(lab: SimulationLab) -> tuple[int, ...]:
    return lab.size((4, 8, 16, 32), (4, 8, 16))


def replicates(lab: SimulationLab) -> int:
    return lab.size(400, 64)


def plan(lab: SimulationLab) -> list[Simulation]:
    inputs = inputs_at(0.0, ANGLE)
    limit = at_pairs(covariance(ResNet(1, 1), inputs, limit=True), PAIRS)
    return [
        Simulation(
            f"roles-n{n}-L{L}", ResNet(n, L), inputs, replicates(lab),
            squared_errors(PAIRS, {L: limit}),
        )
        for n in widths(lab)
        for L in depths(lab)
    ]  # fmt: skip


@dataclass(frozen=True)
class Roles:
    """Mean squared errors on a grid, and their fits by C_1^2 / n + C_2^2 / L^p."""

    n: Array
    L: Array
    error: Array
    standard_error: Array
    fit: Fit  # p = 2
    rival: Fit  # p = 1
    free: Fit  # p is the third parameter


@dataclass(frozen=True)
class RolesResult(ExperimentResult):
    """Fits to q(a, a), to q(a, b), and to the theoretical errors of q(a, a)."""

    diagonal: Roles
    off_diagonal: Roles
    theory: Roles

    name = "roles"
    title = "The roles of width and depth"
    theorem = "Theorem 2, its rates"
    summary = (
        "Mean squared errors of q_1 against the limit, for (n, L) on a grid, are fitted by "
        "C₁²/n + C₂²/Lᵖ. The width contributes noise, the depth the bias of Euler's method: p = 2, "
        "while the paper's bound, C₁/√n + C₂/√L, would allow p = 1. The constants are predicted by "
        "the same fit to theoretical values: the variance V(L)/n from a central limit theorem for "
        "the neurons, and the exact bias. Asymptotically C₁ → 3.56 and C₂ → e^½/8 = 0.206."
    )
    panels = (1, 2)

    def draw(self, axes: Axes) -> None:
        names = ("q(a, a)", f"q(a, b), {ANGLE:.0f}°")
        for axis, roles, name in zip(axes, (self.diagonal, self.off_diagonal), names, strict=True):
            c1, c2 = roles.fit.parameters
            for k, depth in enumerate(np.unique(roles.L)):
                there = depth == roles.L
                root, n = np.sqrt(roles.error[there]), roles.n[there]
                noise = roles.standard_error[there] / root
                points(axis, n, root, noise / 2, k, label=f"L = {depth:.0f}")
                grid = np.geomspace(n.min(), n.max(), 100)
                axis.plot(grid, np.sqrt(model(grid, depth, c1, c2)), color=COLOURS[k])
            title = f"{name}: √({c1:.2f}²/n + {c2:.3f}²/L²)"
            axis.set(xscale="log", yscale="log", xlabel="n", title=title)
        axes[0].set_ylabel("L2 error against the limit")
        axes[0].legend(frameon=False, fontsize=8)


def model(n: Array, L: Array | float, c1: float, c2: float, power: float = 2.0) -> Array:
    """C_1^2 / n + C_2^2 / L^p."""
    return c1**2 / n + c2**2 / np.asarray(L, float) ** power


def fit_roles(n: Array, L: Array, error: Array, noise: Array) -> Roles:
    """Fit mean squared errors in all three ways, weighted by their relative standard errors."""

    def fitted(*start: float, **fixed: float) -> Fit:
        def logs(parameters: Array) -> Array:
            return np.log(model(n, L, *parameters, **fixed))

        found = curve_fit(logs, start, np.log(error), noise)
        found.parameters[:2] = np.abs(found.parameters[:2])
        return found

    fits = (fitted(3.5, 0.2), fitted(3.5, 0.1, power=1.0), fitted(3.5, 0.2, 2.0))
    return Roles(n, L, error, error * noise, *fits)


def theory_of_errors(n: Array, L: Array) -> tuple[Array, Array]:
    """Variances and squared biases of q_1(a, a), to first order in 1/n, for |a|^2 / d = 1."""
    bias = (1 + 1 / (2 * L)) ** L - np.exp(0.5)
    return np.array([scaled_variance(int(depth)) for depth in L]) / n, bias**2


def relative_noise(variance: Array, squared_bias: Array, count: int) -> Array:
    """Relative standard error of the mean of ``count`` squared normal errors."""
    squares = 2 * variance**2 + 4 * squared_bias * variance
    return np.sqrt(squares / count) / (variance + squared_bias)


def run(lab: SimulationLab) -> RolesResult:
    found = lab.run(plan(lab))
    n, L = (a.ravel().astype(float) for a in np.meshgrid(widths(lab), depths(lab), indexing="ij"))
    means = np.array(
        [
            moments(found[f"roles-n{int(a)}-L{int(b)}"][int(b)]).mean
            for a, b in zip(n, L, strict=True)
        ]
    )
    # Not of the samples, as that would give too much weight to means that are small by chance.
    count, (variance, squared_bias) = replicates(lab), theory_of_errors(n, L)
    noise = relative_noise(variance, squared_bias, count)
    diagonal = fit_roles(n, L, means[:, 0], noise)
    theory = fit_roles(n, L, variance + squared_bias, noise)
    c1, c2 = fit_roles(n, L, means[:, 1], noise).fit.parameters
    own = relative_noise(c1**2 / n, c2**2 / L**2, count)
    off_diagonal = fit_roles(n, L, means[:, 1], own)
    checks = [*_constant_checks(diagonal, theory), *_preference_checks(diagonal, off_diagonal)]
    return RolesResult(tuple(checks), diagonal, off_diagonal, theory)


def _constant_checks(found: Roles, theory: Roles) -> list[Check]:
    names = ("C₁ of q_1(a, a)", "C₂ of q_1(a, a)", "power of 1/L in the squared error of q_1(a, a)")
    estimates = np.append(found.fit.parameters, found.free.parameters[2])
    errors = np.append(found.fit.standard_errors, found.free.standard_errors[2])
    predictions = np.append(theory.fit.parameters, theory.free.parameters[2])
    return equality_checks(names, estimates, errors, predictions)


def _preference_checks(*found: Roles) -> list[Check]:
    """Check chi^2 of the fit with 1/L less that with 1/L^2, of equally many parameters."""
    checks = []
    for pair, roles in zip(("q_1(a, a)", "q_1(a, b)"), found, strict=True):
        gain = roles.rival.chi2 - roles.fit.chi2
        p = float(stats.chi2.sf(max(gain, 0.0), 1))
        name = f"χ² of the fit with 1/L less that with 1/L², {pair}"
        checks.append(Check(name, gain, None, 0.0, "differs", p))
    return checks
