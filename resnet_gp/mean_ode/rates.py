r"""Experiment a: how the output's error falls with depth and width.

Networks of equal depth and width have a bias of order 1/L and independent deviations of order
sqrt(D)/sqrt(LM). Their squares add up in the mean square error, so that the fit is

    error^2 = (a / L^p)^2 + D (b / (LM)^q)^2,     theory: p = 1, q = 1/2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from resnet_gp.mean_ode import grid
from resnet_gp.mean_ode.advice import DEPTH_CONSTANT, WIDTH_CONSTANT
from resnet_gp.mean_ode.estimates import draws_check, factor_check
from resnet_gp.mean_ode.lab import Array, Lab
from resnet_gp.verification.checks import Check
from resnet_gp.verification.fits import jackknife
from resnet_gp.verification.result import COLOURS, Result, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ASYMPTOTIC = 0.05  # cells where the reported fit predicts an error of at most this
ASYMPTOTIC_QUICK = 0.1
FACTOR = 1.5  # between our constants and the reported ones


@dataclass(frozen=True)
class RatesResult(Result):
    """Errors on the grid and their fit; parameters are (a, b) and (a, b, p, q)."""

    sizes: tuple[int, ...]
    errors: Array  # root mean square over draws, depths x widths
    standard_errors: Array
    limit_error: float  # root mean square over draws, by the limit's own estimate
    constants: Array  # a, b with p = 1 and q = 1/2
    constants_errors: Array
    free_fit: Array  # a, b, p, q
    free_fit_errors: Array
    intervals: Array  # 95 % of p and q

    name = "rates"
    title = "How fast do networks approach the limit?"
    theorem = "Chizat 2025, error bound"
    summary = (
        "Error of the output after 100 steps, against the limit and not against a large network, "
        "for D = N = 10 and means over data draws. Both slopes are fitted together on the "
        "asymptotic part of the grid: the cells where the reported fit is at most "
        f"{ASYMPTOTIC} ({ASYMPTOTIC_QUICK} in quick runs). The two terms are added in squares, as "
        "a bias and a variance add; the reported fit adds them as they are. Constants have to be "
        "within a factor 1.5 of the reported."
    )

    def plot(self) -> Figure:
        figure, axes = new_figure(2)
        sizes = np.array(self.sizes, float)
        a, b = self.constants
        for k, index in enumerate(np.linspace(0, len(sizes) - 1, 4).round().astype(int)):
            curves = (self.errors[:, index], self.errors[index])
            bars = (self.standard_errors[:, index], self.standard_errors[index])
            for axis, errors, bar, other in zip(axes, curves, bars, "ML", strict=True):
                label = f"{other} = {sizes[index]:g}"
                axis.errorbar(sizes, errors, 2 * bar, fmt="o", ms=3, color=COLOURS[k], label=label)
            for axis, L in ((axes[0], sizes), (axes[1], np.full_like(sizes, sizes[index]))):
                units = sizes * sizes[index]
                ours = np.sqrt((a / L) ** 2 + grid.D * b**2 / units)
                axis.plot(sizes, ours, color=COLOURS[k], lw=1)
                axis.plot(sizes, reported(L, units), color=COLOURS[k], lw=0.8, ls=":")
        for axis, name in zip(axes, ("depth L", "width M"), strict=True):
            axis.set(xscale="log", yscale="log", xlabel=name, ylabel="RMS error of the output")
            axis.legend(frameon=False, fontsize=8)
        axes[0].set_title("lines: our fit; dotted: the reported one", fontsize=9)
        axes[1].set_title(f"limit's own error: {self.limit_error:.1e}", fontsize=9)
        return figure


def reported(L: Array, units: Array) -> Array:
    """0.15/L + 0.22 sqrt(D)/sqrt(LM), for D = 10 (Chizat 2025, experiments)."""
    return DEPTH_CONSTANT / L + WIDTH_CONSTANT * np.sqrt(grid.D / units)


def asymptotic(lab: Lab, measured: grid.Grid) -> NDArray[np.bool_]:
    """The cells whose reported error is small, ``depths x widths``."""
    return reported(measured.depths, measured.units) <= lab.size(ASYMPTOTIC, ASYMPTOTIC_QUICK)


def run(lab: Lab) -> RatesResult:
    """Experiment a."""
    measured = grid.measure(lab)
    cells = asymptotic(lab, measured)
    count = len(measured.total)
    L, units = (np.broadcast_to(x, cells.shape)[cells] for x in (measured.depths, measured.units))
    rows = measured.total[:, cells]

    def constants(mean: Array) -> Array:
        return fit_terms(mean, L, units)[:2]

    per_draw = np.array([constants(row) for row in rows])
    fixed, fixed_errors = per_draw.mean(0), per_draw.std(0, ddof=1) / math.sqrt(count)
    free, free_errors = jackknife(rows, lambda mean: fit_terms(mean, L, units, slopes=True))
    half = 1.96 * free_errors[2:]
    mean_square = measured.total.mean(0)
    spread = measured.total.std(0, ddof=1) / math.sqrt(count)
    return RatesResult(
        (*_slope_checks(free, free_errors, count), *_constant_checks(fixed, fixed_errors, count)),
        measured.sizes,
        np.sqrt(mean_square),
        spread / (2 * np.sqrt(mean_square)),
        float(np.sqrt(np.mean(measured.limit_errors**2))),
        fixed,
        fixed_errors,
        free,
        free_errors,
        np.stack([free[2:] - half, free[2:] + half], 1),
    )


def fit_terms(squares: Array, L: Array, units: Array, slopes: bool = False) -> Array:
    """(a, b, p, q) of mean square errors, by least squares of their logarithms.

    p = 1 and q = 1/2 are fitted too if ``slopes``.
    """

    if not np.isfinite(squares).all():
        return np.full(4, np.nan)

    def model(parameters: Array) -> Array:
        log_a, log_b, p, q = (*parameters, 1.0, 0.5)[:4]
        first = 2 * (log_a - p * np.log(L))
        second = 2 * (log_b - q * np.log(units)) + math.log(grid.D)
        return np.logaddexp(first, second) - np.log(np.maximum(squares, 1e-12))

    start = [math.log(DEPTH_CONSTANT), math.log(WIDTH_CONSTANT), 1.0, 0.5]
    found = least_squares(model, start if slopes else start[:2]).x
    return np.array([*np.exp(found[:2]), *(found[2:] if slopes else (1.0, 0.5))])


def _slope_checks(free: Array, errors: Array, count: int) -> list[Check]:
    names = (("slope of the error in L, large LM", 1.0), ("slope of the error in LM", 0.5))
    return [
        draws_check(name, -value, error, -target, count)
        for (name, target), value, error in zip(names, free[2:], errors[2:], strict=True)
    ]


def _constant_checks(constants: Array, errors: Array, count: int) -> list[Check]:
    names = ("constant of 1/L", "constant of sqrt(D)/sqrt(LM)")
    targets = (DEPTH_CONSTANT, WIDTH_CONSTANT)
    return [
        factor_check(name, float(value), float(error), target, FACTOR, count)
        for name, value, error, target in zip(names, constants, errors, targets, strict=True)
    ]
