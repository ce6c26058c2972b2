r"""Experiment a: how the output's error falls with depth and width.

Networks of equal depth and width have a bias of order 1/L and independent deviations of order
sqrt(D)/sqrt(LM). Their squares add up in the mean square error, so that the fit is

    error^2 = (a / L^p)^2 + D (b / (LM)^q)^2,     theory: p = 1, q = 1/2.

The reported fit is the plain sum 0.15/L + 0.22 sqrt(D)/sqrt(LM), a bound on the same error. Where
the terms are alike it exceeds the root of the sum of squares by up to sqrt(2), so that a plain sum
fitted to measured errors needs smaller constants. Both are fitted, on the asymptotic cells and by
the reported protocol: the whole grid, and one network of M = L = 1000 in the place of the limit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from resnet_gp.mean_ode import grid
from resnet_gp.mean_ode.advice import DEPTH_CONSTANT, WIDTH_CONSTANT
from resnet_gp.mean_ode.estimates import draws_check, factor_check
from resnet_gp.mean_ode.lab import Array, Lab
from resnet_gp.report.checks import Check
from resnet_gp.report.fits import jackknife
from resnet_gp.report.result import COLOURS, Result, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ASYMPTOTIC = 0.05  # cells where the reported fit predicts an error of at most this
ASYMPTOTIC_QUICK = 0.1
FACTOR = 1.5  # between our constants and the reported ones
TARGETS = (DEPTH_CONSTANT, WIDTH_CONSTANT)


@dataclass(frozen=True)
class Terms:
    """Constants (a, b) of the two terms by one way of fitting: means over draws, p = 1, q = 1/2."""

    name: str
    constants: Array
    standard_errors: Array
    within: bool  # a factor 1.5 of the reported ones, both of them


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
    ways: tuple[Terms, ...]  # of fitting (a, b): ours first
    ratio_to_reported: float  # measured error over the reported fit, median over the grid

    name = "rates"
    title = "How fast do networks approach the limit?"
    theorem = "Chizat 2025, error bound"
    summary = (
        "Error of the output after 100 steps, against the limit and not against a large network, "
        "for D = N = 10 and means over data draws. Both slopes are fitted together on the "
        "asymptotic part of the grid: the cells where the reported fit is at most "
        f"{ASYMPTOTIC} ({ASYMPTOTIC_QUICK} in quick runs). The two terms are added in squares, as "
        "a bias and a variance add, and their constants have to be within a factor 1.5 of the "
        "reported 0.15 and 0.22, which belong to a plain sum. On the right, constants by both ways "
        "of adding, on these cells and by the reported protocol (the whole grid against one "
        "network of M = L = 1000; 64 in quick runs), beside the band of that factor."
    )

    def plot(self) -> Figure:
        figure, axes = new_figure(3)
        sizes = np.array(self.sizes, float)
        a, b = self.constants
        for k, index in enumerate(np.linspace(0, len(sizes) - 1, 4).round().astype(int)):
            curves = (self.errors[:, index], self.errors[index])
            bars = (self.standard_errors[:, index], self.standard_errors[index])
            for axis, errors, bar, other in zip(axes[:2], curves, bars, "ML", strict=True):
                label = f"{other} = {sizes[index]:g}"
                axis.errorbar(sizes, errors, 2 * bar, fmt="o", ms=3, color=COLOURS[k], label=label)
            for axis, L in ((axes[0], sizes), (axes[1], np.full_like(sizes, sizes[index]))):
                units = sizes * sizes[index]
                ours = np.sqrt((a / L) ** 2 + grid.D * b**2 / units)
                axis.plot(sizes, ours, color=COLOURS[k], lw=1)
                axis.plot(sizes, reported(L, units), color=COLOURS[k], lw=0.8, ls=":")
        for axis, name in zip(axes[:2], ("depth L", "width M"), strict=True):
            axis.set(xscale="log", yscale="log", xlabel=name, ylabel="RMS error of the output")
            axis.legend(frameon=False, fontsize=8)
        axes[0].set_title("lines: our fit; dotted: the reported one", fontsize=9)
        axes[1].set_title(f"limit's own error: {self.limit_error:.1e}", fontsize=9)
        self._plot_ways(axes[2])
        return figure

    def _plot_ways(self, axis: Any) -> None:
        """Constants by each way of fitting, and the factor that they may be off by."""
        rows = np.arange(len(self.ways))[::-1]
        names = ("a, of 1/L", "b, of √D/√(LM)")
        for k, (name, target) in enumerate(zip(names, TARGETS, strict=True)):
            values = [way.constants[k] for way in self.ways]
            bars = [2 * way.standard_errors[k] for way in self.ways]
            shifted = rows + 0.12 - 0.24 * k
            axis.errorbar(values, shifted, xerr=bars, fmt="os"[k], ms=4, color=COLOURS[k])
            axis.plot([], [], "os"[k], ms=4, color=COLOURS[k], label=name)
            axis.axvline(target, color=COLOURS[k], lw=0.8, ls=":")
            axis.axvspan(target / FACTOR, target * FACTOR, color=COLOURS[k], alpha=0.07, lw=0)
        axis.set_yticks(rows, [way.name.replace(", ", "\n") for way in self.ways], fontsize=8)
        axis.set(ylim=(-0.5, len(rows) - 0.2), xlim=(0, None), xlabel="constant")
        axis.legend(frameon=False, fontsize=8, ncols=2, loc="upper left")


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
    ways = _ways(measured, cells)
    L, units = (np.broadcast_to(x, cells.shape)[cells] for x in (measured.depths, measured.units))
    rows = measured.total[:, cells]
    free, free_errors = jackknife(rows, lambda mean: fit_terms(mean, L, units, slopes=True))
    half = 1.96 * free_errors[2:]
    mean_square = measured.total.mean(0)
    spread = measured.total.std(0, ddof=1) / math.sqrt(count)
    errors = np.sqrt(mean_square)
    fixed, fixed_errors = ways[0].constants, ways[0].standard_errors
    return RatesResult(
        (*_slope_checks(free, free_errors, count), *_constant_checks(fixed, fixed_errors, count)),
        measured.sizes,
        errors,
        spread / (2 * errors),
        float(np.sqrt(np.mean(measured.limit_errors**2))),
        fixed,
        fixed_errors,
        free,
        free_errors,
        np.stack([free[2:] - half, free[2:] + half], 1),
        ways,
        float(np.median(errors / reported(measured.depths, measured.units))),
    )


def _ways(measured: grid.Grid, cells: NDArray[np.bool_]) -> tuple[Terms, ...]:
    """Both ways of adding the terms, on the asymptotic cells and by the reported protocol."""
    rows = {
        "asymptotic": (measured.total, cells),
        "reported protocol": (measured.to_network, np.ones_like(cells)),
    }
    found = []
    for where, (squares, chosen) in rows.items():
        L = np.broadcast_to(measured.depths, chosen.shape)[chosen]
        units = measured.units[chosen]
        for plain, name in ((False, "in squares"), (True, "plain sum")):
            fits = [fit_terms(row[chosen], L, units, plain=plain)[:2] for row in squares]
            mean, error = np.mean(fits, 0), np.std(fits, 0, ddof=1) / math.sqrt(len(fits))
            off = np.abs(np.log(mean / TARGETS)).max()
            found.append(Terms(f"{name}, {where}", mean, error, bool(off <= math.log(FACTOR))))
    return tuple(found)


def fit_terms(
    squares: Array, L: Array, units: Array, slopes: bool = False, plain: bool = False
) -> Array:
    """(a, b, p, q) of mean square errors, by least squares of their logarithms.

    p = 1 and q = 1/2 are fitted too if ``slopes``. Terms are added in squares, or as they are if
    ``plain``.
    """

    if not np.isfinite(squares).all():
        return np.full(4, np.nan)

    def model(parameters: Array) -> Array:
        log_a, log_b, p, q = (*parameters, 1.0, 0.5)[:4]
        first = log_a - p * np.log(L)
        second = log_b - q * np.log(units) + math.log(grid.D) / 2
        power = 1 if plain else 2
        error = np.logaddexp(power * first, power * second) / power
        return 2 * error - np.log(np.maximum(squares, 1e-12))

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
    return [
        factor_check(name, float(value), float(error), target, FACTOR, count)
        for name, value, error, target in zip(names, constants, errors, TARGETS, strict=True)
    ]
