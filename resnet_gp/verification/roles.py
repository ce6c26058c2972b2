r"""The roles of width and depth: C_1^2 / n + C_2^2 / L^2 or C_1^2 / n + C_2^2 / L?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from resnet_gp.networks import ResNet, Simulation
from resnet_gp.report.checks import Check
from resnet_gp.report.fits import Array, Fit, curve_fit
from resnet_gp.report.result import COLOURS, Result, new_figure
from resnet_gp.verification.fluctuations import scaled_variance
from resnet_gp.verification.lab import Lab
from resnet_gp.verification.observables import at_pairs, inputs_at, moments, squared_errors
from resnet_gp.verification.predictions import covariance

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAIRS = ((0, 0), (0, 1))
ANGLE = 75.0


def widths(lab: Lab) -> tuple[int, ...]:
    return lab.size((256, 1024, 4096, 16384, 65536), (1024, 8192, 65536))


def depths(lab: Lab) -> tuple[int, ...]:
    return lab.size((4, 8, 16, 32), (4, 8, 16))


def replicates(lab: Lab) -> int:
    return lab.size(400, 64)


def plan(lab: Lab) -> list[Simulation]:
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
    """Mean squared errors on a grid, with the constants that fit them.

    ``fit`` has the parameters (C_1, C_2) of C_1^2 / n + C_2^2 / L^2, ``rival`` those with 1 / L,
    ``free`` the power of 1 / L as a third.
    """

    n: Array
    L: Array
    error: Array
    standard_error: Array
    fit: Fit
    rival: Fit
    free: Fit


@dataclass(frozen=True)
class RolesResult(Result):
    """Fits on the diagonal and off it, and of the diagonal's theoretical values."""

    diagonal: Roles
    off_diagonal: Roles
    theory: Roles

    name = "roles"
    title = "The roles of width and depth"
    theorem = "Theorem 2, its rates"
    summary = (
        "Mean squared errors of q_1 against the limit, for (n, L) on a grid, are fitted by "
        "C₁²/n + C₂²/Lᵖ. Width is noise, depth is the bias of Euler's method: p = 2, where the "
        "bound of the paper, C₁/√n + C₂/√L, would allow p = 1. Predictions for the constants are "
        "the same fit to theoretical values, V(L)/n for the variance (a central limit theorem for "
        "the neurons) and the exact bias; their asymptotic values are C₁ → 3.56 and "
        "C₂ → e^½/8 = 0.206."
    )

    def plot(self) -> Figure:
        figure, axes = new_figure(2)
        for axis, roles, title in zip(
            axes,
            (self.diagonal, self.off_diagonal),
            ("q(a, a)", f"q(a, b), {ANGLE:.0f}°"),
            strict=True,
        ):
            for k, depth in enumerate(np.unique(roles.L)):
                there = depth == roles.L
                root, n = np.sqrt(roles.error[there]), roles.n[there]
                noise = roles.standard_error[there] / root
                axis.errorbar(
                    n, root, noise, fmt="o", ms=4, color=COLOURS[k], label=f"L = {depth:.0f}"
                )
                grid = np.geomspace(n.min(), n.max(), 100)
                axis.plot(grid, np.sqrt(model(roles.fit.parameters, grid, depth)), color=COLOURS[k])
            c1, c2 = roles.fit.parameters[:2]
            title = f"{title}: √({c1:.2f}²/n + {c2:.3f}²/L²)"
            axis.set(xscale="log", yscale="log", xlabel="n", title=title)
        axes[0].set_ylabel("L2 error against the limit")
        axes[0].legend(frameon=False, fontsize=8)
        return figure


def model(parameters: Array, n: Array, L: Array | float, power: float = 2.0) -> Array:
    """C_1^2 / n + C_2^2 / L^p."""
    c1, c2, *rest = parameters
    return c1**2 / n + c2**2 / np.asarray(L, float) ** (rest[0] if rest else power)


def fit_roles(n: Array, L: Array, error: Array, standard_error: Array) -> Roles:
    """The three fits to mean squared errors, weighted by relative standard errors."""

    def fitted(power: float, *start: float) -> Fit:
        def logs(parameters: Array) -> Array:
            return np.log(model(parameters, n, L, power))

        found = curve_fit(logs, start, np.log(error), standard_error / error)
        found.parameters[:2] = np.abs(found.parameters[:2])
        return found

    return Roles(
        n,
        L,
        error,
        standard_error,
        fitted(2, 3.5, 0.2),
        fitted(1, 3.5, 0.1),
        fitted(2, 3.5, 0.2, 2.0),
    )


def theoretical_errors(n: Array, L: Array) -> Array:
    """Mean squared errors of q_1(a, a), to first order in 1/n, for |a|^2 / d = 1."""
    bias = (1 + 1 / (2 * L)) ** L - np.exp(0.5)
    return np.array([scaled_variance(int(depth)) for depth in L]) / n + bias**2


def run(lab: Lab) -> RolesResult:
    """Experiment f."""
    found = lab.run(plan(lab))
    n, L = (a.ravel().astype(float) for a in np.meshgrid(widths(lab), depths(lab), indexing="ij"))
    means = [
        moments(found[f"roles-n{int(a)}-L{int(b)}"][int(b)]) for a, b in zip(n, L, strict=True)
    ]
    # From the theory, not from the same few networks: an estimate that is small by chance would
    # come with a small error, and too large a weight.
    relative = np.sqrt(2 / replicates(lab))
    measured = [np.array([one.mean[k] for one in means]) for k in range(len(PAIRS))]
    diagonal, off_diagonal = (fit_roles(n, L, mse, mse * relative) for mse in measured)
    exact = theoretical_errors(n, L)
    theory = fit_roles(n, L, exact, exact * relative)
    checks = [*_constant_checks(diagonal, theory), *_preference_checks(diagonal, off_diagonal)]
    return RolesResult(tuple(checks), diagonal, off_diagonal, theory)


def _constant_checks(found: Roles, theory: Roles) -> list[Check]:
    names = ("C₁ of q_1(a, a)", "C₂ of q_1(a, a)", "power of 1/L in the squared error of q_1(a, a)")
    estimates = np.append(found.fit.parameters, found.free.parameters[2])
    errors = np.append(found.fit.standard_errors, found.free.standard_errors[2])
    predictions = np.append(theory.fit.parameters, theory.free.parameters[2])
    rows = zip(names, estimates, errors, predictions, strict=True)
    return [Check(name, float(e), float(s), float(p)) for name, e, s, p in rows]


def _preference_checks(*found: Roles) -> list[Check]:
    """chi^2 of 1/L minus that of 1/L^2; both have as many parameters."""
    checks = []
    for name, roles in zip(("q_1(a, a)", "q_1(a, b)"), found, strict=True):
        gain = roles.rival.chi2 - roles.fit.chi2
        p = float(stats.chi2.sf(max(gain, 0.0), 1))
        name = f"χ² of the fit with 1/L less that with 1/L², {name}"
        checks.append(Check(name, float(gain), None, 0.0, "differs", p_value=p))
    return checks
