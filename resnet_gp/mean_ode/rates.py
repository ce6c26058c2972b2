"""The decay of the output's error with depth and width.

Bias and deviations add in squares: error^2 = (a / L^p)^2 + D (b / (LM)^q)^2, in theory with p = 1
and q = 1/2. The paper fits the plain sum a/L + b sqrt(D)/sqrt(LM), a bound on the same error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from resnet_gp.mean_ode import grid
from resnet_gp.mean_ode.advice import DEPTH_CONSTANT, WIDTH_CONSTANT
from resnet_gp.mean_ode.estimates import draws_check, factor_check
from resnet_gp.mean_ode.training_lab import TrainingLab
from resnet_gp.report.checks import Check
from resnet_gp.report.fits import Array, jackknife, mean_and_error
from resnet_gp.report.result import COLOURS, Axes, ExperimentResult, points

ASYMPTOTIC = 0.05  # largest error by the paper's fit in an asymptotic cell
ASYMPTOTIC_QUICK = 0.1
FACTOR = 1.5  # allowed between our constants and the paper's
TARGETS = (DEPTH_CONSTANT, WIDTH_CONSTANT)


@dataclass(frozen=True)
class RatesResult(ExperimentResult):
    """Errors on the grid and their fits."""

    sizes: tuple[int, ...]
    errors: Array  # root mean square over draws, depths x widths
    standard_errors: Array
    limit_error: float  # estimated error of the limit, root mean square over draws
    ways: dict[str, Array]  # of fitting (a, b), ours first: means over draws, standard errors
    ratio_to_reported: float  # measured error over the paper's fit, median over the grid

    name = "rates"
    title = "How fast do networks approach the limit?"
    theorem = "Chizat 2025, error bound"
    summary = (
        "Error of the output after 100 steps against the limit, for D = N = 10, averaged over data "
        "draws. Both slopes are fitted together on the asymptotic part of the grid: the cells "
        f"where the paper's fit is at most {ASYMPTOTIC} ({ASYMPTOTIC_QUICK} in quick runs). The "
        "two terms add in squares, as a bias and a variance do, and their constants have to be "
        "within a factor 1.5 of the paper's 0.15 and 0.22, which belong to a plain sum. Right: the "
        "constants from both sums, on these cells and by the paper's protocol (the whole grid "
        "against one network of M = L = 1000; 64 in quick runs), with bands of that factor."
    )
    panels = (1, 3)

    def draw(self, axes: Axes) -> None:
        sizes = np.array(self.sizes, float)
        a, b = next(iter(self.ways.values()))[0]
        for k, index in enumerate(np.linspace(0, len(sizes) - 1, 4).round().astype(int)):
            curves = (self.errors[:, index], self.errors[index])
            bars = (self.standard_errors[:, index], self.standard_errors[index])
            for axis, errors, bar, other in zip(axes[:2], curves, bars, "ML", strict=True):
                points(axis, sizes, errors, bar, k, ms=3, label=f"{other} = {sizes[index]:g}")
            for axis, L in ((axes[0], sizes), (axes[1], np.full_like(sizes, sizes[index]))):
                units = sizes * sizes[index]
                ours = np.sqrt((a / L) ** 2 + grid.D * b**2 / units)
                axis.plot(sizes, ours, color=COLOURS[k], lw=1)
                axis.plot(sizes, reported(L, units), color=COLOURS[k], lw=0.8, ls=":")
        for axis, name in zip(axes[:2], ("depth L", "width M"), strict=True):
            axis.set(xscale="log", yscale="log", xlabel=name, ylabel="RMS error of the output")
            axis.legend(frameon=False, fontsize=8)
        axes[0].set_title("lines: our fit; dotted: the paper's", fontsize=9)
        axes[1].set_title(f"limit's own error: {self.limit_error:.1e}", fontsize=9)
        self._plot_ways(axes[2])

    def _plot_ways(self, axis: Any) -> None:
        """Plot the constants from each way of fitting, and the bands of ``FACTOR``."""
        rows = np.arange(len(self.ways))[::-1]
        names = ("a, of 1/L", "b, of √D/√(LM)")
        for k, (name, target) in enumerate(zip(names, TARGETS, strict=True)):
            values, errors = np.array(list(self.ways.values()))[:, :, k].T
            shifted = rows + 0.12 - 0.24 * k
            style = {"fmt": "os"[k], "ms": 4, "color": COLOURS[k], "label": name}
            axis.errorbar(values, shifted, xerr=2 * errors, **style)
            axis.axvline(target, color=COLOURS[k], lw=0.8, ls=":")
            axis.axvspan(target / FACTOR, target * FACTOR, color=COLOURS[k], alpha=0.07, lw=0)
        axis.set_yticks(rows, [name.replace(", ", "\n") for name in self.ways], fontsize=8)
        axis.set(ylim=(-0.5, len(rows) - 0.2), xlim=(0, None), xlabel="constant")
        axis.legend(frameon=False, fontsize=8, ncols=2, loc="upper left")


def reported(L: Array, units: Array) -> Array:
    """The paper's fit: 0.15/L + 0.22 sqrt(D)/sqrt(LM), for D = 10 (Chizat 2025, experiments)."""
    return DEPTH_CONSTANT / L + WIDTH_CONSTANT * np.sqrt(grid.D / units)


def asymptotic(lab: TrainingLab, measured: grid.Grid) -> NDArray[np.bool_]:
    """Mask of the cells where the paper's fit is small, ``depths x widths``."""
    return reported(measured.depths, measured.units) <= lab.size(ASYMPTOTIC, ASYMPTOTIC_QUICK)


def run(lab: TrainingLab) -> RatesResult:
    measured = grid.measure(lab)
    cells = asymptotic(lab, measured)
    count = len(measured.total)
    ways = _ways(measured, cells)
    L, units = measured.depths[cells], measured.units[cells]
    rows = measured.total[:, cells]
    free = jackknife(rows, lambda mean: fit_terms(mean, L, units, slopes=True))
    mean_square, spread = mean_and_error(measured.total)
    errors = np.sqrt(mean_square)
    return RatesResult(
        (*_slope_checks(*free, count), *_constant_checks(next(iter(ways.values())), count)),
        measured.sizes,
        errors,
        spread / (2 * errors),
        float(np.sqrt(np.mean(measured.limit_errors**2))),
        ways,
        float(np.median(errors / reported(measured.depths, measured.units))),
    )


def _ways(measured: grid.Grid, cells: NDArray[np.bool_]) -> dict[str, Array]:
    """Fit both kinds of sum, on the asymptotic cells and by the paper's protocol."""
    rows = {
        "asymptotic": (measured.total, cells),
        "paper's protocol": (measured.to_network, np.ones_like(cells)),
    }
    found = {}
    for where, (squares, chosen) in rows.items():
        L, units = measured.depths[chosen], measured.units[chosen]
        for plain, name in ((False, "in squares"), (True, "plain sum")):
            fits = [fit_terms(row[chosen], L, units, plain=plain)[:2] for row in squares]
            found[f"{name}, {where}"] = np.array(mean_and_error(fits))
    return found


def fit_terms(
    squares: Array, L: Array, units: Array, slopes: bool = False, plain: bool = False
) -> Array:
    """Fit (a, b, p, q) to mean square errors by least squares of their logarithms.

    p = 1 and q = 1/2 unless ``slopes``; terms add in squares unless ``plain``.
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


def _constant_checks(found: Array, count: int) -> list[Check]:
    names = ("constant of 1/L", "constant of sqrt(D)/sqrt(LM)")
    rows = zip(names, found[0], found[1], TARGETS, strict=True)
    return [factor_check(*row, FACTOR, count) for row in rows]
