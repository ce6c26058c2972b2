"""Estimates from independent replicates, and fits, with standard errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares

Array: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """Fitted parameters with their covariance, and chi^2 of the residuals."""

    parameters: Array
    covariance: Array
    chi2: float

    @property
    def standard_errors(self) -> Array:
        return np.sqrt(np.diag(self.covariance))

    def estimate(self, index: int) -> tuple[float, float]:
        """Return a parameter and its standard error."""
        return float(self.parameters[index]), float(self.standard_errors[index])


def jackknife(rows: Array, statistic: Callable[[Array], Array]) -> tuple[Array, Array]:
    """Estimate a function of the mean row, with its standard error by the jackknife.

    Args:
        rows: ``B x k``, independent and identically distributed.
        statistic: maps the mean row, ``k``, to an array.
    """
    total = rows.sum(0)
    left_out = np.array([statistic((total - row) / (len(rows) - 1)) for row in rows])
    spread = np.square(left_out - left_out.mean(0)).sum(0)
    return statistic(total / len(rows)), np.sqrt(spread * (len(rows) - 1) / len(rows))


def mean_and_error(rows: ArrayLike) -> tuple[Array, Array]:
    """Return the mean of independent rows, and its standard error."""
    array = np.asarray(rows, float)
    return array.mean(0), array.std(0, ddof=1) / math.sqrt(len(array))


def linear_fit(design: Array, values: Array, errors: Array) -> Fit:
    """Fit values = design @ parameters by least squares with known standard errors."""
    scaled = design / errors[:, None]
    covariance = np.linalg.inv(scaled.T @ scaled)
    parameters = covariance @ (scaled.T @ (values / errors))
    residuals = (values - design @ parameters) / errors
    return Fit(parameters, np.asarray(covariance, float), float(residuals @ residuals))


def curve_fit(
    model: Callable[[Array], Array], start: Sequence[float], values: Array, errors: Array
) -> Fit:
    """Fit values = model(parameters) by nonlinear least squares with known standard errors."""

    def residuals(parameters: Array) -> Array:
        return (model(parameters) - values) / errors

    found = least_squares(residuals, start, x_scale="jac", xtol=1e-14, ftol=1e-14, gtol=1e-14)
    try:
        covariance = np.linalg.inv(found.jac.T @ found.jac)
    except np.linalg.LinAlgError:  # a parameter has no effect at the optimum
        covariance = np.full((len(start), len(start)), np.nan)
    return Fit(found.x, covariance, 2 * float(found.cost))


def extrapolate(x: Array, values: Array, errors: Array, order: int = 1) -> tuple[float, float]:
    """Extrapolate to x = 0 by a polynomial fit; returns the value and its standard error."""
    return linear_fit(np.vander(x, order + 1, increasing=True), values, errors).estimate(0)


def power_law(x: Array, values: Array, errors: Array) -> Fit:
    """Fit values = a x^p by least squares of the logarithms; parameters (log a, p)."""
    design = np.stack([np.ones_like(x), np.log(x)], 1)
    return linear_fit(design, np.log(values), errors / values)


def corrected_power_law(n: Array, values: Array, errors: Array) -> Fit:
    """Fit values = a n^p (1 + b / n), a corrected power law; parameters (a, p, b)."""
    log_a, power = power_law(n, values, errors).parameters

    def model(parameters: Array) -> Array:
        a, p, b = parameters
        return a * n**p * (1 + b / n)

    return curve_fit(model, (np.exp(log_a), power, 0.0), values, errors)
