"""Experiment g: the two terms of the error, one at a time.

Two networks that differ by their seeds have the same bias: half their mean square difference is the
variance, the 1/(LM) term. The mean over seeds has the bias, the 1/L term, and what is left of the
variance is subtracted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import least_squares

from resnet_gp.mean_ode import grid
from resnet_gp.mean_ode.advice import DEPTH_CONSTANT
from resnet_gp.mean_ode.estimates import draws_check
from resnet_gp.mean_ode.lab import Array, Lab
from resnet_gp.mean_ode.rates import asymptotic, reported
from resnet_gp.report.fits import jackknife
from resnet_gp.report.result import COLOURS, Result, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class SeparationResult(Result):
    """Each term with its fit (constant, slope)."""

    sizes: tuple[int, ...]
    units: Array  # LM of each cell
    spread: Array  # root mean square over draws, of each cell
    bias: Array  # the same, means over widths, for each depth; NaN where the square is negative
    bias_errors: Array
    spread_fit: Array
    spread_fit_errors: Array
    bias_fit: Array
    bias_fit_errors: Array

    name = "separation"
    title = "Which part of the error is whose?"
    theorem = "Chizat 2025, error bound"
    summary = (
        "Differences of networks that share data but not seeds show the 1/sqrt(LM) term alone, "
        "their averages the 1/L term. Slopes are fitted on the same asymptotic cells as in the "
        "errors; biases of all widths are weighted by their precision."
    )

    def plot(self) -> Figure:
        figure, axes = new_figure(2)
        axes[0].plot(self.units, self.spread, "o", ms=3, color=COLOURS[0])
        grid_units = np.geomspace(self.units.min(), self.units.max())
        constant, slope = self.spread_fit
        line = constant * math.sqrt(grid.D) * grid_units**-slope
        axes[0].plot(grid_units, line, color="black", lw=1, label=f"slope -{slope:.3f}")
        axes[0].set(xlabel="LM", ylabel="spread over seeds")
        depths = np.array(self.sizes, float)
        axes[1].errorbar(depths, self.bias, 2 * self.bias_errors, fmt="o", ms=3, color=COLOURS[1])
        constant, slope = self.bias_fit
        line = constant * depths**-slope
        axes[1].plot(depths, line, color="black", lw=1, label=f"slope -{slope:.3f}")
        axes[1].set(xlabel="depth L", ylabel="distance of seed averages to the limit")
        for axis in axes:
            axis.set(xscale="log", yscale="log")
            axis.legend(frameon=False)
        return figure


def run(lab: Lab) -> SeparationResult:
    """Experiment g."""
    measured = grid.measure(lab)
    cells = asymptotic(lab, measured)
    depths = np.broadcast_to(measured.depths, cells.shape)[cells]
    units = measured.units[cells]
    weights = 1 / reported(depths, units) ** 2

    def spread_law(mean: Array) -> Array:
        slope, level = np.polyfit(np.log(units), np.log(mean) / 2, 1)
        return np.array([math.exp(level) / math.sqrt(grid.D), -slope])

    def bias_law(mean: Array) -> Array:
        if not np.isfinite(mean).all():
            return np.full(2, np.nan)

        def residuals(p: Array) -> Array:
            return weights * (np.exp(2 * p[0]) * depths ** (-2 * p[1]) - mean)

        log_a, slope = least_squares(residuals, [math.log(DEPTH_CONSTANT), 1.0]).x
        return np.array([math.exp(log_a), slope])

    spread_fit, spread_errors = jackknife(measured.spread[:, cells], spread_law)
    bias_fit, bias_errors = jackknife(measured.bias[:, cells], bias_law)
    count = len(measured.total)
    checks = (
        draws_check(
            "slope of seed differences in LM", -spread_fit[1], spread_errors[1], -0.5, count
        ),
        draws_check("slope of seed averages in L", -bias_fit[1], bias_errors[1], -1.0, count),
    )
    return SeparationResult(
        checks,
        measured.sizes,
        measured.units.ravel(),
        np.sqrt(measured.spread.mean(0)).ravel(),
        *_bias_by_depth(measured),
        spread_fit,
        spread_errors,
        bias_fit,
        bias_errors,
    )


def _bias_by_depth(measured: grid.Grid) -> tuple[Array, Array]:
    """Root of the squared bias, a weighted mean over widths, and its standard error."""
    weights = 1 / reported(measured.depths, measured.units) ** 4
    weights /= weights.sum(1, keepdims=True)
    by_draw = (measured.bias * weights).sum(2)
    mean, error = by_draw.mean(0), by_draw.std(0, ddof=1) / math.sqrt(len(by_draw))
    root = np.sqrt(np.where(mean > 0, mean, np.nan))
    return root, error / (2 * root)
