"""The two terms of the error, one at a time: variance over seeds, 1/(LM), and bias, 1/L."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from resnet_gp.mean_ode import grid
from resnet_gp.mean_ode.advice import DEPTH_CONSTANT
from resnet_gp.mean_ode.estimates import draws_check
from resnet_gp.mean_ode.rates import asymptotic, reported
from resnet_gp.mean_ode.training_lab import TrainingLab
from resnet_gp.report.fits import Array, jackknife, mean_and_error
from resnet_gp.report.result import COLOURS, Axes, ExperimentResult, points


@dataclass(frozen=True)
class SeparationResult(ExperimentResult):
    """Each term with its fit (constant, slope)."""

    sizes: tuple[int, ...]
    units: Array  # LM of each cell
    spread: Array  # root mean square over draws, of each cell
    bias: Array  # for each depth, averaged over widths; NaN if the square is negative
    bias_errors: Array
    spread_fit: Array
    bias_fit: Array

    name = "separation"
    title = "Which part of the error comes from depth, which from width?"
    theorem = "Chizat 2025, error bound"
    summary = (
        "Differences of networks with the same data and other seeds show the 1/√(LM) term alone, "
        "their averages the 1/L term. The slopes are fitted on the asymptotic cells of the error "
        "fit; the biases of all widths are weighted by their precision."
    )
    panels = (1, 2)

    def draw(self, axes: Axes) -> None:
        axes[0].plot(self.units, self.spread, "o", ms=3, color=COLOURS[0])
        grid_units = np.geomspace(self.units.min(), self.units.max())
        constant, slope = self.spread_fit
        line = constant * math.sqrt(grid.D) * grid_units**-slope
        axes[0].plot(grid_units, line, color="black", lw=1, label=f"slope -{slope:.3f}")
        axes[0].set(xlabel="LM", ylabel="spread over seeds")
        depths = np.array(self.sizes, float)
        points(axes[1], depths, self.bias, self.bias_errors, 1, ms=3)
        constant, slope = self.bias_fit
        line = constant * depths**-slope
        axes[1].plot(depths, line, color="black", lw=1, label=f"slope -{slope:.3f}")
        axes[1].set(xlabel="depth L", ylabel="distance of seed averages to the limit")
        for axis in axes:
            axis.set(xscale="log", yscale="log")
            axis.legend(frameon=False)


def run(lab: TrainingLab) -> SeparationResult:
    measured = grid.measure(lab)
    cells = asymptotic(lab, measured)
    depths, units = measured.depths[cells], measured.units[cells]
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
    terms = (
        ("slope of seed differences in LM", spread_fit, spread_errors, -0.5),
        ("slope of seed averages in L", bias_fit, bias_errors, -1.0),
    )
    checks = tuple(
        draws_check(name, -fit[1], error[1], slope, count) for name, fit, error, slope in terms
    )
    return SeparationResult(
        checks,
        measured.sizes,
        measured.units.ravel(),
        np.sqrt(measured.spread.mean(0)).ravel(),
        *_bias_by_depth(measured),
        spread_fit,
        bias_fit,
    )


def _bias_by_depth(measured: grid.Grid) -> tuple[Array, Array]:
    """Root of the weighted mean of squared biases over widths, and its standard error."""
    weights = 1 / reported(measured.depths, measured.units) ** 4
    weights /= weights.sum(1, keepdims=True)
    mean, error = mean_and_error((measured.bias * weights).sum(2))
    root = np.sqrt(np.where(mean > 0, mean, np.nan))
    return root, error / (2 * root)
